"""The data dictionary and the definitions of the metrics as Markdown."""

from collections.abc import Iterable
from dataclasses import replace

from pipelines.warehouse.from_tables import BuiltTable
from pipelines.warehouse.models import Metric, load_macros, load_models

OPENING = """# Data dictionary

Generated from `sql/` by `make docs`; do not edit. Times are TIMESTAMPTZ in UTC, to the millisecond.
Secrets are replaced by a `redacted-…` fingerprint; equal secrets have equal fingerprints.
"""

METRICS_OPENING = """# Metrics

Generated from `sql/` by `make docs`; do not edit. Every number in the tables, the report and `task-archive explain` has
one definition, in the .sql file of the table that computes it. The published table `metrics` lists them all.
`task-archive explain METRIC --day DAY --type TYPE` prints the number, what it excludes, and the SQL that selects the
rows behind it.

A number is NULL if fewer than its minimum n rows are behind it. Quantiles are exact. Days are in the time zone of
`TASK_ARCHIVE_TIME_ZONE` (UTC by default), which `thresholds` records. A day is mature when none of its tasks can still
end; until then its numbers change.
"""


MACROS = {"rows": "rows, as a table", "value": "a value"}


def metrics() -> str:
    """Every metric with its definition, by table."""
    sections = [METRICS_OPENING]
    for model in load_models().values():
        if not model.metrics:
            continue
        sections.append(f"## {model.name}\n\n{model.description}\n")
        for definition, names in _same(model.metrics).items():
            least = ", ".join(f"{metric.minimum_n:,}" for metric in names)
            lines = [f"**{', '.join(f'`{metric.metric}`' for metric in names)}**: {definition.formula}.", ""]
            lines += [f"- unit: {definition.unit}", f"- population: {definition.population}"]
            lines += [f"- excludes: {definition.excludes}"]
            lines += [f"- n: `{definition.n}`" + (f", at least {least}" if least != "1" else "")]
            lines += [f"- caveat: {definition.caveat}"] if definition.caveat else []
            lines += [f"- better: {definition.better}"] if definition.better != "neither" else []
            sections.append("\n".join(lines) + "\n")
    return "\n".join(sections)


def _same(metrics: Iterable[Metric]) -> dict[Metric, list[Metric]]:
    """Metrics by what they have in common: quantiles of the same differ in name and minimum alone."""
    found: dict[Metric, list[Metric]] = {}
    for metric in metrics:
        found.setdefault(replace(metric, metric="", minimum_n=0), []).append(metric)
    return found


def dictionary(tables: Iterable[BuiltTable]) -> str:
    """Every published table with its key, checks and columns, and the macros."""
    sections = [OPENING]
    for table in tables:
        model = table.model
        lines = [f"## {model.name}", "", model.description, ""]
        lines.append(f"Layer {model.layer}, from {_listed(model.reads)}. Key: {', '.join(model.key)}.")
        lines.append(f"Checked: {'; '.join(f'`{check.description}`' for check in model.checks)}.")
        lines += ["", "| column | type | meaning |", "| --- | --- | --- |"]
        lines += [f"| {name} | {_shown(kind)} | {model.columns[name]} |" for name, kind in table.columns]
        sections.append("\n".join(lines) + "\n")
    for macro in load_macros():
        sections.append(
            f"## {macro.name}({', '.join(macro.header.parameters)})\n\n"
            f"Macro that returns {MACROS[macro.header.returns]}. {macro.header.description}\n"
        )
    return "\n".join(sections)


def _listed(reads: frozenset[str]) -> str:
    inner = load_models()
    names = {name if name in inner and inner[name].layer != "landing" else "the landing zone" for name in reads}
    return ", ".join(sorted(names))


def _shown(kind: str) -> str:
    return "TIMESTAMPTZ" if kind == "TIMESTAMP WITH TIME ZONE" else kind.replace("|", "\\|")
