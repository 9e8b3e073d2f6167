"""What a run brings: the parts and loads that the tables do not hold yet, and the tasks whose rows are made anew."""

from dataclasses import dataclass, field

import duckdb
import pyarrow.parquet as pq

from pipelines.landing.catalog import Catalog
from pipelines.landing.manifest import decode
from pipelines.warehouse.observations import LandedPart
from pipelines.warehouse.working import TABLES

# Where so many of the tasks have changed, to make all anew takes no longer.
MANY_TASKS, MANY_OF_ALL = 50_000, 0.3


class MadeAnew(Exception):
    """The tables cannot be gone on from; says why."""


@dataclass(frozen=True)
class Change:
    """What has landed that the tables do not hold. `parts` are all that are there, each with whether it is new; `gone`
    those that the tables were made of and that are there no more; `loads` the new ones.

    is_all: every table is to be made. Rows by task of parts that are not new may have been made ahead.
    """

    is_all: bool
    parts: list[LandedPart]
    gone: list[tuple[str, str, str]] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    @property
    def is_first(self) -> bool:
        """Whether nothing at all is made."""
        return self.is_all and all(part.is_new for part in self.parts)


def since(connection: duckdb.DuckDBPyConnection, catalog: Catalog) -> Change:
    """What has landed since the tables were made, the tasks that it concerns chosen in the catalog.

    Raises MadeAnew where it is not more than was there, or most of all.
    """
    connection.register("landed_loads", catalog.loads())
    if connection.execute(
        "select 1 from manifests_seen anti join landed_loads using (account, load_id, sha256)"
    ).fetchone():
        raise MadeAnew("a load is there no more, or is another one")
    loads = connection.execute(
        """
        select load_id, load_id < (select max(load_id) from manifests_seen as s where s.account = l.account)
        from landed_loads as l anti join manifests_seen using (account, load_id)
        """
    ).fetchall()
    if any(is_before for _, is_before in loads):
        raise MadeAnew("a load has come before others")
    parts, gone = _parts(connection, catalog)
    held_by_gone = catalog.numbers_of(gone)
    if len(held_by_gone) < len(gone):
        raise MadeAnew("a file is there no more, and the catalog does not know what it held")
    load_ids = [load_id for load_id, _ in loads]
    tasks = catalog.want(_concerned(catalog, parts, load_ids), held_by_gone)
    (before,) = connection.execute(f"select count(*) from {TABLES}.main.tasks").fetchall()[0]
    if tasks > MANY_TASKS and tasks > MANY_OF_ALL * before:
        raise MadeAnew(f"{tasks:,} tasks have changed")
    return Change(False, parts, gone, load_ids)


def left(connection: duckdb.DuckDBPyConnection, catalog: Catalog) -> Change:
    """What is left to make of tables that are made for the first time: all, or what was not made ahead.

    Raises MadeAnew where parts that were made ahead are there no more.
    """
    parts, gone = _parts(connection, catalog)
    if gone:
        raise MadeAnew("files that it was made of are there no more")
    change = Change(True, parts)
    if not change.is_first:
        told_of_again = {task_id for (task_id,) in connection.execute("from told_of_again").fetchall()}
        catalog.want(told_of_again | _concerned(catalog, parts, None), ())
    return change


def ahead(connection: duckdb.DuckDBPyConnection, catalog: Catalog, rows: int) -> Change:
    """What can be made of tables that are made for the first time before a load is complete: about so many rows of one
    load, so that a task that another load brings again is recognized."""
    parts, _ = _parts(connection, catalog, of_open_loads_too=True)
    chosen: list[LandedPart] = []
    for part in (part for part in parts if part.is_new):
        if rows > 0 and (not chosen or part.load_id == chosen[-1].load_id):
            chosen.append(part)
        rows -= part.rows
    catalog.want({key for part in chosen for key in _keys(catalog, part)}, ())
    return Change(True, [part for part in parts if not part.is_new] + chosen)


def _parts(
    connection: duckdb.DuckDBPyConnection, catalog: Catalog, of_open_loads_too: bool = False
) -> tuple[list[LandedPart], list[tuple[str, str, str]]]:
    """The parts that are there, by number, and those that the tables were made of and that are there no more."""
    connection.register("landed_parts", catalog.parts(of_open_loads_too))
    rows = connection.execute(
        """
        select l.number, l.account, l.load_id, l.file, l.rows, l.sha256, p.file is null
        from landed_parts as l left join parts as p using (account, load_id, file, sha256)
        order by l.number
        """
    ).fetchall()
    gone = connection.execute(
        "select account, load_id, file from parts anti join landed_parts using (account, load_id, file, sha256)"
    ).fetchall()
    return [LandedPart(*row) for row in rows], gone


def _concerned(catalog: Catalog, parts: list[LandedPart], load_ids: list[str] | None) -> set[str]:
    """The tasks that new parts hold, and those that loads did not meet or could not have; no load_ids: all loads."""
    concerned = {key for part in parts if part.is_new for key in _keys(catalog, part)}
    for text in (text for batch in catalog.manifests_of(load_ids) for text in batch.column(0).to_pylist()):
        load = decode(text.encode())
        concerned |= {*load.vanished, *(missing.task_id for missing in load.unreadable)}
    return concerned


def _keys(catalog: Catalog, part: LandedPart) -> list[str]:
    path = catalog.zone.folder(part.account, part.load_id) / part.file
    return [key for key in pq.read_table(path, columns=["task_id"])["task_id"].to_pylist() if key is not None]
