"""Publishing to PostgreSQL, for BI servers that open no DuckDB file.

One transaction makes the tables of a schema what the published version holds. Each is loaded beside, as a temporary
table, then rows that are gone or changed are deleted and new ones inserted. So a reader's transaction stays on the
version that it began with, no reader waits, and views, grants and indexes that others have on the tables stay.

The schema notes the hashes of the Parquet files whose rows it holds. By them the next publication leaves tables as they
are, and of a table by task carries the weeks that differ: whichever version the schema holds, an older or a newer one.
"""

import glob
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import duckdb

from pipelines.errors import ArchiveError, Busy, SettingsError
from pipelines.serving.targets import Target, TargetTable
from pipelines.settings import Settings, environment_variable
from pipelines.warehouse.database import connect, current_database, quoted
from pipelines.warehouse.grain import grains
from pipelines.warehouse.models import Model, published_models
from pipelines.warehouse.parquet import MANIFEST, tasks_of_weeks
from pipelines.warehouse.working import COMPLETE, PARQUET

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Connection

ROWS_AT_ONCE = 10_240
LOCK_NOT_AVAILABLE = "55P03"  # an SQLSTATE

# The archive's own list of what it published, by which it knows a table that it publishes no more, and what it holds.
PUBLISHED_TABLES = "published_tables"

# DuckDB's types and PostgreSQL's names of the same, as format_type writes them.
TYPES = {
    "BOOLEAN": "boolean",
    "UTINYINT": "smallint",
    "TINYINT": "smallint",
    "SMALLINT": "smallint",
    "USMALLINT": "integer",
    "INTEGER": "integer",
    "UINTEGER": "bigint",
    "BIGINT": "bigint",
    "FLOAT": "real",
    "DOUBLE": "double precision",
    "DATE": "date",
    "TIME": "time without time zone",
    "TIMESTAMP": "timestamp without time zone",
    "TIMESTAMP WITH TIME ZONE": "timestamp with time zone",
    "INTERVAL": "interval",
    "BLOB": "bytea",
}


class PostgresError(ArchiveError):
    """PostgreSQL refused, or could not be reached. The message holds no secret of the DSN."""


@dataclass(frozen=True)
class Held:
    """What a table holds, here or there: how many rows, and by path the hashes of the Parquet files that hold them."""

    rows: int
    files: dict[str, str]


@dataclass(frozen=True)
class Change:
    """What is new of a table since it was published there, with `rows` then: `files` of its `folder`, by name."""

    rows: int
    folder: Path
    files: set[str]


@dataclass(frozen=True)
class Column:
    """A column: its PostgreSQL type, the DuckDB expression that gives the value for it, and the condition under which
    that is not the value itself; empty where there is none."""

    name: str
    type: str
    value: str
    is_mended: str = ""

    @property
    def definition(self) -> str:
        return f"{identifier(self.name)} {self.type}"


def column_of(name: str, kind: str) -> Column:
    """The PostgreSQL column for a column of a DuckDB type: what is nested is jsonb, what it has no type for is text."""
    it = identifier(name)
    decimal = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", kind)
    if kind in TYPES:
        return Column(name, TYPES[kind], it)
    if kind.endswith("[]") and kind[:-2] in TYPES:
        return Column(name, f"{TYPES[kind[:-2]]}[]", it)
    if kind == "VARCHAR[]":
        mended = f"list_transform({it}, lambda item: {_without_nul('item')})"
        return Column(name, "text[]", mended, f"contains(array_to_string({it}, ''), chr(0))")
    if decimal:
        return Column(name, f"numeric({decimal[1]},{decimal[2]})", it)
    if kind in ("UBIGINT", "HUGEINT"):
        return Column(name, "numeric(38,0)", f"{it}::decimal(38, 0)")
    if kind == "JSON" or kind.endswith("]") or kind.startswith(("STRUCT", "MAP")):
        text = f"{it}::varchar" if kind == "JSON" else f"to_json({it})::varchar"  # which in Parquet is text
        # The binary form of jsonb is a version, 1, and the text.
        in_binary = f"chr(1) || replace({text}, '\\u0000', '\\ufffd')"
        return Column(name, "jsonb", in_binary, f"contains({text}, '\\u0000')")
    return Column(name, "text", _without_nul(f"{it}::varchar"), f"contains({it}::varchar, chr(0))")


def _without_nul(text: str) -> str:
    return f"replace({text}, chr(0), '\N{REPLACEMENT CHARACTER}')"


