"""Putting the page together: one HTML file with its style, scripts, numbers and charts, which asks the network nothing.

Text of the API is escaped wherever it stands, and a content security policy lets no script run but our own.
"""

import base64
import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from pipelines.report.cache import specs, vega
from pipelines.report.figures import say, sections, shown_columns
from pipelines.report.formatting import Cell, cell, day, kind, label, moment, quoted
from pipelines.report.pictures import RenderedChart
from pipelines.report.queries import Answer, ReportData, ReportFilter, Row
from pipelines.report.summary import changes, tiles, verdict
from pipelines.settings import Settings
from pipelines.text import printable, with_code
from pipelines.warehouse.database import connect, current_database
from pipelines.warehouse.models import load_models
from pipelines.warehouse.sql import ReportHeader, SqlFile

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Page:
    """A report: the HTML file, and the charts in it."""

    html: str
    charts: list[RenderedChart]


@dataclass(frozen=True)
class View:
    """What the page shows of some tasks, for the template, and the charts in it."""

    shown: dict[str, Any]
    charts: list[RenderedChart]


@dataclass(frozen=True)
class Column:
    """A column of a table of the page. `kind`: n for numbers, k for what must not wrap, i for ids, w for long text."""

    name: str
    label: str
    kind: str


@dataclass(frozen=True)
class Table:
    """A table of the page, its rows as HTML."""

    id: str
    caption: str
    columns: list[Column]
    body: Markup
    count: int


def make(settings: Settings, report_filter: ReportFilter) -> Page:
    """The report of the published version. Raises WarehouseError where there is none, and as `render`."""
    with connect(current_database(settings), read_only=True, memory_mb=settings.memory_mb) as connection:
        return render(connection, report_filter)


def render(connection: duckdb.DuckDBPyConnection, report_filter: ReportFilter) -> Page:
    """The page of the tables that the connection reads. Raises SettingsError for an account or type unknown to them."""
    version = ReportData(connection, report_filter)
    zone, made_at = ZoneInfo(version.scope["time_zone"]), datetime.now(UTC)
    choices = version.ask("choices").rows
    verdicts = [verdict(row, made_at, zone) for row in version.ask("freshness").rows]
    views = [_view(version, "", made_at, zone)]
    for number, choice in enumerate(choices, 2):
        narrower = replace(report_filter, account=choice["account"], task_type=choice["type"])
        views.append(_view(ReportData(connection, narrower), f"view-{number}-", made_at, zone))
    names = {chart.name for view in views for chart in view.charts}
    scripts = ([vega()] if names else []) + [(HERE / "page.js").read_text(encoding="utf-8")]
    html = _template().render(
        made_at=made_at.isoformat(timespec="seconds"),
        verdicts=verdicts,
        views=[view.shown for view in views],
        choices=[printable(str(choice["type"] or f"account {choice['account']}")) for choice in choices],
        specs={name: Markup(spec) for name, spec in specs().items() if name in names},
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        scripts=[Markup(script) for script in scripts],
        script_hashes=[_hash(script) for script in scripts],
    )
    return Page(html, views[0].charts)


def _view(version: ReportData, prefix: str, made_at: datetime, zone: ZoneInfo) -> View:
    """What the page shows of some tasks; `prefix` tells its ids from those of other views."""
    scope = version.scope
    drawn: list[RenderedChart] = []
    has_tasks = scope["first_day"] is not None and scope["from_day"] <= scope["last_day"]
    better = {row["metric"]: row["better"] for name in ("yesterday", "slo") for row in version.definitions(name)}
    shown = {
        "prefix": prefix,
        "about": _about(scope, made_at, zone),
        "nothing": "" if has_tasks else _nothing(version),
        "day": day(scope["last_day"]) if has_tasks else "",
        "is_whole_day": scope["is_whole_day"],
        "tiles": tiles(lambda name: version.ask(name).rows, better, scope) if has_tasks else [],
        "changes": changes(version.ask("changes").rows, zone) if has_tasks else [],
        "day_choices": _day_choices(scope) if has_tasks else [],
        "sections": [
            {
                "id": f"{prefix}{section.id}",
                "heading": section.heading,
                "figures": [_figure(version, query, prefix, zone, drawn) for query in section.queries],
            }
            for section in sections()
            if has_tasks
        ],
    }
    return View(shown, drawn)


