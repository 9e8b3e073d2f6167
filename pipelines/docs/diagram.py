"""Entity-relationship diagrams as Mermaid text: keys, references and the first columns of each."""

from collections.abc import Iterable

from pipelines.warehouse.from_tables import BuiltTable
from pipelines.warehouse.sql import Relationship

OPENING = """# Relationships between tables

Generated from `sql/` by `make docs`; do not edit. PK marks a key; FK marks a reference, which is checked before a
version is published. The diagrams show keys, references and a few columns;
[data_dictionary.md](data_dictionary.md) has the rest. `freshness` has one row per account.
"""

STAR = """## The star

For BI tools: `fact_tasks` has one row per task, with its outcome and measures. Days are in the time zone in
`thresholds`. It refers to two days, the creation and the end. In a tool that allows one relationship, use
`created_day`: most metrics count by it.
"""

BY_DAY = """## Metrics by day

Computed from `fact_tasks`. Quantiles are exact, and a metric is NULL below its minimum n.
"""

BY_TYPE = """## Metrics by type, hour, error, rung and source
"""

CHILDREN = """## A task and its child rows
"""

HISTORY = """## A task and its history

`tasks` has the newest state of each task; these tables have the states that the API overwrote.
"""

# Columns shown of a table besides its key and references: metrics, or measures, or whatever it begins with.
SHOWN = 2


def diagrams(tables: Iterable[BuiltTable]) -> str:
    """The document."""
    known = {table.model.name: table for table in tables}
    by_day, by_type, children = (
        [name for name, table in known.items() if any(each.table == target for each in table.model.relationships)]
        for target in ("dim_date", "dim_type", "tasks")
    )
    dimensions = ["dim_date", "dim_type"]
    sections = [
        (STAR, ["fact_tasks"], [*dimensions, "failure_signatures", "tasks"]),
        (BY_DAY, [name for name in by_day if name != "fact_tasks"], [*dimensions, "failure_signatures"]),
        (BY_TYPE, [name for name in by_type if name not in by_day], dimensions),
        (CHILDREN, [name for name in children if known[name].model.layer == "core"], ["tasks"]),
        (HISTORY, [name for name in children if known[name].model.layer != "core" and name not in by_day], ["tasks"]),
    ]
    return "\n".join([OPENING, *(text + "\n" + _diagram(known, members, ends) for text, members, ends in sections)])


def _diagram(known: dict[str, BuiltTable], members: list[str], ends: list[str]) -> str:
    """The tables `members` and those of `ends` that they refer to."""
    pairs = [(known[name], each) for name in members for each in known[name].model.relationships]
    references = [(table, each) for table, each in pairs if each.table in ends]
    referred = dict.fromkeys(each.table for _, each in references)
    lines = [line for name in [*referred, *members] for line in _entity(known[name], [each for _, each in references])]
    lines += [_relation(table, each) for table, each in references]
    return "\n".join(["```mermaid", "erDiagram", "    direction LR", *lines, "```", ""])


def _entity(table: BuiltTable, references: list[Relationship]) -> list[str]:
    model = table.model
    referring = {column for each in model.relationships if each in references for column in each.columns}
    marked = {*model.key, *referring}
    rest = [(name, kind) for name, kind in table.columns if name not in marked]
    numbers = [metric.metric for metric in model.metrics] or [
        name for name, kind in rest if kind == "DOUBLE" and model.layer == "marts"
    ]
    shown = {*marked, *(numbers or [name for name, _ in rest])[:SHOWN]}
    lines = [f"    {model.name} {{"]
    for name, kind in table.columns:
        if name in shown:
            word = "TIMESTAMPTZ" if kind == "TIMESTAMP WITH TIME ZONE" else kind
            marks = [mark for mark, columns in (("PK", model.key), ("FK", referring)) if name in columns]
            lines.append(f"        {word} {name} {', '.join(marks)}".rstrip())
    return [*lines, "    }"]


def _relation(table: BuiltTable, each: Relationship) -> str:
    """One row there, or none where a column may be NULL; one row here where the columns are the key."""
    key = set(table.model.key)
    there = "||" if set(each.columns) <= key else "|o"
    here = "o|" if set(each.columns) == key else "o{"
    return f'    {each.table} {there}--{here} {table.model.name} : "{", ".join(each.columns)}"'
