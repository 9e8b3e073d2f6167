"""Putting the page together: one HTML file with its style, scripts, numbers and charts, which asks the network nothing.

Text of the API is escaped wherever it stands, and a content security policy lets no script run but our own.
"""

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from pipelines.errors import SettingsError
from pipelines.harmless import printable
from pipelines.report import charts
from pipelines.report.figures import SECTIONS, Chart, Figure
from pipelines.report.javascript import vega
from pipelines.report.pictures import Drawn
from pipelines.report.queries import Answer, ask, narrow
from pipelines.report.summary import Tile, changes, tiles, verdict
from pipelines.report.words import Cell, cell, day, kind, label
from pipelines.settings import Settings
from pipelines.warehouse.database import connect

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Narrowed:
    """What a report is about; None: the last 90 whole days, every type, every account."""

    from_day: date | None = None
    to_day: date | None = None
    task_type: str | None = None
    account: str | None = None


@dataclass(frozen=True)
class Column:
    """A column of a table of the page. `kind`: n for numbers, k for what must not wrap, w for long text."""

    name: str
    label: str
    kind: str


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    id: str
    caption: str
    columns: list[Column]
    body: Markup
    count: int


@dataclass(frozen=True)
class Page:
    """A report: the HTML file, and the charts in it."""

    html: str
    charts: list[Drawn]


def write(settings: Settings, database: Path, file: Path, narrowed: Narrowed | None = None) -> Page:
    """Writes the report of a version's DuckDB file. Raises WarehouseError where it cannot be read, and as `render`."""
    with connect(database, read_only=True, memory_mb=settings.memory_mb) as connection:
        page = render(connection, narrowed)
    file.write_text(page.html)
    return page


def render(connection: duckdb.DuckDBPyConnection, narrowed: Narrowed | None = None) -> Page:
    """The page of the version that the connection reads. Raises SettingsError for an account or type unknown to it."""
    narrowed = narrowed or Narrowed()
    _check(connection, "account", narrowed.account)
    _check(connection, "type", narrowed.task_type)
    scope = narrow(connection, narrowed.from_day, narrowed.to_day, narrowed.task_type, narrowed.account)
    zone = ZoneInfo(scope["time_zone"])
    made_at = datetime.now(UTC)
    has_days = scope["last_day"] is not None and scope["last_day"] >= scope["from_day"]
    sections: list[dict[str, Any]] = []
    drawn: list[Drawn] = []
    for section in SECTIONS if has_days else ():
        shown = []
        for figure in section.figures:
            answer = ask(connection, figure.query)
            said = figure.says(answer.rows, scope)
            drawn += [Drawn(chart.spec, chart.heading, _drawn(answer, chart)) for chart in said.charts]
            shown.append(_figure(connection, figure, answer, said, scope, zone))
        sections.append({"id": section.id, "heading": section.heading, "figures": shown})
    scripts = [vega(), (HERE / "page.js").read_text()] if drawn else []
    html = _template().render(
        title="Task Archive",
        about=_about(scope),
        verdicts=[verdict(row, made_at, zone) for row in ask(connection, "freshness").rows],
        made_at=made_at.isoformat(timespec="seconds"),
        day=day(scope["last_day"]) if has_days else "",
        day_about=_day_about(scope) if has_days else "",
        tiles=_tiles(connection, scope) if has_days else [],
        changes=changes(ask(connection, "changes").rows, zone) if has_days else [],
        sections=sections,
        specs={chart.name: Markup(charts.spec(chart.name)) for chart in drawn},
        style=Markup((HERE / "page.css").read_text()),
        scripts=[Markup(script) for script in scripts],
        script_hashes=[_hash(script) for script in scripts],
        explained=_explained(scope),
    )
    return Page(html, drawn)


def _drawn(answer: Answer, chart: Chart) -> list[dict[str, Any]]:
    return [row for row in answer.rows if chart.only is None or row["type"] == chart.only]


