"""Checks: what must hold in a table, run on it, and the counts of failing rows that are kept from run to run."""

from dataclasses import dataclass

import duckdb

from pipelines.warehouse.grain import grains
from pipelines.warehouse.models import Check, Model
from pipelines.warehouse.working import INTERNAL, TABLES


@dataclass(frozen=True)
class CheckResult:
    """A check on a table: how many rows break it, and one of them."""

    check: Check
    failing_rows: int
    example: str

    @property
    def passed(self) -> bool:
        return self.failing_rows == 0

    @property
    def blocks(self) -> bool:
        """Whether nothing may be published because of it."""
        return not self.passed and self.check.severity == "error"


Failed = dict[str, dict[Check, CheckResult]]  # checks that found something, by table


def is_by_task(model: Model, check: Check) -> bool:
    """Whether a check compares rows of one task, and so holds for all where it holds for those at hand."""
    if "task_id" not in check.columns or grains()[model.name].kind != "task":
        return False
    return check.columns in (model.key, ("task_id",))


def row_checks(model: Model) -> list[Check]:
    """The checks of a table by task that each row fulfils or fails by itself: rows that fail can be counted on."""
    return [check for check in model.checks if check.condition and grains()[model.name].kind == "task"]


def run_row_checks(session: duckdb.DuckDBPyConnection, model: Model) -> list[CheckResult]:
    """The outcomes of row_checks: of the counts that are kept, or where there are none of all rows."""
    kept = dict(session.execute("select check_name, rows from failing where table_name = ?", [model.name]).fetchall())
    outcomes = []
    for check in row_checks(model):
        if check.name in kept and not kept[check.name]:
            outcomes.append(CheckResult(check, 0, ""))
            continue
        outcomes.append(run_check(session, check))
        if check.name not in kept:
            values = [model.name, check.name, outcomes[-1].failing_rows]
            session.execute(f"insert into {TABLES}.{INTERNAL}.failing values (?, ?, ?)", values)
    return outcomes


def run_check(session: duckdb.DuckDBPyConnection, check: Check) -> CheckResult:
    """How many rows break a check, and one of them."""
    rows = session.execute(f"select count(*) from ({check.failing})").fetchall()[0][0]
    example = ""
    if rows:
        cursor = session.execute(f"from ({check.failing}) limit 1")
        names = [column[0] for column in cursor.description or []]
        example = ", ".join(
            f"{name}={value}" for name, value in list(zip(names, cursor.fetchall()[0], strict=True))[:6]
        )
    return CheckResult(check, rows, example)
