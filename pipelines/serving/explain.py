"""Explaining a number: its definition, the number itself, what it leaves out, and the query of the rows behind it.

All of it comes from the .sql file of the table that gives the number: the same expression is put to the same rows, at
the grain that is asked for.
"""

import re
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import duckdb
import sqlglot
from sqlglot import exp

from pipelines.errors import SettingsError, unknown
from pipelines.serving.export import plain
from pipelines.serving.published import check_known, published
from pipelines.settings import Settings
from pipelines.warehouse.models import Metric, Model, load_models, published_models

TIMES = ("day", "hour_at")  # key columns of time: the first that a table has is what --day narrows
COMPARED = ("failure_rate", "p95_turnaround_seconds")  # what the macro compare_periods compares, by day of creation
LATEST = 24  # rows shown of a number that cannot be put together over time


@dataclass(frozen=True)
class Value:
    """A number, or a time in ISO's words, and how many rows stand behind it.

    `value` is None below the metric's minimum n, or where no row stands behind it. `at` says when, for a number that
    cannot be put together over time.
    """

    value: float | str | None
    n: int
    at: str | None = None


@dataclass(frozen=True)
class Explanation:
    """A metric, its values for what was asked, the rows left out by their phase, the SQL of the rows behind it.

    `week_before`: the number of the same weekday before, of a metric that is compared; `may_be_chance`: whether the
    difference may be chance. Of a number that looks back from its day, as a window of days does, the rows are those of
    the day.
    """

    metric: Metric
    asked: dict[str, str]
    time_zone: str
    values: list[Value]
    left_out: dict[str, int]
    is_mature: bool | None
    looks_back: bool
    rows_sql: str
    week_before: Value | None = None
    may_be_chance: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """What the command prints."""
        metric, shown = self.metric, [("table", self.metric.table_name), ("formula", self.metric.formula)]
        shown += [("unit", metric.unit), ("population", metric.population), ("leaves out", metric.excludes)]
        if metric.minimum_n > 1:
            shown.append(("minimum n", f"{metric.minimum_n} {metric.n}: below it the number is not shown"))
        if metric.caveat:
            shown.append(("mind", metric.caveat))
        if metric.better != "neither":
            shown.append(("better", metric.better))
        lines = [metric.metric, *(f"  {name:11} {text}" for name, text in shown), ""]
        lines.append(
            "asked      " + (", ".join(f"{name} {value}" for name, value in self.asked.items()) or "all of it")
        )
        for one in self.values:
            number = _shown(one.value)
            least = f", below {metric.minimum_n}" if one.value is None and 0 < one.n < metric.minimum_n else ""
            lines.append(f"number     {f'{one.at}: ' if one.at else ''}{number}, n = {one.n:,} {metric.n}{least}")
        if not self.values:
            lines.append("number     none: no row is about it")
        if self.week_before is not None:
            chance = "; the difference may be chance" if self.may_be_chance else ""
            number = _shown(self.week_before.value)
            lines.append(f"before     a week earlier: {number}, n = {self.week_before.n:,} {metric.n}{chance}")
        by_phase = ", ".join(f"{count:,} {phase}" for phase, count in self.left_out.items())
        lines.append(f"left out   {f'{sum(self.left_out.values()):,}: {by_phase}' if by_phase else 'nothing'}")
        if self.is_mature is not None:
            lines.append(f"mature     {'yes' if self.is_mature else 'no: tasks may still end, and the number move'}")
        lines.append(f"days       {self.time_zone}")
        of_day = " (of the day itself: the number looks back further, as its formula says)" if self.looks_back else ""
        return [*lines, "", f"The rows behind it{of_day}:", "", *self.rows_sql.splitlines()]


def glossary() -> dict[str, str]:
    """Every metric with its meaning, by name; as TABLE.NAME where another table defines one of the name differently."""
    names: dict[str, str] = {}
    for metric in (metric for model in published_models() for metric in model.metrics):
        name = metric.metric if names.get(metric.metric, metric.meaning) == metric.meaning else None
        names[name or f"{metric.table_name}.{metric.metric}"] = metric.meaning
    return dict(sorted(names.items()))


