"""The rows of the task table, their former versions and their cached sort orders."""

import json
import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Any

import msgspec

Task = dict[str, Any]
Order = tuple[tuple[str, bool], ...]  # (field, is_descending), most significant first

MISSING = -1  # a time that a row does not have; the server sorts it as 0, here just below so that filters can tell
VERSIONS_KEPT_MS = 600_000  # how far back `Simulator.lag` can look

_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def encode(value: object) -> bytes:
    """JSON as Node's JSON.stringify writes it, 1e+21 and lone surrogates (escaped) included."""
    return _encoder.encode(value).encode("utf-8", "backslashreplace")


def in_jsonb_order(task: Task) -> Task:
    """The same task with its keys in the order PostgreSQL's jsonb gives them: by length, then by text."""
    return {name: task[name] for name in sorted(task, key=_jsonb_rank)}


@cache
def _jsonb_rank(name: str) -> tuple[int, str]:
    return len(name), name


@dataclass(frozen=True)
class Account:
    """What an API key opens. A list shows one project; rows without a project belong to the user's default one."""

    name: str
    key: str
    user_id: str
    project_id: str
    has_default_project: bool = True
    is_cors_restricted: bool = False

    def lists(self, row: "Row") -> bool:
        if row.user_id != self.user_id or row.is_deleted:
            return False
        return row.project_id == self.project_id or (row.project_id is None and self.has_default_project)


class Row(msgspec.Struct, gc=False, eq=False):
    """One version of a task: the bytes the server sends and what it sorts and filters by.

    Not a dataclass: hundreds of thousands of these must not slow Python's garbage collector down.
    """

    id: str
    body: bytes
    type: str | None
    user_id: str | None
    project_id: str | None
    created_at: int | None  # ms; MISSING; None: PostgreSQL cannot read it as a number
    updated_at: int | None  # ms of status.updatedAt; as above
    is_deleted: bool
    error: str | None  # why the server cannot serve this row
    written_at: int  # ms of the simulated clock
    previous: "Row | None" = None

    @classmethod
    def of(cls, task: Task, body: bytes, written_at: int) -> "Row":
        status = task.get("status")
        return cls(
            id=task["id"],
            body=body,
            type=task.get("type"),
            user_id=task.get("userId"),
            project_id=task.get("projectId"),
            created_at=as_bigint(task.get("createdAt")),
            updated_at=as_bigint(status.get("updatedAt")) if isinstance(status, dict) else MISSING,
            is_deleted=task.get("deleted") is not None,
            error=_serving_error(task),
            written_at=written_at,
        )

    def task(self) -> Task:
        """The parsed body. Raises msgspec.DecodeError where the bytes are not JSON."""
        task: Task = msgspec.json.decode(self.body)
        return task

    def at(self, as_of: int) -> "Row | None":
        """The version that was current at `as_of` (ms), or None if there was none yet."""
        version: Row | None = self
        while version is not None and version.written_at > as_of:
            version = version.previous
        return version

    def forget_before(self, horizon: int) -> None:
        """Drop the versions that no reader at `horizon` (ms) or later would see."""
        version = self
        while version.written_at > horizon and version.previous is not None:
            version = version.previous
        version.previous = None


# The two times of the API that a list sorts and filters by; unreadable ones never get as far as this.
TIMES: dict[str, Callable[[Row], int]] = {
    "createdAt": attrgetter("created_at"),
    "updatedAt": attrgetter("updated_at"),
}


