"""Building: the working file, and the Parquet files beside it, are brought up to what has landed.

A run works out which tasks its loads brought. Their observations are parsed again, all of them, and the rows of these
tasks are made anew, table by table, by the SELECT of the table's file, which sees the observations of the tasks at hand
alone. What is counted from tables follows. The first time, and where what the tables are made with has changed, the
same is done for all tasks, some thousands at a time, into a fresh file.
"""

import csv
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from graphlib import TopologicalSorter
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from pipelines import __version__
from pipelines.errors import WarehouseError
from pipelines.landing import damage
from pipelines.landing.catalog import Catalog
from pipelines.landing.zone import Zone, write_durably
from pipelines.settings import Settings, slo_targets
from pipelines.warehouse.change import Change, MadeAnew, left, since
from pipelines.warehouse.checks import CheckResult, Failed, is_by_task, run_check, run_row_checks
from pipelines.warehouse.database import quoted
from pipelines.warehouse.grain import grains
from pipelines.warehouse.making import Maker
from pipelines.warehouse.memory import keep_little
from pipelines.warehouse.models import (
    Check,
    Metric,
    Model,
    load_macros,
    load_models,
    made_from,
    published_models,
)
from pipelines.warehouse.parquet import MANIFEST, InManifest, export, manifest_of
from pipelines.warehouse.plan import levels, made_again
from pipelines.warehouse.seal import altered, summary
from pipelines.warehouse.sql import sql_folder
from pipelines.warehouse.working import COMPLETE, INTERNAL, PARQUET, TABLES, Working, note_made_with, use

VERSION = "%Y%m%dT%H%M%S%fZ"  # the name of a version: when it was built, UTC

WORKERS = 2

# Observations that are worked on at once: more go faster, and take more memory.
ROWS_PER_MB, LEAST_ROWS, MOST_ROWS = 84, 5_000, 21_000

# Errors of DuckDB that tell of a file that cannot be used, rather than of the SQL.
BROKEN = (duckdb.IOException, duckdb.InternalException, duckdb.FatalException, duckdb.SerializationException)

DAMAGES = pa.schema(
    [(name, pa.string()) for name in ("account", "load_id", "file", "damage")] + [("rows_lost", pa.int64())]
)
SETTINGS = pa.schema(
    [("time_zone", pa.string())]
    + [
        (name, pa.int64())
        for name in ("stuck_running_seconds", "stuck_waiting_seconds", "abandoned_seconds", "concurrency_limit")
    ]
)
SLO = pa.schema([("type", pa.string()), ("share", pa.float64()), ("seconds", pa.float64())])
OWNERS = pa.schema([("position", pa.int64())] + [(name, pa.string()) for name in ("pattern", "owner", "advice")])
METRICS = pa.schema(
    [(field.name, pa.int64() if field.name == "minimum_n" else pa.string()) for field in fields(Metric)]
)

Say = Callable[[str], None]


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


class Given(NamedTuple):
    """What the tables are made from besides what has landed, by the name that the SQL calls it by, and what of it makes
    them anew where it changes."""

    tables: dict[str, pa.Table]
    fingerprint: str


def build_version(settings: Settings, say: Say = lambda line: None) -> Iterator[BuiltTable]:
    """Brings the tables up to what has landed, and yields each.

    COMPLETE is there once every table stands and no check that blocks has failed.
    """
    keep_little()
    working, complete = Working(settings), settings.home.warehouse / COMPLETE
    complete.unlink(missing_ok=True)
    _drop_altered_parquet(settings, working, say)
    tables: dict[str, BuiltTable] = {}
    try:
        yield from _bring_up_to_date(settings, working, tables, say)
    except BROKEN as error:  # of a part of the file that nothing had read before
        _make_anew_after(error, say)
        working.remove()
        known = set(tables)
        again = _bring_up_to_date(settings, working, tables, say)
        yield from (built for built in again if built.model.name not in known)
    if any(each.blocks for built in tables.values() for each in built.outcomes):
        return
    about = {"version": _next_version(settings.home.published / "versions"), "code_version": __version__}
    listed = (InManifest(built.model, built.rows, built.columns, built.written) for built in tables.values())
    write_durably(working.parquet / MANIFEST, manifest_of(working.parquet, about, listed))
    rows = {name: built.rows for name, built in tables.items()}
    write_durably(complete, json.dumps(about | {"rows": rows}, indent=1).encode())


