"""The reader of .sql files: everything about a table stands in its one file.

A file opens with comment lines: what the table is, then directives:

    -- key: a, b           unique, never NULL
    -- refers: a to t.b    each a that is not NULL is a b of table t; `a, b to t`: the columns have the same names there
    -- check: condition    holds for every row, or nothing is published
    -- warn: condition     holds for every row, or it is reported
    -- as: view            how an internal relation is made, view or table
    -- like: tasks, reading superseded for newest      instead of a SELECT: that of the table, over another relation

Then one SELECT, each column with a trailing comment. What a table reads is read from its SQL.

A column that is a metric has its definition instead of a comment, in a block of the opening lines:

    -- metric: p50_age_seconds, p95_age_seconds     the columns that it defines
    --   formula: exact quantile of now - created   how it is computed, in words
    --   unit: seconds
    --   population: open tasks                      the rows it is about
    --   leaves out: abandoned uploads              which of them it leaves out
    --   counted: is_open                           the rows that stand behind it, as a condition in SQL
    --   n: open_tasks, at least 5, 20              the column that counts them; below the minimum the number is NULL
    --   not across: hour_at                        the key column over which it is not to be put together
    --   mind: ...                                  a caveat
    --   better: lower                              or higher, or neither

The reader puts the minimum around the column, so that it stands here alone. `-- metric: NAME, as in TABLE` takes over a
definition whose column is made by the same expression there; the lines below it replace single parts.

The files of `sql/macros` are table macros of the published file: `-- takes: moment` names the parameters.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import sqlglot
from sqlglot import exp

from pipelines.errors import WarehouseError

# Internal layers feed the others and are not published.
LAYERS = ("landing", "core", "history", "marts")
PUBLISHED_LAYERS = ("core", "history", "marts")

Severity = Literal["error", "warn"]

# Parts of a metric's definition in the opening lines, and the fields of Metric that they are.
METRIC_PARTS = {
    "formula": "formula",
    "unit": "unit",
    "population": "population",
    "leaves out": "leaves_out",
    "counted": "counted",
    "n": "n",
    "not across": "not_across",
    "mind": "caveat",
    "better": "better",
}
OPTIONAL_PARTS = {"not_across": "", "caveat": "", "better": "neither"}


def sql_folder() -> Path:
    """The .sql files: beside the package in a checkout, inside it in an installed wheel."""
    inside = Path(__file__).parent.parent / "sql"
    return inside if inside.is_dir() else Path(__file__).parent.parent.parent / "sql"


@dataclass(frozen=True)
class Reference:
    """Columns of a table whose values, where they are not NULL, stand in the columns `there` of `table`."""

    columns: tuple[str, ...]
    table: str
    there: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """A condition on a table. `failing` is a query of the rows that break it; `columns`: of a key or a reference;
    `condition`: what each row by itself is to fulfil."""

    name: str
    description: str
    severity: Severity
    failing: str
    columns: tuple[str, ...] = ()
    condition: str = ""


@dataclass(frozen=True)
class Metric:
    """What a number means: `table_name`.`metric` is `formula` in `unit` over `population` but what it `leaves_out`.

    `counted` is the condition in SQL for the rows that stand behind it, `n` the column that counts them; below
    `minimum_n` the number is NULL. Over the key column `not_across` it is not to be put together: it is a level, not a
    flow. `better` is lower, higher or neither.
    """

    metric: str
    table_name: str
    formula: str
    unit: str
    population: str
    leaves_out: str
    counted: str
    n: str
    minimum_n: int
    not_across: str
    caveat: str
    better: str

    @property
    def meaning(self) -> str:
        """The column's comment."""
        least = f"; null where {self.n} is below {self.minimum_n}" if self.minimum_n > 1 else ""
        return f"{self.formula}; {self.unit}{least}"


