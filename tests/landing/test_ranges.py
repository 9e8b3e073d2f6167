"""A sweep whose ids several workers fetch: nothing is missed, and one proof holds for all ranges."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.landing.manifest import Manifest
from pipelines.landing.ranges import window_of
from pipelines.livepeer import failures
from pipelines.simulator import Simulator
from tests.landing.test_lanes import MUTATED, adds_up, calm, lost_nothing, proved, tie, watch
from tests.landing.test_proof import hide

Simulate = Callable[..., Simulator]
Archives = Callable[..., Any]
Bodies = Callable[..., dict[str, bytes]]

RANGES = 4


def fetch_at_once(kept: Any, sweep_id: str, ranges: list[str]) -> list[Manifest]:
    """Each range by a worker of its own, all at the same time."""
    done: list[Manifest] = []
    workers = [
        threading.Thread(target=lambda load_id=load_id: done.append(kept.extraction().fetch_range(sweep_id, load_id)))
        for load_id in ranges
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(done) == len(ranges)
    return done


def sweep(kept: Any) -> Manifest:
    fetch_at_once(kept, *kept.extraction().begin_ranges(RANGES))
    return kept.sync("sweep")


def test_ranges_hold_every_id_once() -> None:
    for among in (1, 2, 3, 16, 256):
        windows = [window_of(number, among) for number in range(among)]
        assert (windows[0].after_id, windows[-1].last_id) == (None, None)
        assert [window.last_id for window in windows[:-1]] == [window.after_id for window in windows[1:]]
        assert sorted({window.last_id or "~" for window in windows}) == [window.last_id or "~" for window in windows]
    assert window_of(1, 2).after_id == "7fffffff-ffff-ffff-ffff-ffffffffffff"


@pytest.mark.parametrize(("mutations", "seed"), MUTATED)
def test_nothing_is_lost_while_the_account_changes(
    simulate: Simulate, archive: Archives, bodies: Bodies, seed: int, mutations: tuple[int, int, int]
) -> None:
    sim = simulate(tasks=400, seed=seed)
    tie(sim, 130)
    inserts, updates, deletes = mutations
    sim.mutate_between_pages(inserts, updates, deletes, seed)
    moments = watch(sim, bodies)
    before = bodies(sim)
    kept = archive(sim)
    load = sweep(kept)

    lost_nothing(kept, before, moments)
    assert [one.lane for one in kept.manifests()] == ["range"] * RANGES + ["sweep"]
    assert all(adds_up(kept, one) for one in kept.manifests())
    assert proved(load, deletes)
    assert load.tasks_seen == len({row["task_id"] for row in kept.rows()})

    calm(sim)
    after = kept.sync("sweep")
    assert kept.landed() == kept.expected()
    assert (after.verdict, after.ranges) == ("whole", [])
    assert after.appeared <= 2 * inserts
    assert after.tasks_seen == len(sim.ids())


def test_the_proof_is_that_of_a_single_walk(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    single, kept = archive(sim, home="single").sync(), archive(sim, home="ranges")
    load = sweep(kept)
    same = (
        "verdict", "reasons", "tasks_seen", "settled_count", "settled_seen", "server_count_before", "newest_update_ms",
        "server_count_after", "digest_ids", "digest_states", "vanished", "unreadable", "proven_until_ms",
    )  # fmt: skip
    assert {name: getattr(load, name) for name in same} == {name: getattr(single, name) for name in same}
    assert sum(one.appeared for one in kept.manifests()) == single.appeared == 300


def test_a_task_that_no_worker_read_breaks_the_proof(
    simulate: Simulate, archive: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulate(speed=0)
    hide(monkeypatch, sorted(sim.ids())[100])
    load = sweep(archive(sim))
    assert (load.verdict, load.tasks_seen) == ("broken", 299)


def test_a_task_deleted_before_its_range_was_fetched_leaves_the_proof_open(
    simulate: Simulate, archive: Archives
) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    sweep_id, ranges = kept.extraction().begin_ranges(RANGES)
    sim.remove(max(sim.ids()))
    fetch_at_once(kept, sweep_id, ranges)
    load = kept.sync("sweep")
    assert (load.verdict, load.settled_count - load.settled_seen) == ("limited", 1)


def test_what_was_archived_before_is_compared(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    kept.sync()
    ids = sorted(sim.ids())
    sim.advance(60)
    sim.remove(ids[10])
    sim.remove(ids[-1])
    sim.update(ids[200], phase="failed", errorMessage="changed")
    load = sweep(kept)
    assert (load.deleted, load.reasons) == ([ids[10], ids[-1]], [])
    assert load.verdict == "whole"
    assert [row["task_id"] for one in kept.manifests()[1:] for row in kept.rows(one.load_id)] == [
        ids[200],
        ids[10],
        ids[-1],
    ]
    assert kept.landed() == kept.expected()


@pytest.mark.parametrize("at", [0, 70, 150, 299])
def test_a_row_that_cannot_be_served_is_named_once(simulate: Simulate, archive: Archives, at: int) -> None:
    sim = simulate(speed=0)
    poisoned = sim.poison(sorted(sim.ids())[at])
    kept = archive(sim)
    load = sweep(kept)
    assert [missing.task_id for missing in load.unreadable] == [poisoned]
    assert (load.verdict, load.tasks_seen) == ("limited", 299)
    assert sorted(kept.landed()) == sorted(sim.ids() - {poisoned})


def test_rows_that_are_no_tasks_land_once(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    ids = sorted(sim.ids())
    odd = {ids[0]: b'{"no":"id"}', ids[60]: b'"text"', ids[-1]: b'{"id":17,"last":true}'}
    for task_id, body in odd.items():
        sim.put_raw(task_id, body)
    kept = archive(sim)
    load = sweep(kept)
    assert (load.verdict, load.tasks_seen) == ("whole", 300), load.reasons
    assert {row["payload"].encode() for row in kept.rows() if row["task_id"] is None} == set(odd.values())


def test_an_older_server_is_swept_by_one(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(api="legacy", speed=0)
    kept = archive(sim)
    assert kept.extraction().begin_ranges(RANGES)[1] == []
    load = kept.sync("sweep")
    assert [one.lane for one in kept.manifests()] == ["sweep"]
    assert kept.landed() == kept.expected()
    assert load.ranges == []


# ---------------------------------------------------------------------------------------------------------- interrupted


@pytest.mark.parametrize("survived", [1, 2, 3, 5, 8])
def test_a_worker_that_fails_goes_on_where_it_was(simulate: Simulate, archive: Archives, survived: int) -> None:
    sim = simulate(speed=0)
    kept = archive(sim, page_size=10, attempts=1)
    sweep_id, ranges = kept.extraction().begin_ranges(2)
    sim.fault("503", at=len(sim.requests) + survived + 1, times=None)
    with pytest.raises(failures.ApiError):
        kept.extraction().fetch_range(sweep_id, ranges[1])
    sim.clear_faults()
    again, left = kept.extraction().begin_ranges(7)  # begins nothing new
    assert (again, left) == (sweep_id, ranges)
    asked = len(sim.requests)
    first, second = fetch_at_once(kept, sweep_id, left)
    assert {first.load_id, second.load_id} == set(ranges)
    assert len(sim.requests) - asked <= 300 / 10 + 4 - survived + 1
    load = kept.sync("sweep")
    assert (load.verdict, load.tasks_seen) == ("whole", 300)
    assert kept.landed() == kept.expected()
    assert all(adds_up(kept, one) for one in kept.manifests())


def test_a_sweep_alone_fetches_what_the_workers_left(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    sweep_id, ranges = kept.extraction().begin_ranges(RANGES)
    fetch_at_once(kept, sweep_id, ranges[1:3])
    load = kept.sync()
    assert (load.load_id, load.lane, load.verdict, load.tasks_seen) == (sweep_id, "sweep", "whole", 300)
    assert [one.load_id for one in kept.manifests()] == [*ranges, sweep_id]
    assert kept.landed() == kept.expected()
    assert kept.extraction().fetch_range(sweep_id, ranges[0]).stage == "done"  # a worker that comes late


def test_another_lane_ends_a_divided_sweep(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    kept.sync()
    sim.update(min(sim.ids()), phase="failed", errorMessage="changed")
    sweep_id, ranges = kept.extraction().begin_ranges(RANGES)
    fetch_at_once(kept, sweep_id, ranges[:1])
    kept.extraction().backfill(0, 1)
    assert kept.extraction().fetch_range(sweep_id, ranges[1]) is None
    assert [one.verdict for one in kept.manifests()] == ["whole", "whole", "broken", "whole"]
    assert kept.landed() == kept.expected()
