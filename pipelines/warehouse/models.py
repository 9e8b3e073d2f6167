"""The tables: everything about one stands in its .sql file, see `sql`.

A file holds one SELECT, each column with a trailing comment. What a table reads is read from its SQL. A column that is
a metric has its definition in the file's header instead of a comment; its minimum n is put around the column.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

import sqlglot
from sqlglot import exp

from pipelines.errors import WarehouseError
from pipelines.warehouse.sql import (
    Like,
    MacroHeader,
    MetricHeader,
    Relationship,
    SqlFile,
    TableHeader,
    names_in,
    parse_sql,
    read_folder,
    read_sql,
    sql_folder,
)

# Internal layers feed the others and are not published.
LAYERS = ("landing", "core", "history", "marts")
PUBLISHED_LAYERS = ("core", "history", "marts")

Severity = Literal["error", "warn"]

LINEAGE = "lineage.json"  # in sql/: written by `make docs`

# Parts of a definition that a header may give, under the names that they have in Metric.
METRIC_PARTS = set(MetricHeader.__struct_fields__) - {"columns", "as_in"}


@dataclass(frozen=True)
class Check:
    """A condition on a table. `failing` is a query of the rows that break it; `columns`: of a key or a reference;
    `condition`: what each row by itself is to fulfil."""

    name: str
    description: str
    severity: Severity
    failing: str
    columns: tuple[str, ...] = ()
    condition: str = ""


@dataclass(frozen=True)
class Metric:
    """What a number means: the column `metric` of `table_name`. For the other fields see MetricHeader."""

    metric: str
    table_name: str
    formula: str
    unit: str
    population: str
    excludes: str
    filter: str
    n: str
    minimum_n: int
    non_additive_dimension: str
    caveat: str
    better: str

    @property
    def meaning(self) -> str:
        """The column's comment."""
        least = f"; null where {self.n} is below {self.minimum_n}" if self.minimum_n > 1 else ""
        return f"{self.formula}; {self.unit}{least}"


@dataclass(frozen=True)
class Model:
    """One table: its layer, name, meaning, columns with their meaning, key, checks, SELECT, and the tables it reads.

    A table that it has a relationship to may be made from it. `raw_sql` is the SELECT of its file, `compiled_sql` what
    runs: metrics are NULL there below their minimum n.
    """

    layer: str
    name: str
    description: str
    columns: dict[str, str]
    key: tuple[str, ...]
    checks: tuple[Check, ...]
    reads: frozenset[str]
    relationships: tuple[Relationship, ...]
    materialized: Literal["table", "view"]
    raw_sql: str
    compiled_sql: str
    metrics: tuple[Metric, ...] = ()

    @property
    def file(self) -> str:
        return f"sql/{self.layer}/{self.name}.sql"


@cache
def load_macros() -> list[SqlFile[MacroHeader]]:
    """The macros of the published file, those that others use first. Raises WarehouseError on a wrong file."""
    return sorted(read_folder("macros", MacroHeader), key=lambda macro: macro.header.returns == "rows")


@cache
def column_lineage() -> dict[str, dict[str, list[str]]]:
    """By table and column, the columns of published tables that it is computed from, as TABLE.COLUMN."""
    found: dict[str, dict[str, list[str]]] = json.loads((sql_folder() / LINEAGE).read_bytes())
    return found


@cache
def load_models() -> dict[str, Model]:
    """Every table by name, in build order. Raises WarehouseError on a file that breaks the rules."""
    files = [(layer, read_sql(layer, name, TableHeader)) for layer in LAYERS for name in names_in(layer)]
    models: dict[str, Model] = {}
    for layer, file in sorted(files, key=lambda each: (_borrows(each[1].header), each[1].name)):
        models[file.name] = _model(layer, file, models)
    return _in_build_order(models)


def _borrows(header: TableHeader) -> bool:
    """Tables that take over definitions come after those that have their own."""
    return any(metric.as_in for metric in header.metrics)


def published_models() -> list[Model]:
    """The tables that readers see, in build order."""
    return [model for model in load_models().values() if model.layer in PUBLISHED_LAYERS]


