"""The catalogue: what a version holds, as one HTML page to search, made from the .sql files and the version itself."""

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from pipelines.alerts.conditions import load_conditions
from pipelines.docs.reference import LAYERS
from pipelines.serving.published import published
from pipelines.settings import Settings
from pipelines.text import with_code
from pipelines.warehouse.models import Model, column_lineage, load_macros, load_models, published_models
from pipelines.warehouse.sql import QueryHeader, read_folder

HERE = Path(__file__).parent
MOST_SOURCES = 6  # of a column that is computed from more its SQL says it better


@dataclass(frozen=True)
class CatalogueTable:
    """A published table, its rows, its columns' DuckDB types, and what it is made from and what is made from it."""

    model: Model
    rows: int
    types: dict[str, str]
    made_from: list[str]
    makes: list[str]
    metrics: set[str]  # columns whose definition is one of the metrics
    lineage: dict[str, list[str]]  # the columns that a column is computed from, where those are few


def make(settings: Settings) -> str:
    """The catalogue of the published version, as HTML. Raises WarehouseError where there is none."""
    version = (settings.home.published / "current").readlink().name if settings.home.is_published else ""
    with published(settings) as connection:
        found = connection.execute(
            "select table_name, column_name, data_type from duckdb_columns() where not internal order by column_index"
        ).fetchall()
        types: dict[str, dict[str, str]] = {}
        for table, column, kind in found:
            types.setdefault(table, {})[column] = kind.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")
        rows = {
            name: connection.execute(f"select count(*) from {name}").fetchall()[0][0]
            for name in (model.name for model in published_models())
            if name in types
        }
    tables = [_table(model, rows[model.name], types[model.name]) for model in published_models() if model.name in types]
    script = (HERE / "catalogue.js").read_text(encoding="utf-8")
    return _template().render(
        version=version,
        layers={title: [each for each in tables if each.model.layer == layer] for layer, title in LAYERS.items()},
        macros=load_macros(),
        queries=read_folder("queries", QueryHeader),
        alerts=load_conditions(),
        style=Markup((HERE / "catalogue.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _table(model: Model, rows: int, types: dict[str, str]) -> CatalogueTable:
    known = {other.name: _published_sources(other) for other in published_models()}
    makes = sorted(name for name, sources in known.items() if model.name in sources)
    metrics = {metric.metric for metric in model.metrics}
    sources = column_lineage().get(model.name, {})
    few = {name: found for name, found in sources.items() if len(found) <= MOST_SOURCES}
    return CatalogueTable(model, rows, types, sorted(known[model.name]), makes, metrics, few)


@cache
def _sources() -> dict[str, frozenset[str]]:
    """Of each relation, internal ones included, the published tables that it is made from; the landing zone by name."""
    found: dict[str, frozenset[str]] = {}
    names = {model.name for model in published_models()}
    for model in load_models().values():  # in build order
        reads: set[str] = set()
        for name in model.reads:
            reads |= {name} if name in names else found.get(name, frozenset({"landing zone"}))
        found[model.name] = frozenset(reads)
    return found


def _published_sources(model: Model) -> frozenset[str]:
    return _sources()[model.name] - {model.name}


@cache
def _template() -> Template:
    loader = FileSystemLoader(HERE)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["with_code"] = with_code
    return environment.get_template("catalogue.html")
