"""Walks over the task list. Each yields pages of rows and loses none while the table changes under it.

The server's default paging is by offset and loses rows as soon as one is updated or deleted between two pages. These
walks page by key instead: the place to go on from is a value of the last row read, which no change of another row
can move.
"""

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

from pipelines import signals
from pipelines.livepeer import failures
from pipelines.livepeer.client import Client, Page
from pipelines.livepeer.tasks.rows import Row, read_row
from pipelines.livepeer.tasks.source import (
    BEYOND_EVERY_ID,
    BY_ID,
    BY_UPDATE,
    ENDS,
    FAR_FUTURE_MS,
    NO_TASK,
    Filters,
    updated_since,
)

T = TypeVar("T")

PAGING_PASSES = 4
PAGING_OVERLAP_ROWS = 50
LAST_NUMBER = 2**128 - 1


@dataclass(frozen=True)
class Capabilities:
    """What the server can do beyond its documentation; probed, not assumed."""

    id_keyset: bool
    filters: bool
    count: bool


@dataclass(frozen=True)
class Rows:
    """A page that was read. `cursor`: where an interrupted walk by id goes on, None in the other walks.

    is_by_id: a single row, which the list cannot serve and GET by id does.
    """

    rows: list[Row]
    fetched_at_ms: int
    cursor: str | None = None
    is_by_id: bool = False


@dataclass(frozen=True)
class Unreadable:
    """A row that the server cannot serve: it answers every page that holds the row with a 500, and GET fails too."""

    task_id: str
    reason: str


@dataclass(frozen=True)
class Hints:
    """What is known of the tasks, so that a row that the list cannot serve is found in few requests.

    unserved: ids of such rows that were found before, ascending; between: known ids with after < id <= last; None: a
    row that was not found before is not searched for, its fault is raised.
    """

    unserved: Sequence[str] = ()
    between: Callable[[str, str], Iterable[str]] | None = lambda after, last: ()


NOTHING_KNOWN = Hints()


class _Pages:
    """Counts the pages of a walk. Raises BrokenWalk where it goes on far beyond what the server counts.

    A walk may take twice the pages that its rows fill, as pages overlap. The server is asked for its count only where
    a walk is longer than every limit, and again where the list grew meanwhile.
    """

    def __init__(self, client: Client, filters: Filters | None = None, after: str | None = None) -> None:
        self._client = client
        self._window = filters, after
        self._read = self._fullest = 0
        self._most = client.limits.pages_beyond_count

    def add(self, rows: int) -> None:
        self._read += 1
        self._fullest = max(self._fullest, rows)
        if self._read <= self._most:
            return
        counted = count(self._client, *self._window)
        self._most = self._client.limits.pages_beyond_count + 2 * (counted or 0) // self._fullest
        if self._read > self._most:
            raise failures.BrokenWalk(
                f"{self._client.host} lists tasks without end: {self._read:,} pages, and it counts "
                f"{'none' if counted is None else f'{counted:,} tasks'} (TASK_ARCHIVE_PAGES_BEYOND_COUNT)"
            )


def probe(client: Client) -> tuple[Capabilities, Page]:
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
    return Capabilities(id_keyset, filters, first.total_count is not None or not first.rows), first


def count(client: Client, filters: Filters | None, after: str | None = None, ends: Sequence[str] = ENDS) -> int | None:
    """Rows that match, with an id beyond `after`, in the server's words; None where it does not say.

    An empty page carries no count: that is 0.
    """
    try:
        page = _any_row(client, filters, after, ends)
    except failures.RowFault:
        return None
    return page.total_count if page.rows else 0


def _any_row(client: Client, filters: Filters | None, after: str | None = None, ends: Sequence[str] = ENDS) -> Page:
    """A page of one row with the count, by whichever end of an order has a row that the server can serve."""
    for order in ends[:-1]:
        try:
            return client.list_tasks(
                limit=1, order=order, filters=filters, cursor=after, count=True, expect_row_fault=True
            )
        except failures.RowFault:
            continue
    return client.list_tasks(limit=1, order=ends[-1], filters=filters, cursor=after, count=True)


