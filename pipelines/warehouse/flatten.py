"""From landed payloads to typed observations: each payload is parsed once, by DuckDB, after the type gate.

A landed part becomes a Parquet file of typed observations in `warehouse/observations/`, and where there are any, one of
values that did not fit and one of paths that the contract does not know. All are derived: deleted, they come back from
the landing zone; a changed contract makes them anew.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.landing import damage
from pipelines.landing.manifest import Part
from pipelines.landing.zone import OBSERVATION, Zone
from pipelines.livepeer.contract import ASSET, TASK
from pipelines.warehouse import gate
from pipelines.warehouse.database import connect, prepare, quoted

# A task has one asset specification, in one of four places: parsed once, it takes a quarter of the columns.
TASK_TYPE = json.dumps(gate.duckdb_type(TASK, without=ASSET))
ASSET_TYPE = json.dumps(gate.duckdb_type(ASSET))

TYPED = f"""
with parsed as (
    select
        * exclude (payload, created_at_ms),
        from_json(payload, {quoted(TASK_TYPE)}) as task,
        json_extract(
            payload,
            [
                '$.output.upload.assetSpec', '$.output.clip.assetSpec', '$.output.import.assetSpec',
                '$.output.transcode.asset.assetSpec'
            ]
        ) as assets
    from batch
)
select
    * exclude (assets),
    from_json(list_filter(assets, lambda found: json_type(found) = 'OBJECT')[1], {quoted(ASSET_TYPE)}) as asset
from parsed
"""

# What observations are parsed with: another contract or another gate parses them anew.
CONTRACT = hashlib.sha256(TYPED.encode() + Path(gate.__file__).read_bytes()).hexdigest()[:16]

# Derived files: quick to write counts for more than small.
COMPRESSION = "compression zstd, compression_level 1, dictionary_size_limit 100"

PROBLEM = pa.schema(
    [
        ("account", pa.string()),
        ("load_id", pa.string()),
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
        ("path", pa.string()),
        ("observations", pa.int64()),
        ("first_fetched_at", pa.timestamp("ms", tz="UTC")),
        ("last_fetched_at", pa.timestamp("ms", tz="UTC")),
        ("example_task_id", pa.string()),
        ("example", pa.string()),
    ]
)


class Flattened(NamedTuple):
    """What a run of flatten did: parts parsed, observations and problems in them."""

    parts: int
    observations: int
    problems: int


class Observations:
    """The typed observations of a landing zone under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / CONTRACT

    def flatten(self, zone: Zone, say: Callable[[str], None] = lambda line: None) -> Flattened:
        """Parses the landed parts that were not parsed yet. One that is not what was landed is set aside."""
        self.prepare()
        for leftover in self.folder.glob("*/*/.*.new"):  # of a process that was killed
            leftover.unlink()

        def is_parsed(path: Path, part: Part) -> bool:
            return _typed_file(self._target(zone.root, path, part)).exists()

        damage.set_aside(zone, damage.lost(zone) + damage.altered(zone, unless=is_parsed), say)
        jobs = [(path, part) for path, part in zone.parts(zone.manifests()) if not is_parsed(path, part)]
        # DuckDB lets go of the interpreter while it parses, so a second thread can gate the next part.
        with self.parser(zone.root) as parse, ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            done = Flattened(0, 0, 0)
            for observations, problems in pool.map(lambda job: parse(*job), jobs):
                done = Flattened(done.parts + 1, done.observations + observations, done.problems + problems)
        if gone := damage.summary(damage.lost(zone)):
            say(gone)
        if done.parts:
            say(f"parsed {done.observations:,} observations, {done.problems:,} values did not fit")
        return done

    def drop(self) -> None:
        """Forgets what was parsed."""
        shutil.rmtree(self.root, ignore_errors=True)

    def prepare(self) -> None:
        """Clears away what another contract parsed."""
        none = self.folder / "none"
        if not _typed_file(none).exists():
            self.drop()
            with _connected() as connection:
                _write(connection, OBSERVATION.empty_table(), none)

    def files(self, zone: Zone) -> dict[str, list[Path]]:
        """The Parquet files of what has landed, by what is in them; an empty one leads each list."""
        parts = zone.parts(zone.manifests())
        targets = [self.folder / "none", *(self._target(zone.root, path, part) for path, part in parts)]
        return {
            "observations": [_typed_file(target) for target in targets],
            "problems": [path for path in map(_problems_file, targets) if path.exists()],
            "unknown_paths": [path for path in map(_unknown_file, targets) if path.exists()],
        }

    @contextmanager
    def parser(self, landing: Path) -> Iterator[Callable[[Path, Part], tuple[int, int]]]:
        """A function, for any thread, that parses a landed part and returns its observations and problems."""
        with _connected() as connection:
            yield lambda path, part: _write(connection, pq.read_table(path), self._target(landing, path, part))

    def _target(self, landing: Path, path: Path, part: Part) -> Path:
        """A landed part's place here, without an ending; named by its hash too, so that it stands for this content."""
        return self.folder / path.relative_to(landing).with_name(f"{path.stem}-{part.sha256[:12]}")


