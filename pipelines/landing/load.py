"""One load, from its first request to its proof.

Fetch by a walk that loses nothing, land what is new, prove what is there.
"""

import time
from bisect import insort
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from functools import cached_property

from pipelines import __version__
from pipelines.landing import damage
from pipelines.landing.context import AccountContext, Progress
from pipelines.landing.digest import Digests
from pipelines.landing.manifest import Lane, Manifest, Missing, Window
from pipelines.landing.writer import LoadWriter, PageResult
from pipelines.livepeer import walks
from pipelines.livepeer.rows import Row, project_of, read_row

# Where an account's key was moved to another project everything vanishes at once: look up so many, and say so.
MOST_LOOKUPS = 1000
CATCH_UP_ROUNDS = 3
ELSEWHERE = "in another project"
LISTS_ONLY = "the key may list tasks and not get one by id (403)"
UNSETTLED = "a missed task could hide behind one that was deleted meanwhile"


class Load:
    """One load from its first request to its proof."""

    def __init__(self, context: AccountContext, lane: Lane, window: Window) -> None:
        self.settings = context.settings
        self.client = context.client
        self.callbacks = context.callbacks
        self.zone = context.zone
        self.began = time.monotonic()
        manifest = _resume_or_begin(context, lane, window)
        self.writer = LoadWriter(context.catalog, manifest, context.redactor)
        self.manifest = manifest
        self.seen: set[str] = set()  # tasks met by walks other than the one by id, whose rows are distinct as they come
        self.vanished: set[str] = set(manifest.vanished)
        self.refused: list[str] = []  # tasks to look up, with a key that may not
        self.digests = Digests(manifest.digest_ids, manifest.digest_states)
        self.unserved = unserved(context.catalog.manifests(context.account, newest_first=True))
        self.hints = walks.Hints(self.unserved, self._known_between)
        self.project: str | None = None  # of the tasks that the list shows
        # By earlier processes.
        self.before = (manifest.requests, manifest.attempts_repeated, manifest.bytes_received)
        self.rows_before = manifest.rows_read

    def fetch(self) -> None:
        note = self.manifest
        if note.lane != "observe":
            self._probe()
        if not self.capabilities.id_keyset:
            self._fetch_by_documented_paging()
            return
        if self._goes_by_update and needed(note.window.updated_from_ms) > needed(note.server_started_at_ms):
            self.callbacks.say("the server's clock stands before the last proven point: the whole list is read")
            note.window = Window()
        if self.capabilities.count and note.server_count_before is None:
            note.server_count_before = walks.count(self.client, self._filters())
        if self._goes_by_update:
            self._fetch_by_update()
            self.look_up(task_id for task_id in note.looked_up if task_id not in self.seen)
        else:
            self._settle()
            self._fetch_by_id(self._filters())
            self._catch_up()
        self._prove()

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

    def complete(self) -> Manifest:
        note = self.manifest
        self._note()
        note.finished_at_ms = max(note.started_at_ms, time.time_ns() // 1_000_000)  # our clock may have been set back
        elsewhere = [missing.task_id for missing in note.unreadable if missing.reason.startswith(ELSEWHERE)]
        if elsewhere:
            self._because(f"{len(elsewhere)} archived tasks are {ELSEWHERE} now, first {elsewhere[0]}")
        if missing := [missing for missing in note.unreadable if missing.task_id not in elsewhere]:
            self._because(f"{len(missing)} tasks could not be had, first {missing[0].task_id}: {missing[0].reason}")
        if self.refused:
            tasks = f"{len(self.refused)} tasks, first {self.refused[0]}"
            self._because(f"{LISTS_ONLY}: whether {tasks}, were deleted or changed cannot be known")
        walked_by_key = note.capabilities is not None and note.capabilities.id_keyset
        if note.verdict != "broken" and note.lane in ("sweep", "changes", "observe") and walked_by_key:
            note.proven_until_ms = self._proven_until_ms()
            note.newest_update_ms = max(note.newest_update_ms or 0, note.window.updated_from_ms or 0)
        if note.verdict is None:
            note.verdict = "limited" if note.reasons else "whole"
        note.stage, note.cursor = "done", None
        return self.writer.complete()

    def _proven_until_ms(self) -> int:
        """When the walk began: by the earliest Date, of which any may be wrong, or by our clock if that is well behind.

        A server's clock that stands ahead and is set right later gives times to changes that lie before the Date.
        """
        note = self.manifest
        started_ms = needed(note.server_started_at_ms)
        proven_ms = min(started_ms, self.client.traffic.earliest_server_at_ms or started_ms)
        ahead_seconds = -(self.client.traffic.clock_skew_seconds or 0)
        if ahead_seconds <= self.settings.overlap_seconds + 1:  # a Date is a whole second
            return proven_ms
        self._because(
            f"the server's clock is {ahead_seconds:,.0f} s ahead of ours, which is more than the overlap: "
            "the archive is proven up to our own time"
        )
        return min(proven_ms, note.started_at_ms)

    @property
    def capabilities(self) -> walks.Capabilities:
        """What the server can do, once the load knows."""
        if self.manifest.capabilities is None:
            raise ValueError("asked for before the probe")
        return self.manifest.capabilities

    @property
    def _goes_by_update(self) -> bool:
        return self.manifest.window.updated_from_ms is not None and self.capabilities.filters

    def _probe(self) -> None:
        note = self.manifest
        capabilities, first = walks.probe(self.client)
        if note.capabilities is None:
            note.capabilities, note.server_started_at_ms = capabilities, server_clock_ms(first.server_at_ms)
        self.project = project_of(first.rows[0]) if first.rows else None
        if capabilities.count and note.server_count_before is None and self._filters() is None:
            note.server_count_before = first.total_count if first.rows else 0

    def _filters(self) -> walks.Filters | None:
        """The window in the server's words; a server without filters has the whole list read."""
        window = self.manifest.window
        if not self.capabilities.filters:
            return None
        if window.updated_from_ms is not None:
            return walks.updated_since(window.updated_from_ms)
        if window.created_from_ms is not None and window.created_to_ms is not None:
            return walks.created_between(window.created_from_ms, window.created_to_ms)
        return None

    def _fetch_by_id(self, filters: walks.Filters | None) -> None:
        """The walk by id, from where an interrupted one got to; notes known tasks that it does not meet."""
        note = self.manifest
        if note.stage not in ("start", "by id"):
            return
        after = note.cursor
        for step in self._pages(walks.by_id(self.client, self.settings.page_size, filters, after, self.hints)):
            keys = self.writer.add_page(step.rows, step.fetched_at_ms).keys
            self._count(step.rows)
            self._note_vanished(after, step.cursor, keys)
            note.tasks_seen += len(keys)
            after = step.cursor
            self._checkpoint("by id", after)
        self._note_vanished(after, None, set())
        self._checkpoint("caught up", None)

    def _catch_up(self) -> None:
        """Reads what came behind the walk by id: for a sweep the updated, for a backfill the created since it began."""
        note, size = self.manifest, self.settings.page_size
        if not self.capabilities.filters:
            return
        since_ms = needed(note.server_started_at_ms) - self.settings.overlap_seconds * 1000
        if note.lane == "sweep":
            self._take(walks.by_update(self.client, size, since_ms, self.hints))
        elif note.lane == "backfill" and since_ms < (to_ms := needed(note.window.created_to_ms)):
            since_ms = max(since_ms, needed(note.window.created_from_ms))
            self._take(walks.by_id(self.client, size, walks.created_between(since_ms, to_ms), hints=self.hints))

    def _fetch_by_update(self) -> None:
        self._take(self._by_update())

    def _by_update(self) -> Iterator[walks.Rows | walks.Unreadable]:
        since_ms = needed(self.manifest.window.updated_from_ms)
        return walks.by_update(self.client, self.settings.page_size, since_ms, self.hints)

    def _pages(self, steps: Iterator[walks.Rows | walks.Unreadable]) -> Iterator[walks.Rows]:
        """The pages that a walk meets; notes the rows that the list cannot serve, for the next walks as well."""
        note = self.manifest
        for step in walks.one_ahead(steps):
            if isinstance(step, walks.Unreadable):
                self._note_unreadable(step.task_id, step.reason)
                insort(self.unserved, step.task_id)
                continue
            if step.is_by_id:
                note.had_by_id = sorted({*note.had_by_id, *(row.task_id for row in step.rows if row.task_id)})
            yield step

    def _known_between(self, after: str, last: str) -> Iterable[str]:
        return self.writer.known.expected_between(after, last, Window())

    def _take(self, steps: Iterator[walks.Rows | walks.Unreadable]) -> None:
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

    def _fetch_by_documented_paging(self) -> None:
        note = self.manifest
        self._because(
            "the server has no paging by key: its documented paging was walked until nothing new came, which cannot "
            "prove that no row was missed"
        )
        self.digests, note.tasks_seen = Digests(), 0  # after an interruption it begins anew
        self._take(walks.by_documented_paging(self.client, self.settings.page_size))
        self.vanished = set(self.writer.known.expected_between(None, None, note.window)) - self.seen
        self._look_up_vanished()

    def _settle(self) -> None:
        """Has the server count the tasks created well before the walk, which no later insert or delay can add to."""
        note = self.manifest
        if note.settled_until_ms is None or (note.settled_count is None and not note.pages):
            until_ms = needed(note.server_started_at_ms) - self.settings.overlap_seconds * 1000
            note.settled_count = self._count_settled(until_ms)
            note.settled_until_ms = until_ms

    def _count_settled(self, until_ms: int) -> int | None:
        window = self.manifest.window
        if not (self.capabilities.count and self.capabilities.filters):
            return None
        to_ms = min(until_ms, until_ms if window.created_to_ms is None else window.created_to_ms)
        return walks.count(self.client, walks.created_between(window.created_from_ms, to_ms))

    def _prove(self) -> None:
        """Compares the tasks met with the server's count afterwards, and looks up those that it lists no more.

        A task deleted after it was read makes the count smaller than what was met: it is found by its id, or the count
        tells nothing. A count larger than what was met is first taken for tasks that appeared since: what is read after
        it must reach it. So a missed task could hide behind a deleted one: that is what the count of settled tasks
        before the walk is for.
        """
        note = self.manifest
        self._look_up_vanished()
        if not self.capabilities.count:
            self._because("the server does not count its rows, so that nothing confirms the number met")
            return
        for _ in range(CATCH_UP_ROUNDS):
            note.server_count_after = walks.count(self.client, self._filters())
            if note.server_count_after is None:
                self._because("the server could not count its rows, so that nothing confirms the number met")
                return
            if self._short_of(note.server_count_after, note.tasks_seen) > 0:
                (self._fetch_by_update if self._goes_by_update else self._catch_up)()
            else:
                self._explain_surplus()
            if self._short_of(note.server_count_after, note.tasks_seen) <= 0:
                self._prove_settled()
                return
        note.verdict = "broken"
        short = self._short_of(needed(note.server_count_after), note.tasks_seen)
        self._because(f"the server counts {note.server_count_after} tasks, {short} more than were met")

    def _explain_surplus(self) -> None:
        """Reads the list again where more tasks were met than the server counts: some may be there no more."""
        note = self.manifest
        surplus = -self._short_of(needed(note.server_count_after), note.tasks_seen)
        if 0 < surplus <= MOST_LOOKUPS:
            gone = self._met() - self._listed_again()
            self.vanished |= gone
            self.look_up(sorted(gone))
            surplus -= len(gone)
        if surplus > 0:
            self._because(f"{surplus} more tasks were met than the server counts, so that its count confirms nothing")

    def _met(self) -> set[str]:
        """The tasks that the load met."""
        self.writer.flush()
        met = set(self.writer.known.expected_between(None, None, self.manifest.window)) - self.vanished
        return met & self.seen if self._goes_by_update else met

    def _listed_again(self) -> set[str]:
        """The tasks that a second walk meets, which lands what is new by now."""
        listed: set[str] = set()

        def noted(steps: Iterator[walks.Rows | walks.Unreadable]) -> Iterator[walks.Rows | walks.Unreadable]:
            for step in steps:
                rows = step.rows if isinstance(step, walks.Rows) else [step]
                listed.update(row.task_id for row in rows if row.task_id is not None)
                yield step

        if self._goes_by_update:
            self._take(noted(self._by_update()))
        else:
            self._take(noted(walks.by_id(self.client, self.settings.page_size, self._filters(), hints=self.hints)))
            self._catch_up()
        return listed

    def _prove_settled(self) -> None:
        """Accounts for each task that the server counted before the walk began."""
        note = self.manifest
        if note.settled_until_ms is None:
            return
        if note.settled_count is None:
            self._because(f"the server cannot count the tasks created before the load: {UNSETTLED}")
            return
        short = self._short_of(note.settled_count, note.settled_seen)
        if short <= 0:
            return
        left = self._count_settled(note.settled_until_ms)
        if left is not None and (missed := self._short_of(left, note.settled_seen)) > 0:
            note.verdict = "broken"
            self._because(f"the server counts {missed} tasks, created before the load, that were not met")
        else:
            self._because(f"{short} tasks that the server counted at first were gone when the walk came: {UNSETTLED}")

    def _short_of(self, server_count: int, met: int) -> int:
        """Rows that the server counts and the walk neither met nor knows to be unreadable."""
        listed_unreadable = sum(missing.task_id not in self.vanished for missing in self.manifest.unreadable)
        return server_count - met - listed_unreadable

    def _look_up_vanished(self) -> None:
        self.look_up(sorted(self.vanished)[:MOST_LOOKUPS])
        if len(self.vanished) > MOST_LOOKUPS:
            self._because(
                f"{len(self.vanished)} archived tasks are listed no more, of which {MOST_LOOKUPS} were looked up: "
                "was the key moved to another project?"
            )

    def _because(self, reason: str) -> None:
        """Notes what the proof lacks; a load that went on may meet a reason twice."""
        if reason not in self.manifest.reasons:
            self.manifest.reasons = [*self.manifest.reasons, reason]

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
        """Takes back what was noted of tasks that could be had after all."""
        note = self.manifest
        if any(missing.task_id in task_ids for missing in note.unreadable):
            note.unreadable = [missing for missing in note.unreadable if missing.task_id not in task_ids]

    def _note_unreadable(self, task_id: str, reason: str) -> None:
        note = self.manifest
        if task_id not in {missing.task_id for missing in note.unreadable}:
            note.unreadable = [*note.unreadable, Missing(task_id, reason)]
        self.callbacks.say(f"task {task_id} cannot be had: {reason}")

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
                tasks_met=note.tasks_seen,
                expected_tasks=None if counted is None else max(counted, note.tasks_seen),
                rows_read=note.rows_read - self.rows_before,
                elapsed_seconds=time.monotonic() - self.began,
            )
        )


