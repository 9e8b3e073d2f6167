"""Walks over the task list. Each yields pages of rows and loses none while the table changes under it.

The server's default paging is by offset and loses rows as soon as one is updated or deleted between two pages. These
walks page by key instead: the place to go on from is a value of the last row read, which no change of another row
can move.
"""

import re
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from pipelines.livepeer import failures
from pipelines.livepeer.client import Client, Page
from pipelines.livepeer.rows import Row, read_row

Filters = list[dict[str, Any]]
T = TypeVar("T")

BY_ID = "id-false"
BY_UPDATE = "updatedAt-false,id-false"
ENDS = (BY_ID, "id-true", "type-false,id-false", "type-true,id-true")
BEYOND_EVERY_ID = "zzzzzzzz"
FAR_FUTURE_MS = 2**53  # beyond every number that is exact in JavaScript: odd rows have times after the year 9999
PAGING_PASSES = 4
PAGING_OVERLAP_ROWS = 50


@dataclass(frozen=True)
class Abilities:
    """What the server can do beyond its documentation; probed, not assumed."""

    id_keyset: bool
    filters: bool
    count: bool


@dataclass(frozen=True)
class Rows:
    """A page that was read. `cursor`: where an interrupted walk by id goes on, None in the other walks."""

    rows: list[Row]
    fetched_at_ms: int
    cursor: str | None = None


@dataclass(frozen=True)
class Unreadable:
    """A row that the server cannot serve: it answers every page that holds the row, and the row itself, with a 500."""

    task_id: str
    reason: str


def updated_since(millis: int) -> Filters:
    """Rows with status.updatedAt at or after `millis`."""
    return [{"id": "updatedAt", "value": {"gte": millis}}]


def created_between(from_ms: int | None, to_ms: int) -> Filters:
    """Rows with createdAt in [from_ms, to_ms); None is no bound. Rows without createdAt are in no such window."""
    return [{"id": "createdAt", "value": {"lt": to_ms} if from_ms is None else {"gte": from_ms, "lt": to_ms}}]


def probe(client: Client) -> tuple[Abilities, Page]:
    """Asks what only a server with each ability answers rightly; also returns the first answer, for its Date."""
    first = _any_row(client, None)
    try:
        id_keyset = not client.list_tasks(limit=1, order=BY_ID, cursor=BEYOND_EVERY_ID).rows
    except failures.BadRequest:
        id_keyset = False
    try:
        filters = not client.list_tasks(limit=1, filters=updated_since(FAR_FUTURE_MS)).rows
    except failures.BadRequest:
        filters = False
    return Abilities(id_keyset, filters, first.total_count is not None or not first.rows), first


def count(client: Client, filters: Filters | None, after: str | None = None) -> int | None:
    """Rows that match, with an id beyond `after`, in the server's words; None where it does not say.

    An empty page carries no count: that is 0.
    """
    try:
        page = _any_row(client, filters, after)
    except failures.RowFault:
        return None
    return page.total_count if page.rows else 0


def _any_row(client: Client, filters: Filters | None, after: str | None = None) -> Page:
    """A page of one row with the count, by whichever end of an order has a row that the server can serve."""
    for order in ENDS[:-1]:
        try:
            return client.list_tasks(
                limit=1, order=order, filters=filters, cursor=after, count=True, expect_row_fault=True
            )
        except failures.RowFault:
            continue
    return client.list_tasks(limit=1, order=ENDS[-1], filters=filters, cursor=after, count=True)