@dataclass(frozen=True)
class Model:
    """One table: its layer, name, meaning, columns with their meaning, key, checks, SELECT, and the tables it reads.

    A table that it `refers` to may be made from it.

    `written` is the SELECT as its file has it, `sql` what is run: metrics are NULL there below their minimum n.
    """

    layer: str
    name: str
    description: str
    columns: dict[str, str]
    key: tuple[str, ...]
    checks: tuple[Check, ...]
    reads: frozenset[str]
    refers: tuple[Reference, ...]
    form: str
    written: str
    sql: str
    metrics: tuple[Metric, ...] = ()


@dataclass(frozen=True)
class Macro:
    """A table macro: its name, parameters, meaning and SELECT."""

    name: str
    takes: str
    description: str
    sql: str


@cache
def load_macros() -> list[Macro]:
    """The table macros of the published file. Raises WarehouseError on a file that breaks the rules."""
    macros = []
    for path in sorted((sql_folder() / "macros").glob("*.sql")):
        text, place = path.read_text(encoding="utf-8"), f"sql/macros/{path.name}"
        header, directives = read_header(text, place, ("takes",))
        if not header or "takes" not in directives:
            raise WarehouseError(
                f"{place}: say in the first comment lines what it gives and in `-- takes:` what it takes"
            )
        macros.append(Macro(path.stem, directives["takes"][0], header, text.strip()))
    return macros


@cache
def load_models() -> dict[str, Model]:
    """Every table by name, in build order. Raises WarehouseError on a file that breaks the rules."""
    models: dict[str, Model] = {}
    for path in sorted((path for layer in LAYERS for path in (sql_folder() / layer).glob("*.sql")), key=_borrows):
        models[path.stem] = parse_model(path.parent.name, path.stem, path.read_text(encoding="utf-8"), models)
    return _in_build_order(models)


def _borrows(path: Path) -> tuple[bool, str]:
    """Tables that take over definitions come behind those that have their own."""
    return ", as in " in path.read_text(encoding="utf-8"), path.stem


def published_models() -> list[Model]:
    """The tables that readers see, in build order."""
    return [model for model in load_models().values() if model.layer in PUBLISHED_LAYERS]


def made_from(model: Model) -> set[str]:
    """The published tables that a table reads, and the names that are no table of ours; internal relations are followed
    to what they read themselves."""
    found: set[str] = set()
    for name in model.reads:
        other = load_models().get(name)
        found |= {name} if other is None or other.layer in PUBLISHED_LAYERS else made_from(other)
    return found


