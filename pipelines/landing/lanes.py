"""The lanes: ways of asking for tasks. All land the same way; which one a task came by never matters for what it means.

`sweep` reads the whole account by id and then what changed meanwhile; `range` is a part of a sweep, of which several
may be fetched at the same time; `changes` reads what was updated since the last proven point, minus an overlap;
`observe` the same, for one request where nothing is new; `backfill` what was created in a window; `refresh` single
tasks. `events` lands what webhooks delivered; what they could not, `sweep` and `changes` read from the API's log.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from pipelines.errors import LandingError, SettingsError
from pipelines.landing import damage
from pipelines.landing import ranges as divided
from pipelines.landing.begin import resume_or_begin, server_clock_ms, unserved
from pipelines.landing.context import AccountContext
from pipelines.landing.erasure import erased_tasks
from pipelines.landing.events import land_events
from pipelines.landing.journal import Journal
from pipelines.landing.known import differing, key_of
from pipelines.landing.load import Load
from pipelines.landing.manifest import Lane, Manifest, Window, needed
from pipelines.landing.missed import fetch_missed
from pipelines.landing.writer import as_landed
from pipelines.livepeer import pages, walks
from pipelines.livepeer.failures import ApiError, RowFault


class Extraction(AccountContext):
    """The lanes of one account."""

    _has_landed_events = False  # a version is published then, which a load is to prove

    def sync(self, lane: Literal["auto", "changes", "sweep"] = "auto") -> Manifest:
        """The nightly lane. `auto` sweeps an account that was never swept whole, or not since files of it were lost,
        and fetches changes otherwise."""
        lost = self._set_damage_aside(every_byte=lane == "sweep")
        if lane == "auto":
            is_proven = self.catalog.proven_until_ms(self.account) is not None
            is_swept = is_proven and not damage.unswept(lost, self.catalog.manifests(self.account, lane="sweep"))
            lane = "changes" if is_swept else "sweep"
        return self._run("sweep", Window()) if lane == "sweep" else self._run("changes", self._changed_since())

    def has_news(self) -> bool:
        """Whether `observe` would land anything: one request where it would not, and nothing is written."""
        if Journal(self.settings.home.events, self.account).waiting_bytes:
            return True
        self.catalog.refresh(self.account, files_too=False)
        with self.client:
            return self._look().has_news

    def observe(self, open_tasks: Callable[[int], list[str]] = lambda before_ms: []) -> Manifest | None:
        """What changed since the last proven point, and some of the open tasks; None, and nothing is written, where
        nothing changed and no event has landed.

        open_tasks: ids of those last changed before a time, the longest unseen first. They are asked for in turn.
        """
        self._set_damage_aside()
        with self.client:
            look = self._look()
            if not (look.has_news or self._has_landed_events):
                return None
            load = Load(self, resume_or_begin(self, "observe", look.window))
            note = load.manifest
            note.capabilities, note.server_started_at_ms = look.capabilities, look.server_at_ms
            looked_up = self.catalog.looked_up(self.account)
            found = open_tasks(needed(look.window.updated_from_ms))
            note.looked_up = sorted(found, key=lambda task_id: looked_up.get(task_id, ""))[
                : self.settings.observe_lookups
            ]
            return self._finish(load)

    def land_events(self) -> Manifest | None:
        """What webhooks delivered since the last run; None where that is nothing."""
        load = land_events(self)
        self._has_landed_events = self._has_landed_events or load is not None
        return load

    def backfill(self, created_from_ms: int, created_to_ms: int) -> Manifest:
        """Tasks created in [created_from_ms, created_to_ms)."""
        self._set_damage_aside()
        return self._run("backfill", Window(created_from_ms=created_from_ms, created_to_ms=created_to_ms))

    def refresh(self, task_ids: Iterable[str]) -> Manifest:
        """Single tasks, each by its id."""
        self._set_damage_aside()
        with self.client:
            load = Load(self, resume_or_begin(self, "refresh", Window()))
            load.look_up(task_ids)
            return load.complete()

    def _changed_since(self) -> Window:
        """The window of changes. Raises SettingsError where there is no proven point to go on from."""
        last = self.catalog.last_proving(self.account)
        if last is None:
            raise SettingsError(
                f"no proven sweep of account {self.account} yet to go on from: run `task-archive sync` without --lane"
            )
        return Window(updated_from_ms=changed_since_ms(last, self.settings.overlap_seconds * 1000))

    def _look(self) -> "_Look":
        """Compares what was updated since the last proven point with what has landed, page by page up to a difference.

        The server's capabilities are those that the last load found; where some are missing, no such look is cheap.
        """
        window = self._changed_since()
        loads = self.catalog.manifests(self.account, newest_first=True)
        capabilities = next(load.capabilities for load in loads if load.capabilities is not None)
        if not (capabilities.id_keyset and capabilities.filters and capabilities.count):
            raise SettingsError(f"{self.client.host} cannot be asked for changes alone: run `task-archive sync`")
        since_ms = needed(window.updated_from_ms)
        has_news = False
        hints = pages.Hints(unserved(self.catalog.manifests(self.account, newest_first=True)), between=None)
        erased = erased_tasks(self.zone, self.account)
        try:
            for step in walks.by_update(self.client, self.settings.page_size, since_ms, hints):
                if isinstance(step, pages.Unreadable):
                    continue
                landed = zip(step.rows, as_landed(self.redactor, step.rows, erased), strict=True)
                states = {key_of(row, sha256): (sha256, row.is_deleted) for row, (_, sha256) in landed}
                if differing(self.catalog, self.account, states):
                    has_news = True
                    break
        except RowFault:  # of a row that could be served until now
            has_news = True
        server_at_ms = server_clock_ms(self.client.traffic.earliest_server_at_ms)
        return _Look(window, capabilities, server_at_ms, has_news or server_at_ms < since_ms)

    def _set_damage_aside(self, every_byte: bool = False) -> list[damage.Damage]:
        """Has only files used that are what was landed; returns the landed files that are missing or quarantined."""
        self.catalog.refresh(self.account, every_byte=every_byte)
        return damage.set_aside(self.catalog, self.account, self.callbacks.say)

    def begin_ranges(self, number: int) -> tuple[str, list[str]]:
        """Begins a sweep whose ids are divided into ranges, for several workers to fetch.

        Returns the sweep and the loads of the ranges that are to be fetched: each by `fetch_range`, then `sync` by
        `sweep` proves them all. None are where a sweep goes on alone: one that was interrupted, or of a server that
        cannot page by id.
        """
        self._set_damage_aside(every_byte=True)
        note = resume_or_begin(self, "sweep", Window())
        if not self.zone.folder(self.account, note.load_id).exists():
            with self.client:
                *ranges, note.load_id = self.zone.new_load_ids(["range"] * number + ["sweep"], note.started_at_ms)
                Load(self, note).divide(ranges)
        return note.load_id, [load_id for load_id in note.ranges if not divided.is_complete(self, load_id)]

    def fetch_range(self, sweep_id: str, load_id: str) -> Manifest | None:
        """Fetches a range of a sweep, from where an interrupted worker got to; None where the sweep is over by now.

        Other workers may fetch other ranges at the same time.
        """
        note = divided.range_of(self, sweep_id, load_id)
        if note is None or note.stage == "done":
            return note
        with self.client:
            load = Load(self, note)
            load.keep()
            return self._finish(load)

    def _run(self, lane: Lane, window: Window) -> Manifest:
        note = resume_or_begin(self, lane, window)
        fetched = [self._range(note, load_id) for load_id in note.ranges]
        with self.client:
            load = Load(self, note)
            if note.ranges:
                load.take_in(fetched)
            if lane in ("sweep", "changes"):
                fetch_missed(self)
            return self._finish(load)

    def _range(self, sweep: Manifest, load_id: str) -> Manifest:
        """A range of a sweep, fetched now where no worker has."""
        one = Extraction(self.settings, self.account, self.run_id, self.callbacks, self.zone)
        with one.catalog:
            load = one.fetch_range(sweep.load_id, load_id)
        if load is None:
            raise LandingError(f"the sweep {sweep.load_id} was completed or removed meanwhile: run again")
        return load

    def _finish(self, load: Load) -> Manifest:
        try:
            load.fetch()
        except ApiError:
            load.keep()  # the next run goes on from here
            raise
        return load.complete()


@dataclass(frozen=True)
class _Look:
    """What a look at the changes found: its window, the server's capabilities and time, and whether anything is new."""

    window: Window
    capabilities: walks.Capabilities
    server_at_ms: int
    has_news: bool


def changed_since_ms(last: Manifest, overlap_ms: int) -> int:
    """From where on changes are asked for after the load that proved the archive last.

    Where our clock does not bear out the server's, the times of the updates tell: none that came after that load began
    lies further before the latest one met than the load took.
    """
    proven_ms = needed(last.proven_until_ms)
    is_borne_out = abs(last.clock_skew_seconds or 0) * 1000 <= overlap_ms
    if not is_borne_out and last.newest_update_ms is not None:
        took_ms = needed(last.finished_at_ms) - last.started_at_ms
        proven_ms = min(proven_ms, last.newest_update_ms - took_ms)
    return max(0, proven_ms - overlap_ms)