def _tiles(connection: duckdb.DuckDBPyConnection, scope: dict[str, Any]) -> list[Tile]:
    yesterday, targets = ask(connection, "yesterday"), ask(connection, "slo")
    defined = [
        _definition(connection, table, metric)
        for answer in (yesterday, targets)
        for table, metric in answer.query.metrics
    ]
    better = {metric["metric"]: metric["better"] for metric in defined}
    return tiles(yesterday.rows, targets.rows, better, scope)


def _figure(
    connection: duckdb.DuckDBPyConnection,
    figure: Figure,
    answer: Answer,
    said: Any,
    scope: dict[str, Any],
    zone: ZoneInfo,
) -> dict[str, Any]:
    return {
        "finding": said.finding,
        "note": said.note,
        "charts": said.charts,
        "table": _table(figure, answer, zone),
        "query": figure.query,
        "answers": answer.query.answers,
        "sql": answer.query.sql,
        "metrics": [_definition(connection, table, metric) for table, metric in answer.query.metrics],
    }


def _table(figure: Figure, answer: Answer, zone: ZoneInfo) -> Table:
    accounts = {row["account"] for row in answer.rows} if "account" in answer.columns else set()
    names = [name for name in figure.shows or answer.columns if name != "account" or len(accounts) > 1]
    rows = [[cell(name, row[name], zone) for name in names] for row in answer.rows]
    columns = [
        Column(name, label(name), "n" if any(row[position].is_number for row in rows) else kind(name))
        for position, name in enumerate(names)
    ]
    kinds = [f' class="{column.kind}"' if column.kind else "" for column in columns]
    body = "\n".join(f"<tr>{''.join(map(_cell, row, kinds, count()))}</tr>" for row in rows)
    return Table(f"table-{figure.query}", figure.caption, columns, Markup(body), len(rows))


def _cell(of: Cell, kind: str, position: int) -> str:
    """A cell as HTML; by the template it would take most of the time of a report."""
    value = "" if of.value is None else f' data-v="{escape(of.value)}"'
    tag, scope = ("td", "") if position else ("th", ' scope="row"')
    return f"<{tag}{scope}{kind}{value}>{escape(of.text)}</{tag}>"


def _definition(connection: duckdb.DuckDBPyConnection, table: str, metric: str) -> dict[str, Any]:
    cursor = connection.execute(
        "from metrics where table_name = $table and metric = $metric", {"table": table, "metric": metric}
    )
    names = [column[0] for column in cursor.description or []]
    return dict(zip(names, cursor.fetchall()[0], strict=True)) | {"label": label(metric)}


def _check(connection: duckdb.DuckDBPyConnection, column: str, wanted: str | None) -> None:
    """Raises SettingsError where no task has that account or type."""
    if wanted is None:
        return
    known = [
        value for (value,) in connection.execute(f"select distinct {column} from fact_tasks order by 1").fetchall()
    ]
    if wanted not in known:
        raise SettingsError(
            f"no task has the {column} {wanted!r}; known are {', '.join(map(printable, known)) or 'none'}"
        )


def _about(scope: dict[str, Any]) -> str:
    about = [f"account {scope['account']}" if scope["account"] else "all accounts"]
    about.append(f"type {scope['type']}" if scope["type"] else "all types")
    if scope["last_day"] is not None:
        about.append(f"days {scope['from_day']} to {scope['last_day']}")
        about.append(f"the first task is of {scope['first_day']}")
    about.append(f"time zone {scope['time_zone']}")
    return printable(", ".join(about)) + "."


def _day_about(scope: dict[str, Any]) -> str:
    if scope["is_whole_day"]:
        return "The last whole day up to the point that the archive is proven to, beside the same weekday before."
    return "No day is over yet: today so far."


def _explained(scope: dict[str, Any]) -> str:
    """How a command asks for the day and type of the page."""
    day = f" --day {scope['last_day']}" if scope["last_day"] else ""
    return day + (f" --type {scope['type']}" if scope["type"] else "")


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["with_code"] = _with_code
    return environment.get_template("page.html")


def _with_code(text: str) -> Markup:
    """Text with what stands between backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _hash(script: str) -> str:
    """As a content security policy names a script that may run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