def parse_model(layer: str, name: str, text: str, others: Mapping[str, Model] | None = None) -> Model:
    """One .sql file; `others` are the tables whose metrics it may take over.

    Raises WarehouseError where a column has no meaning or a directive is unknown.
    """
    place = f"sql/{layer}/{name}.sql"
    header, directives = read_header(text, place, ("key", "refers", "check", "warn", "as", "like", "metric"))
    if not header:
        raise WarehouseError(f"{place}: say in the first comment lines what the table is")
    sql, replaced = text.strip(), {}
    if "like" in directives:
        text, relation, instead_of = _like(directives["like"][0], place)
        sql, replaced = f"with {instead_of} as (from {relation})\nfrom (\n{text}\n)", {instead_of: relation}
    try:
        tree = sqlglot.parse_one(text, read="duckdb")
    except sqlglot.ParseError as error:
        raise WarehouseError(f"{place}: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, exp.Select):
        raise WarehouseError(f"{place}: must hold one SELECT")
    inner = {cte.alias for cte in tree.ctes}
    read = {table.name for table in tree.find_all(exp.Table) if table.name and table.name not in inner}
    metrics = [
        metric for block in directives.get("metric", []) for metric in _metrics(name, block, tree, others or {}, place)
    ]
    columns = {} if layer == "landing" else _columns(tree, {metric.metric: metric.meaning for metric in metrics}, place)
    references = [_reference(text, columns, place) for text in directives.get("refers", [])]
    for each in references:
        columns[each.columns[-1]] += f"; refers to {each.table}"
    key = tuple(part.strip() for value in directives.get("key", []) for part in value.split(","))
    if layer != "landing" and not key:
        raise WarehouseError(f"{place}: name its key in a line `-- key: ...`")
    return Model(
        layer=layer,
        name=name,
        description=header,
        columns=columns,
        key=key,
        checks=tuple(_checks(name, key, references, directives)),
        reads=frozenset(replaced.get(table, table) for table in read),
        refers=tuple(references),
        form=directives.get("as", ["table"])[0],
        written=text.strip(),
        sql=_with_minimums(sql, list(columns), metrics),
        metrics=tuple(metrics),
    )


def _metrics(table: str, block: str, tree: exp.Select, others: Mapping[str, Model], place: str) -> list[Metric]:
    """The metrics that a block of the opening lines defines, one for each column that it names."""
    first, *lines = block.splitlines()
    names, _, source = first.partition(", as in ")
    said: dict[str, str] = {}
    for line in lines:
        part, colon, words = line.partition(": ")
        if not colon or part not in METRIC_PARTS:
            raise WarehouseError(f"{place}: `{line}` is no part of a metric; known are {', '.join(METRIC_PARTS)}")
        said[METRIC_PARTS[part]] = words
    metrics = []
    for position, name in enumerate(each.strip() for each in names.split(",")):
        expression = _expression(tree, name)
        if expression is None:
            raise WarehouseError(f"{place}: metric {name} is no column")
        if source:
            known = {metric.metric: metric for metric in others[source].metrics} if source in others else {}
            if name not in known:
                raise WarehouseError(f"{place}: {source} defines no metric {name}")
            theirs = _expression(sqlglot.parse_one(others[source].written, read="duckdb"), name)
            if theirs != expression:
                raise WarehouseError(f"{place}: {name} is not computed as in {source}: {theirs}")
            parts: dict[str, Any] = asdict(known[name]) | {"table_name": table}
        else:
            parts = {"metric": name, "table_name": table, "leaves_out": "nothing"} | OPTIONAL_PARTS
        parts |= said
        n, *least = str(said["n"]).split(",") if "n" in said else (parts.get("n", ""), str(parts.get("minimum_n", 1)))
        minimums = [int(number) for each in least for number in re.findall(r"\d+", each)] or [1]
        parts |= {"n": n, "minimum_n": minimums[min(position, len(minimums) - 1)]}
        if missing := [
            part for part, field in METRIC_PARTS.items() if field not in OPTIONAL_PARTS and not parts.get(field)
        ]:
            raise WarehouseError(f"{place}: metric {name} lacks {', '.join(missing)}")
        if n not in tree.named_selects:
            raise WarehouseError(f"{place}: metric {name} is counted by {n}, which is no column")
        metrics.append(Metric(**parts))
    return metrics


def _expression(tree: object, name: str) -> str | None:
    """How a column is made, whatever the relations are called that it reads."""
    for column in tree.selects if isinstance(tree, exp.Select) else []:
        if column.alias_or_name == name:
            bare = column.unalias().copy()
            for read in bare.find_all(exp.Column):
                read.set("table", None)
            return str(bare.sql(dialect="duckdb", comments=False))
    return None


def _with_minimums(sql: str, columns: list[str], metrics: list[Metric]) -> str:
    """The SELECT with each metric NULL where fewer rows than its minimum stand behind it."""
    guarded = {metric.metric: metric for metric in metrics if metric.minimum_n > 1}
    if not guarded:
        return sql
    listed = ",\n    ".join(
        f"case when {guarded[name].n} >= {guarded[name].minimum_n} then {name} end as {name}"
        if name in guarded
        else f'"{name}"'
        for name in columns
    )
    return f"select\n    {listed}\nfrom (\n{sql}\n)"


def _like(directive: str, place: str) -> tuple[str, str, str]:
    """What a `like` directive names: the table's text, the relation to read, and the one that it stands for."""
    found = re.fullmatch(r"(\w+), reading (\w+) for (\w+)", directive)
    files = list(sql_folder().glob(f"*/{found[1]}.sql")) if found else []
    if found is None or not files:
        raise WarehouseError(f"{place}: write `-- like: TABLE, reading RELATION for RELATION`, not `{directive}`")
    return files[0].read_text(encoding="utf-8").strip(), found[2], found[3]


def read_header(text: str, place: str, known: tuple[str, ...]) -> tuple[str, dict[str, list[str]]]:
    """The first comment lines of a file: its meaning, and its directives by name. Raises WarehouseError for an unknown
    one."""
    words: list[str] = []
    directives: dict[str, list[str]] = {}
    for line in text.lstrip().splitlines():
        if not line.startswith("--"):
            break
        content = line[2:].strip()
        if line.startswith("--   ") and "metric" in directives:  # a part of it, or the rest of a part
            directives["metric"][-1] += (" " if line.startswith("--     ") else "\n") + content
            continue
        found = re.match(r"([a-z]+): (.+)", content)
        if found is None:
            words.append(content)
        elif found[1] in known:
            directives.setdefault(found[1], []).append(found[2].strip())
        else:
            raise WarehouseError(f"{place}: unknown directive `{found[1]}:`; known are {', '.join(known)}")
    return " ".join(words), directives


def _columns(tree: exp.Select, metrics: dict[str, str], place: str) -> dict[str, str]:
    columns = {}
    for column in tree.selects:
        name = column.alias_or_name
        meaning = metrics.get(name) or " ".join(comment.strip() for comment in (column.comments or []))
        if not name or name == "*":
            raise WarehouseError(f"{place}: every column needs a name: {column.sql()[:60]}")
        if not meaning:
            raise WarehouseError(f"{place}: column {name} needs a comment behind it that says what it means")
        columns[name] = meaning
    return columns


def _reference(text: str, columns: Mapping[str, str], place: str) -> Reference:
    """What a `refers` directive names."""
    found = re.fullmatch(r"(\w+(?:, \w+)*) to (\w+)(?:\.(\w+))?", text)
    if found is None or (found[3] and "," in found[1]):
        raise WarehouseError(f"{place}: write `-- refers: COLUMN to TABLE.COLUMN` or `COLUMNS to TABLE`, not `{text}`")
    own = tuple(found[1].split(", "))
    if strange := [name for name in own if name not in columns]:
        raise WarehouseError(f"{place}: `refers: {text}`: {strange[0]} is no column")
    return Reference(own, found[2], (found[3],) if found[3] else own)


def _checks(
    table: str, key: tuple[str, ...], references: list[Reference], directives: dict[str, list[str]]
) -> list[Check]:
    checks = []
    if key:
        listed = ", ".join(key)
        broken = " or ".join(["count(*) > 1", *(f"{column} is null" for column in key)])
        checks.append(
            Check(
                "key_is_unique",
                f"({listed}) is unique and never null",
                "error",
                f"select {listed}, count(*) as rows from {table} group by {listed} having {broken}",
                key,
            )
        )
    for each in references:
        ours, theirs = (f"({', '.join(names)})" if names[1:] else names[0] for names in (each.columns, each.there))
        known = "".join(f"{column} is not null and " for column in each.columns if each.columns[1:])
        checks.append(
            Check(
                f"{'_'.join(each.columns)}_in_{each.table}",
                f"every {', '.join(each.columns)} is in {each.table}",
                "error",
                f"select * from {table} where {known}{ours} not in (select {theirs} from {each.table})",
                each.columns,
            )
        )
    severities: tuple[tuple[str, Severity], ...] = (("check", "error"), ("warn", "warn"))
    for directive, severity in severities:
        for condition in directives.get(directive, []):
            name = re.sub(r"\W+", "_", condition.lower()).strip("_")[:60].rstrip("_")
            failing = f"select * from {table} where not ({condition})"
            checks.append(Check(name, condition, severity, failing, condition=condition))
    return checks


def _in_build_order(models: dict[str, Model]) -> dict[str, Model]:
    ordered: dict[str, Model] = {}

    def place(name: str, asked_by: tuple[str, ...]) -> None:
        if name in asked_by:
            raise WarehouseError(f"tables read each other in a circle: {' -> '.join((*asked_by, name))}")
        if name in models and name not in ordered:
            for other in sorted(models[name].reads):
                place(other, (*asked_by, name))
            ordered[name] = models[name]

    for name in models:
        place(name, ())
    return ordered
