"""From landed payloads to typed observations: each payload is parsed by DuckDB, after the type gate.

Nothing of it is kept: the tables are, and what a changed task needs is parsed again from the landing zone.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.landing.catalog import Catalog
from pipelines.landing.zone import OBSERVATION
from pipelines.livepeer.tasks.contract import ASSET, TASK
from pipelines.livepeer.walks import one_ahead
from pipelines.warehouse import gate
from pipelines.warehouse.database import quoted

# A task has one asset specification, in one of four places: parsed once, it takes a quarter of the columns.
TASK_TYPE = json.dumps(gate.duckdb_type(TASK, unparsed=ASSET))
ASSET_TYPE = json.dumps(gate.duckdb_type(ASSET))
ASSETS = ("upload.assetSpec", "clip.assetSpec", '"import".assetSpec', "transcode.asset.assetSpec")

TYPED = f"""
with parsed as (
    select * exclude (payload, created_at_ms), from_json(payload, {quoted(TASK_TYPE)}) as task from batch
)
select
    *,
    from_json(
        coalesce({", ".join(f"nullif(task.output.{place}, 'null')" for place in ASSETS)}), {quoted(ASSET_TYPE)}
    ) as asset
from parsed
"""

# What observations are parsed with.
CONTRACT = hashlib.sha256(TYPED.encode() + Path(gate.__file__).read_bytes()).hexdigest()

ROWS_PER_CHUNK = 2_500  # that DuckDB's threads share out

MOST_TABLES = 200  # of parts, held side by side: small ones take many times the memory of their rows

BYTES_PER_ROW = 1_500  # of a payload; most take less

# What rows by task are made of: what has landed, its file, and whether the tables were made without it.
WITH_FILE = OBSERVATION.append(pa.field("file", pa.string())).append(pa.field("is_new", pa.bool_()))

PROBLEM = pa.schema(
    [
        ("account", pa.string()),
        ("load_id", pa.string()),
        ("file", pa.string()),
        ("page", pa.int32()),
        ("row_position", pa.int32()),
        ("number", pa.int32()),
        ("task_id", pa.string()),
        ("fetched_at", pa.timestamp("ms", tz="UTC")),
        ("path", pa.string()),
        ("value", pa.string()),
        ("reason", pa.string()),
    ]
)

UNKNOWN = pa.schema(
    [
        ("account", pa.string()),
        ("load_id", pa.string()),
        ("file", pa.string()),
        ("path", pa.string()),
        ("observations", pa.int64()),
        ("first_fetched_at", pa.timestamp("ms", tz="UTC")),
        ("last_fetched_at", pa.timestamp("ms", tz="UTC")),
        ("example_task_id", pa.string()),
        ("example", pa.string()),
    ]
)


class LandedPart(NamedTuple):
    """A part of the landing zone: its number in the catalog, its file, and whether the tables were made without it."""

    number: int
    account: str
    load_id: str
    file: str
    rows: int
    sha256: str
    is_new: bool


class Batch(NamedTuple):
    """All observations of some tasks, with payloads that DuckDB may parse: what TYPED reads.

    made_before: those of the tasks that the tables may hold rows of. problems, unknown: values that did not fit and
    paths that the contract does not know, of new parts.
    """

    tasks: int
    made_before: list[str]
    observations: pa.Table
    problems: pa.Table
    unknown: pa.Table


def halves(batch: Batch) -> list[Batch]:
    """The same in two, each of half of the tasks; problems and unknown paths stay with the first."""
    tasks = sorted(pc.unique(batch.observations["task_id"].drop_null()).to_pylist())
    first = set(tasks[: len(tasks) // 2])
    is_first = pc.is_in(batch.observations["task_id"], pa.array(sorted(first), pa.string()))
    of_first, others = batch.observations.filter(is_first), batch.observations.filter(pc.invert(is_first))
    again = [key for key in batch.made_before if key in first], [key for key in batch.made_before if key not in first]
    return [
        Batch(len(first), again[0], of_first, batch.problems, batch.unknown),
        Batch(len(tasks) - len(first), again[1], others, batch.problems[:0], batch.unknown[:0]),
    ]


def batches(
    catalog: Catalog, parts: list[LandedPart], replaced: set[int], all_tasks: bool, rows: int
) -> Iterator[Batch]:
    """The observations of the tasks that the catalog has chosen, or of all; every task in one batch, whole.

    A task comes with the first part that it was observed in, its rows in other parts are fetched for it. `parts`: those
    that are there, by number; `replaced`: numbers of parts that the tables were made of and that are gone or others
    now; `rows`: about how many are to be in a batch. The next is read while one is worked on.
    """
    by_number = {part.number: part for part in parts}
    old = replaced | {part.number for part in parts if not part.is_new}
    held = {part.number: part.rows for part in parts} if all_tasks else catalog.wanted_rows()
    groups = _groups([part for part in parts if part.number in held or part.is_new], held, rows)
    return one_ahead(batch for group in groups for batch in _read(catalog, group, by_number, old, all_tasks, rows))


def _groups(parts: list[LandedPart], held: dict[int, int], rows: int) -> Iterator[list[LandedPart]]:
    """Parts that follow each other, of which about so many rows are held together."""
    group: list[LandedPart] = []
    together = 0
    for part in parts:
        more = held.get(part.number, part.rows)
        if group and together + more > rows:
            yield group
            group, together = [], 0
        group.append(part)
        together += more
    if group:
        yield group


def _read(
    catalog: Catalog,
    group: list[LandedPart],
    by_number: dict[int, LandedPart],
    old: set[int],
    all_tasks: bool,
    rows: int,
) -> Iterator[Batch]:
    """The batches of the tasks that were observed in a group of parts first."""
    if all_tasks:
        ids = (pq.read_table(_path(catalog, part), columns=["task_id"])["task_id"].to_pylist() for part in group)
        found = catalog.parts_of({key for each in ids for key in each if key is not None})
    else:
        found = catalog.parts_of_wanted([part.number for part in group])
    places: dict[str, list[int]] = {}
    made_before: set[str] = set()
    for key, number in found:
        if number in old:
            made_before.add(key)
        if number in by_number:
            places.setdefault(key, []).append(number)
    first = group[0].number
    strangers = {part.number for part in group if part.is_new}  # elements without an id come with the first batch
    held: dict[int, list[str]] = {number: [] for number in strangers}
    tasks: list[str] = []
    observations = 0
    for key in sorted(key for key in places if min(places[key]) >= first):
        for number in places[key]:
            held.setdefault(number, []).append(key)
        tasks.append(key)
        observations += len(places[key])
        if observations >= rows:
            yield from _batches(catalog, tasks, made_before, held, by_number, strangers, rows)
            held, strangers, tasks, observations = {}, set(), [], 0
    if held:
        yield from _batches(catalog, tasks, made_before, held, by_number, strangers, rows)


def _batches(
    catalog: Catalog,
    tasks: list[str],
    made_before: set[str],
    held: dict[int, list[str]],
    by_number: dict[int, LandedPart],
    strangers: set[int],
    rows: int,
) -> Iterator[Batch]:
    """The rows of tasks, by the parts that hold them: in one batch, or in several where payloads are large."""
    tables: list[pa.Table] = []
    for number, keys in held.items():
        part = by_number[number]
        tables.append(_rows(part, _path(catalog, part), pa.array(keys, pa.string()), number in strangers))
        if len(tables) == MOST_TABLES:
            tables = [pa.concat_tables(tables).combine_chunks()]
    yield from _in_batches(pa.concat_tables(tables), tasks, made_before, rows)


def in_batches(table: pa.Table, rows: int) -> Iterator[Batch]:
    """All observations of some tasks, none of which the tables hold, in one batch, or in several where payloads are
    large. `table`: of WITH_FILE."""
    return _in_batches(table, sorted(pc.unique(table["task_id"].drop_null()).to_pylist()), set(), rows)


def _in_batches(table: pa.Table, tasks: list[str], made_before: set[str], rows: int) -> Iterator[Batch]:
    for number, piece in enumerate(_pieces(table, tasks, rows * BYTES_PER_ROW)):
        chosen = table
        if len(piece) < len(tasks):
            mask = pc.is_in(table["task_id"], pa.array(piece, pa.string()))
            chosen = table.filter(mask if number else pc.or_(mask, pc.is_null(table["task_id"])))
        observations, problems, unknown = _gated(chosen)
        yield Batch(len(piece), [key for key in piece if key in made_before], observations, problems, unknown)


def _pieces(table: pa.Table, tasks: list[str], most_bytes: int) -> Iterator[list[str]]:
    """Tasks whose payloads are not too much for DuckDB to parse at once; a larger one comes alone."""
    if table["payload"].nbytes <= most_bytes:
        yield tasks
        return
    sizes = table.select(["task_id"]).append_column("bytes", pc.binary_length(table["payload"]))
    by_task = sizes.group_by("task_id").aggregate([("bytes", "sum")])
    bytes_of = dict(zip(by_task["task_id"].to_pylist(), by_task["bytes_sum"].to_pylist(), strict=True))
    piece: list[str] = []
    together = 0
    for key in tasks:
        more = bytes_of.get(key) or 0
        if piece and together + more > most_bytes:
            yield piece
            piece, together = [], 0
        piece.append(key)
        together += more
    yield piece


def _path(catalog: Catalog, part: LandedPart) -> Path:
    return catalog.zone.folder(part.account, part.load_id) / part.file


def _rows(part: LandedPart, path: Path, keys: pa.Array, with_strangers: bool) -> pa.Table:
    """The rows of some tasks in a part, from the row groups that hold any; strangers are elements without an id."""

    def chosen(ids: pa.ChunkedArray) -> pa.ChunkedArray:
        mask = pc.is_in(ids, keys)
        return pc.or_(mask, pc.is_null(ids)) if with_strangers else mask

    with pq.ParquetFile(path) as file:
        if len(keys) > part.rows // 2:
            table = file.read()
            table = table.filter(chosen(table["task_id"])) if len(keys) < part.rows else table
        else:
            held = []
            for group in range(file.num_row_groups):
                mask = chosen(file.read_row_group(group, columns=["task_id"])["task_id"])
                if pc.any(mask).as_py():
                    held.append(file.read_row_group(group).filter(mask))
            table = pa.concat_tables(held) if held else file.schema_arrow.empty_table()
    return table.append_column("file", pa.repeat(pa.scalar(part.file), len(table))).append_column(
        "is_new", pa.repeat(pa.scalar(part.is_new), len(table))
    )


def _gated(table: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Sorts out what DuckDB may not parse: the observations without it, the problems and the unknown paths."""
    column = table.column("payload")
    texts = column.cast(pa.large_binary()).to_pylist()
    odd = [row for row, text in enumerate(texts) if text is not None and not gate.fits(text)]
    found: list[tuple[int, int, gate.Problem]] = []  # row, number within the row
    unknown: list[tuple[int, gate.Unknown]] = []
    is_new = table["is_new"].to_pylist() if odd else []
    for row in odd:
        payload, problems, beyond = gate.gate(texts[row].decode())
        texts[row] = None if payload is None else payload.encode()
        if is_new[row]:  # the others were reported when their part was new
            found += [(row, number, problem) for number, problem in enumerate(problems)]
            unknown += [(row, each) for each in beyond]
    if odd:
        column = pa.array(texts, pa.large_binary()).cast(pa.large_string())
    gated = table.set_column(table.schema.get_field_index("payload"), "payload", column)
    where = table.take(pa.array([row for row, _, _ in found], pa.int64()))
    columns = {name: where[name] for name in ("account", "load_id", "file", "page", "task_id", "fetched_at")}
    columns |= {
        "row_position": where["position"],
        "number": pa.array([number for _, number, _ in found], pa.int32()),
        "path": pa.array([problem.path for _, _, problem in found], pa.string()),
        "value": pa.array([problem.value for _, _, problem in found], pa.string()),
        "reason": pa.array([problem.reason for _, _, problem in found], pa.string()),
    }
    problems_found = pa.table(columns).select(PROBLEM.names).cast(PROBLEM)
    return gated.combine_chunks(), problems_found, _by_path(table, unknown)


