"""What a load reads: pages and single tasks, taken in, counted and noted."""

import time
from bisect import insort
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from functools import cached_property

from pipelines.landing.begin import unserved
from pipelines.landing.context import AccountContext, Progress
from pipelines.landing.digest import Digests
from pipelines.landing.manifest import Manifest, Missing, Window, needed
from pipelines.landing.proof import ELSEWHERE, LISTS_ONLY
from pipelines.landing.writer import LoadWriter, PageResult
from pipelines.livepeer import walks
from pipelines.livepeer.pages import Hints, Rows, Unreadable
from pipelines.livepeer.tasks.rows import Row, project_of, read_row


class Reading:
    """What one load has read so far; see `Load` for the ways by which it reads."""

    def __init__(self, context: AccountContext, manifest: Manifest) -> None:
        self.settings = context.settings
        self.client = context.client
        self.callbacks = context.callbacks
        self.zone = context.zone
        self.began = time.monotonic()
        self.writer = LoadWriter(context.catalog, manifest, context.redactor)
        self.manifest = manifest
        self.seen: set[str] = set()  # read by walks other than the one by id, whose rows are distinct as they come
        self.vanished: set[str] = set(manifest.vanished)
        self.refused: list[str] = []  # tasks to look up, with a key that may not
        self.surplus = 0  # tasks read beyond the server's count that are not explained
        self.settled_left: int | None = None  # the server's second count of settled tasks, where one was due
        self.digests = Digests(manifest.digest_ids, manifest.digest_states)
        self.unserved = unserved(context.catalog.manifests(context.account, newest_first=True))
        self.hints = Hints(self.unserved, self._known_between)
        self.project: str | None = None  # of the tasks that the list shows
        # By earlier processes.
        self.before = (manifest.requests, manifest.attempts_repeated, manifest.bytes_received)
        self.rows_before = manifest.rows_read

    def look_up(self, task_ids: Iterable[str]) -> None:
        """Asks for single tasks; lands what is new of them and which are deleted."""
        note = self.manifest
        for task_id in task_ids:
            if self.refused:
                self.refused.append(task_id)
                continue
            answer = self.client.get_task(task_id)
            if answer.payload is not None:
                row = read_row(answer.payload)
                if note.lane == "refresh":
                    self._count([row], self.seen)
                    self.seen.add(task_id)
                    note.tasks_seen = len(self.seen)
                self.writer.add_page([row], answer.fetched_at_ms)
                self._note_readable({task_id})
                if row.is_deleted:
                    self._note_deleted(task_id)
                elif task_id in self.vanished:
                    self._note_unreadable(task_id, self._why_unlisted(answer.payload))
            elif answer.status == 404:
                if self.writer.known.has(task_id):
                    self.writer.add_gone(task_id, answer.fetched_at_ms)
                if self.writer.known.is_deleted(task_id):
                    self._note_deleted(task_id)
                else:
                    self._note_unreadable(task_id, "the API knows no task of this id (404)")
            elif answer.status == 500:
                self._note_unreadable(task_id, "the server cannot serve it (500)")
            elif self._may_get:
                self._note_unreadable(task_id, "belongs to another user (403)")
            else:
                self.refused.append(task_id)
                self.callbacks.say(LISTS_ONLY)
            self._report()

    @cached_property
    def _may_get(self) -> bool:
        return walks.may_get(self.client)

    def keep(self) -> None:
        """Writes down what has come so far."""
        self._note()
        self.writer.flush()

    @property
    def capabilities(self) -> walks.Capabilities:
        """What the server can do, once the load knows."""
        if self.manifest.capabilities is None:
            raise ValueError("asked for before the probe")
        return self.manifest.capabilities

    @property
    def _goes_by_update(self) -> bool:
        return self.manifest.window.updated_from_ms is not None and self.capabilities.filters

    def _pages(self, steps: Iterator[Rows | Unreadable]) -> Iterator[Rows]:
        """The pages that a walk meets; notes the rows that the list cannot serve, for the next walks as well."""
        note = self.manifest
        for step in walks.one_ahead(steps):
            if isinstance(step, Unreadable):
                self._note_unreadable(step.task_id, step.reason)
                insort(self.unserved, step.task_id)
                continue
            if step.is_by_id:
                note.had_by_id = sorted({*note.had_by_id, *(row.task_id for row in step.rows if row.task_id)})
            yield step

    def _known_between(self, after: str, last: str) -> Iterable[str]:
        return self.writer.known.expected_between(after, last, Window())

    def _take(self, steps: Iterator[Rows | Unreadable]) -> None:
        """Takes in what a walk other than the one by id meets, which may be tasks that were met before."""
        note = self.manifest
        for step in self._pages(steps):
            tasks = [row for row in step.rows if row.task_id is not None]
            ids = {row.task_id for row in tasks if row.task_id is not None}
            self.writer.known.look_up(ids)
            met_before = self._met_before(ids)
            self._count(tasks, met_before)
            taken = self.writer.add_page(step.rows, step.fetched_at_ms)
            if self._goes_by_update:
                self._note_overlap(tasks, taken)
            self.seen |= taken.keys
            self.vanished -= taken.keys
            self._note_readable(ids)
            note.tasks_seen += len((ids - met_before) | (taken.landed - ids))
            self._checkpoint(note.stage, note.cursor)

    def _met_before(self, ids: set[str]) -> set[str]:
        """Those of `ids` that the load has met already: a walk by id all that are known, but for those it missed."""
        if self.manifest.stage == "start":
            return ids & self.seen
        unreadable = {missing.task_id for missing in self.manifest.unreadable}
        return {task_id for task_id in ids - self.vanished - unreadable if self.writer.known.has(task_id)}

    def _count(self, rows: list[Row], met_before: AbstractSet[str] = frozenset()) -> None:
        """Counts the rows of a page in; before they land, where some were met before in a state still known."""
        note, known = self.manifest, self.writer.known
        met = {row.task_id: row.updated_at_ms for row in rows if row.task_id is not None}
        self.digests.add(met, {task_id: known.updated_at_ms(task_id) for task_id in met.keys() & met_before})
        if note.server_started_at_ms is not None:
            past = (updated for updated in met.values() if updated and updated <= note.server_started_at_ms)
            note.newest_update_ms = max([note.newest_update_ms or 0, *past])
        if note.settled_until_ms is not None:
            note.settled_seen += sum(
                (row.created_at_ms or 0) < note.settled_until_ms and row.task_id not in met_before for row in rows
            )

    def _note_overlap(self, rows: list[Row], taken: PageResult) -> None:
        """Counts the tasks that lie before the point proven so far: there to be met again, not to be news."""
        proven_ms = needed(self.manifest.window.updated_from_ms) + self.settings.overlap_seconds * 1000
        for row in rows:
            if row.updated_at_ms is not None and row.updated_at_ms < proven_ms and row.task_id not in self.seen:
                self.manifest.overlap_rows += 1
                self.manifest.overlap_equal += row.task_id not in taken.landed

    def _note_vanished(self, after: str | None, last: str | None, met: set[str]) -> None:
        """Notes known tasks with after < id <= last that the list does not show; one it cannot serve is still there."""
        unreadable = {missing.task_id for missing in self.manifest.unreadable}
        self.vanished |= set(self.writer.known.expected_between(after, last, self.manifest.window)) - met - unreadable

    def _why_unlisted(self, payload: bytes) -> str:
        """Why the API has a task that its list shows no more: a list is limited to the key's project."""
        project = project_of(payload)
        if project is not None and self.project is not None and project != self.project:
            return f"{ELSEWHERE} ({project})"
        return "the list shows it no more, though the API has it"

    def _note_deleted(self, task_id: str) -> None:
        if task_id not in self.manifest.deleted:
            self.manifest.deleted = [*self.manifest.deleted, task_id]

    def _note_readable(self, task_ids: set[str]) -> None:
        """Takes back what was noted of tasks that were served after all."""
        note = self.manifest
        if any(missing.task_id in task_ids for missing in note.unreadable):
            note.unreadable = [missing for missing in note.unreadable if missing.task_id not in task_ids]

    def _note_unreadable(self, task_id: str, reason: str) -> None:
        note = self.manifest
        if task_id not in {missing.task_id for missing in note.unreadable}:
            note.unreadable = [*note.unreadable, Missing(task_id, reason)]
        self.callbacks.say(f"task {task_id} is unreadable: {reason}")

    def _checkpoint(self, stage: str, cursor: str | None) -> None:
        self._note()
        self.writer.checkpoint(stage, cursor)
        self._report()

    def _note(self) -> None:
        """Brings the manifest up to date with what is held elsewhere."""
        note, traffic = self.manifest, self.client.traffic
        requests, attempts_repeated, bytes_received = self.before
        note.requests = requests + traffic.requests
        note.attempts_repeated = attempts_repeated + traffic.attempts_repeated
        note.bytes_received = bytes_received + traffic.bytes_received
        if not note.parts:  # for all of its rows the same, those that are made before it is complete too
            note.clock_skew_seconds = traffic.clock_skew_seconds
        note.vanished = sorted(self.vanished)
        note.digest_ids, note.digest_states = self.digests.ids, self.digests.states

    def _report(self) -> None:
        note, counted = self.manifest, self.manifest.server_count_before
        self.callbacks.progress(
            Progress(
                account=note.account,
                lane=note.lane,
                tasks_read=note.tasks_seen,
                expected_tasks=None if counted is None else max(counted, note.tasks_seen),
                rows_read=note.rows_read - self.rows_before,
                elapsed_seconds=time.monotonic() - self.began,
            )
        )
