"""A sweep by several workers: the ids are divided into ranges, and each range is a load of its own.

The sweep is begun first. Its manifest names the loads of its ranges, whose ids sort before its own, and holds what the
server counted before any of them began. So the proof over all ranges is that of a single walk: each worker counts the
tasks that it reads, and the sweep adds them up, reads what changed meanwhile and compares with the server's counts.
"""

import uuid

from pipelines.landing.begin import begun
from pipelines.landing.context import AccountContext, Progress
from pipelines.landing.manifest import Manifest, Window
from pipelines.landing.zone import MANIFEST, PROGRESS, Zone, note_of, read_note

IDS = 2**128  # of UUIDs


def window_of(number: int, among: int) -> Window:
    """The ids of a range: an even share of all UUIDs, and at the ends whatever else sorts there."""
    first, last = (str(uuid.UUID(int=place * IDS // among - 1)) for place in (number or 1, number + 1))
    return Window(after_id=first if number else None, last_id=last if number + 1 < among else None)


def is_complete(context: AccountContext, load_id: str) -> bool:
    """Whether the load of a range has read all of it."""
    return (context.zone.folder(context.account, load_id) / MANIFEST).exists()


def range_of(context: AccountContext, sweep_id: str, load_id: str) -> Manifest | None:
    """The manifest of a range to write on, or that of one that was fetched; None where the sweep is no longer open."""
    if (note := note_of(context.zone.folder(context.account, load_id))) is not None:
        return note
    sweep = read_note(context.zone.folder(context.account, sweep_id) / PROGRESS)
    if sweep is None or load_id not in sweep.ranges:
        return None
    fresh = begun(context, "range", window_of(sweep.ranges.index(load_id), len(sweep.ranges)), load_id)
    fresh.server_started_at_ms, fresh.settled_until_ms = sweep.server_started_at_ms, sweep.settled_until_ms
    fresh.capabilities = sweep.capabilities
    return fresh


def progress_of(zone: Zone, account: str, elapsed_seconds: float) -> Progress | None:
    """How far the workers have come with the ranges of an account's open sweep; None where it has none."""
    sweeps = (name for _, name in sorted(zone.names(account), reverse=True) if name.endswith("-sweep"))
    sweep = read_note(zone.folder(account, next(sweeps, "none")) / PROGRESS)
    if sweep is None or not sweep.ranges:
        return None
    folders = [zone.folder(account, load_id) for load_id in sweep.ranges]
    loads = [load for folder in folders if (load := note_of(folder)) is not None]
    tasks_read, counted = sum(load.tasks_seen for load in loads), sweep.server_count_before
    return Progress(
        account=account,
        lane="range",
        tasks_read=tasks_read,
        expected_tasks=None if counted is None else max(counted, tasks_read),
        rows_read=sum(load.rows_read for load in loads),
        elapsed_seconds=elapsed_seconds,
    )
