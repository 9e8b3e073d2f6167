"""What the extraction itself needs to know of a task's payload: its id and its times."""

import json
from typing import Any, TypeVar

import msgspec

_Part = TypeVar("_Part")


class Row(msgspec.Struct, frozen=True, gc=False):
    """An element of the list: its bytes as the server sent them, and what was read of them.

    task_id is None where the element is no task with a text id; the times, epoch ms, where they are no whole numbers.
    """

    payload: bytes
    task_id: str | None
    created_at_ms: int | None
    updated_at_ms: int | None
    is_deleted: bool


class _Status(msgspec.Struct, gc=False):
    updatedAt: int | None = None


class _Head(msgspec.Struct, gc=False):
    id: str
    createdAt: int | None = None
    status: _Status | None = None
    deleted: bool | None = None


_head_decoder = msgspec.json.Decoder(_Head)


def read_row(payload: bytes) -> Row:
    """Never fails: an odd payload is a row all the same, with less known of it."""
    try:
        head = _head_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_odd_row(payload)
    updated = head.status.updatedAt if head.status else None
    return Row(payload, head.id, _millis(head.createdAt), _millis(updated), bool(head.deleted))


class _Project(msgspec.Struct):
    projectId: str | None = None


class _Schedule(msgspec.Struct):
    scheduledAt: int | None = None


def project_of(payload: bytes) -> str | None:
    """The project that a task names; None where it names none."""
    found = _decoded(payload, _Project)
    return None if found is None else found.projectId


def scheduled_at_ms_of(payload: bytes) -> int | None:
    """When a task was scheduled, epoch ms; None where it does not say."""
    found = _decoded(payload, _Schedule)
    return None if found is None else found.scheduledAt


def _decoded(payload: bytes, kind: type[_Part]) -> _Part | None:
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _read_odd_row(payload: bytes) -> Row:
    try:
        task = json.loads(payload.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        task = None
    if not isinstance(task, dict):
        return Row(payload, None, None, None, False)
    status = task.get("status")
    updated = status.get("updatedAt") if isinstance(status, dict) else None
    task_id = task.get("id")
    is_text = isinstance(task_id, str) and task_id.isprintable() and task_id != ""
    return Row(
        payload,
        task_id if is_text else None,
        _millis(task.get("createdAt")),
        _millis(updated),
        task.get("deleted") is True,
    )


def _millis(value: Any) -> int | None:
    """Whole epoch milliseconds between the years 1 and 9999, which is what every engine's timestamps hold."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and -62_135_596_800_000 <= value <= 253_402_300_799_999 else None
