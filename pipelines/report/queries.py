"""The queries behind the report: `sql/report/*.sql`, one a table of the page.

A file opens with comment lines that say what it answers, and `-- metrics: table.metric, ...` names the definitions
that stand behind its numbers.
"""

from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

import duckdb

from pipelines.errors import WarehouseError
from pipelines.warehouse.models import read_header, sql_folder


@dataclass(frozen=True)
class Query:
    """A query: its name, what it answers, the metrics that it gives as (table, metric), and its SQL."""

    name: str
    answers: str
    metrics: tuple[tuple[str, str], ...]
    sql: str


@dataclass(frozen=True)
class Answer:
    """What a query gave: its columns, and a dict a row."""

    query: Query
    columns: list[str]
    rows: list[dict[str, Any]]


@cache
def query(name: str) -> Query:
    """The query of a file in sql/report. Raises WarehouseError on a file that does not say what it answers."""
    text, place = (sql_folder() / "report" / f"{name}.sql").read_text().strip(), f"sql/report/{name}.sql"
    answers, directives = read_header(text, place, ("metrics",))
    if not answers:
        raise WarehouseError(f"{place}: say in the first comment lines what it answers")
    named = [each.strip().partition(".") for line in directives.get("metrics", []) for each in line.split(",")]
    return Query(name, answers, tuple((table, metric) for table, _, metric in named), text)


def ask(connection: duckdb.DuckDBPyConnection, name: str) -> Answer:
    """Runs a query of sql/report over the scope that `narrow` has set."""
    asked = query(name)
    try:
        cursor = connection.execute(asked.sql)
    except duckdb.Error as error:
        raise WarehouseError(f"sql/report/{name}.sql failed: {str(error).splitlines()[0]}") from None
    columns = [column[0] for column in cursor.description or []]
    return Answer(asked, columns, [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()])


def narrow(
    connection: duckdb.DuckDBPyConnection,
    from_day: date | None = None,
    to_day: date | None = None,
    task_type: str | None = None,
    account: str | None = None,
) -> dict[str, Any]:
    """Sets what the report is about; returns the row of the table `scope`."""
    for variable, value in (("from_day", from_day), ("to_day", to_day), ("type", task_type), ("account", account)):
        connection.execute(f"set variable {variable} = $value", {"value": value})
    connection.execute(query("scope").sql)
    cursor = connection.execute("from scope")
    return dict(zip([column[0] for column in cursor.description or []], cursor.fetchall()[0], strict=True))