class Store:
    """Rows by id. Every write makes a new version of the row and invalidates the cached orders."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._orders: dict[tuple[Account, Order, int | None], list[Row]] = {}
        self._unreadable: set[str] = set()  # ids of rows with a time that is not a number
        self.on_change: Callable[[Row, Row | None], None] = lambda row, before: None

    def get(self, task_id: str) -> Row | None:
        return self._rows.get(task_id)

    def put(self, row: Row) -> None:
        row.previous = self._rows.get(row.id)
        row.forget_before(row.written_at - VERSIONS_KEPT_MS)
        self._rows[row.id] = row
        if row.created_at is None or row.updated_at is None:
            self._unreadable.add(row.id)
        else:
            self._unreadable.discard(row.id)
        self._orders.clear()
        self.on_change(row, row.previous)

    def remove(self, task_id: str) -> None:
        del self._rows[task_id]
        self._unreadable.discard(task_id)
        self._orders.clear()

    def __len__(self) -> int:
        return len(self._rows)

    def has_unreadable(self, account: Account, fields: AbstractSet[str]) -> bool:
        """Is there a row in the account's list whose time, one of `fields`, is not a number?"""
        rows = [self._rows[task_id] for task_id in self._unreadable]
        return any(account.lists(row) and TIMES[name](row) is None for row in rows for name in TIMES if name in fields)

    def listed(self, account: Account, as_of: int | None = None) -> list[Row]:
        """Rows a list shows the account, by id. `as_of` (ms): as they were then."""
        return self.ordered(account, (("id", False),), as_of)

    def ordered(self, account: Account, order: Order, as_of: int | None = None) -> list[Row]:
        """Rows a list shows the account, sorted; ties by id. Do not change the list: it is kept for the next page."""
        cached = self._orders.get((account, order, as_of))
        if cached is None:
            if order == (("id", False),):
                cached = sorted(self._visible(account, as_of), key=lambda row: row.id)
            else:
                cached = list(self.listed(account, as_of))
                for field, descending in reversed(order):  # stable sorts, least significant first
                    cached.sort(key=sort_key(field, descending), reverse=descending)
            self._orders[account, order, as_of] = cached
        return cached

    def _visible(self, account: Account, as_of: int | None) -> list[Row]:
        rows = list(self._rows.values())
        if as_of is not None:
            rows = [version for row in rows if (version := row.at(as_of)) is not None]
        return [row for row in rows if account.lists(row)]


def sort_key(field: str, descending: bool) -> Callable[[Row], Any]:
    """The key to sort rows by a field of the API, nulls last either way. Times must be readable."""
    if field in TIMES:
        return TIMES[field]
    if field == "id":
        return lambda row: row.id

    def text_key(row: Row) -> tuple[bool, str]:
        value = text_of(row, field)
        return ((value is None) is not descending, value or "")

    return text_key


def text_of(row: Row, field: str) -> str | None:
    """A text field of the API as PostgreSQL's `->>` gives it."""
    match field:
        case "id":
            return row.id
        case "type":
            return row.type
        case "userId":
            return row.user_id
        case "projectId":
            return row.project_id
    value = row.task().get(field)
    return value if value is None or isinstance(value, str) else encode(value).decode()


def as_bigint(value: object) -> int | None:
    """The value cast as PostgreSQL casts it; MISSING for null, None where the cast fails."""
    if value is None:
        return MISSING
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"\s*-?\d+\s*", value) else None


def _serving_error(task: Task) -> str | None:
    """What JavaScript says when the server masks the secrets of a row that lacks what it masks."""
    kind = task.get("type")
    if kind not in ("upload", "transcode-file"):
        return None
    params = task.get("params")
    if params is None:
        return f"Cannot read properties of {_nothing(task, 'params')} (reading '{kind}')"
    if kind == "transcode-file":
        transcode = params.get(kind)
        if transcode is None:
            return f"Cannot read properties of {_nothing(params, kind)} (reading 'input')"
        for end in ("input", "storage"):
            if transcode.get(end) is None:
                return f"Cannot read properties of {_nothing(transcode, end)} (reading 'url')"
            if transcode[end].get("url") is None:
                return f"Cannot read properties of {_nothing(transcode[end], 'url')} (reading 'matchAll')"
    return None


def _nothing(container: Task, key: str) -> str:
    return "null" if key in container else "undefined"
