"""Building: the working file, and the Parquet files beside it, are brought up to what has landed.

A run works out which tasks its loads brought. Their observations are parsed again, all of them, and the rows of these
tasks are made anew, table by table, by the SELECT of the table's file, which sees the observations of the tasks at hand
alone. What is counted from tables follows. The first time, and where what the tables are made with has changed, the
same is done for all tasks, some thousands at a time, into a fresh file.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipelines import __version__
from pipelines.landing import damage
from pipelines.landing.catalog import Catalog
from pipelines.landing.zone import Zone, write_durably
from pipelines.settings import Settings
from pipelines.warehouse.from_landing import BROKEN, Say, follow_landing, make_anew_after
from pipelines.warehouse.from_tables import BuiltTable, create_macros, follow_tables
from pipelines.warehouse.given import given_by
from pipelines.warehouse.memory import keep_little
from pipelines.warehouse.models import load_models
from pipelines.warehouse.parquet import MANIFEST, InManifest, manifest_of
from pipelines.warehouse.seal import altered, summary
from pipelines.warehouse.working import COMPLETE, INTERNAL, PARQUET, TABLES, Working

VERSION = "%Y%m%dT%H%M%S%fZ"  # the name of a version: when it was built, UTC


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
        make_anew_after(error, say)
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
        failed, made = follow_landing(settings, working, catalog, given_by(settings, lost), say)
    with working.opened(working.file) as connection:
        # What goes to Arrow and Parquet is beside what DuckDB counts.
        connection.execute(f"set memory_limit = '{settings.memory_mb * 4 // 5}MB'")
        for built in follow_tables(connection, working.parquet, failed, made):
            tables[built.model.name] = built
            yield built
        create_macros(connection)
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
