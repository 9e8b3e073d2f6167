"""Building a version of the warehouse: every table is its .sql file's SELECT, made anew, commented and checked.

A version is built in a file of its own beside the published one, so that nothing is seen of it before it is complete.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from pipelines.errors import WarehouseError
from pipelines.landing import manifest as manifests
from pipelines.landing.zone import Zone
from pipelines.settings import Settings
from pipelines.warehouse.database import connect, quoted
from pipelines.warehouse.flatten import Observations
from pipelines.warehouse.models import PUBLISHED_LAYERS, Check, Model, load_models

# The planner's guesses put the wide observations into a join's hash table now and then, which is all of them in memory.
# So the right side of a join is the one that is held, as it is written.
JOIN_AS_WRITTEN = "set disabled_optimizers = 'join_order,build_side_probe_side'"


@dataclass(frozen=True)
class Outcome:
    """A check on a table: how many rows break it, and one of them."""

    check: Check
    failing_rows: int
    example: str

    @property
    def passed(self) -> bool:
        return self.failing_rows == 0


@dataclass(frozen=True)
class Built:
    """A table that was built: its rows, its columns as (name, DuckDB type), and the outcomes of its checks."""

    model: Model
    rows: int
    columns: list[tuple[str, str]]
    outcomes: list[Outcome]


def building_path(settings: Settings) -> Path:
    """The version being built."""
    return settings.warehouse / "building.duckdb"


def observations(settings: Settings) -> Observations:
    """The typed observations that versions are built from."""
    return Observations(settings.warehouse / "observations")


def start(settings: Settings) -> None:
    """Begins a version: clears what a run before it left half-built."""
    for path in settings.warehouse.glob("building.duckdb*"):
        path.unlink()


@contextmanager
def open_building(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the version being built that sees the observations and the manifests."""
    with connect(building_path(settings), memory_mb=settings.memory_mb) as connection:
        connection.execute(JOIN_AS_WRITTEN)
        zone = Zone(settings.landing)
        for name, files in zip(("observations", "problems"), observations(settings).files(zone), strict=True):
            listed = ", ".join(quoted(str(file)) for file in files)
            connection.execute(f"create or replace temp view {name} as from read_parquet([{listed}])")
        _offer_sources(connection, settings, zone.manifests())
        yield connection


def _offer_sources(connection: duckdb.DuckDBPyConnection, settings: Settings, loads: list[manifests.Manifest]) -> None:
    """The manifests as JSON texts and the thresholds as a row, for the SQL to read."""
    texts = pa.table({"manifest": pa.array([manifests.encode(load).decode() for load in loads], pa.string())})
    connection.register("manifests", texts)
    connection.execute(
        "create or replace temp table settings as select ? as stuck_running_seconds, ? as stuck_waiting_seconds, "
        "? as abandoned_seconds",
        [settings.stuck_running_seconds, settings.stuck_waiting_seconds, settings.abandoned_seconds],
    )


def build_layers(connection: duckdb.DuckDBPyConnection, *layers: str) -> Iterator[Built]:
    """Builds the tables of layers in order, one at a time. Internal ones last as long as the connection."""
    for model in load_models().values():
        if model.layer not in layers:
            continue
        if model.layer in PUBLISHED_LAYERS:
            yield build(connection, model)
        else:
            connection.execute(f"create or replace temp {model.form} {model.name} as {model.sql}")


def build_empty(settings: Settings) -> list[Built]:
    """Every table without rows, in a home that holds nothing: what the SQL alone says of columns and types."""
    observations(settings).flatten(Zone(settings.landing))
    start(settings)
    with open_building(settings) as connection:
        return list(build_layers(connection, "landing", *PUBLISHED_LAYERS))


def build(connection: duckdb.DuckDBPyConnection, model: Model) -> Built:
    """Builds one table and runs its checks. Raises WarehouseError where the SQL fails."""
    try:
        connection.execute(f"create or replace table {model.name} as {model.sql}")
    except duckdb.Error as error:
        raise WarehouseError(f"sql/{model.layer}/{model.name}.sql failed: {str(error).splitlines()[0]}") from None
    columns = [(row[0], row[1]) for row in connection.execute(f"describe {model.name}").fetchall()]
    if [name for name, _ in columns] != list(model.columns):
        raise WarehouseError(f"sql/{model.layer}/{model.name}.sql: its columns are not those that it documents")
    connection.execute(f"comment on table {model.name} is {quoted(model.description)}")
    for name, meaning in model.columns.items():
        connection.execute(f'comment on column {model.name}."{name}" is {quoted(meaning)}')
    rows = connection.execute(f"select count(*) from {model.name}").fetchall()[0][0]
    return Built(model, rows, columns, [_run_check(connection, check) for check in model.checks])


def _run_check(connection: duckdb.DuckDBPyConnection, check: Check) -> Outcome:
    rows = connection.execute(f"select count(*) from ({check.failing})").fetchall()[0][0]
    example = ""
    if rows:
        names = [column[0] for column in connection.execute(f"describe {check.failing}").fetchall()]
        first = connection.execute(f"from ({check.failing}) limit 1").fetchall()[0]
        example = ", ".join(f"{name}={value}" for name, value in list(zip(names, first, strict=True))[:6])
    return Outcome(check, rows, example)
