"""Column lineage: which columns of published tables a column is computed from, read off the SQL by sqlglot.

It takes seconds, so `make docs` writes it into sql/lineage.json, which Dagster and the catalogue read.
"""

import json
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.lineage import lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import build_scope

from pipelines.warehouse.models import Model, load_models, published_models

Sources = dict[str, dict[str, list[str]]]  # by table and column, the columns that it comes from as TABLE.COLUMN


def as_json() -> str:
    """The lineage of every published column that comes from columns of published tables."""
    schema = {model.name: dict.fromkeys(model.columns, "text") for model in load_models().values() if model.columns}
    names = {model.name for model in published_models()}
    found: Sources = {model.name: _of_table(model, schema, names) for model in published_models()}
    return json.dumps({table: columns for table, columns in sorted(found.items()) if columns}, indent=0) + "\n"


def _of_table(model: Model, schema: dict[str, Any], published: set[str]) -> dict[str, list[str]]:
    if not model.reads & published:
        return {}
    tree = sqlglot.parse_one(model.raw_sql, read="duckdb")
    tree = qualify(tree, schema=schema, dialect="duckdb", validate_qualify_columns=False)
    scope = build_scope(tree)
    found: dict[str, list[str]] = {}
    for column in model.columns:
        node = lineage(column, tree, schema=schema, dialect="duckdb", scope=scope)
        ends = {
            f"{end.source.name}.{end.name.rpartition('.')[2].strip(chr(34))}"
            for end in node.walk()
            if not end.downstream and isinstance(end.source, exp.Table) and end.source.name in published
        }
        if ends:
            found[column] = sorted(ends)
    return found
