"""Random schedules: an account that changes between and during loads of every lane, in any order hypothesis thinks of.

At a quiet moment the archive equals the server, or the proof names what it lacks. After every step: nothing has
vanished from the archive, the proven point has not gone back, and manifests are right about what their loads met.
"""

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pipelines.landing.catalog import Catalog
from pipelines.landing.manifest import Manifest
from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.database import connect
from pipelines.warehouse.working import Working

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "60"))
STEPS = 20
PAGE = 4
TASKS = 14
OVERLAP_SECONDS = 600  # the longest lag of the simulator
MOST_POISONED = 1  # each costs a search of a hundred requests
BUILT_EVERY = 5  # examples; of these the tables are compared as well
DAY_MS = 86_400_000
NOW_MS = 1_795_000_000_000  # 2026-11-18

WHICH = st.integers(0, 10_000)  # stands for a task, whatever there is by then
PHASES = st.sampled_from(["waiting", "running", "completed", "cancelled"])
# What may happen to an account at any moment: (what, which task, how).
EVENTS = st.one_of(
    st.tuples(st.just("insert"), st.sampled_from(["alive", "now", "other-user", "second-project"]), st.just(None)),
    st.tuples(st.just("ties"), st.integers(1, 2 * PAGE + 1), st.sampled_from([0, 1, 60_000])),
    st.tuples(st.just("update"), WHICH, PHASES),
    st.tuples(st.just("fail"), WHICH, st.sampled_from(["probe failed", "invalid codec"])),
    st.tuples(st.just("retry"), WHICH, st.just(None)),
    st.tuples(st.just("delete"), WHICH, st.just(None)),
    st.tuples(st.just("remove"), WHICH, st.just(None)),
    st.tuples(st.just("pass"), st.sampled_from([0.001, 1, 45, 3600]), st.just(None)),
)
# During a load: so many of them before each of its requests, in turn; most requests meet none.
MEANWHILE = st.lists(st.lists(EVENTS, max_size=3), max_size=12)


Event = tuple[str, Any, Any]


