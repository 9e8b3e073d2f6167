"""From landed payloads to typed observations: each payload is parsed by DuckDB, after the type gate.

Nothing of it is kept: the tables are, and what a changed task needs is parsed again from the landing zone.
"""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.landing.catalog import Catalog
from pipelines.livepeer.contract import ASSET, TASK
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
    is_new: bool


class Batch(NamedTuple):
    """All observations of some tasks, with payloads that DuckDB may parse: what TYPED reads.

    problems, unknown: values that did not fit and paths that the contract does not know, of new parts.
    """

    tasks: int
    observations: pa.Table
    problems: pa.Table
    unknown: pa.Table


def batches(catalog: Catalog, parts: list[LandedPart], all_tasks: bool, rows: int) -> Iterator[Batch]:
    """The observations of the tasks that the catalog has chosen, or of all; every task in one batch, whole.

    A task comes with the first part that it was observed in, its rows in other parts are fetched for it. `parts`: those
    that are there, by number; `rows`: about how many are to be in a batch. The next is read while one is worked on.
    """
    by_number = {part.number: part for part in parts}
    wanted = by_number.keys() if all_tasks else catalog.wanted_parts() & by_number.keys()
    needed = [part for part in parts if part.number in wanted or part.is_new]
    with ThreadPoolExecutor(1) as pool:
        ahead: Future[Batch] | None = None
        for group in _groups(needed, rows):
            following = pool.submit(_read, catalog, group, by_number, all_tasks)
            if ahead is not None:
                yield ahead.result()
            ahead = following
        if ahead is not None:
            yield ahead.result()


def _groups(parts: list[LandedPart], rows: int) -> Iterator[list[LandedPart]]:
    """Parts that follow each other, with about so many rows together."""
    group: list[LandedPart] = []
    for part in parts:
        if group and sum(each.rows for each in group) + part.rows > rows:
            yield group
            group = []
        group.append(part)
    if group:
        yield group


def _read(catalog: Catalog, group: list[LandedPart], by_number: dict[int, LandedPart], all_tasks: bool) -> Batch:
    """The batch of the tasks that were observed in a group of parts first."""
    numbers = {part.number for part in group}
    read = [(part, pq.ParquetFile(_path(catalog, part))) for part in group]
    keys = {key for _, file in read for key in file.read(columns=["task_id"])["task_id"].to_pylist() if key is not None}
    found: dict[str, list[int]] = {}
    for key, number in catalog.parts_of(keys, all_tasks):
        if number in by_number:
            found.setdefault(key, []).append(number)
    first = min(numbers)
    ours = {key: places for key, places in found.items() if min(places) >= first}
    others: dict[int, list[str]] = {}
    for key, places in ours.items():
        for number in places:
            if number not in numbers:
                others.setdefault(number, []).append(key)
    chosen = pa.array(list(ours), pa.string())
    tables = [_rows(part, file, chosen, with_strangers=part.is_new) for part, file in read]
    for number, theirs in others.items():
        part = by_number[number]
        tables.append(_rows(part, pq.ParquetFile(_path(catalog, part)), pa.array(theirs, pa.string()), False))
    return _gated(len(ours), pa.concat_tables(tables))


def _path(catalog: Catalog, part: LandedPart) -> Path:
    return catalog.zone.folder(part.account, part.load_id) / part.file


def _rows(part: LandedPart, file: pq.ParquetFile, keys: pa.Array, with_strangers: bool) -> pa.Table:
    """The rows of some tasks in a part, from the row groups that hold any; strangers are elements without an id."""
    held = []
    for group in range(file.num_row_groups):
        ids = file.read_row_group(group, columns=["task_id"])["task_id"]
        mask = pc.is_in(ids, keys)
        if with_strangers:
            mask = pc.or_(mask, pc.is_null(ids))
        if pc.any(mask).as_py():
            held.append(file.read_row_group(group).filter(mask))
    table = pa.concat_tables(held) if held else file.schema_arrow.empty_table()
    return table.append_column("file", pa.repeat(pa.scalar(part.file), len(table))).append_column(
        "is_new", pa.repeat(pa.scalar(part.is_new), len(table))
    )


def _gated(tasks: int, table: pa.Table) -> Batch:
    """Sorts out what DuckDB may not parse."""
    column = table.column("payload")
    texts = column.cast(pa.large_binary()).to_pylist()
    odd = [row for row, text in enumerate(texts) if text is not None and not gate.fits(text)]
    found: list[tuple[int, int, gate.Problem]] = []  # row, number within the row
    unknown: list[tuple[int, gate.Unknown]] = []
    is_new = table["is_new"].to_pylist() if odd else []
    for row in odd:
        payload, problems, beyond = gate.gate(texts[row].decode())
        texts[row] = None if payload is None else payload.encode()
        if is_new[row]:  # the others were told of when their part was new
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
    return Batch(
        tasks,
        gated.combine_chunks(),
        pa.table(columns).select(PROBLEM.names).cast(PROBLEM),
        _by_path(table, unknown),
    )


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
