"""Publishing to PostgreSQL, for BI servers that open no DuckDB file.

One transaction makes the tables of a schema what the published version holds. Each is loaded beside, as a temporary
table, then rows that are gone or changed are deleted and new ones inserted. So a reader's transaction stays on the
version that it began with, nobody waits, and views, grants and indexes that others have on the tables stay.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import duckdb

from pipelines.errors import ArchiveError, Busy, SettingsError
from pipelines.settings import Settings, environment_variable
from pipelines.warehouse.build import COMPLETE
from pipelines.warehouse.database import connect, quoted
from pipelines.warehouse.models import Model, published_models
from pipelines.warehouse.publish import current_database

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Connection

ROWS_AT_ONCE = 10_240
LOCK_NOT_AVAILABLE = "55P03"  # an SQLSTATE

# The archive's own list of what it published, by which it knows a table that it publishes no more.
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
class Carried:
    """A table in PostgreSQL: its rows, how many were inserted and deleted (a changed row is both), and how many values
    were mended because PostgreSQL has no NUL character."""

    table: str
    rows: int
    inserted: int
    deleted: int
    mended: int

    def __str__(self) -> str:
        mended = f", {self.mended:,} values without their NUL characters" if self.mended else ""
        return f"{self.table:24} {self.rows:,} rows; {self.inserted:,} inserted, {self.deleted:,} deleted{mended}"


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
        text = f"to_json({it})::varchar"
        # The binary form of jsonb is a version, 1, and the text.
        in_binary = f"chr(1) || replace({text}, '\\u0000', '\\ufffd')"
        return Column(name, "jsonb", in_binary, f"contains({text}, '\\u0000')")
    return Column(name, "text", _without_nul(f"{it}::varchar"), f"contains({it}::varchar, chr(0))")


def _without_nul(text: str) -> str:
    return f"replace({text}, chr(0), '\N{REPLACEMENT CHARACTER}')"


def publish_to_postgres(settings: Settings, told: Callable[[str], None] = lambda line: None) -> list[Carried]:
    """Makes the tables of the schema what the published version holds; `told` hears of each.

    Raises SettingsError where no DSN is set or the driver is missing, Busy where another publication or a reader's lock
    lasts too long, PostgresError with one line for what the server refuses. What was published before stays then.
    """
    database = current_database(settings)
    version = json.loads((database.parent / COMPLETE).read_bytes())["version"]
    with (
        connected(settings) as server,
        connect(database, read_only=True, memory_mb=settings.memory_mb) as source,
    ):
        schema = Schema(server, settings.postgres_schema)
        schema.open(settings.lock_wait_seconds)
        carried = []
        for model in published_models():
            carried.append(schema.carry(source, model))
            told(str(carried[-1]))
        schema.note(carried, version)
        if settings.postgres_reader and not schema.may_be_read_by(settings.postgres_reader, carried):
            told(f"role {settings.postgres_reader} is not there and may not be made: nothing was granted")
        server.commit()
    return carried


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
    """The server that the DSN names; what fails in the body is told in one line without its secrets."""
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

    def carry(self, source: duckdb.DuckDBPyConnection, model: Model) -> Carried:
        """Makes a table hold the rows that it has in the published version."""
        described = "select column_name, data_type from duckdb_columns() where table_name = ? order by column_index"
        columns = [column_of(name, kind) for name, kind in source.execute(described, [model.name]).fetchall()]
        if [column.name for column in columns] != list(model.columns):
            raise ArchiveError(
                f"{model.name} was published by another version of this program: run `task-archive rebuild` first"
            )
        mended = " + ".join(f"count(*) filter (where {column.is_mended})" for column in columns if column.is_mended)
        counted = source.execute(f"select count(*), {mended or 0} from {model.name}").fetchall()[0]
        beside = self._load(source, model.name, columns)
        key_before = self._shape(model, columns)
        deleted, inserted = self._exchange(model, beside, columns)
        if key_before != model.key:
            self.server.do(f"alter table {self._place(model.name)} add primary key ({_listed(model.key)})")
        self.server.do(f"drop table {beside}")
        if inserted or deleted:
            self.server.do(f"analyze {self._place(model.name)}")
        return Carried(model.name, counted[0], inserted, deleted, counted[1])

    def _load(self, source: duckdb.DuckDBPyConnection, table: str, columns: list[Column]) -> str:
        """Loads the rows into a temporary table; returns its name."""
        beside = f"pg_temp.{identifier(table)}"
        values = ", ".join(f"{column.value} as {identifier(column.name)}" for column in columns)
        self.server.do(f"create temp table {identifier(table)} ({', '.join(column.definition for column in columns)})")
        self.server.load(table, source.sql(f"select {values} from {table}").to_arrow_reader(ROWS_AT_ONCE))
        self.server.do(f"analyze {beside}")
        return beside

    def _shape(self, model: Model, columns: list[Column]) -> tuple[str, ...]:
        """Makes the table, or gives the one that is there the columns and comments; returns its primary key."""
        place, wanted = self._place(model.name), {column.name: column.type for column in columns}
        there = {name: (kind, comment) for name, kind, comment in self._columns(model.name)}
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
        self.server.do(f"comment on table {place} is {quoted(model.description)}")
        key = tuple(name for (name,) in self.server.ask(_KEY.format(table=quoted(place))))
        if key and key != model.key:
            self.server.do(f"alter table {place} drop constraint {identifier(f'{model.name}_pkey')}")
        return key

    def _exchange(self, model: Model, beside: str, columns: list[Column]) -> tuple[int, int]:
        """Deletes rows that are gone or differ, inserts what is not there; returns how many of each."""
        place, names = self._place(model.name), _listed(column.name for column in columns)
        same_key = " and ".join(f"new.{identifier(name)} = old.{identifier(name)}" for name in model.key)
        old, new = (", ".join(f"{of}.{identifier(column.name)}" for column in columns) for of in ("old", "new"))
        deleted = self.server.do(
            f"delete from {place} as old where not exists "
            f"(select from {beside} as new where {same_key} and ({new}) is not distinct from ({old}))"
        )
        inserted = self.server.do(
            f"insert into {place} ({names}) select {names} from {beside} as new "
            f"where not exists (select from {place} as old where {same_key})"
        )
        return deleted, inserted

    def note(self, carried: list[Carried], version: str) -> None:
        """Drops tables that are published no more, and notes those that are."""
        place = self._place(PUBLISHED_TABLES)
        self.server.do(
            f"create table if not exists {place} "
            "(table_name text primary key, rows bigint, version text, published_at timestamp with time zone)"
        )
        self.server.do(
            f"comment on table {place} is 'What was published when: by it the archive knows its own tables.'"
        )
        for (table,) in self.server.ask(f"select table_name from {place}"):
            if table not in {each.table for each in carried}:
                self.server.do(f"drop table if exists {self._place(table)}")
        self.server.do(f"delete from {place}")
        listed = ", ".join(f"({quoted(each.table)}, {each.rows}, {quoted(version)}, now())" for each in carried)
        self.server.do(f"insert into {place} values {listed}")

    def may_be_read_by(self, role: str, carried: list[Carried]) -> bool:
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
_KEY = """
select attname::text
from pg_index, unnest(indkey) with ordinality as keyed(number, place), pg_attribute
where indrelid = to_regclass({table}) and indisprimary and attrelid = indrelid and attnum = number
order by place
"""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(identifier, names))


def identifier(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'
