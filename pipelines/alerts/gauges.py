"""Gauges of the published version, in the text format that Prometheus reads.

A gauge is a file of `sql/gauges`: its SELECT gives `value`, and columns that become labels. Beside them stands how many
alerts of each condition are active.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pipelines.alerts.conditions import ask, load_conditions
from pipelines.serving.published import published
from pipelines.settings import Settings
from pipelines.warehouse.sql import QueryHeader, read_folder

PREFIX = "task_archive"


def gauges(settings: Settings) -> Iterator[str]:
    """The lines of the format. Raises WarehouseError where nothing is published."""
    with published(settings) as connection:
        connection.execute("set TimeZone = 'UTC'")
        for gauge in read_folder("gauges", QueryHeader):
            cursor = connection.execute(gauge.select)
            names = [column[0] for column in cursor.description or []]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            yield from _gauge(gauge.name, gauge.header.description, rows)
    active = Counter(alert.condition for alert in ask(settings, datetime.now(UTC)).alerts)
    rows = [
        {"condition": each.name, "severity": each.header.severity, "value": active[each.name]}
        for each in load_conditions()
    ]
    yield from _gauge("active_alerts", "Active alerts by condition.", rows)


def _gauge(name: str, description: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    yield f"# HELP {PREFIX}_{name} {_escaped(description)}"
    yield f"# TYPE {PREFIX}_{name} gauge"
    for row in rows:
        value = row.pop("value")
        labels = ",".join(f'{label}="{_escaped(_text(text), quotes=True)}"' for label, text in row.items())
        yield f"{PREFIX}_{name}{f'{{{labels}}}' if labels else ''} {float(value):.17g}"


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _escaped(text: str, quotes: bool = False) -> str:
    """As https://prometheus.io/docs/instrumenting/exposition_formats wants text of HELP, or a label's value."""
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text