def made_from(model: Model) -> set[str]:
    """The published tables that a table reads, and the names that are no table of ours; internal relations are followed
    to what they read themselves."""
    found: set[str] = set()
    for name in model.reads:
        other = load_models().get(name)
        found |= {name} if other is None or other.layer in PUBLISHED_LAYERS else made_from(other)
    return found


def parse_model(layer: str, name: str, text: str, others: Mapping[str, Model] | None = None) -> Model:
    """One file of a table; `others` are the tables whose metrics it may take over.

    Raises WarehouseError where a column has no meaning or the header is wrong.
    """
    return _model(layer, parse_sql(layer, name, text, TableHeader), others or {})


def _model(layer: str, file: SqlFile[TableHeader], others: Mapping[str, Model]) -> Model:
    header, place = file.header, file.place
    select, sql, replaced = file.select, file.select, dict[str, str]()
    if header.like:
        select = _select_of(header.like, place)
        sql = f"with {header.like.in_place_of} as (from {header.like.relation})\nfrom (\n{select}\n)"
        replaced = {header.like.in_place_of: header.like.relation}
    try:
        tree = sqlglot.parse_one(select, read="duckdb")
    except sqlglot.ParseError as error:
        raise WarehouseError(f"{place}: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, exp.Select):
        raise WarehouseError(f"{place}: must hold one SELECT")
    inner = {cte.alias for cte in tree.ctes}
    read = {table.name for table in tree.find_all(exp.Table) if table.name and table.name not in inner}
    metrics = [metric for block in header.metrics for metric in _metrics(file.name, block, tree, others, place)]
    columns = {} if layer == "landing" else _columns(tree, {metric.metric: metric.meaning for metric in metrics}, place)
    for each in header.relationships:
        if strange := [name for name in each.columns if name not in columns]:
            raise WarehouseError(f"{place}: relationships: {strange[0]} is not a column")
        columns[each.columns[-1]] += f"; refers to {each.table}"
    if layer != "landing" and not header.key:
        raise WarehouseError(f"{place}: name its key, such as `key: [task_id]`")
    return Model(
        layer=layer,
        name=file.name,
        description=header.description,
        columns=columns,
        key=tuple(header.key),
        checks=tuple(_checks(file.name, header)),
        reads=frozenset(replaced.get(table, table) for table in read),
        relationships=tuple(header.relationships),
        materialized=header.materialized,
        raw_sql=select,
        compiled_sql=_with_minimums(sql, list(columns), metrics),
        metrics=tuple(metrics),
    )


def _metrics(
    table: str, block: MetricHeader, tree: exp.Select, others: Mapping[str, Model], place: str
) -> list[Metric]:
    """The metrics that a block of the header defines, one for each column that it names."""
    metrics = []
    for position, name in enumerate(block.columns):
        expression = _expression(tree, name)
        if expression is None:
            raise WarehouseError(f"{place}: metric {name} is not a column")
        parts: dict[str, Any] = {"excludes": "nothing", "filter": "true", "better": "neither", "minimum_n": 1}
        if block.as_in:
            parts = asdict(_metric_of(block.as_in, name, expression, others, place))
        parts |= {part: value for part in METRIC_PARTS if (value := getattr(block, part))}
        if isinstance(block.minimum_n, list):
            parts["minimum_n"] = block.minimum_n[position]
        if missing := [part for part in ("formula", "unit", "population", "n") if not parts.get(part)]:
            raise WarehouseError(f"{place}: metric {name} lacks {', '.join(missing)}")
        if parts["n"] not in tree.named_selects:
            raise WarehouseError(f"{place}: metric {name} is counted by {parts['n']}, which is not a column")
        optional = {"non_additive_dimension": "", "caveat": ""}
        metrics.append(Metric(**(optional | parts | {"metric": name, "table_name": table})))
    return metrics


def _metric_of(source: str, name: str, expression: str, others: Mapping[str, Model], place: str) -> Metric:
    """The definition of another table that is taken over."""
    known = {metric.metric: metric for metric in others[source].metrics} if source in others else {}
    if name not in known:
        raise WarehouseError(f"{place}: {source} defines no metric {name}")
    theirs = _expression(sqlglot.parse_one(others[source].raw_sql, read="duckdb"), name)
    if theirs != expression:
        raise WarehouseError(f"{place}: {name} is not computed as in {source}: {theirs}")
    return known[name]


def _expression(tree: object, name: str) -> str | None:
    """How a column is made, whatever the relations are called that it reads."""
    for column in tree.selects if isinstance(tree, exp.Select) else []:
        if column.alias_or_name == name:
            bare = column.unalias().copy()
            for read in bare.find_all(exp.Column):
                read.set("table", None)
            return str(bare.sql(dialect="duckdb", comments=False))
    return None


def _with_minimums(sql: str, columns: list[str], metrics: list[Metric]) -> str:
    """The SELECT with each metric NULL where fewer rows than its minimum stand behind it."""
    guarded = {metric.metric: metric for metric in metrics if metric.minimum_n > 1}
    if not guarded:
        return sql
    listed = ",\n    ".join(
        f"case when {guarded[name].n} >= {guarded[name].minimum_n} then {name} end as {name}"
        if name in guarded
        else f'"{name}"'
        for name in columns
    )
    return f"select\n    {listed}\nfrom (\n{sql}\n)"


def _select_of(like: Like, place: str) -> str:
    """The SELECT of the table that another one is like."""
    layer = next((layer for layer in LAYERS if like.table in names_in(layer)), None)
    if layer is None:
        raise WarehouseError(f"{place}: like: no table is named {like.table}")
    return read_sql(layer, like.table, TableHeader).select


def _columns(tree: exp.Select, metrics: dict[str, str], place: str) -> dict[str, str]:
    columns = {}
    for column in tree.selects:
        name = column.alias_or_name
        meaning = metrics.get(name) or " ".join(comment.strip() for comment in (column.comments or []))
        if not name or name == "*":
            raise WarehouseError(f"{place}: every column needs a name: {column.sql()[:60]}")
        if not meaning:
            raise WarehouseError(f"{place}: column {name} needs a comment behind it that says what it means")
        columns[name] = meaning
    return columns


def _checks(table: str, header: TableHeader) -> list[Check]:
    checks = []
    if header.key:
        listed = ", ".join(header.key)
        broken = " or ".join(["count(*) > 1", *(f"{column} is null" for column in header.key)])
        checks.append(
            Check(
                "key_is_unique",
                f"({listed}) is unique and never null",
                "error",
                f"select {listed}, count(*) as rows from {table} group by {listed} having {broken}",
                tuple(header.key),
            )
        )
    for each in header.relationships:
        pairs = (each.columns, each.there or each.columns)
        ours, theirs = (f"({', '.join(names)})" if names[1:] else names[0] for names in pairs)
        known = "".join(f"{column} is not null and " for column in each.columns if each.columns[1:])
        checks.append(
            Check(
                f"{'_'.join(each.columns)}_in_{each.table}",
                f"every {', '.join(each.columns)} is in {each.table}",
                "error",
                f"select * from {table} where {known}{ours} not in (select {theirs} from {each.table})",
                tuple(each.columns),
            )
        )
    severities: tuple[tuple[list[str], Severity], ...] = ((header.checks, "error"), (header.warnings, "warn"))
    for conditions, severity in severities:
        for condition in conditions:
            name = re.sub(r"\W+", "_", condition.lower()).strip("_")[:60].rstrip("_")
            failing = f"select * from {table} where not ({condition})"
            checks.append(Check(name, condition, severity, failing, condition=condition))
    return checks


def _in_build_order(models: dict[str, Model]) -> dict[str, Model]:
    ordered: dict[str, Model] = {}

    def place(name: str, asked_by: tuple[str, ...]) -> None:
        if name in asked_by:
            raise WarehouseError(f"tables read each other in a circle: {' -> '.join((*asked_by, name))}")
        if name in models and name not in ordered:
            for other in sorted(models[name].reads):
                place(other, (*asked_by, name))
            ordered[name] = models[name]

    for name in models:
        place(name, ())
    return ordered
