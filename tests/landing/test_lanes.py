"""The lanes against an account that changes while it is read: nothing is missed, nothing is landed twice, and the
manifest tells the truth about both."""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.errors import SettingsError
from pipelines.landing.catalog import Catalog
from pipelines.landing.context import Progress, ProgressCallbacks
from pipelines.landing.lanes import changed_since_ms
from pipelines.landing.manifest import Manifest
from pipelines.landing.proof import UNSETTLED
from pipelines.livepeer import failures
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from pipelines.simulator import api as routes
from pipelines.simulator.wire import json_response

PAGE = 50
DAY_MS = 86_400_000
SEEDS = [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))]
MUTATIONS = [(1, 5, 1), (4, 0, 0), (0, 12, 0), (0, 3, 6)]  # inserts, updates and deletes before each page
MUTATED = [
    pytest.param(mutations, seed, marks=[] if seed == place else [pytest.mark.slow], id=f"{mutations} {seed}")
    for place, mutations in enumerate(MUTATIONS)
    for seed in range(6)
]

Simulate = Callable[..., Simulator]
Archives = Callable[..., Any]
Bodies = Callable[..., dict[str, bytes]]


def adds_up(archive: Any, load: Manifest) -> bool:
    """Whether the manifest's numbers are those of the files, and fit each other."""
    rows = archive.rows(load.load_id)
    gone = sum(row["payload"] is None for row in rows)
    assert load.rows_landed == len(rows) == sum(part.rows for part in load.parts)
    assert load.appeared + load.changed == load.rows_landed - gone
    assert load.rows_read == load.appeared + load.changed + load.unchanged
    assert all(row["load_id"] == load.load_id and row["lane"] == load.lane for row in rows)
    places = [(row["page"], row["position"]) for row in rows]
    assert places == sorted(set(places))
    assert load.finished_at_ms is not None
    assert load.stage == "done"
    for path, part in archive.zone.parts([load]):
        assert archive.zone.damage_of(path, part) is None
    return True


def proved(load: Manifest, deletes: int) -> bool:
    """Whole; where tasks are deleted before a first walk comes to them, but for just that: nobody can name them."""
    excused = [reason for reason in load.reasons if deletes and reason.endswith(f"when the walk came: {UNSETTLED}")]
    assert load.reasons == excused
    return load.verdict == ("limited" if excused else "whole")


def watch(simulator: Simulator, bodies: Bodies, starts: list[int] | None = None) -> list[dict[str, bytes]]:
    """What the list held when each page was asked for; the last is the truth at the end of the walk. `starts` takes the
    places of those with which a walk by id began."""
    moments: list[dict[str, bytes]] = []

    def look(simulator: Simulator, number: int, path: str) -> None:
        if f"limit={PAGE}" in path:
            if starts is not None and "cursor" not in path:
                starts.append(len(moments))
            moments.append(bodies(simulator))

    simulator.before_request(look)
    return moments


def behind(landed: dict[str, bytes], truth: dict[str, bytes]) -> list[str]:
    """Tasks that did not land as they were, nor in a later state: tasks go on while a moment is looked at."""

    def updated_at(body: bytes) -> int:
        at: int = json.loads(body)["status"]["updatedAt"]
        return at

    return [
        task_id
        for task_id, body in truth.items()
        if landed.get(task_id) != body and (task_id not in landed or updated_at(landed[task_id]) <= updated_at(body))
    ]


def lost_nothing(kept: Any, before: dict[str, bytes], moments: list[dict[str, bytes]]) -> dict[str, bytes]:
    """Asserts that a sweep lost and invented nothing, whatever changed meanwhile; returns what has landed."""
    landed = kept.landed()
    at_the_end = kept.expected(moments[-1])
    assert behind(landed, at_the_end) == []
    assert landed.keys() <= before.keys() | at_the_end.keys() | set().union(*moments)
    return landed


def calm(simulator: Simulator) -> None:
    """From now on nothing changes any more."""
    simulator._callbacks.clear()
    for task_id in list(simulator._world._lives):
        simulator._world.halt(task_id)


def tie(simulator: Simulator, count: int, times: int = 1) -> None:
    """Gives so many rows one and the same updatedAt, now; as often as told, at different times."""
    ids = sorted(simulator.ids())
    for number in range(times):
        now = simulator.now() - number * 7
        for task_id in ids[number * count : (number + 1) * count]:
            simulator.update(task_id, phase="running", progress=0.5, updatedAt=now)


# ------------------------------------------------------------------------------------------ while the account changes


