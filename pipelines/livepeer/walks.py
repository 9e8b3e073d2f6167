"""Walks over the task list. Each yields pages of rows and loses none while the table changes under it.

The server's default paging is by offset and loses rows as soon as one is updated or deleted between two pages. These
walks page by key instead: the place to go on from is a value of the last row read, which no change of another row
can move.
"""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TypeVar

from pipelines import signals
from pipelines.livepeer import failures
from pipelines.livepeer.client import Client, Page
from pipelines.livepeer.pages import Hints, Pages, Rows, Unreadable, any_row, count, read_page
from pipelines.livepeer.tasks.rows import read_row
from pipelines.livepeer.tasks.source import (
    BEYOND_EVERY_ID,
    BY_ID,
    BY_UPDATE,
    FAR_FUTURE_MS,
    NO_TASK,
    Filters,
    updated_since,
)
from pipelines.livepeer.unserved import find_unserved, found_before

T = TypeVar("T")

PAGING_PASSES = 4
PAGING_OVERLAP_ROWS = 50

NOTHING_KNOWN = Hints()


@dataclass(frozen=True)
class Capabilities:
    """What the server can do beyond its documentation; probed, not assumed."""

    id_keyset: bool
    filters: bool
    count: bool


def probe(client: Client) -> tuple[Capabilities, Page]:
    """Asks what only a server with each ability answers rightly; also returns the first answer, for its Date."""
    first = any_row(client, None)
    try:
        id_keyset = not client.list_tasks(limit=1, order=BY_ID, cursor=BEYOND_EVERY_ID).rows
    except failures.BadRequest:
        id_keyset = False
    try:
        filters = not client.list_tasks(limit=1, filters=updated_since(FAR_FUTURE_MS)).rows
    except failures.BadRequest:
        filters = False
    return Capabilities(id_keyset, filters, first.total_count is not None or not first.rows), first


def may_get(client: Client) -> bool:
    """Whether the key may get a task that it may list: rules of access allow the one without the other.

    Where nothing is listed, a task that is none tells: the rules come first, a 404 after them.
    """
    listed = [row.task_id for row in map(read_row, any_row(client, None).rows) if row.task_id is not None]
    return all(client.get_task(task_id).status != 403 for task_id in listed or [NO_TASK])