def _bring_up_to_date(
    settings: Settings, working: Working, tables: dict[str, BuiltTable], say: Say
) -> Iterator[BuiltTable]:
    """Makes each table what it is to be, and yields it; notes it in `tables`."""
    with Catalog(Zone(settings.home.landing)) as catalog:
        catalog.refresh()
        lost = damage.set_aside(catalog, None, say)
        if gone := damage.summary(lost):
            say(gone)
        failed = _follow_landing(settings, working, catalog, given_by(settings, lost), say)
    with working.opened(working.file) as connection:
        # What goes to Arrow and Parquet is beside what DuckDB counts.
        connection.execute(f"set memory_limit = '{settings.memory_mb * 4 // 5}MB'")
        for built in _follow_tables(connection, working.parquet, failed):
            tables[built.model.name] = built
            yield built
        _create_macros(connection)
        if not any(each.blocks for built in tables.values() for each in built.outcomes):
            connection.execute(f"delete from {TABLES}.{INTERNAL}.weeks")


def _drop_altered_parquet(settings: Settings, working: Working, say: Say) -> None:
    """Has all Parquet written anew where a published file was changed: it is the same file in the working folder."""
    changed = {path: what for path, what in altered(settings.home) if path.is_relative_to(PARQUET)}
    if changed:
        say(f"all Parquet is written anew: {summary([f'{path} {what}' for path, what in changed.items()])}")
        (working.parquet / MANIFEST).unlink(missing_ok=True)
    for path in changed:
        (working.parquet / path.relative_to(PARQUET)).unlink(missing_ok=True)


def forget(settings: Settings) -> None:
    """Has the next run make all anew, from the landing zone alone."""
    Working(settings).remove()
    Catalog.remove(Zone(settings.home.landing))


def build_empty(settings: Settings) -> list[BuiltTable]:
    """Every table without rows, in a home that holds nothing: what the SQL alone says of columns and types."""
    order = list(load_models())
    return sorted(build_version(settings), key=lambda built: order.index(built.model.name))


def _next_version(versions: Path) -> str:
    """A name that sorts behind every version before it, even where the clock was set back: the oldest ones go."""
    name = datetime.now(UTC).strftime(VERSION)
    last = max((path.name for path in versions.glob("[!.]*")), default="")
    return name if name > last else (datetime.strptime(last, VERSION) + timedelta(microseconds=1)).strftime(VERSION)


# ------------------------------------------------------------------------------------------------ from what has landed


def _follow_landing(settings: Settings, working: Working, catalog: Catalog, given: Given, say: Say) -> Failed:
    """Brings what is made from observations and loads up to date; returns the checks that found something, by table."""
    if working.file.exists():
        try:
            changed = _changed(working, given)
            again = made_again(changed)
            if again is None:
                raise MadeAnew(f"{changed[0]} changed")
            with working.opened(working.file) as connection:
                rows = rows_at_once(settings)
                maker = Maker(connection, catalog, Change(True, []), given.tables, rows)
                if changed:
                    say(f"{_in_words(changed)} changed: tables made again from others: {len(again)}")
                    _make_again(connection, working, maker, again, changed, given)
                failed = maker.failed
                maker = Maker(connection, catalog, since(connection, catalog), given.tables, rows)
                maker.make()
                return failed | maker.failed
        except MadeAnew as error:
            say(f"all tables are made anew: {error}")
        except BROKEN as error:
            _make_anew_after(error, say)
        working.remove()
    try:
        return _make_all(settings, working, catalog, given)
    except (MadeAnew, *BROKEN):  # what a run that was cut short had made
        working.remove()
        return _make_all(settings, working, catalog, given)


def _changed(working: Working, given: Given) -> list[str]:
    """What the working file was made with and is another now. Raises MadeAnew where the file cannot be used."""
    try:
        return working.changed(working.file, given.fingerprint)
    except duckdb.Error as error:
        raise MadeAnew(f"the working file cannot be used: {str(error).splitlines()[0]}") from None


def _make_again(
    connection: duckdb.DuckDBPyConnection,
    working: Working,
    maker: Maker,
    again: set[str],
    changed: list[str],
    given: Given,
) -> None:
    """Makes the tables again whose files have changed, and those that are made from them; drops those that are gone."""
    note_made_with(connection, given.fingerprint, changed, is_made=False)
    for name in again - load_models().keys():
        connection.execute(f"drop table if exists {TABLES}.main.{name}")
        connection.execute("delete from failing where table_name = ?", [name])
        shutil.rmtree(working.parquet / name, ignore_errors=True)
    for what in changed:
        name = Path(what).stem
        if what.startswith("sql/macros/") and name not in {macro.name for macro in load_macros()}:
            connection.execute(f"drop macro if exists {TABLES}.main.{name}")
            connection.execute(f"drop macro table if exists {TABLES}.main.{name}")
    maker.make_again(again)
    if not any(outcome.blocks for outcomes in maker.failed.values() for outcome in outcomes.values()):
        note_made_with(connection, given.fingerprint, changed, is_made=True)