@pytest.mark.parametrize(("mutations", "seed"), MUTATED)
def test_a_sweep_loses_nothing_while_the_account_changes(
    simulate: Simulate, archive: Archives, bodies: Bodies, seed: int, mutations: tuple[int, int, int]
) -> None:
    sim = simulate(tasks=400, seed=seed)
    tie(sim, 130)
    inserts, updates, deletes = mutations
    sim.mutate_between_pages(inserts, updates, deletes, seed)
    moments = watch(sim, bodies)
    before = bodies(sim)
    kept = archive(sim)
    load = kept.sync()

    landed = lost_nothing(kept, before, moments)
    assert len(moments) > 8
    assert adds_up(kept, load)
    assert proved(load, deletes)
    assert load.tasks_seen == len({row["task_id"] for row in kept.rows()})
    assert load.lane == "sweep"
    assert load.changed == sum(1 for _ in kept.rows()) - load.tasks_seen

    calm(sim)
    after = kept.sync("sweep")  # now nothing moves: what the first missed would appear
    assert kept.landed() == kept.expected()
    assert adds_up(kept, after)
    assert after.verdict == "whole", after.reasons
    assert after.appeared <= 2 * inserts  # only what came with the requests that count
    assert set(after.deleted) == landed.keys() - sim.ids()
    assert after.tasks_seen == len(sim.ids())


@pytest.mark.parametrize(("mutations", "seed"), MUTATED)
def test_changes_miss_nothing_while_the_account_changes(
    simulate: Simulate, archive: Archives, bodies: Bodies, seed: int, mutations: tuple[int, int, int]
) -> None:
    sim = simulate(tasks=400, seed=seed)
    kept = archive(sim, overlap_seconds=1)
    first = kept.sync()
    tie(sim, 130, times=2)  # more than two pages of one timestamp, twice
    for _ in range(30):
        sim.insert()
    sim.mutate_between_pages(*mutations, seed)
    moments = watch(sim, bodies)
    load = kept.sync()

    landed = kept.landed()
    at_the_end = kept.expected(moments[-1])
    assert len(moments) > 6
    assert behind(landed, at_the_end) == []
    assert adds_up(kept, load)
    assert (load.lane, load.verdict) == ("changes", "whole"), load.reasons
    assert load.proven_until_ms > first.proven_until_ms - 1
    assert load.window.updated_from_ms == changed_since_ms(first, 1000) <= first.proven_until_ms - 1000
    in_load = {row["task_id"] for row in kept.rows(load.load_id)}
    assert load.appeared == len(in_load - {row["task_id"] for row in kept.rows(first.load_id)}) > 10
    assert len(in_load) <= load.tasks_seen <= len(in_load) + load.unchanged

    calm(sim)
    kept.sync()
    kept.sync("sweep")
    assert kept.landed() == kept.expected()


@pytest.mark.parametrize("seed", SEEDS)
def test_changes_ask_for_changes_only(simulate: Simulate, archive: Archives, seed: int) -> None:
    sim = simulate(tasks=600, seed=seed, speed=0)
    kept = archive(sim, overlap_seconds=60)
    kept.sync()
    sim.advance(3600)
    updated = sorted(sim.ids())[:7]
    for task_id in updated:
        sim.update(task_id, phase="failed", errorMessage="for the test")
    new = sim.insert()
    load = kept.sync()
    assert load.tasks_seen < 60
    assert {*updated, new} <= {row["task_id"] for row in kept.rows(load.load_id)}
    assert kept.landed() == kept.expected()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("is_open", [False, True], ids=["past days", "up to now"])
def test_a_backfill_loses_nothing_while_the_account_changes(
    simulate: Simulate, archive: Archives, bodies: Bodies, seed: int, is_open: bool
) -> None:
    sim = simulate(tasks=700, seed=seed)
    from_ms = sim.now() - 6 * DAY_MS
    to_ms = sim.now() + DAY_MS if is_open else sim.now() - 2 * DAY_MS
    for _ in range(120):
        sim.insert(createdAt=from_ms)  # two pages of one creation time, at the bound that is included
    excluded = sim.insert(createdAt=to_ms)

    def in_window(bodies: dict[str, bytes]) -> dict[str, bytes]:
        return {
            task_id: body for task_id, body in bodies.items() if from_ms <= (sim._row(task_id).created_at or 0) < to_ms
        }

    sim.mutate_between_pages(inserts=3, updates=5, deletes=2, seed=seed)
    starts: list[int] = []
    moments = watch(sim, bodies, starts)
    before = in_window(bodies(sim))
    kept = archive(sim)
    load = kept.extraction().backfill(from_ms, to_ms)

    landed = {row["task_id"] for row in kept.rows()}
    assert len(moments) > 6
    # What is created while the last walk runs comes with the next changes: a backfill promises what was there before.
    at_the_end = {i: body for i, body in in_window(moments[starts[-1]]).items() if i in moments[-1]}
    assert at_the_end.keys() <= landed
    assert landed <= before.keys() | at_the_end.keys() | set().union(*map(in_window, moments))
    assert excluded not in landed
    seen_states = set().union(*(kept.expected(moment).items() for moment in [before, *moments]))
    assert set(kept.landed().items()) <= seen_states
    assert adds_up(kept, load)
    assert proved(load, deletes=2)
    assert load.tasks_seen == len(landed)
    assert load.proven_until_ms is None  # a backfill proves nothing of the rest


# -------------------------------------------------------------------------------------------------- nothing lands twice


