"""Putting the page together: one HTML file with its style, scripts, numbers and charts, which asks the network nothing.

Text of the API is escaped wherever it stands, and a content security policy lets no script run but our own.
"""

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from pipelines.errors import SettingsError
from pipelines.harmless import printable
from pipelines.report import charts
from pipelines.report.figures import SECTIONS, Figure
from pipelines.report.javascript import vega
from pipelines.report.queries import Answer, ask, narrow
from pipelines.report.summary import tiles, verdict
from pipelines.report.words import Cell, cell, day, is_numeric, label
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
    """A column of a table of the page."""

    name: str
    label: str
    is_number: bool


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    id: str
    caption: str
    columns: list[Column]
    rows: list[list[Cell]]


def write(settings: Settings, database: Path, file: Path, narrowed: Narrowed | None = None) -> None:
    """Writes the report of a version's DuckDB file. Raises WarehouseError where it cannot be read, and as `render`."""
    with connect(database, read_only=True, memory_mb=settings.memory_mb) as connection:
        file.write_text(render(connection, narrowed))


def render(connection: duckdb.DuckDBPyConnection, narrowed: Narrowed | None = None) -> str:
    """The page of the version that the connection reads. Raises SettingsError for an account or type unknown to it."""
    narrowed = narrowed or Narrowed()
    _check(connection, "account", narrowed.account)
    _check(connection, "type", narrowed.task_type)
    scope = narrow(connection, narrowed.from_day, narrowed.to_day, narrowed.task_type, narrowed.account)
    zone = ZoneInfo(scope["time_zone"])
    made_at = datetime.now(UTC)
    has_days = scope["last_day"] is not None and scope["last_day"] >= scope["from_day"]
    sections: list[dict[str, Any]] = []
    specs: dict[str, Markup] = {}
    for section in SECTIONS if has_days else ():
        shown = []
        for figure in section.figures:
            answer = ask(connection, figure.query)
            said = figure.says(answer.rows, scope)
            specs |= {chart.spec: Markup(charts.spec(chart.spec)) for chart in said.charts}
            shown.append(_figure(connection, figure, answer, said, scope, zone))
        sections.append({"id": section.id, "heading": section.heading, "figures": shown})
    scripts = [vega(), (HERE / "page.js").read_text()] if specs else []
    return _template().render(
        title="Task Archive",
        about=_about(scope),
        verdicts=[verdict(row, made_at, zone) for row in ask(connection, "freshness").rows],
        made_at=made_at.isoformat(timespec="seconds"),
        day=day(scope["last_day"]) if has_days else "",
        day_about=_day_about(scope) if has_days else "",
        tiles=tiles(ask(connection, "yesterday").rows, scope) if has_days else [],
        sections=sections,
        specs=specs,
        style=Markup((HERE / "page.css").read_text()),
        scripts=[Markup(script) for script in scripts],
        script_hashes=[_hash(script) for script in scripts],
        explained=_explained(scope),
    )


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
        "table": _table(f"table-{figure.query}", figure.caption, answer, zone),
        "query": figure.query,
        "answers": answer.query.answers,
        "sql": answer.query.sql,
        "metrics": [_definition(connection, table, metric) for table, metric in answer.query.metrics],
    }


def _table(identity: str, caption: str, answer: Answer, zone: ZoneInfo) -> Table:
    rows = [[cell(name, row[name], zone) for name in answer.columns] for row in answer.rows]
    numeric = [
        is_numeric(name) or any(row[position].is_number for row in rows) for position, name in enumerate(answer.columns)
    ]
    columns = [Column(name, label(name), is_number) for name, is_number in zip(answer.columns, numeric, strict=True)]
    return Table(identity, caption, columns, rows)


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
    return environment.get_template("page.html")


def _hash(script: str) -> str:
    """As a content security policy names a script that may run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
