"""Finding a row that the list cannot serve: every page that holds it is answered with a 500."""

import uuid
from collections.abc import Callable, Iterator
from itertools import chain

from pipelines.livepeer import failures
from pipelines.livepeer.client import Client
from pipelines.livepeer.pages import Hints, Rows, Unreadable, count, read_page
from pipelines.livepeer.tasks.rows import read_row
from pipelines.livepeer.tasks.source import BY_ID, ENDS, Filters

LAST_NUMBER = 2**128 - 1


def found_before(
    client: Client, filters: Filters | None, after: str | None, hints: Hints, among: int
) -> tuple[str | None, int]:
    """The row that could not be served before, where it is among so many next ones, and how many come before it."""
    task_id = next((task_id for task_id in hints.unserved if after is None or task_id > after), None)
    if task_id is not None:
        behind, behind_it = count(client, filters, after), count(client, filters, task_id)
        if behind is not None and behind_it is not None and 0 < behind - behind_it <= among:
            return task_id, behind - behind_it - 1
    return None, 0


def find_unserved(
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
    return not isinstance(read_page(client, 1, BY_ID, filters, after, is_sure=True), failures.RowFault)


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
