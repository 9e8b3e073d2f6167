"""The error answers of the real server, as they were recorded."""

from typing import Any


class ApiError(Exception):
    """An answer other than 200. `body` is the JSON envelope that is sent."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


def refused(status: int, message: str) -> ApiError:
    """The usual envelope: `{"errors": ["..."]}`."""
    return ApiError(status, {"errors": [message]})


def not_found() -> ApiError:
    return refused(404, "not found")


def bad_filters(reason: str) -> ApiError:
    return refused(400, f"error parsing filters: {reason}")


def database_error() -> ApiError:
    """What PostgreSQL refused to run: a negative offset, a text that is to be a number."""
    return refused(500, "Internal server error: error")


def malformed_row(reason: str) -> ApiError:
    """A row that the server's own code trips over; this path has another envelope."""
    return ApiError(500, {"message": reason})
