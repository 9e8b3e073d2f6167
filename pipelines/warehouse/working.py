"""The working file: every table as the last run left it, so that a run changes what the change touches.

`warehouse/task_archive.duckdb` holds the published tables, and in its schema `internal` what they are made from besides
the landing zone: which loads and parts they were made of, and what did not fit in them. It is derived. Where it is
missing or damaged, or was made by other code, SQL or settings, it is made anew, and one line says why.
"""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from pipelines.settings import Settings
from pipelines.warehouse.database import DATABASE, STORAGE_VERSION, connect, prepare, quoted
from pipelines.warehouse.observations import CONTRACT, PROBLEM, UNKNOWN
from pipelines.warehouse.sql import sql_folder

# A row group is compressed by one thread: of DuckDB's default of 122,880 rows, few accounts have enough to share out.
ROWS_PER_GROUP = 30_720

PARQUET = "parquet"
COMPLETE = "version.json"  # beside the working file: what it holds, once it is complete; so in a published version

# The tables' database in a connection, and the schema of it that is not published.
TABLES, INTERNAL = "task_archive", "internal"

# The planner's guesses put the wide observations into a join's hash table now and then, which is all of them in memory.
# So the right side of a join is the one that is held, as it is written.
JOIN_AS_WRITTEN = "set global disabled_optimizers = 'join_order,build_side_probe_side'"

PARTS = pa.schema([(name, pa.string()) for name in ("account", "load_id", "file", "sha256")])
MANIFESTS = pa.schema([(name, pa.string()) for name in ("account", "load_id", "sha256")])

OF_VERSION_0_1 = ("building", "observations")  # folders of derived files, which nothing reads any more

WEEKS = pa.schema([("table_name", pa.string()), ("week", pa.date32())])  # whose Parquet files are to follow

# How many rows fail a check that each row fulfils or fails by itself.
FAILING = pa.schema([("table_name", pa.string()), ("check_name", pa.string()), ("rows", pa.int64())])

# What makes the tables besides the .sql files: a change of it makes them anew.
CODE = [
    "build", "change", "checks", "database", "from_landing", "from_tables", "gate", "given", "grain",
    "making", "models", "observations", "plan", "spark", "sql", "working",
]  # fmt: skip
SQL = ("landing", "core", "history", "marts", "macros", "seeds")

UNSOUND = "the outcome of a check"  # stands in made_with while all is made, and where a check by task failed then


class Working:
    """The working file of an archive, and the Parquet files beside it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.file = settings.home.warehouse / DATABASE
        self.parquet = settings.home.warehouse / PARQUET
        self.fresh = self.file.with_name(f"{self.file.name}.new")  # being made, to take its place

    def changed(self, file: Path, given: str) -> list[str]:
        """What a file, which is there, was made with and is another now. `given`: the settings that the tables are made
        with. Raises duckdb.Error where the file cannot be used."""
        with self.opened(file) as connection:
            found = dict(connection.execute("select what, digest from made_with").fetchall())
        now = made_with(given)
        return [what for what in now if found.get(what) != now[what]] + [what for what in found if what not in now]

    def remove(self) -> None:
        """Forgets the tables."""
        for file in (self.file, self.fresh):
            for path in (file, file.with_name(f"{file.name}.wal")):
                path.unlink(missing_ok=True)
        for folder in (self.parquet, *(self.file.with_name(name) for name in OF_VERSION_0_1)):
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def opened(self, file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection on which the file is attached. Raises duckdb.Error where it cannot be.

        What is written to the fresh file is lost unless it is checkpointed, as the file is if the run is killed.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        with connect(memory_mb=self._settings.memory_mb, spill=self._settings.home.warehouse / "spill") as connection:
            connection.execute(JOIN_AS_WRITTEN)
            attach(connection, file, "recovery_mode 'no_wal_writes'" if file == self.fresh else "")
            connection.execute(f"create schema if not exists {TABLES}.{INTERNAL}")
            use(connection)
            yield connection

    @contextmanager
    def opened_fresh(self, given: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection on the fresh file: gone on with where a run was cut short, else begun."""
        try:
            is_new = not self.fresh.exists() or bool(self.changed(self.fresh, given))
        except duckdb.Error:
            is_new = True
        if is_new:
            self.remove()
        with self.opened(self.fresh) as connection:
            if is_new:
                _begin(connection, given)
            yield connection

    def take_place(self) -> None:
        """Puts the fresh file in the place of the old one."""
        self.file.with_name(f"{self.file.name}.wal").unlink(missing_ok=True)
        self.fresh.replace(self.file)


def _begin(connection: duckdb.DuckDBPyConnection, given: str) -> None:
    """Makes what is internal, in a file that is new."""
    made = [{"what": what, "digest": digest} for what, digest in made_with(given).items()]
    for name, table in {
        "parts": PARTS.empty_table(),
        "manifests_seen": MANIFESTS.empty_table(),
        "problems": PROBLEM.empty_table(),
        "unknown_paths": UNKNOWN.empty_table(),
        "weeks": WEEKS.empty_table(),
        "failing": FAILING.empty_table(),
        "told_of_again": pa.table({"task_id": pa.array([], pa.string())}),  # while they are made ahead
        "made_with": pa.Table.from_pylist(made),
    }.items():
        connection.register("given_rows", table)
        connection.execute(f"create table {TABLES}.{INTERNAL}.{name} as from given_rows")
        connection.unregister("given_rows")


def attach(connection: duckdb.DuckDBPyConnection, file: Path, *options: str) -> None:
    """With what the file was made with: otherwise the first change would write it anew."""
    made_with = (
        f"storage_version {quoted(STORAGE_VERSION)}",
        f"row_group_size {ROWS_PER_GROUP}",
        *filter(None, options),
    )
    connection.execute(f"attach {quoted(str(file))} as {TABLES} ({', '.join(made_with)})")


def use(session: duckdb.DuckDBPyConnection) -> None:
    """Has a session find the tables and what is internal by name, temporary ones first."""
    prepare(session)
    session.execute(f"set search_path = '{TABLES}.main,{TABLES}.{INTERNAL},memory.main'")


def made_with(given: str) -> dict[str, str]:
    """What the tables are made with, each with a digest."""
    texts = {"a setting": given.encode(), "the contract": CONTRACT.encode(), "DuckDB": duckdb.__version__.encode()}
    texts |= {f"pipelines/warehouse/{name}": Path(__file__).with_name(f"{name}.py").read_bytes() for name in CODE}
    for path in sorted(path for folder in SQL for path in (sql_folder() / folder).glob("*.*")):
        texts[f"sql/{path.parent.name}/{path.name}"] = path.read_bytes()
    return {what: hashlib.sha256(text).hexdigest() for what, text in texts.items()}


def note_made_with(connection: duckdb.DuckDBPyConnection, given: str, changed: list[str], is_made: bool) -> None:
    """Notes the changed things that the tables are made with, or that they are not made with them yet."""
    now = made_with(given)
    for what in changed:
        connection.execute("delete from made_with where what = ?", [what])
        if not is_made or what in now:
            connection.execute("insert into made_with values (?, ?)", [what, now[what] if is_made else ""])
    connection.execute(f"checkpoint {TABLES}")
