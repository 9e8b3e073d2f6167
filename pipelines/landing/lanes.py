"""The lanes: ways of asking for tasks. All land the same way; which one a task came by never matters for what it means.

`sweep` reads the whole account by id and then what changed meanwhile; `changes` what was updated since the last proven
point, minus an overlap; `observe` the same, for one request where nothing is new; `backfill` what was created in a
window; `refresh` single tasks.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from pipelines.errors import SettingsError
from pipelines.landing import damage
from pipelines.landing.known import differing, key_of
from pipelines.landing.load import Load, needed, server_clock_ms
from pipelines.landing.manifest import Lane, Manifest, Window
from pipelines.landing.source import Source
from pipelines.landing.writer import as_landed
from pipelines.livepeer import walks
from pipelines.livepeer.failures import ApiError


class Extraction(Source):
    """The lanes of one account."""

    def sync(self, lane: Literal["auto", "changes", "sweep"] = "auto") -> Manifest:
        """The nightly lane. `auto` sweeps an account that was never swept whole, or not since files of it were lost,
        and fetches changes otherwise."""
        lost = self._set_damage_aside()
        loads = self.zone.manifests(self.account)
        proven_ms = proven_until_ms(loads)
        if lane == "auto":
            lane = "sweep" if proven_ms is None or damage.unswept(lost, loads) else "changes"
        return self._run("sweep", Window()) if lane == "sweep" else self._run("changes", self._changed_since(loads))

    def has_news(self) -> bool:
        """Whether `observe` would land anything: one request where it would not, and nothing is written."""
        with self.client:
            return self._look(self.zone.manifests(self.account)).has_news

    def observe(self, open_tasks: Callable[[int], list[str]] = lambda before_ms: []) -> Manifest | None:
        """What changed since the last proven point, and some of the open tasks; None, and nothing is written, where
        nothing changed.

        open_tasks: ids of those last changed before a time, the longest unseen first. They are asked for in turn.
        """
        self._set_damage_aside()
        loads = self.zone.manifests(self.account)
        with self.client:
            look = self._look(loads)
            if not look.has_news:
                return None
            load = Load(self, "observe", look.window)
            note = load.manifest
            note.abilities, note.server_started_at_ms = look.abilities, look.server_at_ms
            looked_up = {task_id: earlier.load_id for earlier in loads for task_id in earlier.looked_up}
            found = open_tasks(needed(look.window.updated_from_ms))
            note.looked_up = sorted(found, key=lambda task_id: looked_up.get(task_id, ""))[
                : self.settings.observe_lookups
            ]
            return self._finish(load)

    def backfill(self, created_from_ms: int, created_to_ms: int) -> Manifest:
        """Tasks created in [created_from_ms, created_to_ms)."""
        self._set_damage_aside()
        return self._run("backfill", Window(created_from_ms=created_from_ms, created_to_ms=created_to_ms))

    def refresh(self, task_ids: Iterable[str]) -> Manifest:
        """Single tasks, each by its id."""
        self._set_damage_aside()
        with self.client:
            load = Load(self, "refresh", Window())
            load.look_up(task_ids)
            return load.complete()

    def _changed_since(self, loads: list[Manifest]) -> Window:
        """The window of changes. Raises SettingsError where there is no proven point to go on from."""
        proven_ms = proven_until_ms(loads)
        if proven_ms is None:
            raise SettingsError(
                f"no proven sweep of account {self.account} yet to go on from: run `task-archive sync` without --lane"
            )
        return Window(updated_from_ms=proven_ms - self.settings.overlap_seconds * 1000)

    def _look(self, loads: list[Manifest]) -> "_Look":
        """Compares what was updated since the last proven point with what has landed, page by page up to a difference.

        The server's abilities are those that the last load found; where some are missing, no such look is cheap.
        """
        window = self._changed_since(loads)
        abilities = next(load.abilities for load in reversed(loads) if load.abilities is not None)
        if not (abilities.id_keyset and abilities.filters and abilities.count):
            raise SettingsError(f"{self.client.host} cannot be asked for changes alone: run `task-archive sync`")
        since_ms = needed(window.updated_from_ms)
        recent = [load for load in loads if _ended_ms(load) >= since_ms]
        has_news = False
        for step in walks.by_update(self.client, self.settings.page_size, since_ms):
            if isinstance(step, walks.Unreadable):
                has_news = True
                break
            landed = zip(step.rows, as_landed(self.redactor, step.rows), strict=True)
            states = {key_of(row, sha256): (sha256, row.is_deleted) for row, (_, sha256) in landed}
            # What is on the page lies in recent loads, but for odd clocks: all the others are opened only to make sure.
            if states and (left := differing(self.zone, recent, states)) and differing(self.zone, loads, left):
                has_news = True
                break
        server_at_ms = server_clock_ms(self.client.traffic.earliest_server_at_ms)
        return _Look(window, abilities, server_at_ms, has_news or server_at_ms < since_ms)

    def _set_damage_aside(self) -> list[damage.Damage]:
        """Has only files used that are what was landed; returns what the archive goes without."""
        found = damage.lost(self.zone, self.account) + damage.altered(self.zone, self.account)
        damage.set_aside(self.zone, found, self.listener.say)
        return damage.lost(self.zone, self.account)

    def _run(self, lane: Lane, window: Window) -> Manifest:
        with self.client:
            return self._finish(Load(self, lane, window))

    def _finish(self, load: Load) -> Manifest:
        try:
            load.fetch()
        except ApiError:
            load.keep()  # the next run goes on from here
            raise
        return load.complete()


@dataclass(frozen=True)
class _Look:
    """What a look at the changes told: the window looked at, by which abilities, the server's time, whether anything is
    new."""

    window: Window
    abilities: walks.Abilities
    server_at_ms: int
    has_news: bool


def proven_until_ms(manifests: Iterable[Manifest]) -> int | None:
    """The server's clock up to which every change has landed; None before the first proven sweep."""
    proven: int | None = None
    for manifest in manifests:
        if manifest.proven_until_ms is not None and (manifest.lane == "sweep" or proven is not None):
            proven = manifest.proven_until_ms  # the last, not the latest: a server's clock may have stood wrong
    return proven


def _ended_ms(load: Manifest) -> float:
    """About when a load ended by the server's clock."""
    return (load.finished_at_ms or load.started_at_ms) - (load.clock_skew_seconds or 0) * 1000