def metrics_named(name: str) -> list[Metric]:
    """The metrics of that name, or of TABLE.NAME; the table that defines it first. Raises SettingsError for none."""
    table, _, column = name.rpartition(".")
    known = [metric for model in published_models() for metric in model.metrics]
    found = [metric for metric in known if metric.metric == column and table in ("", metric.table_name)]
    if not found:
        names = sorted({metric.metric for metric in known})
        raise SettingsError(unknown("metric", name, names, "`task-archive explain` lists them all"))
    return found


def explain(
    settings: Settings, name: str, day: date | None = None, task_type: str | None = None, account: str | None = None
) -> Explanation:
    """A metric for a day, a type and an account; what is not named counts whole.

    Raises SettingsError for an unknown metric, type or account, and for a metric that is not by what is named.
    """
    metric = metrics_named(name)[0]
    model = load_models()[metric.table_name]
    with published(settings) as connection:
        for column, wanted in (("type", task_type), ("account", account)):
            check_known(connection, column, wanted)
        return _explain(connection, model, metric, {"day": day, "type": task_type, "account": account})


def _explain(connection: duckdb.DuckDBPyConnection, model: Model, metric: Metric, asked: dict[str, Any]) -> Explanation:
    (zone,) = connection.execute("select time_zone from thresholds").fetchall()[0]
    tree = sqlglot.parse_one(model.raw_sql, read="duckdb")
    assert isinstance(tree, exp.Select)
    made = {column.alias_or_name: column.unalias() for column in tree.selects}
    asked = {name: value for name, value in asked.items() if value is not None}

    conditions = [tree.args["where"].this] if tree.args.get("where") else []
    conditions += [_condition(model, made, name, value, zone) for name, value in asked.items()]
    rows = tree.copy()
    rows.set("expressions", [exp.Star()])
    for part in ("where", "group", "windows", "order"):
        rows.set(part, None)
    everything = rows.where(*conditions)
    left_out = _by_phase(connection, everything.where(f"not coalesce({metric.filter}, false)", dialect="duckdb"))

    looks_back = made[metric.metric].find(exp.Window) is not None
    is_flow = metric.non_additive_dimension in ("", *asked) and not looks_back
    if tree.args.get("group") and is_flow:
        number = everything.select(made[metric.metric].as_("value"), made[metric.n].as_("n"), append=False)
        value, n = connection.execute(number.sql(dialect="duckdb")).fetchall()[0]
        is_shown = metric.minimum_n == 1 or n >= metric.minimum_n
        values = [Value(plain(value) if is_shown else None, n)] if n or left_out else []
    else:
        values = _as_published(connection, model, metric, asked, zone)
    week_before, may_be_chance = None, None
    if model.name == "daily_task_stats" and metric.metric in COMPARED and "day" in asked:
        week_before, may_be_chance = _week_before(connection, metric, asked)
    return Explanation(
        metric=metric,
        asked={name: str(value) for name, value in asked.items()},
        time_zone=zone,
        values=values,
        left_out=left_out,
        is_mature=_is_mature(connection, model, asked, zone),
        looks_back=looks_back and "day" in asked,
        rows_sql=_readable(model.raw_sql, rows, [*conditions, sqlglot.condition(metric.filter, dialect="duckdb")]),
        week_before=week_before,
        may_be_chance=may_be_chance,
    )


def _week_before(
    connection: duckdb.DuckDBPyConnection, metric: Metric, asked: dict[str, Any]
) -> tuple[Value, bool | None]:
    """The number a week earlier, and whether the difference may be chance."""
    found = connection.execute(
        f"select {metric.metric}_before, {metric.n}_before, {metric.metric}_may_be_chance "
        "from compare_periods($day, 1, 7, $account, $type) where is_total",
        {"day": asked["day"], "account": asked.get("account"), "type": asked.get("type")},
    ).fetchall()
    value, n, may_be_chance = found[0] if found else (None, 0, None)
    return Value(plain(value), n), may_be_chance


