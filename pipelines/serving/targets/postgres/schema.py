"""The schema of PostgreSQL that is published to."""

import glob
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from pipelines.errors import ArchiveError
from pipelines.serving.targets import TargetTable
from pipelines.serving.targets.postgres.columns import Column, column_of, identifier
from pipelines.serving.targets.postgres.server import Server
from pipelines.warehouse.database import quoted
from pipelines.warehouse.grain import grains
from pipelines.warehouse.models import Model
from pipelines.warehouse.parquet import tasks_of_weeks

ROWS_AT_ONCE = 10_240

# The archive's own list of what it published, by which it knows a table that it publishes no more, and what it holds.
PUBLISHED_TABLES = "published_tables"


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
