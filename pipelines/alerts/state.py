"""Which alerts were sent, so that none is sent twice: `alerts.json` in the archive's home."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from pipelines.alerts.message import Alert, Severity
from pipelines.landing.zone import write_durably
from pipelines.settings import Settings

NIGHTLY = "nightly"
WORSE = 2  # so many times as bad as when it was last sent


class Notification(msgspec.Struct):
    """An alert as it was last sent to a channel."""

    condition: str
    severity: Severity
    summary: str
    score: float
    told_at: datetime


class Run(msgspec.Struct):
    """How a job ended last. No `reason`: it did not fail; no `run_id`: a look that led to no run."""

    run_id: str | None
    ended_at: datetime
    reason: str | None = None
    failed_runs: int = 0  # in a row


class AlertState(msgspec.Struct):
    """The last run of each job, and what was sent to each channel, by the alert's key."""

    runs: dict[str, Run] = {}
    told: dict[str, dict[str, Notification]] = {}

    def ended(self, job: str, run_id: str | None, ended_at: datetime, reason: str | None) -> None:
        """Takes note of a run's end, unless that is known, or a later one is: the run and a sensor may both tell of it.

        A nightly run that ends well also ends what failed before by hand: a user does not repeat the same to end it.
        """
        last = self.runs.get(job)
        is_known = last is not None and (ended_at <= last.ended_at or (run_id is not None and run_id == last.run_id))
        if not is_known:
            failed_runs = (last.failed_runs if last else 0) + 1 if reason is not None else 0
            self.runs[job] = Run(run_id, ended_at, reason, failed_runs)
            if job == NIGHTLY and reason is None:
                for run in self.runs.values():
                    run.reason, run.failed_runs = None, 0


def due(told: dict[str, Notification], alerts: list[Alert], now: datetime, repeat_hours: float) -> list[Alert]:
    """Which alerts to tell now: new ones, those that got worse, and alarms that have held for long."""

    def is_due(alert: Alert) -> bool:
        last = told.get(alert.key)
        if last is None or alert.score >= WORSE * last.score:
            return True
        return alert.severity == "alarm" and now - last.told_at >= timedelta(hours=repeat_hours)

    return [alert for alert in alerts if is_due(alert)]


def over(told: dict[str, Notification], alerts: list[Alert], unasked: Iterable[str]) -> dict[str, Notification]:
    """What was sent and holds no longer, by key. A condition that could not be asked is left as it is."""
    holding = {alert.key for alert in alerts}
    skipped = set(unasked)
    return {key: last for key, last in told.items() if key not in holding and last.condition not in skipped}


def load_state(settings: Settings) -> AlertState:
    """The state; an empty one before the first run, or where the file cannot be read or is none of ours."""
    try:
        return msgspec.json.decode(_file(settings).read_bytes(), type=AlertState)
    except (OSError, msgspec.DecodeError):
        return AlertState()


def save_state(settings: Settings, state: AlertState) -> None:
    """Writes it. Raises OSError."""
    write_durably(_file(settings), msgspec.json.format(msgspec.json.encode(state), indent=1))


def _file(settings: Settings) -> Path:
    return settings.home.alerts