def test_what_has_landed_is_not_landed_again(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    first = kept.sync()
    assert (first.appeared, first.rows_landed, first.tasks_seen) == (300, 300, 300)
    assert first.server_count_before == first.server_count_after == 300
    for lane in ("sweep", "changes", "auto"):
        again = kept.sync(lane)
        assert (again.rows_landed, again.parts, again.verdict) == (0, [], "whole")
        assert adds_up(kept, again)
    assert kept.extraction().backfill(0, sim.now() + DAY_MS).rows_landed == 0
    assert kept.extraction().refresh(sorted(sim.ids())[:3]).rows_landed == 0
    assert len(kept.rows()) == 300


def test_an_update_lands_one_row(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    kept.sync()
    task_id = min(sim.ids())
    sim.advance(60)
    sim.update(task_id, phase="failed", errorMessage="the one change")
    for lane in ("changes", "sweep"):
        load = kept.sync(lane)
        rows = [row for row in kept.rows(load.load_id) if row["task_id"] == task_id]
        assert [row["payload"].count("the one change") for row in rows] == ([1] if lane == "changes" else [])
        assert load.changed >= (lane == "changes")
    assert kept.landed() == kept.expected()


def test_a_change_without_a_new_time_is_found_by_a_sweep_and_back_again(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    kept.sync()
    task_id = min(sim.ids())
    original = sim.tasks()[task_id]
    states = []
    for name in ("B", "A", "B", "A"):
        sim.replace(task_id, original | ({"name": "renamed"} if name == "B" else {}))
        load = kept.sync("sweep")
        assert (load.changed, load.rows_landed) == (1, 1)
        assert kept.sync("sweep").rows_landed == 0
        states.append("renamed" in kept.rows(load.load_id)[0]["payload"])
    assert states == [True, False, True, False]


@pytest.mark.parametrize("how", ["marked", "removed"])
def test_a_deleted_task_is_found_and_found_again_when_it_comes_back(
    simulate: Simulate, archive: Archives, how: str
) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    kept.sync()
    gone = sorted(sim.ids())[7::90]
    tasks = {task_id: sim.tasks()[task_id] for task_id in gone}
    for task_id in gone:
        (sim.delete if how == "marked" else sim.remove)(task_id)
    load = kept.sync("sweep")
    rows = kept.rows(load.load_id)
    assert adds_up(kept, load)
    assert (load.vanished, load.deleted, load.unreadable, load.verdict) == (gone, gone, [], "whole")
    assert [row["task_id"] for row in rows] == gone
    assert all(row["is_deleted"] for row in rows)
    assert all((row["payload"] is None) is (how == "removed") for row in rows)
    assert kept.landed() == kept.expected()

    again = kept.sync("sweep")
    assert (again.rows_landed, again.vanished, again.deleted) == (0, [], [])

    for task_id, task in tasks.items():
        if how == "marked":
            sim.undelete(task_id)
        else:
            sim.insert(task)
    back = kept.sync("sweep")
    assert sorted(row["task_id"] for row in kept.rows(back.load_id)) == gone
    assert kept.landed() == kept.expected()
    assert back.verdict == "whole"
    assert kept.sync("sweep").rows_landed == 0


def test_looking_up_a_deleted_task_again_lands_nothing(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    kept.sync()
    marked, removed, stays = sorted(sim.ids())[:3]
    sim.delete(marked)
    sim.remove(removed)
    ids = [marked, removed, stays, marked, removed]
    load = kept.extraction().refresh(ids)
    assert [row["task_id"] for row in kept.rows(load.load_id)] == [marked, removed]
    assert (load.deleted, load.unreadable, load.verdict) == ([marked, removed], [], "whole")
    again = kept.extraction().refresh(ids)
    assert (again.rows_landed, again.unreadable, again.verdict) == (0, [], "whole")


def test_what_cannot_be_looked_up_is_named(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    poisoned, foreign = sim.poison(), min(sim.ids("other-user"))
    load = kept.extraction().refresh(["no-such-task", poisoned, foreign])
    assert [missing.task_id for missing in load.unreadable] == ["no-such-task", poisoned, foreign]
    assert ["404" in load.unreadable[0].reason, "500" in load.unreadable[1].reason] == [True, True]
    assert "403" in load.unreadable[2].reason
    assert (load.verdict, load.rows_landed) == ("limited", 0)


@pytest.mark.parametrize("tasks", [PAGE * 2, PAGE * 2 + 1])
def test_rows_that_are_no_tasks_are_kept_and_do_not_come_back(
    simulate: Simulate, archive: Archives, tasks: int
) -> None:
    """Elements without an id, wherever they stand: one is the last of all, on its page alone or not."""
    sim = simulate(tasks=tasks, speed=0)
    ids = sorted(sim.ids())
    odd = {ids[0]: b'{"no":"id"}', ids[60]: b'"text"', ids[-1]: b'{"id":17,"last":true}'}
    for task_id, body in odd.items():
        sim.put_raw(task_id, body)
    kept = archive(sim)
    load = kept.sync()
    assert load.verdict == "whole", load.reasons
    assert load.tasks_seen == len(ids)
    nameless = {row["payload"].encode() for row in kept.rows() if row["task_id"] is None}
    assert nameless == set(odd.values())
    again = kept.sync("sweep")
    assert (again.rows_landed, again.vanished, again.verdict) == (0, [], "whole")
    sim.put_raw(ids[60], b'"other text"')
    third = kept.sync("sweep")
    assert [row["payload"] for row in kept.rows(third.load_id)] == ['"other text"']
    assert third.verdict == "whole"


# ---------------------------------------------------------------------------------------------------------- replica lag


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_that_become_visible_late_are_met_thanks_to_the_overlap(
    simulate: Simulate, archive: Archives, set_our_clock: Callable[..., None], seed: int
) -> None:
    sim = simulate(seed=seed, speed=0)
    set_our_clock(sim)
    kept, blind = archive(sim), archive(sim, home="blind", overlap_seconds=0)
    for each in (kept, blind):
        each.sync()
    sim.lag(300)
    sim.advance(400)
    late = [sim.insert(name=f"late {number}") for number in range(60)]
    for task_id in sorted(sim.ids() - set(late))[:60]:
        sim.update(task_id, phase="failed", errorMessage="late")
    sim.advance(200)
    for each in (kept, blind):
        hidden = each.sync()
        assert hidden.verdict == "whole"
        assert not set(late) & each.landed().keys()
    sim.advance(200)
    for each in (kept, blind):
        each.sync()
    assert set(late) <= kept.landed().keys()
    sim.lag(0)
    kept.sync()
    assert kept.landed() == kept.expected()
    assert not set(late) & blind.landed().keys()  # that is what the overlap is for


def test_a_stale_answer_does_not_replace_a_newer_state(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    kept.sync()
    task_id = min(sim.ids())
    sim.advance(100)
    sim.update(task_id, phase="failed", errorMessage="newer")
    kept.sync()
    sim.lag(100)
    sim.advance(10)
    stale = kept.sync("sweep")  # sees the state of before
    assert b"newer" in kept.landed()[task_id]
    sim.lag(0)
    again = kept.sync("sweep")
    assert kept.landed() == kept.expected()
    assert again.rows_landed == stale.rows_landed  # the newest once more, so that what is stale twice is not in a row
    assert kept.sync("sweep").rows_landed == 0


# ------------------------------------------------------------------------------------------------------- set-back tasks


def set_back(sim: Simulator, task_id: str, minutes: int, **status: Any) -> None:
    """As by a server whose clock was set back: a new state, of an older time than the one before."""
    sim.update(task_id, updatedAt=sim.tasks()[task_id]["status"]["updatedAt"] - minutes * 60_000, **status)


def holds(kept: Any, task_id: str, text: str) -> bool:
    """Whether the newest state of a task holds a text, by the files and by the catalog alike."""
    payload = kept.landed()[task_id]
    with Catalog(kept.zone) as catalog:
        (state,) = catalog.states("default", [task_id])
    assert state.sha256 == hashlib.sha256(payload).hexdigest()
    return text.encode() in payload


def test_an_older_time_counts_when_two_loads_in_a_row_are_told_it(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    kept.sync()
    task_id = min(sim.ids())
    set_back(sim, task_id, 60, phase="failed", errorMessage="set back")
    assert kept.sync("sweep").rows_landed == 1
    assert not holds(kept, task_id, "set back")
    assert kept.sync("sweep").rows_landed == 1
    assert holds(kept, task_id, "set back")
    assert kept.landed() == kept.expected()
    again = kept.sync("sweep")
    assert (again.rows_landed, again.unchanged, again.verdict) == (0, again.rows_read, "whole")


def test_an_older_time_counts_at_once_when_a_task_is_asked_for_by_id(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    kept.sync()
    task_id = min(sim.ids())
    set_back(sim, task_id, 60, phase="failed", errorMessage="set back")
    assert kept.extraction().refresh([task_id]).rows_landed == 1
    assert holds(kept, task_id, "set back")
    assert kept.extraction().refresh([task_id]).rows_landed == 0
    again = kept.sync("sweep")
    assert (again.rows_landed, again.unchanged, again.verdict) == (0, again.rows_read, "whole")
    # From then on times count as ever: a later one at once, an older one not.
    set_back(sim, task_id, -30, phase="waiting", retries=1)
    kept.sync("sweep")
    assert kept.landed() == kept.expected()
    set_back(sim, task_id, 10, phase="running", progress=0.5)
    kept.sync("sweep")
    assert holds(kept, task_id, '"retries":1')


def test_what_is_stale_twice_and_not_in_a_row_does_not_count(simulate: Simulate, archive: Archives) -> None:
    """The state known in between is met again, which is no news: that it was met lands all the same."""
    sim = simulate(speed=0)
    kept = archive(sim)
    kept.sync()
    task_id = min(sim.ids())
    known = sim.tasks()[task_id]
    for _ in range(3):
        set_back(sim, task_id, 60, phase="failed", errorMessage="stale")
        assert kept.sync("sweep").rows_landed == 1
        assert not holds(kept, task_id, "stale")
        sim.replace(task_id, known)
        assert kept.sync("sweep").rows_landed == 1
        assert kept.sync("sweep").rows_landed == 0
    assert kept.landed() == kept.expected()


def test_what_one_load_is_told_twice_does_not_count(simulate: Simulate, archive: Archives) -> None:
    """A sweep meets what was updated meanwhile a second time, by update."""
    sim = simulate(speed=0)
    kept = archive(sim)
    task_id = min(sim.ids())
    sim.advance(3600)
    sim.update(task_id, phase="running", progress=0.9)
    kept.sync()
    sim.update(task_id, phase="running", progress=0.5, updatedAt=sim.now() - 1000)
    load = kept.sync("sweep")
    assert load.rows_read > load.tasks_seen
    assert load.rows_landed == 1
    assert holds(kept, task_id, "0.9")


# --------------------------------------------------------------------------------------------------------- capabilities


@pytest.mark.parametrize("api", ["legacy", "opaque"])
def test_an_older_server_is_read_whole_but_not_proved(simulate: Simulate, archive: Archives, api: str) -> None:
    sim = simulate(api=api, speed=0)
    kept = archive(sim)
    load = kept.sync()
    assert kept.landed() == kept.expected()
    assert load.verdict == "limited"
    assert len(load.reasons) == 1
    assert "cannot prove" in load.reasons[0]
    assert load.capabilities is not None
    assert not load.capabilities.id_keyset
    assert not load.capabilities.filters
    assert not load.capabilities.count
    assert load.tasks_seen == 300
    assert adds_up(kept, load)

    gone, updated = sorted(sim.ids())[:2]
    sim.advance(60)
    sim.delete(gone)
    sim.update(updated, phase="failed", errorMessage="seen by the next run")
    again = kept.sync()  # nothing is proven from which changes could go on, so it reads the whole list again
    assert (again.lane, load.proven_until_ms, again.proven_until_ms) == ("sweep", None, None)
    assert kept.landed() == kept.expected()
    assert again.verdict == "limited"
    assert again.changed >= 1
    assert again.rows_landed < 50


@pytest.mark.parametrize("seed", SEEDS)
def test_an_older_server_is_read_again_until_nothing_new_comes(
    simulate: Simulate, archive: Archives, bodies: Bodies, seed: int
) -> None:
    sim = simulate(api="legacy", seed=seed)
    sim.mutate_between_pages(inserts=0, updates=0, deletes=2, seed=seed)
    moments = watch(sim, bodies)
    kept = archive(sim)
    assert kept.sync().verdict == "limited"
    assert moments[-1].keys() <= kept.landed().keys()


def test_without_filters_changes_read_everything(
    simulate: Simulate, archive: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    kept.sync()
    refuse_filters(sim, monkeypatch)
    sim.advance(60)
    new, gone = sim.insert(), min(sim.ids())
    sim.delete(gone)
    load = kept.sync()
    assert load.capabilities is not None
    assert (load.capabilities.id_keyset, load.capabilities.filters, load.capabilities.count) == (True, False, True)
    assert load.tasks_seen == len(sim.ids())
    assert (load.vanished, load.deleted) == ([gone], [gone])
    assert new in kept.landed()
    assert kept.landed() == kept.expected()


def refuse_filters(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers filters with a 400."""
    from pipelines.simulator import listing
    from pipelines.simulator.errors import bad_filters

    def parse(text: str | None) -> listing.Filters:
        if text:
            raise bad_filters("Error: not here")
        return listing.Filters()

    monkeypatch.setattr(listing, "parse_filters", parse)


def test_an_empty_account(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(tasks=0, speed=0)
    kept = archive(sim)
    for lane in ("sweep", "changes"):
        load = kept.sync()
        assert (load.lane, load.verdict, load.tasks_seen, load.rows_landed) == (lane, "whole", 0, 0)
        assert load.server_count_after == 0
    sim.advance(5)
    sim.insert()
    assert kept.sync().appeared == 1


def test_changes_need_a_sweep_before_them(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    with pytest.raises(SettingsError, match="without --lane"):
        kept.sync("changes")
    kept.extraction().backfill(0, sim.now())
    with pytest.raises(SettingsError, match="without --lane"):
        kept.sync("changes")  # a backfill proves nothing of the rest
    assert kept.sync().lane == "sweep"


# -------------------------------------------------------------------------------------------------------- poisoned rows


@pytest.mark.parametrize("places", [[0], [-1], [49], [20, 250], [0, -1]], ids=str)
def test_a_poisoned_row_hides_no_other(simulate: Simulate, archive: Archives, places: list[int]) -> None:
    sim = simulate(speed=0)
    poisoned = sorted(sim.poison(sorted(sim.ids())[place]) for place in places)
    kept = archive(sim)
    load = kept.sync()
    healthy = {i: body for i, body in kept.expected().items() if i not in poisoned}
    assert kept.landed() == healthy
    assert sorted(missing.task_id for missing in load.unreadable) == poisoned
    assert load.verdict == "limited"
    assert len([reason for reason in load.reasons if "unreadable" in reason]) == 1
    assert load.proven_until_ms is not None
    assert load.tasks_seen == 300 - len(poisoned)
    assert adds_up(kept, load)


@pytest.mark.parametrize("places", [[0], [-1], [60], [0, -1]], ids=str)
def test_a_poisoned_row_hides_no_other_from_changes(simulate: Simulate, archive: Archives, places: list[int]) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    kept.sync()
    sim.advance(7200)
    ids = sorted(sim.ids())[::3]
    for task_id in ids:
        sim.advance(0.01)
        sim.update(task_id, phase="failed", errorMessage="in the window")
    poisoned = sorted({sim.poison(ids[place]) for place in places})
    load = kept.sync()
    landed, expected = kept.landed(), kept.expected()
    for task_id in set(ids) - set(poisoned):
        assert landed[task_id] == expected[task_id]
    assert sorted(missing.task_id for missing in load.unreadable) == poisoned
    assert (load.lane, load.verdict) == ("changes", "limited")
    assert adds_up(kept, load)
    for task_id in poisoned:  # it had landed before, and is not taken for deleted
        assert task_id in landed


def test_only_a_poisoned_row_in_the_window(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    kept = archive(sim, overlap_seconds=0)
    kept.sync()
    sim.advance(40 * 86400)
    kept.sync()
    sim.advance(1)
    sim.replace(poisoned := min(sim.ids()), {"type": "upload", "status": {"updatedAt": sim.now(), "phase": "failed"}})
    load = kept.sync()
    assert [missing.task_id for missing in load.unreadable] == [poisoned]
    assert load.verdict == "limited"


def test_a_task_poisoned_after_it_landed_is_neither_vanished_nor_counted_twice(
    simulate: Simulate, archive: Archives
) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    kept.sync()
    before = kept.landed()
    poisoned = sorted(sim.poison(sorted(sim.ids())[place]) for place in (0, 77, -1))
    load = kept.sync("sweep")
    assert sorted(missing.task_id for missing in load.unreadable) == poisoned
    assert (load.vanished, load.deleted, load.rows_landed) == ([], [], 0)
    assert load.verdict == "limited"
    assert kept.landed() == before


@pytest.mark.parametrize(("lane", "found", "known"), [("sweep", 25, 10), ("changes", 30, 12), ("observe", 32, 15)])
def test_a_row_that_cannot_be_served_any_more_costs_few_requests_and_no_wait(
    simulate: Simulate, archive: Archives, lane: str, found: int, known: int
) -> None:
    """`observe` looks before it loads."""
    sim = simulate(tasks=3000, speed=0)
    kept = archive(sim, page_size=1000, retry_wait_seconds=1)
    kept.sync()
    sim.advance(3600)

    def requests() -> tuple[Manifest, int]:
        sim.insert(name="news")
        sim.requests.clear()
        load = kept.extraction().observe() if lane == "observe" else kept.sync(lane)
        assert load is not None
        return load, len(sim.requests)

    usual = requests()[1]
    poisoned = sorted(sim.ids())[1700]
    if lane != "sweep":
        sim.update(poisoned, phase="failed")
    sim.poison(poisoned)
    for most in (found, known):
        load, asked = requests()
        assert [missing.task_id for missing in load.unreadable] == [poisoned]
        assert asked - usual <= most
        assert load.attempts_repeated == 0  # none of them waits
    assert lane != "observe" or kept.extraction().observe() is None  # what is known is no news


def test_rows_that_could_never_be_served_are_remembered(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(tasks=3000, speed=0)
    kept = archive(sim, page_size=1000, retry_wait_seconds=1)
    poisoned = sorted(sim.poison(task_id) for task_id in sorted(sim.ids())[300::900])
    first = kept.sync()
    assert first.attempts_repeated == 0
    assert [missing.task_id for missing in first.unreadable] == poisoned
    for lane in ("changes", "sweep", "sweep"):
        load = kept.sync(lane)
    assert [missing.task_id for missing in load.unreadable] == poisoned
    assert load.requests <= 12 + 10 * len(poisoned)
    for task_id in poisoned:
        sim.replace(task_id, sim.tasks()[task_id] | {"params": {"upload": {}}})
    healed = kept.sync("sweep")
    assert (healed.verdict, healed.appeared, healed.unreadable) == ("whole", len(poisoned), [])
    assert kept.landed() == kept.expected()


def test_what_the_list_cannot_serve_lands_by_id(
    simulate: Simulate, archive: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    poisoned = sim.poison(sorted(sim.ids())[100])
    monkeypatch.setattr(
        routes,
        "_get_task",
        lambda backend, request, task_id: json_response(200, routes._own_row(backend, request, task_id).body),
    )
    load = kept.sync()
    assert (load.verdict, load.tasks_seen, load.had_by_id) == ("whole", 300, [poisoned])
    assert load.settled_count == load.settled_seen
    assert adds_up(kept, load)
    assert kept.landed() == kept.expected()
    again = kept.sync("sweep")
    assert (again.verdict, again.rows_landed, again.had_by_id) == ("whole", 0, [poisoned])
    assert again.requests < load.requests - 100  # found again at once


@pytest.mark.parametrize("seed", range(3))
def test_poison_and_mutations_at_once(simulate: Simulate, archive: Archives, bodies: Bodies, seed: int) -> None:
    sim = simulate(seed=seed)
    poisoned = sim.poison(sorted(sim.ids())[100 + seed])
    sim.mutate_between_pages(inserts=0, updates=1, deletes=0, seed=seed)
    moments = watch(sim, bodies)
    kept = archive(sim)
    load = kept.sync()
    landed = kept.landed()
    assert moments[-1].keys() - landed.keys() <= {missing.task_id for missing in load.unreadable} | {poisoned}
    assert load.verdict != "broken", load.reasons


# --------------------------------------------------------------------------------------------------------------- faults

FAULTS: dict[str, dict[str, Any]] = {
    "429": {"retry_after": 0},
    "500": {},
    "502": {},
    "503": {},
    "drop": {},
    "truncate": {},
    "slow": {"seconds": 0.5},
    "html": {},
    "html-error": {},
    "empty-body": {},
}


@pytest.mark.parametrize("kind", FAULTS)
def test_every_request_may_fail_once(simulate: Simulate, archive: Archives, kind: str) -> None:
    sim = simulate(tasks=120, speed=0)
    kept = archive(sim, request_timeout_seconds=0.25 if kind == "slow" else 10)
    kept.sync()
    sim.advance(3600)
    gone, *updated = sorted(sim.ids())[:20]
    sim.remove(gone)
    for task_id in updated:
        sim.update(task_id, phase="failed", errorMessage="more")
    asked = len(sim.requests)
    for number in range(1, 60, 2):  # the first, and then each one after a second attempt that came through
        sim.fault(kind, at=asked + number, **FAULTS[kind])
    load = kept.sync("sweep")
    assert kept.landed() == kept.expected()
    assert (load.verdict, load.deleted) == ("whole", [gone])
    if kind != "500":  # which is got round as well, not only tried again
        assert load.attempts_repeated * 2 == load.requests
    assert load.requests >= 2 * 10
    assert adds_up(kept, load)


@pytest.mark.parametrize("at", range(1, 12))
def test_a_server_that_dies_at_any_request_costs_nothing_that_had_landed(
    simulate: Simulate, archive: Archives, at: int
) -> None:
    sim = simulate(tasks=290, speed=0)
    kept = archive(sim, page_size=50)
    sim.fault("503", at=at, times=None)
    with pytest.raises(failures.ApiError, match="503") as raised:
        kept.sync()
    assert "\n" not in str(raised.value)
    assert kept.manifests() == []  # nothing that looks complete
    sim.clear_faults()
    asked = len(sim.requests)
    load = kept.sync()
    assert kept.landed() == kept.expected()
    assert (load.verdict, load.tasks_seen, load.rows_landed, load.reasons) == ("whole", 290, 290, [])
    assert adds_up(kept, load)
    pages = [recorded for recorded in sim.requests[asked:] if "limit=50&order=id-false" in recorded.path]
    had = max(0, min(at - 5, 7))  # pages that came before the server died: four requests are asked first
    assert len(pages) == max(7 - had, 0)
    assert len(kept.manifests()) == 1


def test_a_server_that_dies_during_changes(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(tasks=290, speed=0)
    kept = archive(sim, page_size=50)
    kept.sync()
    sim.advance(60)
    for task_id in sorted(sim.ids())[:180]:
        sim.advance(0.01)
        sim.update(task_id, phase="failed", errorMessage="more")
    sim.fault("503", at=len(sim.requests) + 7, times=None)
    with pytest.raises(failures.ApiError):
        kept.sync()
    sim.clear_faults()
    load = kept.sync()
    assert kept.landed() == kept.expected()
    broken = kept.manifests()[1]
    assert (broken.verdict, broken.proven_until_ms, broken.rows_landed) == (
        "broken",
        None,
        99,
    )  # pages overlap by a row
    assert adds_up_but_for_the_stage(kept, broken)
    assert (load.verdict, load.changed, load.rows_landed) == ("whole", 81, 81 + load.appeared)
    assert kept.sync().rows_landed == 0


def adds_up_but_for_the_stage(archive: Any, load: Manifest) -> bool:
    load.stage = "done"
    return adds_up(archive, load)


def test_a_server_that_dies_while_vanished_tasks_are_looked_up(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    kept.sync()
    marked, removed, other, last = sorted(sim.ids())[10:250:60]
    sim.delete(marked)
    sim.remove(removed)
    sim.remove(other)
    sim.remove(last)
    sim.fault("503", times=None, match=other)
    with pytest.raises(failures.ApiError):
        kept.sync("sweep")
    sim.clear_faults()
    load = kept.sync("sweep")
    assert load.vanished == [marked, removed, other, last]
    assert load.deleted == [marked, removed, other, last]
    assert (load.unreadable, load.verdict, load.reasons) == ([], "whole", [])
    assert sorted(row["task_id"] for row in kept.rows(load.load_id)) == [marked, removed, other, last]
    assert adds_up(kept, load)
    assert kept.landed() == kept.expected()


def test_an_older_server_that_dies_is_told_of_once(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(api="legacy", speed=0)
    kept = archive(sim)
    sim.fault("503", at=7, times=None)
    with pytest.raises(failures.ApiError):
        kept.sync()
    sim.clear_faults()
    load = kept.sync()
    assert kept.landed() == kept.expected()
    assert len(load.reasons) == 1
    assert adds_up(kept, load)


def test_a_dead_server_lands_nothing_and_no_secret_is_told(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    kept = archive(sim, api_keys={"default": "a-wrong-key-4711"})
    with pytest.raises(failures.WrongKey) as raised:
        kept.sync()
    assert "a-wrong-key" not in str(raised.value)
    assert kept.manifests() == []
    assert not any(b"a-wrong-key" in body for body in kept.files().values())


# ------------------------------------------------------------------------------------------------------------ progress


@pytest.mark.parametrize("api", ["studio", "legacy"])
def test_progress_goes_up_to_its_total_and_not_past_it(simulate: Simulate, archive: Archives, api: str) -> None:
    sim = simulate(api=api)
    sim.mutate_between_pages(inserts=3, updates=9, deletes=1)
    kept = archive(sim)
    for _ in range(2):
        told: list[Progress] = []
        load = kept.extraction(ProgressCallbacks(progress=told.append)).sync()
        assert load.rows_read > load.tasks_seen > 0
        met = [progress.tasks_read for progress in told]
        assert met == sorted(met)
        assert met[-1] == load.tasks_seen
        for progress in told:
            assert progress.expected_tasks is None or progress.tasks_read <= progress.expected_tasks
            assert not re.search(r"-\d+ s left", str(progress))
    told = []
    kept.extraction(ProgressCallbacks(progress=told.append)).refresh(sorted(sim.ids())[:3])
    assert [str(progress).split(",")[0] for progress in told] == [f"default refresh: {n} tasks" for n in (1, 2, 3)]


def test_the_rate_of_a_load_that_goes_on_is_that_of_this_process(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    sim.fault("503", at=9, times=None)
    with pytest.raises(failures.ApiError):
        kept.sync()
    sim.clear_faults()
    told: list[Progress] = []
    kept.extraction(ProgressCallbacks(progress=told.append)).sync()
    assert (told[0].tasks_read, told[0].rows_read) == (250, 50)


# ------------------------------------------------------------------------------------------------------------ accounts


def test_accounts_land_side_by_side(
    simulate: Simulate, archive: Archives, monkeypatch: pytest.MonkeyPatch, archive_settings: Callable[..., Settings]
) -> None:
    sim = simulate(tasks=2000, speed=0)
    kept = archive(sim)
    monkeypatch.setenv("LIVEPEER_API_KEY", sim.api_key)
    monkeypatch.setenv("LIVEPEER_API_KEY__SECOND", sim.api_keys["second-project"])
    kept.settings = archive_settings(sim, api_keys={}, page_size=1000)
    assert list(kept.settings.accounts()) == ["default", "second"]
    second = type(kept)(sim, kept.settings, "second", "second-project")
    loads = [kept.sync(), second.sync()]
    assert [load.verdict for load in loads] == ["whole", "whole"]
    assert kept.landed() == kept.expected()
    assert second.landed() == second.expected()
    assert len(second.landed()) == 40
    assert not kept.landed().keys() & second.landed().keys()
    assert {row["account"] for row in second.rows()} == {"second"}
    assert [load.lane for load in (kept.sync(), second.sync())] == ["changes", "changes"]
    assert sorted(path.name for path in kept.settings.home.landing.iterdir()) == ["default", "second"]


def test_one_accounts_sweep_says_nothing_of_another(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(tasks=500, speed=0)
    kept = archive(sim, api_keys={name: sim.api_keys[of] for name, of in (("a", "default"), ("b", "second-project"))})
    first, second = (type(kept)(sim, kept.settings, name) for name in "ab")
    first.sync()
    assert second.sync().lane == "sweep"
    assert second.sync("sweep").vanished == []


# ----------------------------------------------------------------------------------------------------------- the price


def test_an_idle_account_costs_few_requests(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(tasks=1000, speed=0)
    kept = archive(sim, page_size=1000)
    kept.sync()
    sim.requests.clear()
    load = kept.sync()
    assert load.requests == len(sim.requests) <= 6
    assert load.rows_landed == 0
