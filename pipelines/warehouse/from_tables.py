"""Following the tables: those that are made from tables, each checked and exported while the next are made."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from graphlib import TopologicalSorter
from pathlib import Path
from queue import SimpleQueue

import duckdb

from pipelines.errors import WarehouseError
from pipelines.warehouse.checks import CheckResult, Failed, is_by_task, run_check, run_row_checks
from pipelines.warehouse.database import quoted, run_sql
from pipelines.warehouse.grain import grains
from pipelines.warehouse.models import (
    Check,
    Model,
    load_macros,
    made_from,
    published_models,
)
from pipelines.warehouse.parquet import MANIFEST, export
from pipelines.warehouse.plan import levels
from pipelines.warehouse.working import TABLES, use

WORKERS = 2


@dataclass(frozen=True)
class BuiltTable:
    """A table as it stands: its rows, its columns as (name, DuckDB type), the outcomes of its checks, its Parquet
    files that were written, and how long checking and exporting it took."""

    model: Model
    rows: int
    columns: list[tuple[str, str]]
    outcomes: list[CheckResult]
    written: set[str] = field(default_factory=set)
    finish_seconds: float = 0.0


def follow_tables(
    connection: duckdb.DuckDBPyConnection, parquet: Path, failed: Failed, made: set[str]
) -> Iterator[BuiltTable]:
    """Makes the tables that are made from tables, but for those that are `made`, as soon as what they read is there,
    and checks and exports each table while the next are made."""
    # Each worker runs its own queries; DuckDB's threads get the remaining cores, so that they do not contend.
    connection.execute(f"set threads = {max(1, (os.cpu_count() or 1) - WORKERS + 1)}")
    weeks = _weeks(connection, parquet)
    follow_landing = made | {name for name, grain in grains().items() if grain.kind == "group"}
    follow_landing |= {model.name for level in levels() for model in level}
    models = {model.name: model for model in published_models()}
    order = list(models)
    plan: TopologicalSorter[tuple[str, bool]] = TopologicalSorter()  # name, and whether it is to be finished or made
    for model in models.values():
        read = made_from(model) & models.keys()
        plan.add((model.name, False), *((name, False) for name in read))
        referred = ((each.table, False) for each in model.relationships)
        plan.add((model.name, True), (model.name, False), *referred, *((name, True) for name in read))
    plan.prepare()

    def work(name: str, finish: bool) -> BuiltTable | None:
        model = models[name]
        if not finish and name in follow_landing:
            return None
        session = sessions.get()
        try:
            if finish:
                return _finish(session, model, parquet, weeks, failed.get(name, {}))
            run_sql(session, f"create or replace table {TABLES}.main.{model.name} as {model.compiled_sql}", model.file)
        finally:
            sessions.put(session)
        return None

    with ExitStack() as opened, ThreadPoolExecutor(WORKERS) as pool:
        sessions: SimpleQueue[duckdb.DuckDBPyConnection] = SimpleQueue()
        for _ in range(WORKERS):
            sessions.put(opened.enter_context(_session(connection)))
        running: dict[Future[BuiltTable | None], tuple[str, bool]] = {}
        results: list[BuiltTable | None] = []
        alone: list[tuple[str, bool]] = []  # what has to wait until it has the memory for itself
        try:
            while plan.is_active():
                for node in sorted(plan.get_ready(), key=lambda node: order.index(node[0])):
                    running[pool.submit(work, *node)] = node
                yield from filter(None, results)  # who takes them does so while others run
                results = []
                done = wait(running, return_when=FIRST_COMPLETED).done
                while done:
                    each = done.pop()
                    node = running.pop(each)
                    if isinstance(each.exception(), duckdb.OutOfMemoryException):
                        alone.append(node)
                    else:
                        results.append(each.result())
                        plan.done(node)
                    del each  # and with it what a query that failed still holds
                while alone and not running:
                    node = alone.pop()
                    results.append(work(*node))
                    plan.done(node)
            yield from filter(None, results)
        finally:
            pool.shutdown(cancel_futures=True)


def _weeks(connection: duckdb.DuckDBPyConnection, parquet: Path) -> dict[str, set[date | None]] | None:
    """The weeks in which tasks have changed, by table, with None among them where it is all weeks; None where all is to
    be made and written."""
    if not (parquet / MANIFEST).exists():
        return None
    found: dict[str, set[date | None]] = {}
    for table, week in connection.execute("from weeks").fetchall():
        found.setdefault(table, set()).add(week)
    return found


@contextmanager
def _session(connection: duckdb.DuckDBPyConnection) -> Iterator[duckdb.DuckDBPyConnection]:
    """A session of its own on the working file."""
    with connection.cursor() as session:
        use(session)
        yield session


def _finish(
    session: duckdb.DuckDBPyConnection,
    model: Model,
    parquet: Path,
    weeks: dict[str, set[date | None]] | None,
    failed: dict[Check, CheckResult],
) -> BuiltTable:
    """Comments, checks and exports one table."""
    began = time.monotonic()
    columns = [(row[0], row[1]) for row in session.execute(f"describe {model.name}").fetchall()]
    if [name for name, _ in columns] != list(model.columns):
        raise WarehouseError(f"{model.file}: its columns are not those that it documents")
    changed = None if weeks is None else weeks.get("tasks", set()) | weeks.get(model.name, set())
    in_weeks = None if changed is None or None in changed else {week for week in changed if week is not None}
    if in_weeks is None or grains()[model.name].kind == "whole":  # a table that is made anew has lost them
        comments = [f"comment on table {model.name} is {quoted(model.description)}"]
        comments += [
            f'comment on column {model.name}."{name}" is {quoted(meaning)}' for name, meaning in model.columns.items()
        ]
        _run_together(session, comments)
    found = failed | {outcome.check: outcome for outcome in run_row_checks(session, model)}
    outcomes = [
        found[check]
        if check in found
        else CheckResult(check, 0, "")
        if is_by_task(model, check)
        else run_check(session, check)
        for check in model.checks
    ]
    written = export(session, model, parquet, in_weeks)
    rows: int = session.execute(f"select count(*) from {model.name}").fetchall()[0][0]
    return BuiltTable(model, rows, columns, outcomes, written, time.monotonic() - began)


def _run_together(session: duckdb.DuckDBPyConnection, statements: list[str]) -> None:
    """Runs statements in one transaction, as each costs a write to the file; the session stays usable if one fails."""
    try:
        session.execute("; ".join(["begin", *statements, "commit"]))
    except duckdb.Error:
        with suppress(duckdb.TransactionException):  # none is open
            session.rollback()
        raise


def create_macros(connection: duckdb.DuckDBPyConnection) -> None:
    with _session(connection) as session:
        for macro in load_macros():
            header, gives_rows = macro.header, macro.header.returns == "rows"
            body = f"table {macro.select}" if gives_rows else macro.select.strip().removeprefix("select")
            session.execute(f"create or replace macro {macro.name}({', '.join(header.parameters)}) as {body}")
            kind = "macro table" if gives_rows else "macro"
            session.execute(f"comment on {kind} {macro.name} is {quoted(header.description)}")
