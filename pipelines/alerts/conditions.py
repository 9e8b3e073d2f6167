"""What is wrong now. A condition is a file of `sql/alerts`; its SELECT runs on the published version, and each row is
something that is wrong:

    subject    what it is about; with the condition's name, it identifies the alert from one check to the next
    summary    a sentence with the numbers
    score      how bad it is, in the condition's own measure; higher is worse
    quote      free text of the API, where there is any
    …          the numbers, by name

It may read `limits`, one row: the settings of alerts, the current time and the accounts that have a key.
"""

import shlex
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import duckdb

from pipelines.alerts.message import Alert
from pipelines.errors import WarehouseError
from pipelines.settings import Settings
from pipelines.text import printable
from pipelines.warehouse.database import connect, current_database, quoted
from pipelines.warehouse.sql import AlertHeader, SqlFile, read_folder


@dataclass(frozen=True)
class Found:
    """What is wrong, the alarms first, and which conditions could not be asked: why, by their names."""

    alerts: list[Alert]
    unasked: dict[str, str]


@cache
def load_conditions() -> list[SqlFile[AlertHeader]]:
    """Every condition by name. Raises WarehouseError on a file that breaks the rules."""
    return read_folder("alerts", AlertHeader)


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
                cursor = connection.execute(condition.select)
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


def _alert(condition: SqlFile[AlertHeader], row: dict[str, Any]) -> Alert:
    shown = {name: shlex.quote(printable(str(value))) for name, value in row.items()}
    return Alert(
        condition=condition.name,
        subject=row.pop("subject"),
        severity=condition.header.severity,
        summary=row.pop("summary"),
        command=condition.header.command.format_map(shown),
        score=float(row.pop("score")),
        quote=row.pop("quote", None),
        numbers=row,
    )


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]