def _condition(model: Model, made: dict[str, Any], name: str, value: Any, zone: str) -> exp.Expr:
    """What `day`, `type` or `account` being `value` means for the rows that a table is made from."""
    time = next(column for column in (*TIMES, "") if column in (*model.key, ""))
    literal = exp.Literal.string(str(value))
    condition: exp.Expr
    if name == "day" and time == "hour_at":
        condition = exp.func("local_date", made[time].copy(), exp.Literal.string(zone)).eq(exp.cast(literal, "date"))
    elif name not in model.key:
        raise SettingsError(f"{model.name} does not tell by {name}: its numbers are by {', '.join(model.key)}")
    else:
        condition = made[name].copy().eq(exp.cast(literal, "date") if name == "day" else literal)
    return condition


def _as_published(
    connection: duckdb.DuckDBPyConnection, model: Model, metric: Metric, asked: dict[str, Any], zone: str
) -> list[Value]:
    """The table's own rows, the newest first: of a level, and of a number over a window of days."""
    columns: dict[str, Any] = {name: exp.column(name) for name in model.columns}
    rows = exp.select(*(name for name in model.key if name not in asked), metric.metric, metric.n).from_(model.name)
    for name, value in asked.items():
        rows = rows.where(_condition(model, columns, name, value, zone))
    for time in (name for name in TIMES if name in model.key):
        rows = rows.order_by(f"{time} desc")
    found = connection.execute(rows.limit(LATEST).sql(dialect="duckdb")).fetchall()
    return [Value(plain(value), n, ", ".join(map(str, at)) or None) for *at, value, n in found]


def _by_phase(connection: duckdb.DuckDBPyConnection, rows: exp.Select) -> dict[str, int]:
    """How many rows a SELECT gives, by phase where they have one."""
    sql = rows.sql(dialect="duckdb")
    names = [row[0] for row in connection.execute(f"describe {sql}").fetchall()]
    phase = "coalesce(phase, 'without a phase')" if "phase" in names else "'rows'"
    found = connection.execute(f"select {phase}, count(*) from ({sql}) group by {phase} order by 1").fetchall()
    return dict(found)


def _is_mature(connection: duckdb.DuckDBPyConnection, model: Model, asked: dict[str, Any], zone: str) -> bool | None:
    """Whether the numbers asked for stay as they are; None where the table does not tell."""
    if "is_mature" not in model.columns:
        return None
    columns: dict[str, Any] = {name: exp.column(name) for name in model.columns}
    rows = exp.select("bool_and(is_mature)").from_(model.name)
    for name, value in asked.items():
        rows = rows.where(_condition(model, columns, name, value, zone))
    mature: bool | None = connection.execute(rows.sql(dialect="duckdb")).fetchall()[0][0]
    return mature


def _readable(written: str, rows: exp.Select, conditions: list[exp.Expr]) -> str:
    """A table's SELECT turned into one of the rows that meet the conditions, its named parts as its file has them."""
    parts = [
        part for each in conditions for part in (each.flatten(unnest=False) if isinstance(each, exp.And) else [each])
    ]
    listed = dict.fromkeys(
        (exp.paren(part) if isinstance(part, exp.Or) else part).sql("duckdb", comments=False) for part in parts
    )
    listed.pop("TRUE", None)
    rows = rows.copy()
    rows.set("with_", None)
    sql = rows.sql("duckdb", pretty=True, comments=False).replace("SELECT\n  *\nFROM", "SELECT *\nFROM")
    if listed:
        sql += "\nWHERE " + "\n  AND ".join(listed)
    sql = re.sub(r"\bNOT ([\w.]+) IS NULL", r"\1 IS NOT NULL", sql)
    for token in sqlglot.tokenize(sql, read="duckdb"):
        if token.token_type.name not in ("STRING", "IDENTIFIER"):
            sql = sql[: token.start] + sql[token.start : token.end + 1].lower() + sql[token.end + 1 :]
    return written[: f"\n{written}".rindex("\nselect\n")] + sql


def _shown(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or "none"
    return f"{value:,.4f}".rstrip("0").rstrip(".")
