"""Building a version of the warehouse: every table is its .sql file's SELECT, made anew, checked and exported.

A version is built in a folder of its own, as a DuckDB file and Parquet, so that nothing is seen of it before it is
complete. Publishing moves the folder.
"""

import csv
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pipelines import __version__
from pipelines.errors import WarehouseError
from pipelines.landing import damage
from pipelines.landing import manifest as manifests
from pipelines.landing.zone import Zone, write_durably
from pipelines.settings import Settings, slo_targets
from pipelines.warehouse.database import STORAGE_VERSION, connect, prepare, quoted
from pipelines.warehouse.flatten import Observations
from pipelines.warehouse.models import (
    PUBLISHED_LAYERS,
    Check,
    Metric,
    Model,
    load_macros,
    load_models,
    published_models,
    sql_folder,
)
from pipelines.warehouse.parquet import MANIFEST, ROWS_PER_GROUP, described, in_manifest, write_parquet

DATABASE = "task_archive.duckdb"
PARQUET = "parquet"
COMPLETE = "version.json"
VERSION = "%Y%m%dT%H%M%S%fZ"  # the name of a version: when it was built, UTC

# The planner's guesses put the wide observations into a join's hash table now and then, which is all of them in memory.
# So the right side of a join is the one that is held, as it is written.
JOIN_AS_WRITTEN = "set global disabled_optimizers = 'join_order,build_side_probe_side'"

# The published tables' database, and the one in memory for what feeds them.
TABLES, INTERNAL = "task_archive", "memory"

WORKERS = 2

MANIFESTS = pa.schema([("manifest", pa.string())])
DAMAGES = pa.schema(
    [(name, pa.string()) for name in ("account", "load_id", "file", "damage")] + [("rows_lost", pa.int64())]
)
SETTINGS = pa.schema(
    [("time_zone", pa.string())]
    + [
        (name, pa.int64())
        for name in ("stuck_running_seconds", "stuck_waiting_seconds", "abandoned_seconds", "concurrency_limit")
    ]
)
SLO = pa.schema([("type", pa.string()), ("share", pa.float64()), ("seconds", pa.float64())])
OWNERS = pa.schema([("position", pa.int64())] + [(name, pa.string()) for name in ("pattern", "owner", "advice")])
METRICS = pa.schema(
    [(field.name, pa.int64() if field.name == "minimum_n" else pa.string()) for field in fields(Metric)]
)


@dataclass(frozen=True)
class Outcome:
    """A check on a table: how many rows break it, and one of them."""

    check: Check
    failing_rows: int
    example: str

    @property
    def passed(self) -> bool:
        return self.failing_rows == 0

    @property
    def blocks(self) -> bool:
        """Whether nothing may be published because of it."""
        return not self.passed and self.check.severity == "error"


@dataclass(frozen=True)
class Built:
    """A table that was built: its rows, its columns as (name, DuckDB type), and the outcomes of its checks."""

    model: Model
    rows: int
    columns: list[tuple[str, str]]
    outcomes: list[Outcome]


def building_folder(settings: Settings) -> Path:
    """The version being built."""
    return settings.warehouse / "building"


def observations(settings: Settings) -> Observations:
    """The typed observations that versions are built from."""
    return Observations(settings.observations)


def build_version(settings: Settings) -> Iterator[Built]:
    """Builds a version into the building folder, cleared first, and yields each finished table.

    The folder holds COMPLETE once every table stands and no check that blocks has failed.
    """
    folder = building_folder(settings)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tables: dict[str, Built] = {}
    with _open(settings, folder) as connection:
        for built in _in_parallel(connection, folder):
            tables[built.model.name] = built
            yield built
        _create_macros(connection)
    if not any(each.blocks for built in tables.values() for each in built.outcomes):
        about = {"version": _next_version(settings.published / "versions"), "code_version": __version__}
        parquet = folder / PARQUET
        listed = {
            name: in_manifest(built.model, built.columns, built.rows, parquet / name) for name, built in tables.items()
        }
        write_durably(parquet / MANIFEST, json.dumps({**about, "tables": listed}, indent=1).encode())
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        rows = {name: built.rows for name, built in tables.items()}
        write_durably(folder / COMPLETE, json.dumps({**about, "rows": rows, "bytes": size}, indent=1).encode())


