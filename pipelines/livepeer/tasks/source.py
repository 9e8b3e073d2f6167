"""The list of tasks: where it is served, and what it may be ordered and filtered by."""

import uuid
from typing import Any

PATH = "/task"

Filters = list[dict[str, Any]]

BY_ID = "id-false"
BY_UPDATE = "updatedAt-false,id-false"
ENDS = (BY_ID, "id-true", "type-false,id-false", "type-true,id-true")  # a row that cannot be served is at few of them

BEYOND_EVERY_ID = "zzzzzzzz"
NO_TASK = str(uuid.UUID(int=0))
FAR_FUTURE_MS = 2**53  # beyond every number that is exact in JavaScript: odd rows have times after the year 9999


def updated_since(millis: int) -> Filters:
    """Rows with status.updatedAt at or after `millis`."""
    return [{"id": "updatedAt", "value": {"gte": millis}}]


def created_between(from_ms: int | None, to_ms: int) -> Filters:
    """Rows with createdAt in [from_ms, to_ms); None is no bound. Rows without createdAt are in no such window."""
    return [{"id": "createdAt", "value": {"lt": to_ms} if from_ms is None else {"gte": from_ms, "lt": to_ms}}]
