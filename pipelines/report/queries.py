"""The queries behind the report: `sql/report/*.sql`, one a table of the page.

`scope.sql` runs first: it sets what the report is about.
"""

from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

import duckdb

from pipelines.errors import WarehouseError
from pipelines.serving.published import check_known
from pipelines.warehouse.sql import ReportHeader, SqlFile, read_sql

Row = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a query gave: its columns, and a dict a row."""

    query: SqlFile[ReportHeader]
    columns: list[str]
    rows: list[Row]


@dataclass(frozen=True)
class ReportFilter:
    """What a report is about; None: the last 90 whole days, every type, every account."""

    from_day: date | None = None
    to_day: date | None = None
    task_type: str | None = None
    account: str | None = None


class ReportData:
    """The tables that a connection reads, restricted by a filter.

    `scope` is the row of the table of that name. Raises SettingsError for an account or a type that no task has.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, report_filter: ReportFilter) -> None:
        self._connection = connection
        self._answers: dict[str, Answer] = {}
        check_known(connection, "account", report_filter.account)
        check_known(connection, "type", report_filter.task_type)
        for variable, value in (
            ("from_day", report_filter.from_day),
            ("to_day", report_filter.to_day),
            ("account", report_filter.account),
            ("type", report_filter.task_type),
        ):
            connection.execute(f"set variable {variable} = $value", {"value": value})
        self._run("scope")
        _, (self.scope,) = self._rows("from scope")
        self._metrics = {f"{row['table_name']}.{row['metric']}": row for row in self._rows("from metrics")[1]}

    def ask(self, name: str) -> Answer:
        """The answer to a query of sql/report, which is asked once."""
        if name not in self._answers:
            self._answers[name] = Answer(query(name), *self._run(name))
        return self._answers[name]

    def definitions(self, name: str) -> list[Row]:
        """The definitions of the metrics that a query gives: rows of the table `metrics`."""
        return [self._metrics[metric] for metric in query(name).header.metrics]

    def _run(self, name: str) -> tuple[list[str], list[Row]]:
        """Columns and rows of a query of sql/report. Raises WarehouseError where DuckDB refuses it."""
        try:
            return self._rows(query(name).select)
        except duckdb.Error as error:
            raise WarehouseError(f"sql/report/{name}.sql failed: {str(error).splitlines()[0]}") from None

    def _rows(self, sql: str) -> tuple[list[str], list[Row]]:
        cursor = self._connection.execute(sql)
        columns = [column[0] for column in cursor.description or []]
        return columns, [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]


@cache
def query(name: str) -> SqlFile[ReportHeader]:
    """The query of a file in sql/report. Raises WarehouseError where its header is wrong."""
    return read_sql("report", name, ReportHeader)
