"""The reader of .sql files: what a file says about itself, and its SELECT.

Each file of `sql/` opens with a block comment that holds YAML, so that DuckDB and editors take the file as it is:

    /*
    description: Finished work by hour, account and type.
    key: [account, hour_at, type]
    */

    select ...

What the YAML may hold depends on the folder: each has a class below.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

import msgspec

from pipelines.errors import WarehouseError

OPENING = re.compile(r"\s*/\*\n(.*?)\n\*/\s*", re.DOTALL)


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every file says: what it gives, in words."""

    description: str


class QueryHeader(Header, frozen=True):
    """`sql/queries`: a query with a name of its own; `sql/gauges`: its SELECT gives `value` and labels."""


class ChartHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A chart of a report's query, drawn from the columns of its table; see `pipelines/report/charts.py`.

    fields: columns and their colours (`blue`, `red dashed`, `orange dotted`), in the order of their roles: of `dots`
    the dots, the line and the target; labels: what the legend says of a column, where it is not the name; facet: a
    chart for each value of a column; like_first: only the rows that agree with the first in these; requires, unless:
    drawn where a column has a value, or has none; band: low and high end; x, y: of `heat` and `ranges`.
    """

    kind: Literal["bars", "stacked", "lines", "dots", "heat", "ranges"]
    heading: str
    fields: dict[str, str]
    labels: dict[str, str] = {}
    title: str = ""
    scale: Literal["linear", "log", "sqrt"] = "linear"
    height: int = 170
    facet: str = ""
    like_first: list[str] = []
    requires: str = ""
    unless: str = ""
    band: list[str] = []
    x: str = ""
    y: str = ""
    x_order: list[str] = []
    from_zero: bool = True
    tooltip: list[str] = []


class ReportHeader(Header, frozen=True):
    """`sql/report`: a query of the report; with a section it is a figure of the page.

    place: among the figures, the lowest first; caption: of the table; columns: those of the table, all where none is
    named; metrics: the definitions behind its numbers, as TABLE.METRIC; opening: what the finding begins with;
    otherwise: what is said where no row has a finding.

    Columns that the table never shows: `finding`, the sentence above the figure, `note` below it, and `heading` of a
    chart. They are of the first row, with facets of the first of each. In them `{column:format}` is a value of that
    row, or of the scope: see `pipelines/report/sentences.py`. Text of the API goes in this way only.
    """

    section: str = ""
    place: int = 0
    caption: str = ""
    columns: list[str] = []
    metrics: list[str] = []
    opening: str = ""
    otherwise: str = ""
    charts: list[ChartHeader] = []


class AlertHeader(Header, frozen=True):
    """`sql/alerts`: each row of the SELECT is something that is wrong now.

    An alarm lasts until it is over, a notice is sent once. In `command`, which shows more, {name} is a column's value.
    """

    severity: Literal["alarm", "notice"]
    command: str


class MacroHeader(Header, frozen=True):
    """`sql/macros`: a macro of the published file, which gives rows, or the value of its SELECT's one expression."""

    parameters: list[str]
    returns: Literal["rows", "value"] = "rows"


class Relationship(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Columns whose values, where none of them is NULL, are in the columns `there` of `table`: by default, those of
    the same names."""

    columns: list[str]
    table: str
    there: list[str] = []


class Like(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The SELECT of another table, which reads `relation` in place of the one that it names."""

    table: str
    relation: str
    in_place_of: str


class MetricHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the numbers in some columns mean.

    formula: how they are computed, in words; population: the rows that they are about; excludes: which of those they
    leave out; filter: the rows behind them, as a condition in SQL; n: the column that counts those; minimum_n: below it
    the number is NULL, of all columns or of each; non_additive_dimension: the key column over which the number must not
    be added up; as_in: the table whose definition this takes over, where the same expression makes the column; the
    other fields then replace single parts of it.
    """

    columns: list[str]
    as_in: str = ""
    formula: str = ""
    unit: str = ""
    population: str = ""
    excludes: str = ""
    filter: str = ""
    n: str = ""
    minimum_n: int | list[int] = 0
    non_additive_dimension: str = ""
    caveat: str = ""
    better: Literal["lower", "higher", ""] = ""


class TableHeader(Header, frozen=True):
    """The folders of tables.

    key: columns that are unique together and never NULL; checks: conditions on every row, or nothing is published;
    warnings: conditions on every row, or it is reported; materialized: how an internal relation is made.
    """

    key: list[str] = []
    relationships: list[Relationship] = []
    checks: list[str] = []
    warnings: list[str] = []
    materialized: Literal["table", "view"] = "table"
    like: Like | None = None
    metrics: list[MetricHeader] = []


H = TypeVar("H", bound=Header)


@dataclass(frozen=True)
class SqlFile(Generic[H]):
    """A file: its name without `.sql`, its place for messages, its header and its SELECT."""

    name: str
    place: str
    header: H
    select: str


def sql_folder() -> Path:
    """The .sql files: beside the package in a checkout, inside it in an installed wheel."""
    inside = Path(__file__).parent.parent / "sql"
    return inside if inside.is_dir() else Path(__file__).parent.parent.parent / "sql"


def names_in(folder: str) -> list[str]:
    """The names of the files in a folder of `sql/`, in order."""
    return sorted(path.stem for path in (sql_folder() / folder).glob("*.sql"))


def read_sql(folder: str, name: str, kind: type[H]) -> SqlFile[H]:
    """The file `sql/FOLDER/NAME.sql`. Raises WarehouseError where its header is missing or wrong."""
    return parse_sql(folder, name, (sql_folder() / folder / f"{name}.sql").read_text(encoding="utf-8"), kind)


def read_folder(folder: str, kind: type[H]) -> list[SqlFile[H]]:
    """Every file in a folder of `sql/`, in the order of their names. Raises as read_sql does."""
    return [read_sql(folder, name, kind) for name in names_in(folder)]


def parse_sql(folder: str, name: str, text: str, kind: type[H]) -> SqlFile[H]:
    """A file's text. Raises WarehouseError where its header is missing or wrong."""
    place = f"sql/{folder}/{name}.sql"
    found = OPENING.match(text)
    if found is None:
        raise WarehouseError(f"{place}: open with a comment that holds YAML, `description:` first, between /* and */")
    try:
        header = msgspec.yaml.decode(found[1], type=kind)
    except msgspec.ValidationError as error:
        known = ", ".join(sorted(field.name for field in msgspec.structs.fields(kind)))
        raise WarehouseError(f"{place}: {error}; known are {known}") from None
    except msgspec.DecodeError as error:
        raise WarehouseError(f"{place}: its opening comment is not YAML: {' '.join(str(error).split())}") from None
    return SqlFile(name, place, header, text[found.end() :].strip())
