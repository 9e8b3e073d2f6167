"""Looking what is wrong, and telling it once: after each run, at times from Dagster's daemon, and by hand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import click
from filelock import FileLock, Timeout

from pipelines.alerts import conditions, state
from pipelines.alerts.channels import Channel, Undelivered, configured
from pipelines.alerts.conditions import Found
from pipelines.alerts.message import Alert, Message
from pipelines.alerts.state import AlertState, Notification, Run
from pipelines.errors import Busy, in_one_line
from pipelines.settings import Settings
from pipelines.text import printable

LOCK_SECONDS = 120  # longer than channels take that do not answer
LOOK_AT_A_FAILED_RUN = "task-archive doctor"

Say = Callable[[str], None]


def to_stderr(line: str) -> None:
    """A line for whoever watches."""
    click.echo(printable(line), err=True)


def after_run(
    settings: Settings,
    job: str,
    run_id: str | None,
    reason: str | None,
    ended_at: datetime | None = None,
    say: Say = to_stderr,
) -> None:
    """Tells what is wrong once a run has ended, now if no time is given. `reason`: why it failed, None if it did not.

    Never raises for the archive's or the system's failures, a line is all: the run's own end stays what is seen.
    """
    now = datetime.now(UTC)
    try:
        with _alone(settings):
            known = state.load_state(settings)
            known.ended(job, run_id, ended_at or now, reason)
            if not configured(settings):
                state.save_state(settings, known)
                return
            found = _tell(settings, known, now, say)
        if reason is None:  # what it just published should answer
            for condition, why in found.unasked.items():
                say(f"alerts: {condition} could not be asked: {why}")
    except (Busy, OSError) as error:
        if configured(settings):
            say(f"alerts: {in_one_line(error)}")


def after_look(settings: Settings, job: str, reason: str | None) -> None:
    """The same after a look that led to no run: cheap where all is as it was."""
    last = state.load_state(settings).runs.get(job)
    if reason is not None or (last is not None and last.reason is not None):
        after_run(settings, job, None, reason)


def check(settings: Settings, say: Say) -> Found:
    """Looks for what is wrong now, and sends what is due. Raises Busy, and OSError where it cannot note that."""
    with _alone(settings):
        return _tell(settings, state.load_state(settings), datetime.now(UTC), say)


def _tell(settings: Settings, known: AlertState, now: datetime, say: Say) -> Found:
    """Tells each channel what is due to it, and remembers that."""
    asked = conditions.ask(settings, now)
    found = Found([*_failed_runs(known), *asked.alerts], asked.unasked)
    for channel in configured(settings):
        told = known.told.setdefault(channel.name, {})
        due = state.due(told, found.alerts, now, settings.alert_repeat_hours)
        over = state.over(told, found.alerts, found.unasked)
        ended = [last.summary for last in over.values() if last.severity == "alarm"]
        if (due or ended) and not _sent(channel, Message(str(settings.home), due, ended), say):
            continue  # the next look tries again
        for key in over:
            del told[key]
        told |= {each.key: Notification(each.condition, each.severity, each.summary, each.score, now) for each in due}
    state.save_state(settings, known)
    return found


def _sent(channel: Channel, message: Message, say: Say) -> bool:
    try:
        channel.send(message)
    except Undelivered as error:
        say(f"alerts: {channel.name}: {error}")
        return False
    return True


def _failed_runs(known: AlertState) -> Iterator[Alert]:
    for job, run in known.runs.items():
        if run.reason is not None:
            yield _failed_run(job, run)


def _failed_run(job: str, run: Run) -> Alert:
    often = f", {run.failed_runs} times in a row" if run.failed_runs > 1 else ""
    ended = run.ended_at.strftime("%Y-%m-%d %H:%M")
    what = f"run {run.run_id[:8]} of job {job}" if run.run_id else f"job {job}"
    return Alert(
        condition="run_failed",
        subject=job,
        severity="alarm",
        summary=f"{what} failed at {ended} UTC{often}; readers stay on the version before",
        command=LOOK_AT_A_FAILED_RUN,
        quote=run.reason,
        numbers={"job": job, "run_id": run.run_id, "ended_at": run.ended_at, "failed_runs": run.failed_runs},
    )


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Of two processes that look at once, the second sees what the first has told. Raises Busy.

    Where no lock can be had of the disk, as it is full or read-only, there is all the more to tell.
    """
    lock = FileLock(settings.home.alerts_lock, timeout=LOCK_SECONDS)
    with suppress(OSError):
        settings.home.make()
        try:
            lock.acquire()
        except Timeout:  # which is an OSError too
            raise Busy(f"another process has been telling alerts of {settings.home} for {LOCK_SECONDS} s") from None
    try:
        yield
    finally:
        lock.release()
