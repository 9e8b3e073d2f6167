"""What the tables are made from besides what has landed: settings, seeds, and what the .sql files say of metrics."""

import csv
import json
from dataclasses import asdict, fields
from typing import Any, NamedTuple

import pyarrow as pa

from pipelines.landing import damage
from pipelines.settings import Settings
from pipelines.valid import slo_targets
from pipelines.warehouse.models import (
    Metric,
    published_models,
)
from pipelines.warehouse.sql import sql_folder

DAMAGES = pa.schema(
    [(name, pa.string()) for name in ("account", "load_id", "file", "damage")] + [("rows_lost", pa.int64())]
)
SETTINGS = pa.schema(
    [("time_zone", pa.string())]
    + [
        (name, pa.int64())
        for name in ("stuck_running_seconds", "stuck_waiting_seconds", "abandoned_seconds", "concurrency_limit")
    ]
)
SLO = pa.schema([("type", pa.string()), ("share", pa.float64()), ("seconds", pa.float64())])
OWNERS = pa.schema([("position", pa.int64())] + [(name, pa.string()) for name in ("pattern", "owner", "advice")])
METRICS = pa.schema(
    [(field.name, pa.int64() if field.name == "minimum_n" else pa.string()) for field in fields(Metric)]
)


class Given(NamedTuple):
    """What the tables are made from besides what has landed, by the name that the SQL calls it by, and what of it makes
    them anew where it changes."""

    tables: dict[str, pa.Table]
    fingerprint: str


def given_by(settings: Settings, lost: list[damage.Damage]) -> Given:
    """What the tables are made from besides the observations and the loads."""
    with (sql_folder() / "seeds" / "signature_owners.csv").open(newline="", encoding="utf-8") as file:
        owners = [{"position": position} | row for position, row in enumerate(csv.DictReader(file))]
    known: dict[str, tuple[pa.Schema, list[dict[str, Any]]]] = {
        "damages": (DAMAGES, [_as_row(each) for each in lost]),
        "settings": (SETTINGS, [{name: getattr(settings, name) for name in SETTINGS.names}]),
        "slo_settings": (SLO, [target._asdict() for target in slo_targets(settings.slo)]),
        "signature_owners_seed": (OWNERS, owners),
        "metric_definitions": (METRICS, [asdict(metric) for model in published_models() for metric in model.metrics]),
    }
    tables = {name: pa.Table.from_pylist(rows, schema=schema) for name, (schema, rows) in known.items()}
    return Given(tables, json.dumps([tables[name].to_pylist() for name in ("settings", "slo_settings")]))


def _as_row(lost: damage.Damage) -> dict[str, Any]:
    rows = lost.part.rows if lost.part else None
    return dict(zip(DAMAGES.names, (lost.account, lost.load_id, lost.file, lost.what, rows), strict=True))
