"""Following what has landed: what is made from observations and loads, and what has to be there for it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb

from pipelines.landing.catalog import Catalog
from pipelines.settings import Settings
from pipelines.warehouse.change import Change, MadeAnew, left, since
from pipelines.warehouse.checks import Failed
from pipelines.warehouse.given import Given
from pipelines.warehouse.making import Maker, rows_at_once
from pipelines.warehouse.models import load_macros, load_models
from pipelines.warehouse.plan import made_again
from pipelines.warehouse.working import TABLES, Working, note_made_with

Say = Callable[[str], None]

# Errors of DuckDB that tell of a file that cannot be used, rather than of the SQL.
BROKEN = (duckdb.IOException, duckdb.InternalException, duckdb.FatalException, duckdb.SerializationException)


def follow_landing(
    settings: Settings, working: Working, catalog: Catalog, given: Given, say: Say
) -> tuple[Failed, set[str]]:
    """Brings what is made from observations and loads up to date; returns the checks that found something, by table,
    and the tables made from tables that are made already."""
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
                return failed | maker.failed, set()
        except MadeAnew as error:
            say(f"all tables are made anew: {error}")
        except duckdb.OutOfMemoryException:
            say("all tables are made anew, in batches: the memory does not hold the changes at once")
        except BROKEN as error:
            make_anew_after(error, say)
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


def _make_all(settings: Settings, working: Working, catalog: Catalog, given: Given) -> tuple[Failed, set[str]]:
    if settings.engine == "spark":
        return _make_all_with_spark(settings, working, catalog, given)
    with working.opened_fresh(given.fingerprint) as connection:
        maker = Maker(connection, catalog, left(connection, catalog), given.tables, rows_at_once(settings))
        maker.make()
    working.take_place()
    return maker.failed, set()


def _make_all_with_spark(
    settings: Settings, working: Working, catalog: Catalog, given: Given
) -> tuple[Failed, set[str]]:
    from pipelines.warehouse.spark import SparkMaker, spark_session

    working.remove()
    with spark_session(settings) as session, working.opened_fresh(given.fingerprint) as connection:
        maker = SparkMaker(connection, catalog, left(connection, catalog), given.tables, settings, session)
        maker.make()
    working.take_place()
    return maker.failed, maker.made


def make_anew_after(error: duckdb.Error, say: Say) -> None:
    """Says why all is made anew; raises the error where it does not tell of the file."""
    if "No space left" in str(error):
        raise error
    say(f"all tables are made anew: the working file cannot be used: {str(error).splitlines()[0]}")