def _by_path(table: pa.Table, unknown: list[tuple[int, gate.Unknown]]) -> pa.Table:
    """How often each path was met in a part, when, and an example."""
    rows = pa.array([row for row, _ in unknown], pa.int64())
    where = table.select(["account", "load_id", "file", "fetched_at", "task_id"]).take(rows)
    met = pa.table(
        {
            "account": where["account"],
            "load_id": where["load_id"],
            "file": where["file"],
            "fetched_at": where["fetched_at"],
            "example_task_id": where["task_id"],
            "path": pa.array([each.path for _, each in unknown], pa.string()),
            "example": pa.array([each.value for _, each in unknown], pa.string()),
        }
    )
    counts = [
        ("path", "count"),
        ("fetched_at", "min"),
        ("fetched_at", "max"),
        ("example_task_id", "last"),
        ("example", "last"),
    ]
    grouped = met.group_by(["account", "load_id", "file", "path"], use_threads=False).aggregate(counts)
    return (
        grouped.rename_columns(
            {
                "path_count": "observations",
                "fetched_at_min": "first_fetched_at",
                "fetched_at_max": "last_fetched_at",
                "example_task_id_last": "example_task_id",
                "example_last": "example",
            }
        )
        .select(UNKNOWN.names)
        .cast(UNKNOWN)
    )
