"""One load, from its first request to its proof.

Fetch by a walk that loses nothing, land what is new, prove what is there.
"""

from collections.abc import Iterable, Iterator

from pipelines.landing.begin import server_clock_ms
from pipelines.landing.digest import Digests
from pipelines.landing.manifest import Manifest, Window, needed
from pipelines.landing.proof import MOST_LOOKUPS, Evidence, prove, unread
from pipelines.landing.reading import Reading
from pipelines.livepeer import walks
from pipelines.livepeer.pages import Rows, Unreadable, count
from pipelines.livepeer.tasks import source
from pipelines.livepeer.tasks.rows import project_of

CATCH_UP_ROUNDS = 3


class Load(Reading):
    """One load from its first request to its proof."""

    def fetch(self) -> None:
        note = self.manifest
        if note.lane == "range":
            self._fetch_by_id(None)
            return
        if note.lane != "observe":
            self._probe()
        if not self.capabilities.id_keyset:
            self._fetch_by_documented_paging()
            return
        if self._goes_by_update and needed(note.window.updated_from_ms) > needed(note.server_started_at_ms):
            self.callbacks.say("the server's clock stands before the last proven point: the whole list is read")
            note.window = Window()
        if self.capabilities.count and note.server_count_before is None:
            note.server_count_before = count(self.client, self._filters())
        if self._goes_by_update:
            self._fetch_by_update()
            self.look_up(task_id for task_id in note.looked_up if task_id not in self.seen)
        else:
            self._settle()
            self._fetch_by_id(self._filters())
            self._catch_up()
        self._compare_counts()

    def divide(self, ranges: Iterable[str]) -> None:
        """Begins a sweep whose ids are fetched by the loads `ranges`: counts what is there before they begin.

        A server that cannot page by id leaves it undivided.
        """
        self._probe()
        if self.capabilities.id_keyset:
            self._settle()
            self.manifest.ranges = list(ranges)
        self.keep()

    def take_in(self, ranges: Iterable[Manifest]) -> None:
        """Counts in, once, what the loads of a sweep's ranges read: as if the sweep had walked by id itself."""
        note = self.manifest
        if note.stage != "start":
            return
        for load in ranges:
            note.tasks_seen += load.tasks_seen
            note.settled_seen += load.settled_seen
            note.newest_update_ms = max(note.newest_update_ms or 0, load.newest_update_ms or 0) or None
            note.server_started_at_ms = min(needed(note.server_started_at_ms), needed(load.server_started_at_ms))
            note.unreadable = [*note.unreadable, *load.unreadable]
            note.had_by_id = [*note.had_by_id, *load.had_by_id]
            self.vanished.update(load.vanished)
            self.digests += Digests(load.digest_ids, load.digest_states)
        self._checkpoint("caught up", None)

    def complete(self) -> Manifest:
        note = self.manifest
        self._note()
        if note.lane == "range" and (earliest_ms := self.client.traffic.earliest_server_at_ms):
            note.server_started_at_ms = min(needed(note.server_started_at_ms), earliest_ms)
        proof = prove(note, self._evidence())
        note.verdict, note.reasons = proof.verdict, proof.reasons
        if proof.proven_until_ms is not None:
            note.proven_until_ms = proof.proven_until_ms
            note.newest_update_ms = max(note.newest_update_ms or 0, note.window.updated_from_ms or 0)
        note.stage, note.cursor = "done", None
        return self.writer.complete()

    def _evidence(self) -> Evidence:
        traffic = self.client.traffic
        return Evidence(
            surplus=self.surplus,
            settled_left=self.settled_left,
            refused=self.refused,
            earliest_server_at_ms=traffic.earliest_server_at_ms,
            ahead_seconds=-(traffic.clock_skew_seconds or 0),
            overlap_seconds=self.settings.overlap_seconds,
        )

    def _probe(self) -> None:
        note = self.manifest
        capabilities, first = walks.probe(self.client)
        if note.capabilities is None:
            note.capabilities, note.server_started_at_ms = capabilities, server_clock_ms(first.server_at_ms)
        self.project = project_of(first.rows[0]) if first.rows else None
        if capabilities.count and note.server_count_before is None and self._filters() is None:
            note.server_count_before = first.total_count if first.rows else 0

    def _filters(self) -> source.Filters | None:
        """The window in the server's words; a server without filters has the whole list read."""
        window = self.manifest.window
        if not self.capabilities.filters:
            return None
        if window.updated_from_ms is not None:
            return source.updated_since(window.updated_from_ms)
        if window.created_from_ms is not None and window.created_to_ms is not None:
            return source.created_between(window.created_from_ms, window.created_to_ms)
        return None

    def _fetch_by_id(self, filters: source.Filters | None) -> None:
        """The walk by id, from where an interrupted one got to; notes known tasks that it does not meet."""
        note = self.manifest
        if note.stage not in ("start", "by id"):
            return
        after, last = note.cursor or note.window.after_id, note.window.last_id
        steps = walks.by_id(self.client, self.settings.page_size, filters, after, self.hints)
        for step in self._pages(steps if last is None else walks.up_to(last, steps)):
            keys = self.writer.add_page(step.rows, step.fetched_at_ms).keys
            self._count(step.rows)
            self._note_vanished(after, step.cursor, keys)
            note.tasks_seen += len(keys)
            after = step.cursor
            self._checkpoint("by id", after)
        self._note_vanished(after, last, set())
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
            self._take(walks.by_id(self.client, size, source.created_between(since_ms, to_ms), hints=self.hints))

    def _fetch_by_update(self) -> None:
        self._take(self._by_update())

    def _by_update(self) -> Iterator[Rows | Unreadable]:
        since_ms = needed(self.manifest.window.updated_from_ms)
        return walks.by_update(self.client, self.settings.page_size, since_ms, self.hints)

    def _fetch_by_documented_paging(self) -> None:
        note = self.manifest
        self.digests, note.tasks_seen = Digests(), 0  # after an interruption it begins anew
        self._take(walks.by_documented_paging(self.client, self.settings.page_size))
        self.vanished = set(self.writer.known.expected_between(None, None, note.window)) - self.seen
        self._look_up_vanished()

    def _settle(self) -> None:
        """Has the server count the tasks created well before the walk, which no later insert or delay can add to."""
        note = self.manifest
        if note.settled_until_ms is None or (note.settled_count is None and not (note.pages or note.ranges)):
            until_ms = needed(note.server_started_at_ms) - self.settings.overlap_seconds * 1000
            note.settled_count = self._count_settled(until_ms)
            note.settled_until_ms = until_ms

    def _count_settled(self, until_ms: int) -> int | None:
        window = self.manifest.window
        if not (self.capabilities.count and self.capabilities.filters):
            return None
        to_ms = min(until_ms, until_ms if window.created_to_ms is None else window.created_to_ms)
        return count(self.client, source.created_between(window.created_from_ms, to_ms))

    def _compare_counts(self) -> None:
        """Compares the tasks read with the server's count, and reads again where they differ: see `proof`."""
        note = self.manifest
        self._look_up_vanished()
        if not self.capabilities.count:
            return
        for _ in range(CATCH_UP_ROUNDS):
            note.server_count_after = count(self.client, self._filters())
            if note.server_count_after is None:
                return
            if self._unread(note.server_count_after) > 0:
                (self._fetch_by_update if self._goes_by_update else self._catch_up)()
            else:
                self._explain_surplus(-self._unread(note.server_count_after))
            if self._unread(note.server_count_after) <= 0:
                break
        if note.settled_until_ms is None or note.settled_count is None:
            return
        if unread(note, self.vanished, note.settled_count, note.settled_seen) > 0:
            self.settled_left = self._count_settled(note.settled_until_ms)

    def _explain_surplus(self, surplus: int) -> None:
        """Reads the list again where more tasks were read than the server counts: some may be gone."""
        if 0 < surplus <= MOST_LOOKUPS:
            gone = self._met() - self._listed_again()
            self.vanished |= gone
            self.look_up(sorted(gone))
            surplus -= len(gone)
        self.surplus = surplus

    def _met(self) -> set[str]:
        """The tasks that the load read."""
        self.writer.flush()
        met = set(self.writer.known.expected_between(None, None, self.manifest.window)) - self.vanished
        return met & self.seen if self._goes_by_update else met

    def _listed_again(self) -> set[str]:
        """The tasks that a second walk meets, which lands what is new by now."""
        listed: set[str] = set()

        def noted(steps: Iterator[Rows | Unreadable]) -> Iterator[Rows | Unreadable]:
            for step in steps:
                rows = step.rows if isinstance(step, Rows) else [step]
                listed.update(row.task_id for row in rows if row.task_id is not None)
                yield step

        if self._goes_by_update:
            self._take(noted(self._by_update()))
        else:
            self._take(noted(walks.by_id(self.client, self.settings.page_size, self._filters(), hints=self.hints)))
            self._catch_up()
        return listed

    def _unread(self, server_count: int) -> int:
        return unread(self.manifest, self.vanished, server_count, self.manifest.tasks_seen)

    def _look_up_vanished(self) -> None:
        self.look_up(sorted(self.vanished)[:MOST_LOOKUPS])
