"""What is wrong now. A condition is a file of `sql/alerts`: what it means, how severe it is, and the command to look
closer, in which {name} is a value of the row, stand in its first comment lines. Its SELECT runs on the published
version; each row is a thing that is wrong:

    about      what it is about: with the condition's name, the same at the next look for the same thing
    says       a sentence with the numbers
    degree     how bad it is, in the condition's own measure; higher is worse
    quote      free text of the API, where there is any
    …          the numbers, under their names

It may read `limits`, one row: the settings of alerts, the time now and the accounts that have a key.
"""

import shlex
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import duckdb

from pipelines.alerts.message import Alert, Severity
from pipelines.errors import WarehouseError
from pipelines.settings import Settings
from pipelines.text import printable
from pipelines.warehouse.database import connect, current_database, quoted
from pipelines.warehouse.models import read_header, sql_folder

SEVERITIES: dict[str, Severity] = {"alarm": "alarm", "notice": "notice"}


@dataclass(frozen=True)
class Condition:
    """One file of sql/alerts."""

    name: str
    description: str
    severity: Severity
    look: str
    sql: str


@dataclass(frozen=True)
class Found:
    """What is wrong, the alarms first, and which conditions could not be asked: why, by their names."""

    alerts: list[Alert]
    unasked: dict[str, str]


@cache
def load_conditions() -> list[Condition]:
    """Every condition by name. Raises WarehouseError on a file that breaks the rules."""
    conditions = []
    for path in sorted((sql_folder() / "alerts").glob("*.sql")):
        text, place = path.read_text(encoding="utf-8"), f"sql/alerts/{path.name}"
        description, directives = read_header(text, place, ("severity", "look"))
        severity, look = SEVERITIES.get(directives.get("severity", [""])[0]), directives.get("look", [""])[0]
        if severity is None or not look or not description:
            raise WarehouseError(
                f"{place}: say in the first comment lines what it means, `-- severity: alarm` or notice, and in "
                "`-- look:` the command to look closer"
            )
        conditions.append(Condition(path.stem, description, severity, look, text))
    return conditions


def ask(settings: Settings, now: datetime) -> Found:
    """Asks every condition of the published version as it is."""
    alerts: list[Alert] = []
    unasked: dict[str, str] = {}
    with connect() as connection:
        try:
            path = current_database(settings)
            connection.execute(f"attach {quoted(str(path))} as published (read_only)")
        except (WarehouseError, duckdb.Error) as error:
            return Found([], {condition.name: _line(error) for condition in load_conditions()})
        connection.execute("set search_path = 'published.main,memory.main'")
        _create_limits(connection, settings, now)
        for condition in load_conditions():
            try:
                cursor = connection.execute(condition.sql)
                names = [column[0] for column in cursor.description or []]
                alerts += [_alert(condition, dict(zip(names, row, strict=True))) for row in cursor.fetchall()]
            except duckdb.Error as error:  # such as a version published before the condition's table came to be
                unasked[condition.name] = _line(error)
    return Found(sorted(alerts, key=lambda alert: alert.severity), unasked)


def _create_limits(connection: duckdb.DuckDBPyConnection, settings: Settings, now: datetime) -> None:
    values = {name: getattr(settings, name) for name in Settings.model_fields if name.startswith("alert_")}
    limits = {name: value for name, value in values.items() if isinstance(value, int | float)}
    columns = ", ".join(f"?::double as {name.removeprefix('alert_')}" for name in limits)
    connection.execute(
        f"create table memory.limits as select {columns}, ?::timestamptz as now_at, ?::varchar[] as accounts",
        [*limits.values(), now, list(settings.api_keys)],
    )


def _alert(condition: Condition, row: dict[str, Any]) -> Alert:
    look = condition.look.format_map({name: shlex.quote(printable(str(value))) for name, value in row.items()})
    return Alert(
        condition=condition.name,
        about=row.pop("about"),
        severity=condition.severity,
        says=row.pop("says"),
        look=look,
        degree=float(row.pop("degree")),
        quote=row.pop("quote", None),
        numbers=row,
    )


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]