def by_id(
    client: Client,
    limit: int,
    filters: Filters | None = None,
    after: str | None = None,
    hints: Hints = NOTHING_KNOWN,
    is_spoilt: bool = False,
) -> Iterator[Rows | Unreadable]:
    """Keyset by id, ascending, from `after` on. A row inserted behind the walk is not seen: walk by update after it.

    Of a page that cannot be served half is asked for, and so on, until the row that spoils it comes next. One that was
    found before is gone up to at once, the rows before it counted. is_spoilt: the first page is known to be such.
    """
    cursor = after
    among = 0  # so many rows come next, of which one cannot be served; 0: none is known to
    suspect: str | None = None  # its id, where it was found before
    ahead = 0  # rows before that one
    pages = Pages(client, filters, after)
    while True:
        size = limit if not among else max(1, ahead if suspect else among // 2)
        page = read_page(client, size, BY_ID, filters, cursor, is_sure=is_spoilt or among > 0)
        is_spoilt = False
        if isinstance(page, failures.RowFault):
            if size == 1:
                unserved = find_unserved(client, filters, cursor, hints, suspect, page)
                if unserved is not None:
                    yield unserved
                    cursor = unserved.cursor if isinstance(unserved, Rows) else unserved.task_id
                among, suspect = 0, None
            elif among:
                among, suspect = size, None
            else:
                among = min(size, count(client, filters, cursor) or size)
                suspect, ahead = found_before(client, filters, cursor, hints, among)
                if suspect is None and hints.between is None:
                    raise page
            continue
        rows = [read_row(payload) for payload in page.rows]
        if not rows:
            return
        pages.add(len(rows))
        ids = [row.task_id for row in rows if row.task_id is not None]
        if not ids and len(rows) < size:  # the last rows of all, none of them a task
            yield Rows(rows, page.fetched_at_ms, cursor)
            return
        if not ids or ids != sorted(ids) or (cursor is not None and ids[0] <= cursor):
            raise failures.BrokenWalk(f"{client.host} does not keep the order by id that it was asked for")
        while rows[-1].task_id is None:  # it comes again behind the cursor
            rows.pop()
        cursor, among = ids[-1], max(0, among - len(rows))
        suspect, ahead = suspect if ahead else None, max(0, ahead - len(rows))
        yield Rows(rows, page.fetched_at_ms, cursor)


def up_to(last: str, steps: Iterator[Rows | Unreadable]) -> Iterator[Rows | Unreadable]:
    """The steps of a walk by id as far as the id `last`, of the page that goes beyond it what comes before."""
    for step in steps:
        if isinstance(step, Unreadable):
            if step.task_id > last:
                return
            yield step
            continue
        rows = list(takewhile(lambda row: row.task_id is None or row.task_id <= last, step.rows))
        if len(rows) < len(step.rows):
            if rows:
                yield replace(step, rows=rows, cursor=last)
            return
        yield step


def by_update(client: Client, limit: int, since_ms: int, hints: Hints = NOTHING_KNOWN) -> Iterator[Rows | Unreadable]:
    """Keyset by status.updatedAt, ascending, from `since_ms` on: a row updated meanwhile moves ahead and is read again.

    Rows of one timestamp come again at the start of the next page (the caller knows a payload that it has). Where one
    timestamp fills a page, its rows are walked by id, since an offset inside it would lose rows.
    """
    pages = Pages(client, updated_since(since_ms))
    while True:
        page = read_page(client, limit, BY_UPDATE, updated_since(since_ms), None, is_sure=len(hints.unserved) > 0)
        if isinstance(page, failures.RowFault):
            yield from by_id(client, limit, updated_since(since_ms), hints=hints, is_spoilt=True)
            return
        rows = [read_row(payload) for payload in page.rows]
        times = [row.updated_at_ms for row in rows if row.updated_at_ms is not None]
        if times != sorted(times) or (times and times[0] < since_ms):
            raise failures.BrokenWalk(f"{client.host} does not keep the order by updatedAt that it was asked for")
        if rows and not times:  # what is left has times that are none, such as microseconds
            yield from by_id(client, limit, updated_since(since_ms), hints=hints)
            return
        if rows:
            pages.add(len(rows))
            yield Rows(rows, page.fetched_at_ms)
        if len(rows) < limit:
            return
        if times[-1] == since_ms:
            yield from by_id(client, limit, [{"id": "updatedAt", "value": since_ms}], hints=hints)
            since_ms += 1
        else:
            since_ms = times[-1]


def by_documented_paging(client: Client, limit: int) -> Iterator[Rows]:
    """The paging of the public documentation, for a server without the capabilities: follows the Link's cursor.

    Each page overlaps the one before, and the list is read again until a pass finds no task that the passes before did
    not, at most PAGING_PASSES times. Likely whole, not provably.
    """
    seen: set[str | None] = set()
    for number in range(PAGING_PASSES):
        found, cursor = 0, None
        pages = Pages(client)
        while True:
            page = client.list_tasks(limit=limit, cursor=cursor)
            rows = [read_row(payload) for payload in page.rows]
            found += len({row.task_id for row in rows} - seen)
            seen.update(row.task_id for row in rows)
            if rows:
                pages.add(len(rows))
                yield Rows(rows, page.fetched_at_ms)
            following = _stepped_back(page.next_cursor, len(rows))
            if not rows or following in (None, "undefined", cursor):
                break
            cursor = following
        if number and not found:
            return


def one_ahead(steps: Iterator[T]) -> Iterator[T]:
    """The same steps, the next of them being fetched while one is worked on."""
    thread = ThreadPoolExecutor(1)
    try:
        following = thread.submit(next, steps, None)
        while (step := following.result()) is not None:
            following = thread.submit(next, steps, None)
            yield step
    except BaseException:
        # A signal does not wait for the request under way.
        thread.shutdown(wait=not signals.is_near(signals.PATIENCE_SECONDS))
        raise
    thread.shutdown()


def _stepped_back(cursor: str | None, page_rows: int) -> str | None:
    """An offset cursor moved back by some rows, so that rows which shift forward meanwhile are still met."""
    offset = re.fullmatch("skip([0-9]{1,15})", cursor or "")
    return f"skip{int(offset[1]) - min(PAGING_OVERLAP_ROWS, page_rows // 2)}" if offset else cursor