def _in_words(files: list[str]) -> str:
    return files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def _make_all(settings: Settings, working: Working, catalog: Catalog, given: Given) -> Failed:
    with working.opened_fresh(given.fingerprint) as connection:
        maker = Maker(connection, catalog, left(connection, catalog), given.tables, rows_at_once(settings))
        maker.make()
    working.take_place()
    return maker.failed


def _make_anew_after(error: duckdb.Error, say: Say) -> None:
    """Says why all is made anew; raises the error where it does not tell of the file."""
    if "No space left" in str(error):
        raise error
    say(f"all tables are made anew: the working file cannot be used: {str(error).splitlines()[0]}")


def given_by(settings: Settings, lost: list[damage.Damage]) -> Given:
    """What the tables are made from besides the observations and the loads."""
    with (sql_folder() / "seeds" / "signature_owners.csv").open(newline="", encoding="utf-8") as file:
        owners = [{"position": position} | row for position, row in enumerate(csv.DictReader(file))]
    known: dict[str, tuple[pa.Schema, list[dict[str, Any]]]] = {
        "damages": (DAMAGES, [_as_row(each) for each in lost]),
        "settings": (SETTINGS, [{name: getattr(settings, name) for name in SETTINGS.names}]),
        "slo_settings": (SLO, [target._asdict() for target in slo_targets(settings.slo)]),
        "signature_owners_seed": (OWNERS, owners),
        "metric_definitions": (METRICS, [asdict(metric) for model in published_models() for metric in model.metrics]),
    }
    tables = {name: pa.Table.from_pylist(rows, schema=schema) for name, (schema, rows) in known.items()}
    return Given(tables, json.dumps([tables[name].to_pylist() for name in ("settings", "slo_settings")]))


def rows_at_once(settings: Settings) -> int:
    """Observations that are worked on at once."""
    return max(LEAST_ROWS, min(MOST_ROWS, settings.memory_mb * ROWS_PER_MB))


def _as_row(lost: damage.Damage) -> dict[str, Any]:
    rows = lost.part.rows if lost.part else None
    return dict(zip(DAMAGES.names, (lost.account, lost.load_id, lost.file, lost.what, rows), strict=True))


# --------------------------------------------------------------------------------------------------------- from tables


def _follow_tables(connection: duckdb.DuckDBPyConnection, parquet: Path, failed: Failed) -> Iterator[BuiltTable]:
    """Makes the tables that are made from tables as soon as what they read is there, and checks and exports each table
    while the next are made."""
    # Each worker runs its own queries; DuckDB's threads get the remaining cores, so that they do not contend.
    connection.execute(f"set threads = {max(1, (os.cpu_count() or 1) - WORKERS + 1)}")
    weeks = _weeks(connection, parquet)
    follow_landing = {name for name, grain in grains().items() if grain.kind == "group"}
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
            _make(session, model)
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


def _make(session: duckdb.DuckDBPyConnection, model: Model) -> None:
    """Makes a table whole. Raises WarehouseError where the SQL fails."""
    try:
        session.execute(f"create or replace table {TABLES}.main.{model.name} as {model.compiled_sql}")
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        raise WarehouseError(f"sql/{model.layer}/{model.name}.sql failed: {str(error).splitlines()[0]}") from None


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
        raise WarehouseError(f"sql/{model.layer}/{model.name}.sql: its columns are not those that it documents")
    changed = None if weeks is None else weeks.get("tasks", set()) | weeks.get(model.name, set())
    in_weeks = None if changed is None or None in changed else {week for week in changed if week is not None}
    if in_weeks is None or grains()[model.name].kind == "whole":  # a table that is made anew has lost them
        comments = [f"comment on table {model.name} is {quoted(model.description)}"]
        comments += [
            f'comment on column {model.name}."{name}" is {quoted(meaning)}' for name, meaning in model.columns.items()
        ]
        session.execute("; ".join(["begin", *comments, "commit"]))  # in one transaction: each costs a write to the file
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


def _create_macros(connection: duckdb.DuckDBPyConnection) -> None:
    with _session(connection) as session:
        for macro in load_macros():
            header, gives_rows = macro.header, macro.header.returns == "rows"
            body = f"table {macro.select}" if gives_rows else macro.select.strip().removeprefix("select")
            session.execute(f"create or replace macro {macro.name}({', '.join(header.parameters)}) as {body}")
            kind = "macro table" if gives_rows else "macro"
            session.execute(f"comment on {kind} {macro.name} is {quoted(header.description)}")
