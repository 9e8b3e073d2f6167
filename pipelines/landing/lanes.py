"""Running a lane: fetch by a walk that loses nothing, land what is new, prove what is there.

`sweep` reads the whole account by id and then what changed meanwhile; `changes` what was updated since the last proven
point, minus an overlap; `backfill` what was created in a window; `refresh` single tasks. All land the same way.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from pipelines import __version__
from pipelines.errors import SettingsError
from pipelines.landing import damage
from pipelines.landing.load import LoadWriter
from pipelines.landing.manifest import Lane, Manifest, Missing, Window
from pipelines.landing.zone import Zone
from pipelines.livepeer import walks
from pipelines.livepeer.client import Client, Politeness
from pipelines.livepeer.failures import ApiError
from pipelines.livepeer.redact import Redactor
from pipelines.livepeer.rows import read_row
from pipelines.settings import Settings

# Where an account's key was moved to another project everything vanishes at once: look up so many, and say so.
MOST_LOOKUPS = 1000
CATCH_UP_ROUNDS = 3


@dataclass(frozen=True)
class Progress:
    """How far a lane has come, after each page; expected_tasks is None where the server does not count."""

    account: str
    lane: Lane
    rows_read: int
    rows_landed: int
    expected_tasks: int | None
    elapsed_seconds: float

    def __str__(self) -> str:
        """Such as `default sweep: 12,000 of 200,000 tasks, 8,100/s, 23 s left`."""
        rate = self.rows_read / max(self.elapsed_seconds, 0.001)
        of = f" of {self.expected_tasks:,}" if self.expected_tasks else ""
        line = f"{self.account} {self.lane}: {self.rows_read:,}{of} tasks, {rate:,.0f}/s"
        if self.expected_tasks and rate:
            line += f", {max(0.0, (self.expected_tasks - self.rows_read) / rate):.0f} s left"
        return line


@dataclass(frozen=True)
class Listener:
    """Who wants to know: of progress after each page, and of what is worth a line."""

    progress: Callable[[Progress], None] = lambda progress: None
    say: Callable[[str], None] = lambda line: None


class Extraction:
    """Everything a lane needs for one account."""

    def __init__(self, settings: Settings, account: str, run_id: str, listener: Listener | None = None) -> None:
        settings.check_origin()
        self.settings = settings
        self.account = account
        self.run_id = run_id
        self.zone = Zone(settings.landing)
        self.listener = listener or Listener()
        keys = [key.get_secret_value() for key in settings.api_keys.values()]
        self.redactor = Redactor(settings.fingerprint_key_bytes(), keys)
        self.client = Client(
            settings.api_url,
            settings.accounts(account)[account].get_secret_value(),
            self.redactor.scrub,
            Politeness(
                timeout_seconds=settings.request_timeout_seconds,
                attempts=settings.attempts,
                retry_wait_seconds=settings.retry_wait_seconds,
                requests_per_second=settings.requests_per_second,
                on_retry=self.listener.say,
            ),
        )

    def sync(self, lane: Literal["auto", "changes", "sweep"] = "auto") -> Manifest:
        """The nightly lane. `auto` sweeps an account that was never swept whole, or not since files of it were lost,
        and fetches changes otherwise."""
        lost = self._set_damage_aside()
        loads = self.zone.manifests(self.account)
        proven_ms = proven_until_ms(loads)
        if lane == "auto":
            lane = "sweep" if proven_ms is None or damage.unswept(lost, loads) else "changes"
        if lane == "changes" and proven_ms is None:
            raise SettingsError(
                f"no proven sweep of account {self.account} yet to go on from: run `task-archive sync` without --lane"
            )
        if lane == "changes" and proven_ms is not None:
            return self._run("changes", Window(updated_from_ms=proven_ms - self.settings.overlap_seconds * 1000))
        return self._run("sweep", Window())

    def backfill(self, created_from_ms: int, created_to_ms: int) -> Manifest:
        """Tasks created in [created_from_ms, created_to_ms)."""
        self._set_damage_aside()
        return self._run("backfill", Window(created_from_ms=created_from_ms, created_to_ms=created_to_ms))

    def refresh(self, task_ids: Iterable[str]) -> Manifest:
        """Single tasks, each by its id."""
        self._set_damage_aside()
        with self.client:
            load = _Load(self, "refresh", Window())
            load.look_up(task_ids)
            return load.complete()

    def _set_damage_aside(self) -> list[damage.Damage]:
        """Has only files used that are what was landed; returns what the archive goes without."""
        found = damage.lost(self.zone, self.account) + damage.altered(self.zone, self.account)
        damage.set_aside(self.zone, found, self.listener.say)
        return damage.lost(self.zone, self.account)

    def _run(self, lane: Lane, window: Window) -> Manifest:
        with self.client:
            load = _Load(self, lane, window)
            try:
                load.fetch()
            except ApiError:
                load.writer.flush()  # the next run goes on from here
                raise
            return load.complete()


class _Load:
    """One load from its first request to its proof."""

    def __init__(self, extraction: Extraction, lane: Lane, window: Window) -> None:
        self.settings = extraction.settings
        self.client = extraction.client
        self.listener = extraction.listener
        self.began = time.monotonic()
        manifest = _resume_or_begin(extraction, lane, window)
        self.writer = LoadWriter(extraction.zone, manifest, extraction.redactor)
        self.manifest = manifest
        self.seen: set[str] = set()  # tasks met by walks other than the one by id, whose rows are distinct as they come
        self.vanished: set[str] = set(manifest.vanished)

    def fetch(self) -> None:
        note = self.manifest
        abilities, first = walks.probe(self.client)
        if note.abilities is None:
            note.abilities, note.server_started_at_ms = abilities, _server_clock_ms(first.server_at_ms)
        if not abilities.id_keyset:
            self._fetch_by_documented_paging()
            return
        filters = self._filters()
        if abilities.count and note.server_count_before is None:
            note.server_count_before = walks.count(self.client, filters)
        if note.lane == "changes" and abilities.filters:
            self._take(walks.by_update(self.client, self.settings.page_size, _needed(note.window.updated_from_ms)))
            note.tasks_seen = len(self.seen)
        else:
            self._fetch_by_id(filters)
            self._catch_up()
        self._prove()

    def look_up(self, task_ids: Iterable[str]) -> None:
        """Asks for single tasks; lands what is new of them and which are deleted."""
        note = self.manifest
        for task_id in task_ids:
            answer = self.client.get_task(task_id)
            if answer.payload is not None:
                row = read_row(answer.payload)
                self.seen |= self.writer.add_page([row], answer.fetched_at_ms)
                if row.is_deleted:
                    self._note_deleted(task_id)
            elif answer.status == 404:
                if self.writer.known.has(task_id):
                    self.writer.add_gone(task_id, answer.fetched_at_ms)
                if self.writer.known.is_deleted(task_id):
                    self._note_deleted(task_id)
                else:
                    self._note_unreadable(task_id, "the API knows no task of this id (404)")
            else:
                why = "belongs to another account (403)" if answer.status == 403 else "the server cannot serve it (500)"
                self._note_unreadable(task_id, why)
            self._report()
        if note.lane == "refresh":
            note.tasks_seen = len(self.seen)

    def complete(self) -> Manifest:
        note, traffic = self.manifest, self.client.traffic
        note.requests += traffic.requests
        note.attempts_repeated += traffic.attempts_repeated
        note.bytes_received += traffic.bytes_received
        note.clock_skew_seconds = traffic.clock_skew_seconds
        note.finished_at_ms = time.time_ns() // 1_000_000
        note.vanished = sorted(self.vanished)
        if note.unreadable:
            self._because(f"{len(note.unreadable)} tasks could not be had, first {note.unreadable[0].task_id}")
        if note.verdict is None:
            note.verdict = "limited" if note.reasons else "whole"
        walked_by_key = note.abilities is not None and note.abilities.id_keyset
        if note.verdict != "broken" and note.lane in ("sweep", "changes") and walked_by_key:
            note.proven_until_ms = note.server_started_at_ms
        note.stage, note.cursor = "done", None
        return self.writer.complete()

    def _filters(self) -> walks.Filters | None:
        """The window in the server's words; a server without filters has the whole list read."""
        window = self.manifest.window
        if self.manifest.abilities is None or not self.manifest.abilities.filters:
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
        for step in walks.one_ahead(walks.by_id(self.client, self.settings.page_size, filters, after)):
            if isinstance(step, walks.Unreadable):
                self._note_unreadable(step.task_id, step.reason)
                continue
            keys = self.writer.add_page(step.rows, step.fetched_at_ms)
            self._note_vanished(after, step.cursor, keys)
            note.tasks_seen += len(keys)
            after = step.cursor
            self._checkpoint("by id", after)
        self._note_vanished(after, None, set())
        self._checkpoint("caught up", None)

    def _catch_up(self) -> None:
        """Reads what came behind the walk by id: for a sweep the updated, for a backfill the created since it began."""
        note, size = self.manifest, self.settings.page_size
        if note.abilities is None or not note.abilities.filters:
            return
        since_ms = _needed(note.server_started_at_ms) - self.settings.overlap_seconds * 1000
        if note.lane == "sweep":
            self._take(walks.by_update(self.client, size, since_ms))
        elif note.lane == "backfill" and since_ms < (to_ms := _needed(note.window.created_to_ms)):
            since_ms = max(since_ms, _needed(note.window.created_from_ms))
            self._take(walks.by_id(self.client, size, walks.created_between(since_ms, to_ms)))

    def _take(self, steps: Iterator[walks.Rows | walks.Unreadable]) -> None:
        note = self.manifest
        for step in walks.one_ahead(steps):
            if isinstance(step, walks.Unreadable):
                self._note_unreadable(step.task_id, step.reason)
                continue
            appeared = note.appeared
            keys = self.writer.add_page(step.rows, step.fetched_at_ms)
            self.seen |= keys
            if note.lane in ("sweep", "backfill"):
                # The walk by id has counted all but the new ones and those that came back.
                note.tasks_seen += note.appeared - appeared + len(self.vanished & keys)
            self.vanished -= keys
            self._checkpoint(note.stage, note.cursor)

    def _fetch_by_documented_paging(self) -> None:
        note = self.manifest
        self._because(
            "the server has no paging by key: its documented paging was walked until nothing new came, which cannot "
            "prove that no row was missed"
        )
        self._take(walks.by_documented_paging(self.client, self.settings.page_size))
        note.tasks_seen = len(self.seen)
        self.vanished = set(self.writer.known.expected_between(None, None, note.window)) - self.seen
        self._look_up_vanished()

    def _prove(self) -> None:
        """Compares the tasks met with the server's count afterwards, and looks up those that it lists no more.

        A task deleted after it was read makes the count smaller than what was met, which is explained; a count larger
        than what was met is first taken for tasks that appeared since: what is read after it must reach it.
        """
        note = self.manifest
        self._look_up_vanished()
        if note.abilities is None or not note.abilities.count:
            self._because("the server does not count its rows, so that nothing confirms the number met")
            return
        for _ in range(CATCH_UP_ROUNDS):
            note.server_count_after = walks.count(self.client, self._filters())
            if note.server_count_after is None:
                self._because("the server could not count its rows, so that nothing confirms the number met")
                return
            if self._short_of(note.server_count_after) <= 0:
                return
            if note.lane == "changes" and note.abilities.filters:
                self._take(walks.by_update(self.client, self.settings.page_size, _needed(note.window.updated_from_ms)))
                note.tasks_seen = len(self.seen)
            else:
                self._catch_up()
            if self._short_of(note.server_count_after) <= 0:
                return
        note.verdict = "broken"
        short = self._short_of(_needed(note.server_count_after))
        self._because(f"the server counts {note.server_count_after} tasks, {short} more than were met")

    def _short_of(self, server_count: int) -> int:
        """Rows that the server counts and the walk neither met nor knows to be unreadable."""
        listed_unreadable = sum(missing.task_id not in self.vanished for missing in self.manifest.unreadable)
        return server_count - self.manifest.tasks_seen - listed_unreadable

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

    def _note_deleted(self, task_id: str) -> None:
        if task_id not in self.manifest.deleted:
            self.manifest.deleted = [*self.manifest.deleted, task_id]

    def _note_unreadable(self, task_id: str, reason: str) -> None:
        note = self.manifest
        if task_id not in {missing.task_id for missing in note.unreadable}:
            note.unreadable = [*note.unreadable, Missing(task_id, reason)]
        self.listener.say(f"task {task_id} cannot be had: {reason}")

    def _checkpoint(self, stage: str, cursor: str | None) -> None:
        self.manifest.vanished = sorted(self.vanished)
        self.writer.checkpoint(stage, cursor)
        self._report()

    def _report(self) -> None:
        note = self.manifest
        self.listener.progress(
            Progress(
                account=note.account,
                lane=note.lane,
                rows_read=note.rows_read,
                rows_landed=note.rows_landed,
                expected_tasks=note.server_count_before,
                elapsed_seconds=time.monotonic() - self.began,
            )
        )


