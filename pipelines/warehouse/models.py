"""The reader of .sql files: everything about a table stands in its one file.

A file opens with comment lines: what the table is, then directives:

    -- key: a, b           unique, never NULL
    -- parent: tasks       each task_id is in that table
    -- check: condition    holds for every row, or nothing is published
    -- warn: condition     holds for every row, or it is reported
    -- as: view            how an internal relation is made, view or table
    -- like: tasks, reading superseded for newest      instead of a SELECT: that of the table, over another relation

Then one SELECT, each column with a trailing comment. What a table reads is read from its SQL.

The files of `sql/macros` are table macros of the published file: `-- takes: moment` names the parameters.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import sqlglot
from sqlglot import exp

from pipelines.errors import WarehouseError

# Internal layers feed the others and are not published.
LAYERS = ("landing", "core", "history", "marts")
PUBLISHED_LAYERS = ("core", "history", "marts")

Severity = Literal["error", "warn"]


def sql_folder() -> Path:
    """The .sql files: beside the package in a checkout, inside it in an installed wheel."""
    inside = Path(__file__).parent.parent / "sql"
    return inside if inside.is_dir() else Path(__file__).parent.parent.parent / "sql"


@dataclass(frozen=True)
class Check:
    """A condition on a table. `failing` is a query of the rows that break it."""

    name: str
    description: str
    severity: Severity
    failing: str


@dataclass(frozen=True)
class Model:
    """One table: its layer, name, meaning, columns with their meaning, key, checks, SELECT, and the tables it reads."""

    layer: str
    name: str
    description: str
    columns: dict[str, str]
    key: tuple[str, ...]
    checks: tuple[Check, ...]
    reads: frozenset[str]
    parents: tuple[str, ...]
    form: str
    sql: str


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
        text, place = path.read_text(), f"sql/macros/{path.name}"
        header, directives = _header(text, place, ("takes",))
        if not header or "takes" not in directives:
            raise WarehouseError(
                f"{place}: say in the first comment lines what it gives and in `-- takes:` what it takes"
            )
        macros.append(Macro(path.stem, directives["takes"][0], header, text.strip()))
    return macros


@cache
def load_models() -> dict[str, Model]:
    """Every table by name, in build order. Raises WarehouseError on a file that breaks the rules."""
    models = {}
    for layer in LAYERS:
        for path in sorted((sql_folder() / layer).glob("*.sql")):
            models[path.stem] = parse_model(layer, path.stem, path.read_text())
    return _in_build_order(models)


def published_models() -> list[Model]:
    """The tables that readers see, in build order."""
    return [model for model in load_models().values() if model.layer in PUBLISHED_LAYERS]


def parse_model(layer: str, name: str, text: str) -> Model:
    """One .sql file. Raises WarehouseError where a column has no meaning or a directive is unknown."""
    place = f"sql/{layer}/{name}.sql"
    header, directives = _header(text, place, ("key", "parent", "check", "warn", "as", "like"))
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
    columns = {} if layer == "landing" else _columns(tree, place)
    key = tuple(part.strip() for value in directives.get("key", []) for part in value.split(","))
    if layer != "landing" and not key:
        raise WarehouseError(f"{place}: name its key in a line `-- key: ...`")
    return Model(
        layer=layer,
        name=name,
        description=header,
        columns=columns,
        key=key,
        checks=tuple(_checks(name, key, directives)),
        reads=frozenset(replaced.get(table, table) for table in read),
        parents=tuple(directives.get("parent", [])),
        form=directives.get("as", ["table"])[0],
        sql=sql,
    )


def _like(directive: str, place: str) -> tuple[str, str, str]:
    """What a `like` directive names: the table's text, the relation to read, and the one that it stands for."""
    found = re.fullmatch(r"(\w+), reading (\w+) for (\w+)", directive)
    files = list(sql_folder().glob(f"*/{found[1]}.sql")) if found else []
    if found is None or not files:
        raise WarehouseError(f"{place}: write `-- like: TABLE, reading RELATION for RELATION`, not `{directive}`")
    return files[0].read_text().strip(), found[2], found[3]


def _header(text: str, place: str, known: tuple[str, ...]) -> tuple[str, dict[str, list[str]]]:
    words: list[str] = []
    directives: dict[str, list[str]] = {}
    for line in text.lstrip().splitlines():
        if not line.startswith("--"):
            break
        content = line[2:].strip()
        found = re.match(r"([a-z]+): (.+)", content)
        if found is None:
            words.append(content)
        elif found[1] in known:
            directives.setdefault(found[1], []).append(found[2].strip())
        else:
            raise WarehouseError(f"{place}: unknown directive `{found[1]}:`; known are {', '.join(known)}")
    return " ".join(words), directives


def _columns(tree: exp.Select, place: str) -> dict[str, str]:
    columns = {}
    for column in tree.selects:
        name = column.alias_or_name
        meaning = " ".join(comment.strip() for comment in (column.comments or []))
        if not name or name == "*":
            raise WarehouseError(f"{place}: every column needs a name: {column.sql()[:60]}")
        if not meaning:
            raise WarehouseError(f"{place}: column {name} needs a comment behind it that says what it means")
        columns[name] = meaning
    return columns


def _checks(table: str, key: tuple[str, ...], directives: dict[str, list[str]]) -> list[Check]:
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
            )
        )
    for parent in directives.get("parent", []):
        checks.append(
            Check(
                f"has_{parent}",
                f"every task_id is in {parent}",
                "error",
                f"select * from {table} where task_id not in (select task_id from {parent})",
            )
        )
    severities: tuple[tuple[str, Severity], ...] = (("check", "error"), ("warn", "warn"))
    for directive, severity in severities:
        for condition in directives.get(directive, []):
            name = re.sub(r"\W+", "_", condition.lower()).strip("_")[:60].rstrip("_")
            checks.append(Check(name, condition, severity, f"select * from {table} where not ({condition})"))
    return checks


def _in_build_order(models: dict[str, Model]) -> dict[str, Model]:
    ordered: dict[str, Model] = {}

    def place(name: str, asked_by: tuple[str, ...]) -> None:
        if name in asked_by:
            raise WarehouseError(f"tables read each other in a circle: {' -> '.join((*asked_by, name))}")
        if name in models and name not in ordered:
            for other in sorted({*models[name].reads, *models[name].parents}):
                place(other, (*asked_by, name))
            ordered[name] = models[name]

    for name in models:
        place(name, ())
    return ordered