def _resume_or_begin(context: AccountContext, lane: Lane, window: Window) -> Manifest:
    """The manifest to write on: of an interrupted walk by id of the same window, else a fresh one.

    Other interrupted loads are closed as broken with what they had landed, so that nothing fetched is lost.
    """
    zone, account = context.zone, context.account
    resumed: Manifest | None = None
    context.catalog.clear_leftovers(account)
    context.catalog.refresh(account, files_too=False)
    for manifest in context.catalog.open_loads(account):
        walks_by_id = lane in ("sweep", "backfill")
        if resumed is None and walks_by_id and (manifest.lane, manifest.window) == (lane, window):
            resumed = manifest
            continue
        manifest.verdict = "broken"
        manifest.reasons = ["interrupted; what had landed is kept, a later load fetches the rest"]
        manifest.finished_at_ms = max(manifest.started_at_ms, time.time_ns() // 1_000_000)
        LoadWriter(context.catalog, manifest, context.redactor).complete()
    if resumed is not None:
        context.callbacks.say(f"resuming {resumed.load_id} after {resumed.rows_read:,} rows")
        resumed.run_id = context.run_id  # whoever started this run is to see what came of the load
        return resumed
    now_ms = time.time_ns() // 1_000_000
    return Manifest(
        load_id=zone.new_load_id(lane, now_ms),
        account=account,
        lane=lane,
        window=window,
        api_url=context.settings.api_url,
        code_version=__version__,
        run_id=context.run_id,
        started_at_ms=now_ms,
        lost_files=[lost.name for lost in damage.lost(context.catalog, account)],
    )


def unserved(loads: Iterable[Manifest]) -> list[str]:
    """Tasks that the list could not serve in the last sweep or since then; `loads`: the newest first."""
    found: set[str] = set()
    for load in loads:
        found.update(missing.task_id for missing in load.unreadable if "500" in missing.reason)
        found.update(load.had_by_id)
        if load.lane == "sweep" and load.verdict != "broken":
            break
    return sorted(found)


def server_clock_ms(date_ms: int | None) -> int:
    """The server's time at the first answer; our own, a minute back, where it sends no Date."""
    return date_ms if date_ms is not None else time.time_ns() // 1_000_000 - 60_000


def needed(value: int | None) -> int:
    """A value that the steps before have set."""
    if value is None:
        raise ValueError("a value that the lane's steps have set before is missing")
    return value