def publish_to_postgres(
    settings: Settings, told: Callable[[str], None] = lambda line: None, every_row: bool = False
) -> list[TargetTable]:
    """Makes the tables of the schema what the published version holds; `told` hears of each.

    Compares the rows that may differ from what was published there before, or every row, whatever others did to them.

    Raises SettingsError where no DSN is set or the driver is missing, Busy where another publication or a reader's lock
    lasts too long, PostgresError with one line for what the server refuses. What was published before stays then.
    """
    database = current_database(settings)
    parquet = database.parent / PARQUET
    version = json.loads((database.parent / COMPLETE).read_bytes())["version"]
    with (
        connected(settings) as server,
        connect(database, read_only=True, memory_mb=settings.memory_mb) as source,
    ):
        schema = Schema(server, settings.postgres_schema)
        schema.open(settings.lock_wait_seconds)
        published, there = held_by(parquet / MANIFEST), {} if every_row else schema.held()
        carried = []
        for model in published_models():
            change = None
            if before := there.get(model.name):
                differing = before.files.items() ^ published[model.name].files.items()
                change = Change(before.rows, parquet / model.name, {Path(path).stem for path, _ in differing})
            carried.append(schema.carry(source, model, change))
            told(str(carried[-1]))
        schema.note(published, version)
        if settings.postgres_reader and not schema.may_be_read_by(settings.postgres_reader, carried):
            told(f"role {settings.postgres_reader} is not there and may not be made: nothing was granted")
        server.commit()
    return carried


def held_by(manifest: Path) -> dict[str, Held]:
    """What the tables of a version hold, by its manifest."""
    return {
        name: Held(table["rows"], {file["path"]: file["sha256"] for file in table["files"]})
        for name, table in json.loads(manifest.read_bytes())["tables"].items()
    }


class Server:
    """A connection to PostgreSQL, in a transaction that `commit` ends."""

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection

    def do(self, sql: str) -> int:
        """Runs a statement; returns the rows that it touched."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return int(cursor.rowcount)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def load(self, temporary_table: str, rows: Any) -> None:
        """Appends the batches of an Arrow reader to a temporary table."""
        with self.connection.cursor() as cursor:
            cursor.adbc_ingest(temporary_table, rows, mode="append", temporary=True)

    def commit(self) -> None:
        self.connection.commit()


@contextmanager
def connected(settings: Settings) -> Iterator[Server]:
    """The server that the DSN names; failures in the body become one line without its secrets."""
    if settings.postgres_dsn is None:
        raise SettingsError(
            f"{environment_variable('postgres_dsn')} is not set: give the database's URL, "
            "postgresql://user:password@host/database"
        )
    try:
        from adbc_driver_manager import Error
        from adbc_driver_postgresql import dbapi
    except ImportError:
        raise SettingsError(
            "PostgreSQL needs its driver: pip install 'livepeer-task-archive[postgres]', or make setup in a checkout"
        ) from None
    dsn = settings.postgres_dsn.get_secret_value()
    try:
        with dbapi.connect(dsn) as connection:
            yield Server(connection)
    except Error as error:
        said = _without_secrets(str(error), dsn)
        if error.sqlstate == LOCK_NOT_AVAILABLE:
            raise Busy(
                f"PostgreSQL: another publication or a reader held a lock for {settings.lock_wait_seconds:g} s "
                f"({environment_variable('lock_wait_seconds')})"
            ) from None
        raise PostgresError(f"PostgreSQL: {said}") from None


def _without_secrets(message: str, dsn: str) -> str:
    """What the server or its library said, in one line, without the library's own words around it."""
    said = " ".join(message.split())
    found = re.search(r"ERROR: (.+?)(?: LINE \d+:| HINT:| CONTEXT:| Query was:|\. SQLSTATE:|$)", said)
    said = found[1].strip() if found else said.rpartition("[libpq] ")[2]
    parts = urlsplit(dsn)
    in_query = [value for name, value in parse_qsl(parts.query) if "password" in name]
    for secret in filter(None, [dsn, parts.password, unquote(parts.password or ""), *in_query]):
        said = said.replace(secret, "…")
    return said