@contextmanager
def _connected() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        connection.execute("set threads = 1")
        yield connection


def _write(connection: duckdb.DuckDBPyConnection, landed: pa.Table, target: Path) -> tuple[int, int]:
    target.parent.mkdir(parents=True, exist_ok=True)
    batch, problems, unknown = _gated(landed)
    if problems.num_rows or not landed.num_rows:
        pq.write_table(problems, _problems_file(target))
    if unknown.num_rows or not landed.num_rows:
        pq.write_table(unknown, _unknown_file(target))
    fresh = target.with_name(f".{target.name}.{os.getpid()}.new")
    with connection.cursor() as session:
        prepare(session)
        session.register("batch", batch)
        session.execute(f"copy ({TYPED}) to {quoted(str(fresh))} (format parquet, {COMPRESSION})")
    fresh.replace(_typed_file(target))
    return batch.num_rows, problems.num_rows


def _typed_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.typed.parquet")


def _problems_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.problems.parquet")


def _unknown_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.unknown.parquet")


def _gated(table: pa.Table) -> tuple[pa.Table, pa.Table, pa.Table]:
    """The batch with payloads that DuckDB may parse, the problems of the others, and the paths that are unknown."""
    column = table.column("payload")
    texts = column.cast(pa.binary()).to_pylist()
    odd = [row for row, text in enumerate(texts) if text is not None and not gate.fits(text)]
    found: list[tuple[int, int, gate.Problem]] = []  # row, number within the row
    unknown: list[tuple[int, gate.Unknown]] = []
    for row in odd:
        payload, problems, beyond = gate.gate(texts[row].decode())
        texts[row] = None if payload is None else payload.encode()
        found += [(row, number, problem) for number, problem in enumerate(problems)]
        unknown += [(row, each) for each in beyond]
    if odd:
        column = pa.array(texts, pa.binary()).cast(pa.string())
    gated = table.set_column(table.schema.get_field_index("payload"), "payload", column)
    where = table.take(pa.array([row for row, _, _ in found], pa.int64()))
    columns = {name: where[name] for name in ("account", "load_id", "page", "task_id", "fetched_at")}
    columns |= {
        "row_position": where["position"],
        "number": pa.array([number for _, number, _ in found], pa.int32()),
        "path": pa.array([problem.path for _, _, problem in found], pa.string()),
        "value": pa.array([problem.value for _, _, problem in found], pa.string()),
        "reason": pa.array([problem.reason for _, _, problem in found], pa.string()),
    }
    return gated, pa.table(columns).select(PROBLEM.names).cast(PROBLEM), _by_path(table, unknown)


def _by_path(table: pa.Table, unknown: list[tuple[int, gate.Unknown]]) -> pa.Table:
    """How often each path was met in a batch, when, and an example."""
    where = table.select(["account", "fetched_at", "task_id"]).take(pa.array([row for row, _ in unknown], pa.int64()))
    met = pa.table(
        {
            "account": where["account"],
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
    grouped = met.group_by(["account", "path"], use_threads=False).aggregate(counts)
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