def may_get(client: Client) -> bool:
    """Whether the key may get a task that it may list: rules of access allow the one without the other.

    Where nothing is listed, a task that is none tells: the rules come first, a 404 after them.
    """
    listed = [row.task_id for row in map(read_row, _any_row(client, None).rows) if row.task_id is not None]
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
    pages = _Pages(client, filters, after)
    while True:
        size = limit if not among else max(1, ahead if suspect else among // 2)
        page = _page(client, size, BY_ID, filters, cursor, is_sure=is_spoilt or among > 0)
        is_spoilt = False
        if isinstance(page, failures.RowFault):
            if size == 1:
                unserved = _unserved(client, filters, cursor, hints, suspect, page)
                if unserved is not None:
                    yield unserved
                    cursor = unserved.cursor if isinstance(unserved, Rows) else unserved.task_id
                among, suspect = 0, None
            elif among:
                among, suspect = size, None
            else:
                among = min(size, count(client, filters, cursor) or size)
                suspect, ahead = _found_before(client, filters, cursor, hints, among)
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
        cursor, among = ids[-1], max(0, among - len(rows))
        suspect, ahead = suspect if ahead else None, max(0, ahead - len(rows))
        yield Rows(rows, page.fetched_at_ms, cursor)


def by_update(client: Client, limit: int, since_ms: int, hints: Hints = NOTHING_KNOWN) -> Iterator[Rows | Unreadable]:
    """Keyset by status.updatedAt, ascending, from `since_ms` on: a row updated meanwhile moves ahead and is read again.

    Rows of one timestamp come again at the start of the next page (the caller knows a payload that it has). Where one
    timestamp fills a page, its rows are walked by id, since an offset inside it would lose rows.
    """
    pages = _Pages(client, updated_since(since_ms))
    while True:
        page = _page(client, limit, BY_UPDATE, updated_since(since_ms), None, is_sure=len(hints.unserved) > 0)
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
        pages = _Pages(client)
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


def _page(
    client: Client, limit: int, order: str, filters: Filters | None, cursor: str | None, is_sure: bool = False
) -> Page | failures.RowFault:
    """A page, or the fault of a row on it: a 500 that comes again once the server has served what holds no row.

    is_sure: a first 500 is taken for that.
    """
    try:
        return client.list_tasks(limit=limit, order=order, filters=filters, cursor=cursor, expect_row_fault=True)
    except failures.RowFault as fault:
        if is_sure:
            return fault
    _wait_out(client, filters)
    return _page(client, limit, order, filters, cursor, is_sure=True)


def _wait_out(client: Client, filters: Filters | None) -> None:
    """Waits until a server that fails on everything serves again. Raises RowFault where it does not."""
    for _ in range(2):
        with suppress(failures.RowFault):
            client.list_tasks(limit=1, order=BY_ID, filters=filters, cursor=BEYOND_EVERY_ID)
            return
    client.list_tasks(limit=1, order=BY_ID, filters=filters, cursor=BEYOND_EVERY_ID)


def _found_before(
    client: Client, filters: Filters | None, after: str | None, hints: Hints, among: int
) -> tuple[str | None, int]:
    """The row that could not be served before, where it is among so many next ones, and how many come before it."""
    task_id = next((task_id for task_id in hints.unserved if after is None or task_id > after), None)
    if task_id is not None:
        behind, behind_it = count(client, filters, after), count(client, filters, task_id)
        if behind is not None and behind_it is not None and 0 < behind - behind_it <= among:
            return task_id, behind - behind_it - 1
    return None, 0


def _unserved(
    client: Client,
    filters: Filters | None,
    after: str | None,
    hints: Hints,
    suspect: str | None,
    fault: failures.RowFault,
) -> Rows | Unreadable | None:
    """The row next to `after`, which the list cannot serve; None where it can by now. Raises RowFault where it is not
    found, as where ids are no UUIDs."""
    for task_id in chain([suspect] if suspect else [], _located(client, filters, after, hints, fault)):
        answer = client.get_task(task_id, expect_row_fault=True)
        row = None if answer.payload is None else read_row(answer.payload)
        if row is not None and not row.is_deleted:
            return Rows([row], answer.fetched_at_ms, task_id, is_by_id=True)
        if task_id != suspect and _is_served(client, filters, after):
            return None
        if row is None and answer.status != 404:
            return Unreadable(task_id, str(fault))
    client.list_tasks(limit=1, order=BY_ID, filters=filters, cursor=after)  # it may have come and gone
    return None


def _is_served(client: Client, filters: Filters | None, after: str | None) -> bool:
    """Whether the row next to `after` can be served."""
    return not isinstance(_page(client, 1, BY_ID, filters, after, is_sure=True), failures.RowFault)


def _located(
    client: Client, filters: Filters | None, after: str | None, hints: Hints, fault: failures.RowFault
) -> Iterator[str]:
    """What may be the id of the row next to `after`, which the list cannot serve.

    A cursor may be any text: the smallest X for which a page after X is served is that id. Where the row behind it
    cannot be served either, it is the smallest X for which fewer rows are counted after X, unless rows were deleted
    meanwhile. A known id is found in a few requests. Any other takes a hundred: it has as many bits, and an answer
    tells one.
    """
    if hints.between is None:
        raise fault
    low = 0 if after is None else _number(after)
    if low is None:
        return
    total = count(client, filters, after, ENDS[1:]) or 0

    def is_served(x: int) -> bool:
        return _is_served(client, filters, _text(x))

    def is_counted_out(x: int) -> bool:
        return (count(client, filters, _text(x)) or 0) < total

    width = 2 * (LAST_NUMBER - low) // max(total, 2)  # likely holds a row or two
    while not is_served(high := min(low + width, LAST_NUMBER)):
        if high == LAST_NUMBER:
            return
        width *= 4
    known = sorted(filter(None, map(_number, hints.between(_text(low), _text(high)))))
    found = _smallest(is_served, low, high, known)
    if total - (count(client, filters, _text(found)) or 0) > 1:
        yield _text(_smallest(is_counted_out, low, found, [x for x in known if x < found]))
    yield _text(found)


def _smallest(holds: Callable[[int], bool], low: int, high: int, likely: list[int]) -> int:
    """The smallest number beyond `low` for which it holds, as it does for `high`; `likely`: some between, ascending."""
    points = [low, *likely, high]
    place = _first(lambda place: holds(points[place]), 0, len(points) - 1)
    low, high = points[place - 1], points[place]
    return _first(holds, low, high - 1) if high - low > 1 and holds(high - 1) else high


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The smallest number beyond `low` for which it holds, as it does for `high`."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _number(task_id: str) -> int | None:
    """An id as a number, which sorts as the text does; None where it is no UUID."""
    try:
        number = uuid.UUID(task_id).int
    except ValueError:
        return None
    return number if _text(number) == task_id else None


def _text(number: int) -> str:
    return str(uuid.UUID(int=number))
