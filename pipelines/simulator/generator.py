"""When tasks are created and the states each of them goes through. Everything follows from the seed.

Time is cut into hours (UTC); each hour has a random generator of its own, so what happens in an hour depends neither on
how the clock got there nor on what was asked before.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from pipelines.simulator import payloads
from pipelines.simulator.outputs import output
from pipelines.simulator.payloads import Json, Work, pick
from pipelines.simulator.store import Account, Task, in_jsonb_order

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
RETRY_DELAYS_MS = (30_000, 180_000)

BUSY_BY_HOUR = tuple(0.35 + 0.65 * math.sin(math.pi * ((hour - 5) % 24) / 24) ** 2 for hour in range(24))  # UTC
BUSY_BY_WEEKDAY = (1.0, 1.05, 1.1, 1.05, 0.95, 0.55, 0.5)  # from Monday on
INCIDENT_HOURS = range(9, 17)  # of an incident's day
LEGACY_SHARE = 0.08  # of the history: until then the older task types
BULK_LIMIT = 1250  # tasks of the one bulk import, all created in the same millisecond: more than a page holds

Maker = Callable[[Random, str], Work]
MODERN: dict[Maker, int] = {  # tasks in a thousand
    payloads.upload: 680,
    payloads.transcode_file: 120,
    payloads.export: 100,
    payloads.clip: 60,
    payloads.export_data: 36,
    payloads.unknown: 4,
}
LEGACY: dict[Maker, int] = {payloads.legacy_import: 850, payloads.legacy_transcode: 150}
_MODERN_URN = [make for make, weight in MODERN.items() for _ in range(weight)]
_LEGACY_URN = [make for make, weight in LEGACY.items() for _ in range(weight)]

USER_FAULTS = (
    "file could not be imported from URL because it was not accessible",
    "invalid video file codec or container, check your input file against the input codec and container support matrix",
    "failed to probe or open file, check your input file against the input codec and container support matrix",
)
EXPORT_FAULTS = (
    "error on export request: 403 Forbidden",
    "error on export request: error response: 403 Forbidden\n"
    '<?xml version="1.0"?><Error><Code>SignatureDoesNotMatch</Code></Error>',
)
PLATFORM_FAULTS = (
    "internal error processing file",
    "internal error processing file",
    "bad task output: missing assetSpec",
)
LOST = "catalyst task lost (last update {minutes}m{seconds}s ago)"
NOT_ENQUEUED = "Failed to enqueue task"
ASSET_DELETED = "task cancelled, asset has been deleted"


class State(NamedTuple):
    """A state a task is in from `at` (ms) on; `status` without its updatedAt, which is `at`."""

    at: int
    phase: str
    status: Json
    scheduled_at: int | None
    output: Json | None = None


class Life(NamedTuple):
    """A task from its creation to its last state."""

    task: Task  # the fields that never change
    states: list[State]

    def snapshot(self, index: int) -> Task:
        """The task as the API shows it in one of its states."""
        state = self.states[index]
        return with_status(self.task, state.at, state.status | {"phase": state.phase}, state.scheduled_at, state.output)


def with_status(task: Task, at: int, status: Json, scheduled_at: int | None = None, output: Json | None = None) -> Task:
    """The task with its status rewritten whole, as every change on the server does it."""
    changed = task | {"status": in_jsonb_order(status | {"updatedAt": at})}
    if scheduled_at is not None:
        changed["scheduledAt"] = scheduled_at
    if output is not None:
        changed["output"] = output
    return in_jsonb_order(changed)


class Generator:
    """Tasks of one account: `tasks` of them over the `days` before `start` (ms), then on at the same rhythm."""

    def __init__(
        self, seed: str, tasks: int, days: float, start: int, account: Account, legacy_only: bool, incidents: int
    ) -> None:
        self.seed = seed
        self.tasks = tasks
        self.start = start
        self.begin = start - int(days * DAY_MS)
        self.account = account
        self.legacy_until = start + 10_000 * DAY_MS if legacy_only else self.begin + int(days * DAY_MS * LEGACY_SHARE)
        random = Random(f"{seed} incident")
        self.incident_days = {(self.begin + int(days * DAY_MS * (0.35 + 0.4 * random.random()))) // DAY_MS}
        if incidents > 1:
            self.incident_days.add(start // DAY_MS - 1)
        hours = range(self.begin // HOUR_MS, -(-start // HOUR_MS))
        self._weights = {hour: self._busyness(hour) * self._share(hour) for hour in hours}
        self._tasks_per_weight = tasks / (sum(self._weights.values()) or 1)

    def history(self) -> Iterator[Life]:
        """The tasks created before the start, in no particular order."""
        if self.tasks == 0:
            return
        random = Random(f"{self.seed} history")
        bulk = min(self.tasks // 16, BULK_LIMIT)
        bulk_at = self.begin + int((self.start - self.begin) * 0.2)
        counts = Counter(random.choices(list(self._weights), list(self._weights.values()), k=self.tasks - bulk))
        for hour in sorted(counts):
            first, last = max(hour * HOUR_MS, self.begin), min((hour + 1) * HOUR_MS, self.start)
            hourly = Random(f"{self.seed} past {hour}")
            for _ in range(counts[hour]):
                yield self.create(hourly, first + int(hourly.random() * (last - first)))
        for _ in range(bulk):
            yield self.create(random, bulk_at)

    def arrivals(self, hour: int) -> list[Life]:
        """The tasks created in an hour after the start (hours since 1970)."""
        random = Random(f"{self.seed} future {hour}")
        count = int(self._busyness(hour) * self._tasks_per_weight + random.random())
        lives = [self.create(random, hour * HOUR_MS + int(random.random() * HOUR_MS)) for _ in range(count)]
        return [life for life in lives if life.task["createdAt"] > self.start]

    def create(self, random: Random, created_at: int) -> Life:
        """One task, from its creation to its end."""
        is_legacy = created_at < self.legacy_until
        task_id = payloads.uuid4(random)
        work = pick(random, _LEGACY_URN if is_legacy else _MODERN_URN)(random, task_id)
        task: Task = {"id": task_id, "type": work.type, "params": work.params, "userId": self.account.user_id}
        task |= {"createdAt": created_at, "projectId": self.account.project_id} | work.links
        is_incident = created_at // DAY_MS in self.incident_days and created_at // HOUR_MS % 24 in INCIDENT_HOURS
        course = _Course(random, work, self.start, is_incident, is_scheduled_shown=not is_legacy)
        course.run(created_at)
        return Life(task, course.states)

    def retried(self, row_task: Task, at: int) -> Life:
        """What follows when a user has a failed task tried again at `at`."""
        random = Random(f"{self.seed} retry {row_task['id']} {at}")
        task = {name: value for name, value in row_task.items() if name not in ("status", "output", "scheduledAt")}
        work = Work(task["type"], task.get("params"), {}, payloads.Media(60, 720, 20_000_000))
        course = _Course(random, work, self.start, is_incident=False, is_scheduled_shown=True)
        course.schedule(at)
        return Life(task, course.states)

    def _share(self, hour: int) -> float:
        """Share of an hour that lies within the history."""
        return (min((hour + 1) * HOUR_MS, self.start) - max(hour * HOUR_MS, self.begin)) / HOUR_MS

    @staticmethod
    def _busyness(hour: int) -> float:
        return BUSY_BY_HOUR[hour % 24] * BUSY_BY_WEEKDAY[(hour // 24 + 3) % 7]  # 1970 began on a Thursday


class _Course:
    """Draws the states of one task.

    pending -> waiting -> running -> completed
                  ^          |
                  |          +-> failed  (the user's fault, or the third failure; the user may have it retried later,
                  |                       which rewrites scheduledAt)
                  +----------+           (the platform's fault: after 30 s, then after 180 s, scheduledAt being kept)
    """

    def __init__(
        self, random: Random, work: Work, observed_from: int, is_incident: bool, is_scheduled_shown: bool
    ) -> None:
        self.random = random
        self.work = work
        self.observed_from = observed_from
        self.is_scheduled_shown = is_scheduled_shown
        self.platform_fault_share = 0.85 if is_incident else 0.025
        self.queue_factor = 12.0 if is_incident else 1.0
        self.states: list[State] = []
        self.scheduled_at: int | None = None

    def run(self, created_at: int) -> None:
        random = self.random
        self._enter(created_at, "pending")
        drawn = random.random()
        if self.work.is_direct_upload:
            if drawn < 0.05:
                return  # the user never sent the file
            wait = self._lognormal(4.0, 1.2) + self.work.media.size / 2_000_000
        else:
            wait = 0.005 + 0.9 * drawn
        self.schedule(created_at + int(wait * 1000))

    def schedule(self, at: int, is_retry: bool = False) -> None:
        """Hand the task to the queue and go on from there."""
        random = self.random
        self.scheduled_at = at if self.is_scheduled_shown else None
        self._enter(at, "waiting", retries=0)
        ended_at = self._attempts(at)
        if self.states[-1].phase == "failed" and not is_retry and random.random() < 0.12:
            self.schedule(ended_at + int(self._lognormal(9.2, 1.3) * 1000), is_retry=True)

    def _attempts(self, at: int) -> int:
        """Try, and try again after the platform's own faults. Returns when the last state was entered."""
        random = self.random
        drawn = random.random()
        if drawn < 0.0008:
            return self._enter(at + 20_000, "cancelled", retries=0)
        if drawn < 0.0016 + 0.06 * self.platform_fault_share:
            return self._enter(at + 40, "failed", retries=0, errorMessage=NOT_ENQUEUED)
        for retries in range(len(RETRY_DELAYS_MS) + 1):
            at += int(self._lognormal(1.8, 0.9) * 1000 * self.queue_factor)
            self._enter(at, "running", retries=retries, progress=0)
            work_ms = self._work_ms()
            drawn = random.random()
            if drawn < 0.0012:
                return at  # stuck: no word from it again
            if drawn < 0.005:
                return self._enter(at + work_ms, "failed", retries=retries, errorMessage=PLATFORM_FAULTS[0])
            if drawn < 0.05:
                return self._enter(at + min(work_ms, 8_000), "failed", retries=retries, errorMessage=self._user_fault())
            is_failing = random.random() < self.platform_fault_share
            end = at + int(work_ms * random.random()) if is_failing else at + work_ms
            self._report_progress(at, end, work_ms, retries)
            if not is_failing:
                return self._enter(end, "completed", output=output(random, self.work))
            end, error = self._platform_fault(end)
            if retries == len(RETRY_DELAYS_MS):
                return self._enter(end, "failed", retries=retries, errorMessage=error)
            self._enter(end, "waiting", retries=retries + 1, errorMessage=error)
            at = end + RETRY_DELAYS_MS[retries]
            self._enter(at, "waiting", retries=retries + 1)
        raise AssertionError("unreachable")

    def _enter(self, at: int, phase: str, output: Json | None = None, **status: object) -> int:
        self.states.append(State(at, phase, status, self.scheduled_at, output))
        return at

    def _report_progress(self, at: int, end: int, work_ms: int, retries: int) -> None:
        """The runner reports now and then, at most four times. Reports that cannot be seen are left out."""
        if end < self.observed_from:
            return
        reports = min(4, (end - at) // 5_000)
        for number in range(1, reports + 1):
            reported_at = at + (end - at) * number // (reports + 1)
            progress = payloads.js_number((reported_at - at) / max(work_ms, 1))
            self._enter(reported_at, "running", retries=retries, progress=progress)

    def _work_ms(self) -> int:
        """How long the work takes: a little for any task, more for long and for high-resolution media."""
        media = self.work.media
        factor = 0.02 if self.work.type == "export" else payloads.LADDER.get(media.height, (0, 0, 0.01))[2]
        return int((self._lognormal(1.4, 0.5) + media.seconds * factor * self._lognormal(0, 0.45)) * 1000)

    def _user_fault(self) -> str:
        if self.random.random() < 0.1:
            return ASSET_DELETED
        return pick(self.random, EXPORT_FAULTS if self.work.type == "export" else USER_FAULTS)

    def _platform_fault(self, at: int) -> tuple[int, str]:
        """When it is noticed, and its text. Lost tasks are found by a sweep on the minute: their times tie."""
        random = self.random
        if random.random() < 0.6:
            return at, pick(random, PLATFORM_FAULTS)
        message = LOST.format(minutes=1 + int(random.random() * 4), seconds=round(random.random() * 60, 1))
        return (at // 60_000 + 2) * 60_000, message

    def _lognormal(self, mean: float, deviation: float) -> float:
        return math.exp(self.random.gauss(mean, deviation))
