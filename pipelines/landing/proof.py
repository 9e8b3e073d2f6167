"""The proof of a load: from what was counted to a verdict, its reasons, and the point up to which nothing is missing.

`whole`: each row that the server counts was read. `limited`: nothing is known to be missing, but something could not be
confirmed. `broken`: the server counts tasks that were not read.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipelines.landing.manifest import Lane, Manifest, Verdict, needed
from pipelines.text import counted

# Where a key was moved to another project every task vanishes at once: so many are looked up, and the proof says so.
MOST_LOOKUPS = 1000

ELSEWHERE = "in another project"
LISTS_ONLY = "the key may list tasks but not get one by id (403)"
UNSETTLED = "a missed task could hide behind one that was deleted meanwhile"
DOCUMENTED_PAGING = (
    "the server has no paging by key: its documented paging was walked until nothing new came, which cannot "
    "prove that no row was missed"
)

PROVING: tuple[Lane, ...] = ("sweep", "changes", "observe")  # these read every change up to their start


@dataclass(frozen=True)
class Evidence:
    """What a load found out, beside the counts in its manifest.

    surplus: tasks read beyond the server's count that a second walk did not explain; settled_left: the server's second
    count of settled tasks, where the first was not reached; refused: ids of tasks that the key may not get;
    earliest_server_at_ms: the lowest Date of the answers; ahead_seconds: the server's clock minus ours.
    """

    surplus: int
    settled_left: int | None
    refused: Sequence[str]
    earliest_server_at_ms: int | None
    ahead_seconds: float
    overlap_seconds: int


class Proof(NamedTuple):
    """proven_until_ms: the archive holds every change up to then; None where this load does not prove one."""

    verdict: Verdict
    reasons: list[str]
    proven_until_ms: int | None


class Reason(NamedTuple):
    """Why a load is not whole."""

    text: str
    is_broken: bool = False


def prove(load: Manifest, evidence: Evidence) -> Proof:
    """The proof of a load that has read all that it was to read."""
    reasons = [*_of_the_list(load, evidence), *_of_single_tasks(load, evidence)]
    is_broken = any(reason.is_broken for reason in reasons)
    proven_until_ms = None
    if load.lane in PROVING and load.capabilities is not None and load.capabilities.id_keyset and not is_broken:
        proven_until_ms, reason = _proven_until(load, evidence)
        reasons += [reason] if reason else []
    verdict: Verdict = "broken" if is_broken else "limited" if reasons else "whole"
    return Proof(verdict, [reason.text for reason in reasons], proven_until_ms)


def unread(load: Manifest, vanished: Collection[str], server_count: int, read: int) -> int:
    """Rows that the server counts and the walk neither read nor found unreadable; below 0: rows read beyond the count.

    vanished: archived tasks that the list does not show, which the count does not include.
    """
    return server_count - read - sum(missing.task_id not in vanished for missing in load.unreadable)


def _of_the_list(load: Manifest, evidence: Evidence) -> Iterator[Reason]:
    if load.capabilities is None or load.lane == "range":  # single tasks, or what the sweep counts
        return
    if not load.capabilities.id_keyset:
        yield Reason(DOCUMENTED_PAGING)
    if len(load.vanished) > MOST_LOOKUPS:
        yield Reason(
            f"{len(load.vanished)} archived tasks are no longer listed, of which {MOST_LOOKUPS} were looked up: "
            "was the key moved to another project?"
        )
    if load.capabilities.id_keyset:
        yield from _of_counts(load, load.capabilities.count, evidence)


def _of_counts(load: Manifest, is_counting: bool, evidence: Evidence) -> Iterator[Reason]:
    """Compares the tasks read with the server's count.

    A task deleted after it was read makes the count smaller than what was read: it is found by its id, or the count
    tells nothing. A count larger than what was read is first taken for tasks that appeared since: what is read after it
    must reach it. So a missed task could hide behind a deleted one: the count of settled tasks before the walk tells
    them apart.
    """
    if not is_counting:
        yield Reason("the server does not count its rows, so nothing confirms the number of tasks read")
        return
    if load.server_count_after is None:
        yield Reason("the server could not count its rows, so nothing confirms the number of tasks read")
        return
    short = unread(load, load.vanished, load.server_count_after, load.tasks_seen)
    if short > 0:
        yield Reason(
            f"the server counts {counted(load.server_count_after, 'task')}, {short:,} more than were read",
            is_broken=True,
        )
        return
    if evidence.surplus > 0:
        yield Reason(
            f"the load read {counted(evidence.surplus, 'task')} more than the server counts: its count confirms nothing"
        )
    if load.settled_until_ms is not None:
        yield from _of_settled(load, evidence)


def _of_settled(load: Manifest, evidence: Evidence) -> Iterator[Reason]:
    """Accounts for each task that the server counted before the walk began."""
    if load.settled_count is None:
        yield Reason(f"the server cannot count the tasks created before the load: {UNSETTLED}")
        return
    short = unread(load, load.vanished, load.settled_count, load.settled_seen)
    if short <= 0:
        return
    left = evidence.settled_left
    missed = 0 if left is None else unread(load, load.vanished, left, load.settled_seen)
    if missed > 0:
        yield Reason(
            f"the load did not read {counted(missed, 'task')} that the server counts, created before it began",
            is_broken=True,
        )
    else:
        yield Reason(f"{counted(short, 'task')} counted by the server at first, gone when the walk came: {UNSETTLED}")


def _of_single_tasks(load: Manifest, evidence: Evidence) -> Iterator[Reason]:
    elsewhere = [missing for missing in load.unreadable if missing.reason.startswith(ELSEWHERE)]
    if elsewhere:
        yield Reason(f"{counted(len(elsewhere), 'archived task')} now {ELSEWHERE}, first {elsewhere[0].task_id}")
    if unreadable := [missing for missing in load.unreadable if missing not in elsewhere]:
        first = unreadable[0]
        yield Reason(f"{counted(len(unreadable), 'unreadable task')}, first {first.task_id}: {first.reason}")
    if evidence.refused:
        tasks = f"{counted(len(evidence.refused), 'task')}, first {evidence.refused[0]}"
        yield Reason(f"{LISTS_ONLY}: a change or deletion of {tasks}, cannot be known")


def _proven_until(load: Manifest, evidence: Evidence) -> tuple[int, Reason | None]:
    """When the walk began: by the earliest Date, of which any may be wrong, or by our clock if that is well behind.

    A server's clock that is ahead and is set right later gives times to changes that lie before the Date.
    """
    started_ms = needed(load.server_started_at_ms)
    proven_ms = min(started_ms, evidence.earliest_server_at_ms or started_ms)
    if evidence.ahead_seconds <= evidence.overlap_seconds + 1:  # a Date is a whole second
        return proven_ms, None
    reason = (
        f"the server's clock is {evidence.ahead_seconds:,.0f} s ahead of ours, which is more than the overlap: "
        "the archive is proven up to our own time"
    )
    return min(proven_ms, load.started_at_ms), Reason(reason)
