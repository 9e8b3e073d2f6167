"""What the page says and shows of each query of sql/report that has a section: its header and rows say it all."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from operator import attrgetter
from typing import Any

from pipelines.report.queries import Row
from pipelines.report.sentences import sentence
from pipelines.warehouse.sql import ChartHeader, ReportHeader, SqlFile, read_folder

HIDDEN = ("finding", "note", "heading")  # columns of text that the table does not show


@dataclass(frozen=True)
class Chart:
    """A chart of a figure: its drawing's name, its heading, the rows that it draws, and the values they share."""

    spec: str
    heading: str
    only: dict[str, str]
    rows: list[Row]


@dataclass(frozen=True)
class Finding:
    """What is said of a query's rows, what to know about it, and its charts. Without charts the table is shown."""

    finding: str
    note: str
    charts: list[Chart]


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    id: str
    heading: str
    queries: list[SqlFile[ReportHeader]]


@cache
def sections() -> list[Section]:
    """The parts of the page with the queries of each, in their order. Raises WarehouseError on a wrong file."""
    figures = sorted((each for each in read_folder("report", ReportHeader) if each.header.section), key=_place)
    parts = groupby(figures, key=attrgetter("header.section"))
    return [Section(heading.lower().replace(" ", "-"), heading, list(queries)) for heading, queries in parts]


def _place(query: SqlFile[ReportHeader]) -> int:
    return query.header.place


def spec_name(query: SqlFile[ReportHeader], number: int) -> str:
    """The name of the drawing of a query's chart."""
    return f"{query.name}-{number}"


def say(query: SqlFile[ReportHeader], rows: list[Row], scope: Row) -> Finding:
    """The finding, the note and the charts of a query's rows."""
    header = query.header
    if not rows:
        return Finding(header.otherwise, "", [])
    facet = next((chart.facet for chart in header.charts if chart.facet), "")
    firsts = list({row[facet]: row for row in reversed(rows)}.values())[::-1] if facet else [rows[0]]
    told = [sentence(row["finding"], scope | row) for row in firsts if row.get("finding")]
    finding = f"{header.opening}{'; '.join(told)}" if told else header.otherwise
    notes = [sentence(row["note"], scope | row) for row in rows[:1] if row.get("note")]
    charts = [
        chart
        for number, of_chart in enumerate(header.charts)
        for chart in _charts(of_chart, spec_name(query, number), rows, scope)
    ]
    return Finding(finding if finding.endswith(".") else f"{finding}.", " ".join(notes), charts)


def _charts(chart: ChartHeader, spec: str, rows: list[Row], scope: Row) -> Iterator[Chart]:
    """One chart, or one for each value of its facet, where there are two values to draw."""
    if (chart.requires and rows[0][chart.requires] is None) or (chart.unless and rows[0][chart.unless] is not None):
        return
    values = list(dict.fromkeys(row[chart.facet] for row in rows)) if chart.facet else [None]
    for value in values:
        only: dict[str, Any] = {chart.facet: value} if chart.facet else {}
        only |= {name: rows[0][name] for name in chart.like_first if name != "account" or len(scope["accounts"]) > 1}
        drawn = [row for row in rows if all(row[name] == wanted for name, wanted in only.items())]
        if sum(row[next(iter(chart.fields))] is not None for row in drawn) > 1:
            yield Chart(spec, sentence(drawn[0].get("heading") or chart.heading, scope | drawn[0]), only, drawn)


def shown_columns(query: SqlFile[ReportHeader], columns: list[str], is_of_several_accounts: bool) -> list[str]:
    """The columns of a figure's table."""
    named = query.header.columns or [name for name in columns if name not in HIDDEN]
    return [name for name in named if name != "account" or is_of_several_accounts]