def _next_version(versions: Path) -> str:
    """A name that sorts behind every version before it, even where the clock was set back: the oldest ones go."""
    name = datetime.now(UTC).strftime(VERSION)
    last = max((path.name for path in versions.glob("[!.]*")), default="")
    return name if name > last else (datetime.strptime(last, VERSION) + timedelta(microseconds=1)).strftime(VERSION)


def build_empty(settings: Settings) -> list[Built]:
    """Every table without rows, in a home that holds nothing: what the SQL alone says of columns and types."""
    observations(settings).flatten(Zone(settings.landing))
    order = list(load_models())
    return sorted(build_version(settings), key=lambda built: order.index(built.model.name))


@contextmanager
def _open(settings: Settings, folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the version being built that sees what was parsed, the manifests and the settings."""
    with connect(memory_mb=settings.memory_mb, spill=settings.warehouse / "spill") as connection:
        connection.execute(JOIN_AS_WRITTEN)
        # Each worker runs its own queries; DuckDB's threads are what is left of the cores, lest they take turns.
        connection.execute(f"set threads = {max(1, (os.cpu_count() or 1) - WORKERS + 1)}")
        connection.execute(
            f"attach {quoted(str(folder / DATABASE))} as {TABLES} "
            f"(storage_version {quoted(STORAGE_VERSION)}, row_group_size {ROWS_PER_GROUP})"
        )
        zone = Zone(settings.landing)
        for name, files in observations(settings).files(zone).items():
            listed = ", ".join(quoted(str(file)) for file in files)
            connection.execute(f"create view {name} as from read_parquet([{listed}])")
        for name, (schema, rows) in _given(settings, zone).items():
            connection.register("given", pa.Table.from_pylist(rows, schema=schema))
            connection.execute(f"create table {name} as from given")
        yield connection


def _given(settings: Settings, zone: Zone) -> dict[str, tuple[pa.Schema, list[dict[str, Any]]]]:
    """What the tables are made from besides the observations: internal relations with their columns and rows."""
    with (sql_folder() / "seeds" / "signature_owners.csv").open(newline="", encoding="utf-8") as file:
        owners = [{"position": position} | row for position, row in enumerate(csv.DictReader(file))]
    return {
        "manifests": (MANIFESTS, [{"manifest": manifests.encode(load).decode()} for load in zone.manifests()]),
        "damages": (DAMAGES, [_as_row(lost) for lost in damage.lost(zone)]),
        "settings": (SETTINGS, [{name: getattr(settings, name) for name in SETTINGS.names}]),
        "slo_settings": (SLO, [target._asdict() for target in slo_targets(settings.slo)]),
        "signature_owners_seed": (OWNERS, owners),
        "metric_definitions": (METRICS, [asdict(metric) for model in published_models() for metric in model.metrics]),
    }


def _as_row(lost: damage.Damage) -> dict[str, Any]:
    rows = lost.part.rows if lost.part else None
    return dict(zip(DAMAGES.names, (lost.account, lost.load_id, lost.file, lost.what, rows), strict=True))


@contextmanager
def _session(connection: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """A session of its own on the version being built, where the tables and the internal relations are found."""
    with connection.cursor() as session:
        prepare(session)
        session.execute(f"set search_path = '{TABLES}.main,{INTERNAL}.main'")
        yield session


def _in_parallel(connection: duckdb.DuckDBPyConnection, folder: Path) -> Iterator[Built]:
    """Makes the tables as soon as what they read is there, and checks and exports each while the next are made."""
    models = load_models()
    order = list(models)
    plan: TopologicalSorter[tuple[str, bool]] = TopologicalSorter()  # name, and whether it is to be finished or made
    for model in models.values():
        read = [name for name in model.reads if name in models]
        plan.add((model.name, False), *((name, False) for name in read))
        if model.layer in PUBLISHED_LAYERS:
            published = [name for name in read if models[name].layer in PUBLISHED_LAYERS]
            referred = ((each.table, False) for each in model.refers)
            plan.add((model.name, True), (model.name, False), *referred, *((name, True) for name in published))
    plan.prepare()

    def work(name: str, finish: bool) -> Built | None:
        with _session(connection) as session:
            if finish:
                return _finish(session, models[name], folder / PARQUET)
            _make(session, models[name])
        return None

    with ThreadPoolExecutor(WORKERS) as pool:
        running: dict[Future[Built | None], tuple[str, bool]] = {}
        done: set[Future[Built | None]] = set()
        try:
            while plan.is_active():
                for node in sorted(plan.get_ready(), key=lambda node: order.index(node[0])):
                    running[pool.submit(work, *node)] = node
                yield from filter(None, (each.result() for each in done))  # who takes them does so while others run
                done = wait(running, return_when=FIRST_COMPLETED).done
                plan.done(*(running.pop(each) for each in done))
            yield from filter(None, (each.result() for each in done))
        finally:
            pool.shutdown(cancel_futures=True)


def _make(session: duckdb.DuckDBPyConnection, model: Model) -> None:
    """Makes one relation. Raises WarehouseError where the SQL fails."""
    place = "" if model.layer in PUBLISHED_LAYERS else f"{INTERNAL}."
    try:
        session.execute(f"create {model.form} {place}{model.name} as {model.sql}")
    except duckdb.Error as error:
        raise WarehouseError(f"sql/{model.layer}/{model.name}.sql failed: {str(error).splitlines()[0]}") from None


def _finish(session: duckdb.DuckDBPyConnection, model: Model, parquet: Path) -> Built:
    """Comments, checks and exports one table."""
    columns = [(row[0], row[1]) for row in session.execute(f"describe {model.name}").fetchall()]
    if [name for name, _ in columns] != list(model.columns):
        raise WarehouseError(f"sql/{model.layer}/{model.name}.sql: its columns are not those that it documents")
    comments = [f"comment on table {model.name} is {quoted(model.description)}"]
    comments += [
        f'comment on column {model.name}."{name}" is {quoted(meaning)}' for name, meaning in model.columns.items()
    ]
    session.execute("; ".join(["begin", *comments, "commit"]))  # in one transaction: each costs a write to the file
    outcomes = [_run_check(session, check) for check in model.checks]
    rows = _export(session, model, parquet / model.name / f"{model.name}.parquet")
    return Built(model, rows, columns, outcomes)


def _create_macros(connection: duckdb.DuckDBPyConnection) -> None:
    with _session(connection) as session:
        for macro in load_macros():
            session.execute(f"create macro {macro.name}({macro.takes}) as table {macro.sql}")
            session.execute(f"comment on macro table {macro.name} is {quoted(macro.description)}")


def _run_check(session: duckdb.DuckDBPyConnection, check: Check) -> Outcome:
    rows = session.execute(f"select count(*) from ({check.failing})").fetchall()[0][0]
    example = ""
    if rows:
        names = [column[0] for column in session.execute(f"describe {check.failing}").fetchall()]
        first = session.execute(f"from ({check.failing}) limit 1").fetchall()[0]
        example = ", ".join(f"{name}={value}" for name, value in list(zip(names, first, strict=True))[:6])
    return Outcome(check, rows, example)


def _export(session: duckdb.DuckDBPyConnection, model: Model, file: Path) -> int:
    """Writes a table's Parquet, each field with its meaning; returns its rows."""
    file.parent.mkdir(parents=True)
    batches = session.sql(f"from {model.name}").to_arrow_reader(ROWS_PER_GROUP)
    return write_parquet(described(batches.schema, model), batches, file)