def proven_until_ms(manifests: Iterable[Manifest]) -> int | None:
    """The server's clock up to which every change has landed; None before the first proven sweep."""
    proven: int | None = None
    for manifest in manifests:
        if manifest.proven_until_ms is not None and (manifest.lane == "sweep" or proven is not None):
            proven = max(proven or 0, manifest.proven_until_ms)
    return proven


def _resume_or_begin(extraction: Extraction, lane: Lane, window: Window) -> Manifest:
    """The manifest to write on: of an interrupted walk by id of the same window, else a fresh one.

    Other interrupted loads are closed as broken with what they had landed, so that nothing fetched is lost.
    """
    zone, account = extraction.zone, extraction.account
    resumed: Manifest | None = None
    zone.clear_leftovers(account)
    for manifest in zone.open_loads(account):
        walks_by_id = lane in ("sweep", "backfill")
        if resumed is None and walks_by_id and (manifest.lane, manifest.window) == (lane, window):
            resumed = manifest
            continue
        manifest.verdict = "broken"
        manifest.reasons = ["interrupted; what had landed is kept, a later load fetches the rest"]
        manifest.finished_at_ms = manifest.finished_at_ms or time.time_ns() // 1_000_000
        LoadWriter(zone, manifest, extraction.redactor).complete()
    if resumed is not None:
        extraction.listener.say(f"resuming {resumed.load_id} after {resumed.rows_read:,} rows")
        return resumed
    now_ms = time.time_ns() // 1_000_000
    return Manifest(
        load_id=zone.new_load_id(lane, now_ms),
        account=account,
        lane=lane,
        window=window,
        api_url=extraction.settings.api_url,
        code_version=__version__,
        run_id=extraction.run_id,
        started_at_ms=now_ms,
        lost_files=[lost.name for lost in damage.lost(zone, account)],
    )


def _server_clock_ms(date_ms: int | None) -> int:
    """The server's time at the first answer; our own, a minute back, where it sends no Date."""
    return date_ms if date_ms is not None else time.time_ns() // 1_000_000 - 60_000


def _needed(value: int | None) -> int:
    if value is None:
        raise ValueError("a value that the lane's steps have set before is missing")
    return value