class Schema:
    """The schema that is published to, in the transaction that does it."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name = server, name

    def open(self, lock_wait_seconds: float) -> None:
        """Keeps other publications to the schema away, and makes it if it is not there."""
        for setting, value in {
            "lock_timeout": f"{lock_wait_seconds * 1000:.0f}ms",
            "statement_timeout": "0",
            "idle_in_transaction_session_timeout": "0",
            "standard_conforming_strings": "on",
            "work_mem": "64MB",
        }.items():
            self.server.do(f"set local {setting} = {quoted(value)}")
        self.server.ask(f"select pg_advisory_xact_lock(hashtextextended({quoted(f'task_archive {self.name}')}, 0))")
        if not self.server.ask(f"select 1 from pg_namespace where nspname = {quoted(self.name)}"):
            self.server.do(f"create schema {identifier(self.name)}")
        self._make_list()

    def _make_list(self) -> None:
        place, there = self._place(PUBLISHED_TABLES), {name for name, *_ in self._columns(PUBLISHED_TABLES)}
        if not there:
            self.server.do(
                f"create table {place} (table_name text primary key, rows bigint, version text, "
                "published_at timestamp with time zone, files jsonb)"
            )
            self.server.do(
                f"comment on table {place} is 'What was published when: by it the archive knows its own tables.'"
            )
        elif "files" not in there:  # a list of version 0.1
            self.server.do(f"alter table {place} add column files jsonb")

    def carry(self, source: duckdb.DuckDBPyConnection, model: Model, change: Change | None = None) -> TargetTable:
        """Makes a table hold the rows that it has in the published version; `change`: where only that may differ."""
        described = "select column_name, data_type from duckdb_columns() where table_name = ? order by column_index"
        columns = [column_of(name, kind) for name, kind in source.execute(described, [model.name]).fetchall()]
        if [column.name for column in columns] != list(model.columns):
            raise ArchiveError(
                f"{model.name} was published by another version of this program: run `task-archive rebuild` first"
            )
        ((rows,),) = source.execute(f"select count(*) from {model.name}").fetchall()
        key_before, is_as_it_was = self._shape(model, columns)
        inserted = deleted = mended = 0
        for part in _parts(model, change) if is_as_it_was else [None]:
            counted = self._compare(source, model, columns, part)
            inserted, deleted, mended = inserted + counted[0], deleted + counted[1], mended + counted[2]
            if part and part.rows + inserted - deleted == rows:
                break
        if key_before != model.key:
            self.server.do(f"alter table {self._place(model.name)} add primary key ({_listed(model.key)})")
        return TargetTable(model.name, rows, inserted, deleted, mended)

    def _compare(
        self, source: duckdb.DuckDBPyConnection, model: Model, columns: list[Column], weeks: Change | None
    ) -> tuple[int, int, int]:
        """Makes the rows of the tasks of some weeks, or all rows, what they are in the source.

        Returns how many were inserted, how many deleted, and how many values mended.
        """
        rows, among, temporary = f"from {model.name}", "", []
        if weeks is not None:
            listed = ", ".join(map(quoted, weeks.files))
            files = f"read_parquet({quoted(f'{glob.escape(str(weeks.folder))}/*.parquet')}, filename = true)"
            rows = f"from {files} where parse_filename(filename, true) in ({listed})"
            tasks = source.sql(tasks_of_weeks(model, weeks.files))
            temporary.append(self._load("compared_tasks", tasks, [column_of("task_id", "VARCHAR")]))
            among = f"old.task_id in (select task_id from {temporary[0]}) and"
        values = ", ".join(f"{column.value} as {identifier(column.name)}" for column in columns)
        temporary.append(self._load(model.name, source.sql(f"select {values} {rows}"), columns))
        deleted, inserted = self._exchange(model, temporary[-1], columns, among)
        self.server.do(f"drop table {', '.join(temporary)}")
        if inserted or deleted:
            self.server.do(f"analyze {self._place(model.name)}")
        counts = " + ".join(f"count(*) filter (where {column.is_mended})" for column in columns if column.is_mended)
        ((mended,),) = source.execute(f"select {counts or 0} {rows}").fetchall()
        return inserted, deleted, mended

    def _load(self, name: str, rows: duckdb.DuckDBPyRelation, columns: list[Column]) -> str:
        """Loads rows into a temporary table; returns where it is."""
        beside = f"pg_temp.{identifier(name)}"
        self.server.do(f"create temp table {identifier(name)} ({', '.join(column.definition for column in columns)})")
        self.server.load(name, rows.to_arrow_reader(ROWS_AT_ONCE))
        self.server.do(f"analyze {beside}")
        return beside

    def _shape(self, model: Model, columns: list[Column]) -> tuple[tuple[str, ...], bool]:
        """Makes the table, or gives the one that is there the columns and comments.

        Returns the primary key that it had, and whether it had these columns and this key.
        """
        place, wanted = self._place(model.name), {column.name: column.type for column in columns}
        there = {name: (kind, comment) for name, kind, comment in self._columns(model.name)}
        had_columns = {name: kind for name, (kind, _) in there.items()} == wanted
        if not there:
            self.server.do(f"create table {place} ({', '.join(column.definition for column in columns)})")
        for name, (kind, _) in list(there.items()):
            if wanted.get(name) != kind:
                self.server.do(f"alter table {place} drop column {identifier(name)}")
                del there[name]
        for column in columns:
            if there and column.name not in there:
                self.server.do(f"alter table {place} add column {column.definition}")
            if there.get(column.name, ("", ""))[1] != model.columns[column.name]:
                it = f"{place}.{identifier(column.name)}"
                self.server.do(f"comment on column {it} is {quoted(model.columns[column.name])}")
        if self.server.ask(_COMMENT.format(table=quoted(place))) != [(model.description,)]:
            self.server.do(f"comment on table {place} is {quoted(model.description)}")
        key = tuple(name for (name,) in self.server.ask(_KEY.format(table=quoted(place))))
        if key and key != model.key:
            self.server.do(f"alter table {place} drop constraint {identifier(f'{model.name}_pkey')}")
        return key, had_columns and key == model.key

    def _exchange(self, model: Model, beside: str, columns: list[Column], among: str) -> tuple[int, int]:
        """Deletes rows that are gone or differ, `among` some or all, inserts what is not there; how many of each."""
        place, names = self._place(model.name), _listed(column.name for column in columns)
        same_key = " and ".join(f"new.{identifier(name)} = old.{identifier(name)}" for name in model.key)
        old, new = (", ".join(f"{of}.{identifier(column.name)}" for column in columns) for of in ("old", "new"))
        deleted = self.server.do(
            f"delete from {place} as old where {among} not exists "
            f"(select from {beside} as new where {same_key} and ({new}) is not distinct from ({old}))"
        )
        inserted = self.server.do(
            f"insert into {place} ({names}) select {names} from {beside} as new "
            f"where not exists (select from {place} as old where {same_key})"
        )
        return deleted, inserted

    def held(self) -> dict[str, Held]:
        """What the tables were made to hold the last time, as far as that was noted."""
        noted = f"select table_name, rows, files::text from {self._place(PUBLISHED_TABLES)} where files is not null"
        return {table: Held(rows, json.loads(files)) for table, rows, files in self.server.ask(noted)}

    def note(self, published: dict[str, Held], version: str) -> None:
        """Drops tables that are published no more, and notes those that are."""
        place = self._place(PUBLISHED_TABLES)
        for (table,) in self.server.ask(f"select table_name from {place}"):
            if table not in published:
                self.server.do(f"drop table if exists {self._place(table)}")
        self.server.do(f"delete from {place}")
        listed = ", ".join(
            f"({quoted(table)}, {held.rows}, {quoted(version)}, now(), {quoted(json.dumps(held.files))}::jsonb)"
            for table, held in published.items()
        )
        self.server.do(f"insert into {place} values {listed}")

    def may_be_read_by(self, role: str, carried: list[TargetTable]) -> bool:
        """Lets a role read the tables; makes it, without a login, where that is allowed. False where it is missing."""
        if not self.server.ask(f"select 1 from pg_roles where rolname = {quoted(role)}"):
            may = "select rolsuper or rolcreaterole from pg_roles where rolname = current_user"
            if not self.server.ask(may)[0][0]:
                return False
            self.server.do(f"create role {identifier(role)} nologin")
        tables = ", ".join(map(self._place, [PUBLISHED_TABLES, *(each.table for each in carried)]))
        self.server.do(f"grant usage on schema {identifier(self.name)} to {identifier(role)}")
        self.server.do(f"grant select on {tables} to {identifier(role)}")
        return True

    def _place(self, table: str) -> str:
        return f"{identifier(self.name)}.{identifier(table)}"

    def _columns(self, table: str) -> list[tuple[str, str, str | None]]:
        """Name, type and comment of each column of a table; none where it is not there."""
        return [
            (name, kind, comment)
            for name, kind, comment in self.server.ask(_COLUMNS.format(table=quoted(self._place(table))))
        ]


_COLUMNS = """
select attname::text, format_type(atttypid, atttypmod), col_description(attrelid, attnum)
from pg_attribute
where attrelid = to_regclass({table}) and attnum > 0 and not attisdropped
order by attnum
"""
_COMMENT = "select obj_description(to_regclass({table}), 'pg_class')"
_KEY = """
select attname::text
from pg_index, unnest(indkey) with ordinality as keyed(number, place), pg_attribute
where indrelid = to_regclass({table}) and indisprimary and attrelid = indrelid and attnum = number
order by place
"""


def _parts(model: Model, change: Change | None) -> list[Change | None]:
    """What of a table to compare, one after the other until the number of rows is right; None is all of it. A task
    that is gone from the archive is in no week."""
    if change is None:
        return [None]
    if not change.files:
        return []
    return [change, None] if grains()[model.name].kind == "task" else [None]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(identifier, names))


def identifier(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _check(settings: Settings) -> str:
    with connected(settings) as server:
        (version,) = server.ask("select current_setting('server_version')")[0]
    return f"version {version} answers"


TARGET = Target(
    name="postgres",
    title="PostgreSQL",
    help="""Make the tables of a PostgreSQL schema what the published version holds, in one transaction.

    The database is that of TASK_ARCHIVE_POSTGRES_DSN. Once that is set, the nightly job does the same. Rows are
    compared where the version differs from the one that was published there before.
    """,
    is_set=lambda settings: settings.postgres_dsn is not None,
    place=lambda settings: f"schema {settings.postgres_schema}",
    publish=publish_to_postgres,
    check=_check,
)
