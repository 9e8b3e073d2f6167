"""What can go wrong between us and the API. The type tells whether another attempt makes sense."""

from pipelines.errors import ArchiveError


class ApiError(ArchiveError):
    """A request that got no usable answer. The message is one line, without secrets."""


class TransientError(ApiError):
    """May pass by itself: the client tries again.

    retry_after_seconds: the wait the server asked for, if it did.
    most_attempts: fewer attempts than the setting where the fault is more likely a wrong setting than bad luck.
    """

    most_attempts: int | None = None

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class RateLimited(TransientError):
    """429."""


class ServerFault(TransientError):
    """5xx."""


class RowFault(ServerFault):
    """500: perhaps passing, perhaps a malformed row, which turns every page that holds it into a 500."""

    most_attempts = 3


class Unreachable(TransientError):
    """No connection: a server that is down or starts again, no network, a wrong host."""


class Interrupted(TransientError):
    """The connection broke or timed out before the answer was complete."""


class Overdue(TransientError):
    """The answer came, but so slowly that it was given up."""

    most_attempts = 2


class NotJson(TransientError):
    """An answer that is not the API's: an HTML page of a proxy, or a wrong URL."""

    most_attempts = 3


class PermanentError(ApiError):
    """The same request will fail again."""


class WrongKey(PermanentError):
    """401."""


class Forbidden(PermanentError):
    """403."""


class NotFound(PermanentError):
    """404."""


class BadRequest(PermanentError):
    """Another 4xx."""


class Redirected(PermanentError):
    """3xx: not followed, since the key goes to the configured origin only."""


class Excessive(PermanentError):
    """An answer larger than is taken."""


class BrokenWalk(PermanentError):
    """The list answered against its own rules: pages out of order or without end, rows outside the window asked for."""
