"""What the rows of a table depend on, read off its SQL: how much of the table a change touches.

    task    its key holds task_id: the rows of a task are made from the rows of that task in what it reads
    load    its key holds load_id and no task_id, and it reads what a run brings: rows of a load never change
    group   its key holds columns of one table by task, and it counts the rows of that table that have the same there:
            each group is made from its own rows
    whole   any other: it is made whole, from tables

A table by task may read others too, which hold settings, loads or texts: to those, rows are added, and where a row that
was there changes, all is made anew. What moves from run to run is `freshness`, up to when an account is known: a table
by task that reads it is made again for the tasks that `moving` names as well.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope

from pipelines.errors import WarehouseError
from pipelines.warehouse.models import PUBLISHED_LAYERS, Model, load_models

# What a run brings: the observations of the tasks at hand, and the manifests of new loads.
OBSERVATIONS, MANIFESTS = "observations", "manifests"

# The relation that moves though nothing landed, and the one that names the tasks whose rows it may change.
CLOCK, MOVING = "freshness", "moving"

# Besides, the tables are made from these, and all are made anew where one of them changes.
GIVEN = {"settings", "slo_settings", "signature_owners_seed", "metric_definitions"}

# Groups by these alone are few and large: to make one is to make the table.
COARSE = {"account", "type"}


@dataclass(frozen=True)
class Grain:
    """Of a group: the table `source` that it counts, by columns of it that are called `names` in the group's.

    A row may be counted in several groups, such as the hour of its begin and that of its end: `columns` are those of
    each.
    """

    kind: Literal["task", "load", "group", "whole"]
    source: str = ""
    columns: tuple[tuple[str, ...], ...] = ()
    names: tuple[str, ...] = ()


@cache
def grains() -> dict[str, Grain]:
    """The grain of each table and internal relation, in build order. Raises WarehouseError where the SQL breaks it."""
    found: dict[str, Grain] = {}
    for model in load_models().values():
        found[model.name] = grain_of(model, found)
    return found


def grain_of(model: Model, others: Mapping[str, Grain]) -> Grain:
    """The grain of one table, `others` being those of what it reads. Raises WarehouseError where the SQL breaks it."""
    by_task = {name for name in model.reads if name == OBSERVATIONS or (name in others and others[name].kind == "task")}
    if "task_id" in model.key:
        for fault in _faults(sqlglot.parse_one(model.compiled_sql, read="duckdb"), by_task):
            raise WarehouseError(f"{model.file}: its key holds task_id, but {fault}")
        return Grain("task")
    if model.reads & {OBSERVATIONS, MANIFESTS}:
        if "load_id" not in model.key:
            raise WarehouseError(f"{model.file}: reads what a run brings, so its key must hold task_id or load_id")
        return Grain("load")
    return _group(model, by_task) or Grain("whole")


def _faults(tree: exp.Expr, by_task: set[str]) -> Iterator[str]:
    """Where rows of different tasks meet: each window, group, join and comparison of tasks must be by task_id."""
    by_task = set(by_task)
    for cte in tree.find_all(exp.CTE):
        if _reads(cte.this, by_task):
            by_task.add(cte.alias)
    for select in tree.find_all(exp.Select):
        sources = [each.this for each in [select.args.get("from_"), *(select.args.get("joins") or [])] if each]
        of_tasks = [each for each in sources if _reads(each, by_task)]
        if not of_tasks:
            continue
        for window in _own(select, exp.Window):
            if not (window.args.get("alias") and not window.args.get("partition_by")) and not _has_task(
                window.args.get("partition_by") or _named(select, window)
            ):
                yield f"a window is not by task_id: {window.sql('duckdb')[:80]}"
        if (group := select.args.get("group")) and not _has_task(group.expressions):
            yield f"a group is not by task_id: {group.sql('duckdb')[:80]}"
        if not group and any(True for each in _own(select, exp.AggFunc) if not each.find_ancestor(exp.Window)):
            yield f"tasks are counted together: {select.sql('duckdb')[:80]}"
        if select.args.get("limit"):
            yield "it takes a limited number of rows"
        for join in select.args.get("joins") or []:
            if _reads(join.this, by_task) and len(of_tasks) > 1 and "task_id" not in _joined_by(join):
                yield f"a join is not by task_id: {join.sql('duckdb')[:80]}"
        for inside in _own(select, exp.In):
            query = inside.args.get("query")
            if query is not None and _reads(query, by_task) and inside.this.name != "task_id":
                yield f"a comparison is not by task_id: {inside.sql('duckdb')[:80]}"


def _reads(node: exp.Expr, names: set[str]) -> bool:
    return any(table.name in names for table in node.find_all(exp.Table))


def _own(select: exp.Select, kind: type[exp.Expr]) -> Iterator[exp.Expr]:
    """What stands in a SELECT itself, not in one inside it."""
    return (each for each in select.find_all(kind) if each.find_ancestor(exp.Select) is select)


def _named(select: exp.Select, window: exp.Expr) -> list[exp.Expr]:
    """The partition of the named window that a window refers to."""
    for each in select.args.get("windows") or []:
        if each.name == window.alias:
            return list(each.args.get("partition_by") or [])
    return []


def _has_task(columns: list[exp.Expr]) -> bool:
    return any(column.name == "task_id" for column in columns)


def _joined_by(join: exp.Join) -> set[str]:
    """The columns that a join compares for equality."""
    names = {column.name for column in join.args.get("using") or []}
    for equal in join.args["on"].find_all(exp.EQ) if join.args.get("on") else []:
        if equal.left.name == equal.right.name:
            names.add(equal.left.name)
    return names


def _group(model: Model, by_task: set[str]) -> Grain | None:
    """The groups that a table is made of: columns of its key that are columns of one table by task."""
    if not by_task or CLOCK in model.reads or model.layer not in PUBLISHED_LAYERS:
        return None
    schema: dict[str, object] = {
        other.name: dict[str, object](dict.fromkeys(other.columns, "varchar"))
        for other in load_models().values()
        if other.columns
    }
    try:
        tree = qualify(sqlglot.parse_one(model.raw_sql, read="duckdb"), schema=schema, dialect="duckdb")
    except SqlglotError:
        return None
    scope = build_scope(tree)
    if scope is None:
        return None
    found: dict[str, list[tuple[str, list[str]]]] = {}  # names of the key, and what they are of each table
    for name in model.key:
        origins = _origins(scope, name)
        if len({table for table, _ in origins}) == 1:
            found.setdefault(origins[0][0], []).append((name, [column for _, column in origins]))
    source, key = max(found.items(), key=lambda each: len(each[1]), default=("", []))
    ways = max((len(columns) for _, columns in key), default=0)
    if source not in by_task or any(len(columns) not in (1, ways) for _, columns in key):
        return None
    columns = tuple(tuple(each[way % len(each)] for _, each in key) for way in range(ways))
    names = tuple(name for name, _ in key)
    others = [name for name in model.reads - by_task if not _is_given(name)]
    if others or not {column for way in columns for column in way} - COARSE or not _has_windows_within(tree, names):
        return None
    return Grain("group", source, columns, names)


def _has_windows_within(tree: exp.Expr, names: tuple[str, ...]) -> bool:
    """Whether windows, where there are some, look at rows of one group alone."""
    partitions = (window.args.get("partition_by") or [] for window in tree.find_all(exp.Window))
    return all(set(names) <= {column.name for column in partition} for partition in partitions)


def _origins(scope: Scope, name: str) -> list[tuple[str, str]]:
    """The table and column that a column of a SELECT is, where it is one as it stands; of a union one for each part."""
    if not isinstance(scope.expression, exp.Query):
        return []
    bare = next((each.unalias() for each in scope.expression.selects if each.alias_or_name == name), None)
    source = scope.sources.get(bare.table) if isinstance(bare, exp.Column) else None
    if bare is None or source is None:
        return []
    if isinstance(source, exp.Table):
        return [(source.name, bare.name)]
    parts = [each for each in source.set_operation_scopes or [source] if not _is_constant(each, bare.name)]
    found = [_origins(each, bare.name) for each in parts]
    if not all(found):
        return []
    together = [origin for each in found for origin in each]
    return together[:1] if len(set(together)) == 1 else together


def _is_constant(scope: Scope, name: str) -> bool:
    """Whether a column of a SELECT holds one value, which is in no group of its own."""
    selects = scope.expression.selects if isinstance(scope.expression, exp.Query) else []
    return any(each.alias_or_name == name and isinstance(each.unalias(), exp.Literal) for each in selects)


def _is_given(name: str) -> bool:
    """Whether a relation is made from what makes all anew where it changes: settings and seeds."""
    model = load_models().get(name)
    return name in GIVEN if model is None else all(_is_given(each) for each in model.reads)