def _figure(
    version: ReportData, query: SqlFile[ReportHeader], prefix: str, zone: ZoneInfo, drawn: list[RenderedChart]
) -> dict[str, Any]:
    """A figure for the template; its charts are added to `drawn`."""
    answer = version.ask(query.name)
    said = say(query, answer.rows, version.scope)
    drawn += [
        RenderedChart(chart.spec, chart.heading if len(said.charts) > 1 else said.finding, chart.rows)
        for chart in said.charts
    ]
    return {
        "said": said,
        "charts": said.charts,
        "table": _table(answer, prefix, version.scope, zone),
        "query": query,
        "metrics": [
            row | {"label": label(row["metric"]), "look": _explain(row, version.scope)}
            for row in version.definitions(query.name)
        ],
    }


def _table(answer: Answer, prefix: str, scope: dict[str, Any], zone: ZoneInfo) -> Table:
    names = shown_columns(answer.query, answer.columns, len(scope["accounts"]) > 1)
    rows = [[cell(name, row[name], zone) for name in names] for row in answer.rows]
    columns = [
        Column(name, label(name), "n" if any(row[position].is_number for row in rows) else kind(name))
        for position, name in enumerate(names)
    ]
    kinds = [f' class="{column.kind}"' if column.kind else "" for column in columns]
    body = "\n".join(f"<tr>{''.join(map(_cell, row, kinds, count()))}</tr>" for row in rows)
    return Table(f"{prefix}table-{answer.query.name}", answer.query.header.caption, columns, Markup(body), len(rows))


def _cell(of: Cell, kind: str, position: int) -> str:
    """A cell as HTML; by the template it would take most of the time of a report."""
    value = "" if of.value is None else f' data-v="{escape(of.value)}"'
    tag, scope = ("td", "") if position else ("th", ' scope="row"')
    return f"<{tag}{scope}{kind}{value}>{escape(of.text)}</{tag}>"


def _about(scope: dict[str, Any], made_at: datetime, zone: ZoneInfo) -> str:
    accounts, type_ = [printable(account) for account in scope["accounts"]], scope["type"]
    about = [f"account {accounts[0]}" if len(accounts) == 1 else f"all accounts ({', '.join(accounts) or 'none yet'})"]
    about.append(f"tasks of type {printable(type_)}" if type_ else "all types of tasks")
    if scope["first_day"] is not None:
        about.append(f"created from {scope['from_day']} to {scope['last_day']}, the first ever on {scope['first_day']}")
    return f"{', '.join(about)}. Made {moment(made_at, zone)}; times are {zone.key}."


def _day_choices(scope: dict[str, Any]) -> list[tuple[str, str]]:
    """Spans of days that charts and tables may be narrowed to: the first day, and words; no first day for all."""
    days = (scope["last_day"] - scope["from_day"]).days + 1
    spans = [span for span in (7, 28) if span < days]
    last: date = scope["last_day"]
    return [
        *((str(last - timedelta(days=span - 1)), f"the last {span} days") for span in spans),
        *([("", f"all {days} days")] if spans else []),
    ]


def _nothing(version: ReportData) -> str:
    """Why there is nothing to show."""
    if not version.ask("freshness").rows:
        return "Nothing has been loaded yet: `task-archive sync` does."
    if version.scope["first_day"] is None:
        return "The archive is empty: the account has no task yet."
    return "No task was created in these days."


def _explain(metric: Row, scope: dict[str, Any]) -> str:
    """The command that explains a number, for what the page is about of what its table tells by."""
    key = load_models()[metric["table_name"]].key
    asked = {"day": scope["last_day"], "type": scope["type"], "account": scope["account"]}
    options = [
        f" --{name} {quoted(str(value))}"
        for name, value in asked.items()
        if value is not None and (name in key or (name == "day" and "hour_at" in key))
    ]
    return f"task-archive explain {metric['table_name']}.{metric['metric']}{''.join(options)}"


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["with_code"] = with_code
    return environment.get_template("page.html")


def _hash(script: str) -> str:
    """As a content security policy names a script that may run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
