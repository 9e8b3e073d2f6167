"""DuckDB connections as this project opens them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from pipelines.errors import WarehouseError
from pipelines.settings import Settings

# The file of the tables, where they are made and where they are published.
DATABASE = "task_archive.duckdb"

# DuckDB 1.4, 1.5 and 2 all open this; BI servers are slow to follow.
STORAGE_VERSION = "v1.4.0"

# Spark SQL's functions that the marts use and DuckDB lacks, so that the same files run in both. `local_date` is ours,
# the day of a moment in a time zone: in Spark cast(from_utc_timestamp(moment, zone) as date).
SPARK_MACROS = """
create or replace temp macro unix_millis(moment) as epoch_ms(moment);
create or replace temp macro timestamp_millis(millis) as make_timestamptz(millis * 1000);
create or replace temp macro from_utc_timestamp(moment, zone) as timezone(zone, moment);
create or replace temp macro to_utc_timestamp(local_time, zone) as timezone(zone, local_time);
create or replace temp macro local_date(moment, zone) as cast(timezone(zone, moment) as date);
create or replace temp macro sequence(first, last, step) as generate_series(first, last, step);
create or replace temp macro explode(list) as unnest(list);
create or replace temp macro struct(first, second) as row(first, second);
"""


@contextmanager
def connect(
    path: Path | None = None, *, read_only: bool = False, memory_mb: int | None = None, spill: Path | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in UTC that is closed in any case; no path: in memory. Raises WarehouseError if it cannot open."""
    try:
        connection = duckdb.connect(
            str(path or ":memory:"),
            read_only=read_only,
            config={"storage_compatibility_version": STORAGE_VERSION, "preserve_insertion_order": True},
        )
    except duckdb.Error as error:
        raise WarehouseError(f"cannot open {path}: {str(error).splitlines()[0]}") from None
    try:
        prepare(connection)
        if memory_mb is not None:  # beyond it, DuckDB works on disk
            connection.execute(f"set memory_limit = '{memory_mb}MB'")
        if spill is not None:
            connection.execute(f"set temp_directory = {quoted(str(spill))}")
        yield connection
    finally:
        connection.close()


def current_database(settings: Settings) -> Path:
    """The published DuckDB file. Raises WarehouseError before the first publication."""
    path = settings.home.published / DATABASE
    if not path.exists():
        raise WarehouseError(f"nothing is published under {settings.home.published} yet: run `task-archive sync` first")
    return path.resolve()


def prepare(session: duckdb.DuckDBPyConnection) -> None:
    """What each session needs of its own, a cursor of a connection too."""
    session.execute("set TimeZone = 'UTC'")
    session.execute(SPARK_MACROS)


def run_sql(connection: duckdb.DuckDBPyConnection, statement: str, file: str) -> None:
    """Runs a statement that has the SELECT of a file of sql/. Raises WarehouseError, or OutOfMemoryException, with the
    file's name."""
    try:
        connection.execute(statement)
    except duckdb.Error as error:
        said = f"{file} failed: {str(error).splitlines()[0]}"
        lacks_memory = isinstance(error, duckdb.OutOfMemoryException)
        raise (duckdb.OutOfMemoryException(said) if lacks_memory else WarehouseError(said)) from None


def quoted(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"