class Tally:
    """What was done, for the figures."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()


def digest_of(met: dict[str, int | None]) -> tuple[str, str]:
    """As `landing/digest.py` describes it, worked out another way."""

    def of(texts: list[str]) -> str:
        total = sum(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in texts)
        return f"{total % 2**64:016x}"

    return of(list(met)), of([f"{i}:{'' if updated is None else updated}" for i, updated in met.items()])


def machine(make_archive: Callable[..., Any], root: Path, tally: Tally) -> type[RuleBasedStateMachine]:
    """The schedules, each on a simulator and an archive of its own."""

    class Schedules(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.home = Path(tempfile.mkdtemp(dir=root))
            self.sim = Simulator(tasks=TASKS, days=3, seed=1, now=NOW_MS, speed=0).serve()
            self.kept = make_archive(
                self.sim, home=str(self.home), page_size=PAGE, overlap_seconds=OVERLAP_SECONDS, retry_wait_seconds=0
            )
            self.lag_seconds = 0
            self.numbers = count()  # of the ids that are made here
            self.is_built = False
            self.deleted: list[str] = []  # marked, not removed
            self.poisoned: dict[str, dict[str, Any]] = {}  # with the task that it was
            self.foreign: list[str] = []  # other accounts' tasks
            self.proven: int | None = None
            self.files: dict[str, str] = {}
            self.ever: set[str] = set()
            tally.counts["examples"] += 1

        @initialize(is_archived=st.booleans(), is_built=st.sampled_from([False] * (BUILT_EVERY - 1) + [True]))
        def begin(self, is_archived: bool, is_built: bool) -> None:
            """Some schedules begin with an archive that is there already."""
            self.is_built = is_built
            if is_archived:
                self.run_lane("sweep", [])

        # ------------------------------------------------------------------------------------------------ what happens

        def id_of(self, which: int) -> str | None:
            ids = sorted(self.sim.ids() - self.poisoned.keys())
            return ids[which % len(ids)] if len(ids) > 3 else None  # an account is not emptied

        def happen(self, event: Event) -> None:
            what, which, how = event
            sim, now = self.sim, self.sim.now()
            tally.counts[f"event {what}"] += 1
            if what == "pass":
                sim.advance(which)
            elif what == "insert" and which == "alive":
                sim.insert()
            elif what == "insert" and which == "now":
                sim.insert(name="now")
            elif what == "insert":
                self.foreign.append(sim.insert(account=which, name="another account's"))
            elif what == "ties":  # several rows updated at one time, which may fill pages
                # A time a little back, as of a row that becomes visible late; but no task's time ever goes back.
                ids = [i for i in sim.ids() - self.poisoned.keys() if (sim._row(i).updated_at or 0) < now - how]
                for task_id in sorted(ids)[:which]:
                    sim.update(task_id, phase="running", progress=0.25, updatedAt=now - how)
            elif (task_id := self.id_of(which)) is None:
                pass
            elif what == "update":
                sim.update(task_id, phase=how, progress=which / 10_000)
            elif what == "fail":
                sim.update(task_id, phase="failed", errorMessage=how)
            elif what == "retry":
                if sim.tasks()[task_id]["status"]["phase"] == "failed":
                    sim.retry(task_id)
            elif what == "delete":
                sim.delete(task_id)
                self.deleted.append(task_id)
            elif what == "remove":
                sim.remove(task_id)

        @rule(events=st.lists(EVENTS, min_size=1, max_size=6))
        def changes_happen(self, events: list[Event]) -> None:
            for event in events:
                self.happen(event)

        @rule(which=WHICH, days=st.sampled_from([0, 1, 400]), low=st.booleans())
        def insert_old(self, which: int, days: int, low: bool) -> None:
            """A row with times of long ago, and an id before or behind all others."""
            then = self.sim.now() - days * DAY_MS
            task_id = f"{'0' if low else 'f'}{which:07d}-0000-4000-8000-{next(self.numbers):012d}"
            self.sim.insert(id=task_id, createdAt=then, status={"phase": "completed", "updatedAt": then}, name="old")

        @rule(times=st.integers(1, 3))
        def insert_pages_of_ties(self, times: int) -> None:
            now = self.sim.now()
            for _ in range(times * PAGE):
                self.sim.insert(createdAt=now, status={"phase": "waiting", "updatedAt": now}, name="tie")

        @precondition(lambda self: self.deleted)
        @rule(which=WHICH)
        def undelete(self, which: int) -> None:
            """It comes back with the time that it had."""
            task_id = self.deleted.pop(which % len(self.deleted))
            if self.sim.store.get(task_id) is not None:
                self.sim.undelete(task_id)

        @precondition(lambda self: len(self.poisoned) < MOST_POISONED)
        @rule(which=WHICH, is_new=st.booleans(), seldom=st.integers(0, 3))
        def poison(self, which: int, is_new: bool, seldom: int) -> None:
            task_id = self.id_of(which)
            if task_id is not None and seldom == 3:
                if is_new:
                    self.sim.update(task_id, phase="running")
                self.poisoned[task_id] = self.sim.tasks()[task_id]
                self.sim.poison(task_id)

        @precondition(lambda self: self.poisoned)
        @rule()
        def heal(self) -> None:
            task_id, task = self.poisoned.popitem()
            self.sim.replace(task_id, task)

        @rule(seconds=st.sampled_from([0, 1, 60, 500]))
        def lag(self, seconds: int) -> None:
            self.sim.lag(seconds)
            self.lag_seconds = seconds

        # --------------------------------------------------------------------------------------------------- the lanes

        @rule(name=st.sampled_from(["auto", "changes", "sweep", "observe", "observe"]), meanwhile=MEANWHILE)
        def lane(self, name: str, meanwhile: list[list[Event]]) -> None:
            self.run_lane(name, meanwhile)

        def run_lane(self, name: str, meanwhile: list[list[Event]]) -> Manifest | None:
            if name in ("changes", "observe") and self.proven is None:
                name = "auto"
            extraction = self.kept.extraction()
            run = (lambda: extraction.observe(self.open_tasks)) if name == "observe" else lambda: extraction.sync(name)
            return self.watched(run, meanwhile)

        @rule(from_days=st.integers(0, 4), days=st.integers(1, 3), meanwhile=MEANWHILE)
        def backfill(self, from_days: int, days: int, meanwhile: list[list[Event]]) -> None:
            from_ms = self.sim.now() - from_days * DAY_MS
            self.watched(lambda: self.kept.extraction().backfill(from_ms, from_ms + days * DAY_MS), meanwhile)

        @rule(which=st.lists(WHICH, min_size=1, max_size=4), foreign=st.booleans())
        def refresh(self, which: list[int], foreign: bool) -> None:
            known = sorted(self.ever | self.sim.ids())
            ids = [known[each % len(known)] for each in which]
            others = [i for i in self.foreign if i in self.sim.ids("other-user")][:1] if foreign else []
            load = self.watched(lambda: self.kept.extraction().refresh([*ids, *others]), [])
            assert load is not None
            assert not {row["task_id"] for row in self.kept.rows(load.load_id)} & set(others)
            assert {missing.task_id for missing in load.unreadable} >= set(others)

        def open_tasks(self, before_ms: int) -> list[str]:
            return sorted(
                task_id
                for task_id, body in self.kept.landed().items()
                if (task := msgspec.json.decode(body))["status"]["phase"] in ("pending", "waiting", "running")
                and task["status"]["updatedAt"] < before_ms
            )

        def watched(self, run: Callable[[], Any], meanwhile: list[list[Event]]) -> Manifest | None:
            """Runs a lane while things happen, and holds what it says against what was there."""
            sim, coming = self.sim, iter(meanwhile)
            pages: list[list[tuple[str, int | None]]] = []  # what each page of the walks showed
            asked, statuses = len(sim.requests), []

            def before(sim: Simulator, number: int, path: str) -> None:
                for event in next(coming, []):
                    self.happen(event)

            respond = sim.respond

            def answering(request: Any, body: bytes) -> Any:
                response = respond(request, body)
                statuses.append(response.status)
                if request.is_list and f"limit={PAGE}&" in request.target and response.status == 200:
                    tasks = msgspec.json.decode(response.body)
                    pages.append([(task["id"], task["status"]["updatedAt"]) for task in tasks])
                return response

            sim._callbacks = [before]
            listed = sim.ids()
            try:
                with patch.object(sim, "respond", answering):
                    load: Manifest | None = run()
            finally:
                sim._callbacks = []
                tally.counts["requests"] += len(sim.requests) - asked
            tally.counts["loads"] += load is not None
            if load is None:
                return None
            tally.counts[f"verdict {load.verdict}"] += 1
            tally.counts[f"lane {load.lane}"] += 1
            self.ever |= {row["task_id"] for row in self.kept.rows(load.load_id)}
            assert not self.ever & set(self.foreign)
            if load.lane not in ("refresh", "observe") and 500 not in statuses:
                met = {task_id: updated for page in pages for task_id, updated in page}
                assert (load.digest_ids, load.digest_states) == digest_of(met)
                assert load.tasks_seen == len(met)
            if load.lane == "sweep" and load.verdict == "whole" and not self.lag_seconds:
                assert listed & sim.ids() <= self.kept.landed().keys()
            if load.verdict != "whole":
                assert load.reasons
            return load

        # -------------------------------------------------------------------------------------------- what always holds

        @invariant()
        def nothing_vanishes(self) -> None:
            landing = self.kept.settings.home.landing
            files = {
                str(path.relative_to(landing)): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in landing.rglob("*")
                if path.is_file()
            }
            assert self.files.items() <= files.items()
            self.files = files
            manifests = self.kept.manifests()
            assert {part.sha256 for load in manifests for part in load.parts} <= set(files.values())
            with Catalog(self.kept.zone) as catalog:
                catalog.refresh()
                proven = catalog.proven_until_ms("default")
            assert self.proven is None or (proven is not None and proven >= self.proven)
            self.proven = proven

        # ---------------------------------------------------------------------------------------------- a quiet moment

        def check_changed(self, load: Manifest) -> None:
            """What changes promise: what was updated since the proven point, less the overlap, is there as it is."""
            landed, expected = self.kept.landed(), self.kept.expected()
            since = load.window.updated_from_ms or 0
            for task_id, body in expected.items():
                updated = self.sim._row(task_id).updated_at or 0
                if updated >= since and task_id not in self.poisoned:
                    assert landed.get(task_id) == body

        def check_swept(self, load: Manifest) -> None:
            """What a sweep promises: everything, and nothing else."""
            landed, expected = self.kept.landed(), self.kept.expected()
            before = {i: landed.pop(i) for i in self.poisoned if i in landed}
            for task_id in self.poisoned:
                expected.pop(task_id, None)
            assert landed == expected
            assert before.keys() <= self.ever  # what can no longer be read stays as it was
            still_listed = self.poisoned.keys() & self.sim.ids()
            assert {missing.task_id for missing in load.unreadable} == still_listed
            assert load.verdict == ("limited" if still_listed else "whole"), load.reasons
            met = {row.id: row.updated_at for row in self.sim._listed("default") if row.id not in self.poisoned}
            assert (load.digest_ids, load.digest_states) == digest_of(met)

        def teardown(self) -> None:
            try:
                self.sim.lag(0)
                for name in ("auto", "sweep"):
                    load = self.run_lane(name, [])
                    assert load is not None
                    if load.lane == "sweep":
                        self.check_swept(load)
                    else:
                        self.check_changed(load)
                again = self.run_lane("sweep", [])
                assert again is not None
                assert again.rows_landed == 0
                self.nothing_vanishes()
                if self.is_built:
                    self.check_tables()
            finally:
                self.sim.close()
                shutil.rmtree(self.home)

        def check_tables(self) -> None:
            """The tables say the same, by way of SQL."""
            list(build.build_version(self.kept.settings))
            with connect(Working(self.kept.settings).file, read_only=True) as connection:
                found = connection.execute(
                    "select task_id, payload_sha256, deleted_at is not null from tasks"
                ).fetchall()
            hashes = {i: hashlib.sha256(body).hexdigest() for i, body in self.kept.expected().items()}
            there = {task_id: sha256 for task_id, sha256, is_deleted in found if not is_deleted}
            assert {i: h for i, h in there.items() if i not in self.poisoned} == {
                i: h for i, h in hashes.items() if i not in self.poisoned
            }
            assert {task_id for task_id, _, is_deleted in found if is_deleted} == (
                self.ever - self.sim.ids() - (self.poisoned.keys() & there.keys())
            )
            tally.counts["built"] += 1

    return Schedules


def test_random_schedules(archive: Callable[..., Any], tmp_path: Path, figure: Callable[..., None]) -> None:
    tally = Tally()
    run_state_machine_as_test(
        machine(archive, tmp_path, tally),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),  # shrinking a failure takes minutes: add Phase.shrink where one is found
        ),
    )
    counts = tally.counts
    events = sum(number for name, number in counts.items() if name.startswith("event "))
    verdicts = ", ".join(f"{counts[f'verdict {name}']:,} {name}" for name in ("whole", "limited", "broken"))
    lanes = ", ".join(f"{counts[f'lane {n}']:,} {n}" for n in ("sweep", "changes", "observe", "backfill", "refresh"))
    figure(
        "random schedules", counts["examples"], f"the archive equals the server at the end; tables of {counts['built']}"
    )
    figure("changes to the account in them", events, "inserts, ties, updates, failures, retries, deletes")
    figure("loads in them", counts["loads"], f"{lanes}; {verdicts}")
    figure("requests in them", counts["requests"], "digests of each load as recomputed from the answers")
