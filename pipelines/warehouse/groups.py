"""Tables whose rows are groups of the rows of another: counted anew, all of them or those that a change concerns."""

import duckdb

from pipelines.warehouse.change import MadeAnew
from pipelines.warehouse.database import run_sql
from pipelines.warehouse.grain import grains
from pipelines.warehouse.models import Model, load_models
from pipelines.warehouse.places import groups_of, place_of
from pipelines.warehouse.plan import is_read_by_task
from pipelines.warehouse.working import TABLES

MOST_COUNTED = 400_000  # rows whose groups are made at once


def make_groups(connection: duckdb.DuckDBPyConnection, model: Model) -> None:
    """Makes the groups anew that tasks at hand were counted in, or are. Raises MadeAnew where rows that were read by
    task have changed, WarehouseError where the SQL fails."""
    run, place, grain = connection.execute, place_of(model), grains()[model.name]
    groups, source = groups_of(load_models()[grain.source]), f"{TABLES}.main.{grain.source}"
    ways = [list(zip(grain.names, way, strict=True)) for way in grain.columns]
    # No column of a key is ever NULL, so that rows which have it so are in no group.
    affected = (
        f"select {', '.join(f'{column} as {name}' for name, column in way)} from {groups} "
        f"where {' and '.join(f'{column} is not null' for _, column in way)}"
        for way in ways
    )
    run(f"create or replace temp table affected as {' union '.join(affected)}")
    # A row in two groups is read once. Read by rowid, rows of this transaction crashed DuckDB 2 now and then.
    found = (
        f"({', '.join(f't.{column}' for _, column in way)}) in (select ({', '.join(grain.names)}) from affected)"
        if len(way) > 1
        else f"t.{way[0][1]} in (select {way[0][0]} from affected)"
        for way in ways
    )
    counted = f"(from {source} as t where {' or '.join(found)})"
    others = [name for name in model.reads - {grain.source} if name in grains() and grains()[name].kind == "task"]
    for name in others:
        run(
            f"create temp view {name} as "
            f"from {TABLES}.main.{name} where task_id in (select c.task_id from {counted} as c)"
        )
    count_groups(connection, model, counted, f"temp.{model.name}")
    for name in others:
        run(f"drop view temp.{name}")
    same = " and ".join(f"g.{name} = a.{name}" for name in grain.names)
    rows = f"temp.{model.name} as g semi join affected as a on {same}"
    if is_read_by_task(model):
        key = ", ".join(model.key)
        changed = f"from ({place} semi join (from {rows}) using ({key})) except all from {rows}"
        if run(f"select 1 from ({changed}) limit 1").fetchone():
            raise MadeAnew(f"rows of {model.name} have changed")
    run(f"delete from {place} as g using affected as a where {same}")
    run(f"insert into {place} select g.* from {rows}")
    run(f"drop table temp.{model.name}")


def count_groups(connection: duckdb.DuckDBPyConnection, model: Model, source: str, target: str) -> None:
    """Makes a table of the groups of a relation's rows: not of too many at once, as their quantiles are held. Raises
    WarehouseError where the SQL fails."""
    run, grain = connection.execute, grains()[model.name]
    rows = run(f"select count(*) from {source}").fetchall()[0][0]
    is_in_pieces = "percentile_cont" in model.compiled_sql and len(grain.columns) == 1
    pieces = 1 + rows // MOST_COUNTED if is_in_pieces else 1
    kind = "temp table" if target.startswith("temp.") else "table"
    for piece in range(pieces):
        chosen = f"where hash({', '.join(grain.columns[0])}) % {pieces} = {piece}" if pieces > 1 else ""
        run(f"create or replace temp view {grain.source} as from {source} {chosen}")
        into = f"insert into {target}" if piece else f"create or replace {kind} {target} as"
        run_sql(connection, f"{into} {model.compiled_sql}", model.file)
    run(f"drop view temp.{grain.source}")
