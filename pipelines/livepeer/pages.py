"""Pages of the task list: one that is asked for, what it may hold, and how many a walk may take."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pipelines.livepeer import failures
from pipelines.livepeer.client import Client, Page
from pipelines.livepeer.tasks.rows import Row
from pipelines.livepeer.tasks.source import BEYOND_EVERY_ID, BY_ID, ENDS, Filters


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


class Pages:
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


def count(client: Client, filters: Filters | None, after: str | None = None, ends: Sequence[str] = ENDS) -> int | None:
    """Rows that match, with an id beyond `after`, in the server's words; None where it does not say.

    An empty page carries no count: that is 0.
    """
    try:
        one = any_row(client, filters, after, ends)
    except failures.RowFault:
        return None
    return one.total_count if one.rows else 0


def any_row(client: Client, filters: Filters | None, after: str | None = None, ends: Sequence[str] = ENDS) -> Page:
    """A page of one row with the count, by whichever end of an order has a row that the server can serve."""
    for order in ends[:-1]:
        try:
            return client.list_tasks(
                limit=1, order=order, filters=filters, cursor=after, count=True, expect_row_fault=True
            )
        except failures.RowFault:
            continue
    return client.list_tasks(limit=1, order=ends[-1], filters=filters, cursor=after, count=True)


def read_page(
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
    return read_page(client, limit, order, filters, cursor, is_sure=True)


def _wait_out(client: Client, filters: Filters | None) -> None:
    """Waits until a server that fails on everything serves again. Raises RowFault where it does not."""
    for _ in range(2):
        with suppress(failures.RowFault):
            client.list_tasks(limit=1, order=BY_ID, filters=filters, cursor=BEYOND_EVERY_ID)
            return
    client.list_tasks(limit=1, order=BY_ID, filters=filters, cursor=BEYOND_EVERY_ID)