def by_id(
    client: Client, limit: int, filters: Filters | None = None, after: str | None = None
) -> Iterator[Rows | Unreadable]:
    """Keyset by id, ascending, from `after` on. A row inserted behind the walk is not seen: walk by update after it."""
    cursor, size = after, limit
    while True:
        try:
            page = client.list_tasks(limit=size, order=BY_ID, filters=filters, cursor=cursor)
        except failures.RowFault as fault:
            if size > 1:
                size = max(1, size // 4)
                continue
            unreadable = _locate_unreadable(client, filters, cursor, fault)
            yield unreadable
            cursor, size = unreadable.task_id, limit
            continue
        rows = [read_row(payload) for payload in page.rows]
        if not rows:
            return
        ids = [row.task_id for row in rows if row.task_id is not None]
        if not ids and len(rows) < size:  # the last rows of all, none of them a task
            yield Rows(rows, page.fetched_at_ms, cursor)
            return
        if not ids or ids != sorted(ids) or (cursor is not None and ids[0] <= cursor):
            raise failures.BrokenWalk(f"{client.host} does not keep the order by id that it was asked for")
        cursor, size = ids[-1], min(limit, size * 4)
        yield Rows(rows, page.fetched_at_ms, cursor)


def by_update(client: Client, limit: int, since_ms: int) -> Iterator[Rows | Unreadable]:
    """Keyset by status.updatedAt, ascending, from `since_ms` on: a row updated meanwhile moves ahead and is read again.

    Rows of one timestamp come again at the start of the next page (the caller knows a payload that it has). Where one
    timestamp fills a page, its rows are walked by id, since an offset inside it would lose rows.
    """
    while True:
        try:
            page = client.list_tasks(limit=limit, order=BY_UPDATE, filters=updated_since(since_ms))
        except failures.RowFault:
            yield from by_id(client, limit, updated_since(since_ms))
            return
        rows = [read_row(payload) for payload in page.rows]
        times = [row.updated_at_ms for row in rows if row.updated_at_ms is not None]
        if times != sorted(times) or (times and times[0] < since_ms):
            raise failures.BrokenWalk(f"{client.host} does not keep the order by updatedAt that it was asked for")
        if rows and not times:  # what is left has times that are none, such as microseconds
            yield from by_id(client, limit, updated_since(since_ms))
            return
        if rows:
            yield Rows(rows, page.fetched_at_ms)
        if len(rows) < limit:
            return
        if times[-1] == since_ms:
            yield from by_id(client, limit, [{"id": "updatedAt", "value": since_ms}])
            since_ms += 1
        else:
            since_ms = times[-1]


def by_documented_paging(client: Client, limit: int) -> Iterator[Rows]:
    """The paging of the public documentation, for a server without the abilities: follows the Link's cursor.

    Each page overlaps the one before, and the list is read again until a pass finds no task that the passes before did
    not, at most PAGING_PASSES times. Likely whole, not provably.
    """
    seen: set[str | None] = set()
    for number in range(PAGING_PASSES):
        found, cursor = 0, None
        while True:
            page = client.list_tasks(limit=limit, cursor=cursor)
            rows = [read_row(payload) for payload in page.rows]
            found += len({row.task_id for row in rows} - seen)
            seen.update(row.task_id for row in rows)
            if rows:
                yield Rows(rows, page.fetched_at_ms)
            following = _stepped_back(page.next_cursor, len(rows))
            if not rows or following in (None, "undefined", cursor):
                break
            cursor = following
        if number and not found:
            return


def one_ahead(steps: Iterator[T]) -> Iterator[T]:
    """The same steps, the next of them being fetched while one is worked on."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, steps, None)
        while (step := following.result()) is not None:
            following = thread.submit(next, steps, None)
            yield step


def _stepped_back(cursor: str | None, page_rows: int) -> str | None:
    """An offset cursor moved back by some rows, so that rows which shift forward meanwhile are still met."""
    offset = re.fullmatch(r"skip(\d+)", cursor or "")
    return f"skip{int(offset[1]) - min(PAGING_OVERLAP_ROWS, page_rows // 2)}" if offset else cursor


def _locate_unreadable(
    client: Client, filters: Filters | None, after: str | None, fault: failures.RowFault
) -> Unreadable:
    """The id of the row next to `after`, which cannot be served, by bisecting the space of ids (up to 130 requests).

    A cursor may be any text: a page after X is served if the first row beyond X can be. The smallest X that is served
    is the id of the row itself, unless other such rows are near: then X is where the count of rows beyond X goes down.
    Raises `fault` where the server fails on what holds no row at all, or ids are no UUIDs.
    """
    client.list_tasks(limit=1, order=BY_ID, filters=filters, cursor=BEYOND_EVERY_ID)
    try:
        low = uuid.UUID(after).int if after else 0
    except ValueError:
        raise fault from None

    def is_served(beyond: int) -> bool:
        try:
            client.list_tasks(
                limit=1, order=BY_ID, filters=filters, cursor=str(uuid.UUID(int=beyond)), expect_row_fault=True
            )
        except failures.RowFault:
            return False
        return True

    # Doubling steps first, so that the search stays near `after` and meets no second such row.
    start, step = low, 2**96
    while not is_served(high := min(start + step, 2**128 - 1)):
        if high == 2**128 - 1:
            raise fault
        low, step = high, step * 2
    candidates = [_first(is_served, low, high)]
    beyond = count(client, filters, after)
    beyond_it = count(client, filters, str(uuid.UUID(int=candidates[0])))
    if beyond is not None and beyond_it is not None and beyond - beyond_it > 1:
        # Another such row lies before it, or rows were deleted meanwhile: asking for the row itself will tell.
        first = _first(lambda x: (count(client, filters, str(uuid.UUID(int=x))) or 0) < beyond, start, candidates[0])
        candidates.insert(0, first)
    for task_id in (str(uuid.UUID(int=candidate)) for candidate in candidates):
        if client.get_task(task_id).status == 500:
            return Unreadable(task_id, str(fault))
    raise fault  # a fault that came and went misled the search


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The smallest number beyond `low` for which it holds, given that it does for `high`."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
