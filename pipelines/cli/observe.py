"""Observing: a look whether anything changed, which costs a request, and the observe job only where it did."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.alerts.notify import after_look
from pipelines.errors import ArchiveError, in_one_line
from pipelines.landing.manifest import Manifest
from pipelines.serving.news import has_news
from pipelines.settings import Settings

JOB = "observe"


@dataclass(frozen=True)
class Pass:
    """One pass: what came of it in a few words, and whether it failed or left a gap in a proof."""

    says: str
    has_failed: bool = False
    has_gap: bool = False


def observe(settings: Settings, account: str | None = None) -> Pass:
    """One pass. Never raises an ArchiveError, so that a next one can follow."""
    try:
        if not has_news(settings, account):
            after_look(settings, JOB, None)
            return Pass("nothing new")
    except (ArchiveError, OSError) as error:
        after_look(settings, JOB, in_one_line(error))
        return Pass(f"failed: {error}", has_failed=True)
    from pipelines.cli.run import run_job  # Dagster takes a second to import: not for an idle pass
    from pipelines.cli.terminal import watching

    try:
        with watching():
            done = run_job(settings, JOB, {"account": account} if account else None)
    except (ArchiveError, OSError) as error:
        return Pass(f"failed: {error}", has_failed=True)
    return Pass(_in_a_line(done.loads), has_gap=not done.is_proven)


def passes(
    settings: Settings, account: str | None, every_seconds: float | None, for_seconds: float | None
) -> Iterator[Pass]:
    """A pass, or one every so many seconds for so long; one that takes longer leaves out those that it runs into."""
    began = time.monotonic()
    while True:
        yield observe(settings, account)
        if every_seconds is None:
            return
        passed = time.monotonic() - began
        following = (passed // every_seconds + 1) * every_seconds
        if for_seconds is not None and following >= for_seconds:
            return
        time.sleep(following - passed)


def _in_a_line(loads: list[Manifest]) -> str:
    counts = {
        "new": sum(load.appeared for load in loads),
        "changed": sum(load.changed for load in loads),
        "deleted": sum(len(load.deleted) for load in loads),
    }
    said = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "nothing new"
    reasons = "".join(f"; gap: {reason}" for load in loads for reason in load.reasons)
    return f"{said}, published{reasons}"
