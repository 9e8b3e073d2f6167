"""One account of the API, as every lane needs it: its client, its landing zone, and who hears of its progress."""

from collections.abc import Callable
from dataclasses import dataclass

from pipelines.landing.catalog import Catalog
from pipelines.landing.manifest import Lane
from pipelines.landing.zone import Zone
from pipelines.livepeer.client import connect
from pipelines.livepeer.redact import Redactor
from pipelines.settings import Settings


@dataclass(frozen=True)
class Progress:
    """How far a lane has come, after each page.

    tasks_read: each once; expected_tasks: no fewer, None where the server does not count; rows_read: in
    elapsed_seconds, those read again included.
    """

    account: str
    lane: Lane
    tasks_read: int
    expected_tasks: int | None
    rows_read: int
    elapsed_seconds: float

    def __str__(self) -> str:
        """Such as `default sweep: 12,000 of 200,000 tasks, 8,100/s, 23 s left`."""
        rate = self.rows_read / max(self.elapsed_seconds, 0.001)
        of = f" of {self.expected_tasks:,}" if self.expected_tasks else ""
        line = f"{self.account} {self.lane}: {self.tasks_read:,}{of} tasks, {rate:,.0f}/s"
        if self.expected_tasks and rate:
            line += f", {(self.expected_tasks - self.tasks_read) / rate:.0f} s left"
        return line


@dataclass(frozen=True)
class ProgressCallbacks:
    """Where a run reports: its progress after each page, what is worth a line, and tables made so far, of how many."""

    progress: Callable[[Progress], None] = lambda progress: None
    say: Callable[[str], None] = lambda line: None
    tables: Callable[[int, int], None] = lambda made, total: None


class AccountContext:
    """Everything a load needs for one account."""

    def __init__(
        self,
        settings: Settings,
        account: str,
        run_id: str,
        callbacks: ProgressCallbacks | None = None,
        zone: Zone | None = None,
    ) -> None:
        self.settings = settings
        self.account = account
        self.run_id = run_id
        self.zone = zone or Zone(settings.home.landing)
        self.catalog = Catalog(self.zone)
        self.callbacks = callbacks or ProgressCallbacks()
        self.redactor = redactor_of(settings)
        self.client = connect(settings, account, self.redactor.scrub, self.callbacks.say)


def redactor_of(settings: Settings) -> Redactor:
    """The redactor of an archive, which hides its own keys too wherever they occur."""
    own = [*settings.api_keys.values(), *settings.webhook_secrets.values()]
    return Redactor(settings.fingerprint_key_bytes(), [secret.get_secret_value() for secret in own])
