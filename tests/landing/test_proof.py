"""What a manifest says of its load: digests, overlap, settled tasks, traffic, clocks; also where something is amiss."""

import hashlib
import time
from collections.abc import Callable
from typing import Any

import duckdb
import pytest

from pipelines.landing.catalog import Catalog
from pipelines.landing.context import ProgressCallbacks
from pipelines.landing.manifest import Manifest, decode, encode
from pipelines.landing.proof import ELSEWHERE, LISTS_ONLY, UNSETTLED
from pipelines.livepeer import failures
from pipelines.simulator import Simulator
from pipelines.simulator import api as routes
from pipelines.simulator.errors import refused
from pipelines.simulator.listing import Page
from pipelines.simulator.wire import Response

DAY_MS = 86_400_000

Simulate = Callable[..., Simulator]
Archives = Callable[..., Any]


# -------------------------------------------------------------------------------------------------------------- digests


def digests_of(states: dict[str, int | None]) -> tuple[str, str]:
    """The digests, by the book."""

    def digest(texts: list[str]) -> str:
        numbers = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in texts]
        return f"{sum(numbers) % 2**64:016x}"

    return digest(list(states)), digest([f"{i}:{'' if at is None else at}" for i, at in states.items()])


def digests(load: Manifest) -> tuple[str | None, str | None]:
    return load.digest_ids, load.digest_states


def states(sim: Simulator) -> dict[str, int | None]:
    return {task_id: task["status"]["updatedAt"] for task_id, task in sim.tasks().items()}


def newest(rows: list[dict[str, Any]]) -> dict[str, int | None]:
    """The state of each task that landed last."""
    return {row["task_id"]: row["updated_at_ms"] for row in rows if row["task_id"] is not None}


def test_a_sweeps_digests_are_those_of_the_account_and_of_the_archive(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    load = kept.sync()
    assert digests(load) == digests_of(states(sim))
    again = kept.sync("sweep")  # nothing lands, but all is met
    assert (again.rows_landed, digests(again)) == (0, digests(load))
    sim.advance(60)
    sim.update(min(sim.ids()), phase="running", progress=0.1)
    third = kept.sync("sweep")
    assert digests(third) == digests_of(states(sim))
    found = (
        "select printf('%016x', (sum(('0x' || left(sha256(task_id), 16))::ubigint) % 18446744073709551616)::ubigint) "
        "from (select distinct task_id from read_parquet(?))"
    )
    files = str(kept.settings.home.landing / "default" / "*" / "part-*.parquet")
    assert duckdb.execute(found, [files]).fetchall() == [(third.digest_ids,)]


@pytest.mark.parametrize("mutations", [(1, 5, 0), (0, 12, 0)])
def test_digests_hold_each_task_once_in_the_state_met_last(
    simulate: Simulate, archive: Archives, mutations: tuple[int, int, int]
) -> None:
    sim = simulate(tasks=400)
    sim.mutate_between_pages(*mutations)
    kept = archive(sim)
    load = kept.sync()
    assert load.changed > 20
    assert digests(load) == digests_of(newest(kept.rows()))
    changes = kept.sync()
    assert changes.lane == "changes"
    known = newest(kept.rows())
    assert digests(changes) != digests(load)
    met = {i: at for i, at in known.items() if (at or 0) >= (changes.window.updated_from_ms or 0)}
    assert digests(changes) == digests_of(met)
    backfill = kept.extraction().backfill(sim.now() - 5 * DAY_MS, sim.now() + DAY_MS)
    assert backfill.digest_ids is not None
    refresh = kept.extraction().refresh([some := min(sim.ids()), some])
    assert digests(refresh) == digests_of({some: sim.tasks()[some]["status"]["updatedAt"]})


def test_elements_without_an_id_or_a_time_have_their_digests_too(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(tasks=60, speed=0)
    nameless, timeless = sorted(sim.ids())[3:5]
    sim.put_raw(nameless, b'{"no":"id"}')
    sim.replace(timeless, {"type": "clip", "createdAt": 5})
    load = archive(sim).sync()
    known: dict[str, int | None] = {
        i: task["status"]["updatedAt"] for i, task in sim.tasks().items() if i not in (nameless, timeless)
    }
    assert digests(load) == digests_of(known | {timeless: None})
    assert load.verdict == "whole", load.reasons


def test_the_older_servers_tasks_count_once_however_often_they_come(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(api="legacy", speed=0)
    kept = archive(sim)
    sim.fault("503", at=7, times=None)
    with pytest.raises(failures.ApiError):
        kept.sync()
    sim.clear_faults()
    load = kept.sync()
    assert load.tasks_seen == 300
    assert digests(load) == digests_of(states(sim))


@pytest.mark.parametrize("at", [6, 9, 12])
def test_an_interruption_changes_neither_digests_nor_what_was_asked_for(
    simulate: Simulate, archive: Archives, at: int
) -> None:
    sim = simulate(speed=0)
    kept, quiet = archive(sim), archive(sim, home="quiet")
    sim.fault("503", at=at, times=None)
    with pytest.raises(failures.ApiError):
        kept.sync()
    noted = kept.zone.open_loads("default")[0]
    assert noted.requests == len(sim.requests) > 0
    sim.clear_faults()
    sim.advance(60)
    for task_id in sorted(sim.ids())[::30]:  # some that were met and some that were not
        sim.update(task_id, phase="running", progress=0.3)
    load = kept.sync()
    assert load.requests == len(sim.requests)
    assert load.attempts_repeated == 5
    assert load.bytes_received > noted.bytes_received > 0
    assert digests(load) == digests_of(states(sim)) == digests(quiet.sync())
    assert (load.tasks_seen, load.verdict, load.settled_seen) == (300, "whole", load.settled_count)


def test_a_manifest_of_before_can_be_read(simulate: Simulate, archive: Archives) -> None:
    import json

    load = archive(simulate(speed=0)).sync()
    fields = json.loads(encode(load))
    new = ("digest_ids", "digest_states", "overlap_rows", "overlap_equal", "looked_up", "settled_until_ms")
    old = decode(json.dumps({name: value for name, value in fields.items() if name not in new}).encode())
    assert (old.digest_ids, old.overlap_rows, old.looked_up, old.tasks_seen) == (None, 0, [], 300)


# -------------------------------------------------------------------------------------------------------------- overlap


def test_what_is_read_again_is_found_equal_but_for_what_came_late(
    simulate: Simulate, archive: Archives, set_our_clock: Callable[..., None]
) -> None:
    sim = simulate(speed=0)
    set_our_clock(sim)
    kept = archive(sim, overlap_seconds=7200)
    kept.sync()
    calm = kept.sync()
    in_window = [at for at in states(sim).values() if at is not None and at >= (calm.window.updated_from_ms or 0)]
    assert calm.overlap_rows == calm.overlap_equal == len(in_window) > 0
    sim.lag(300)
    sim.advance(400)
    late = [sim.insert(name="late") for _ in range(5)]
    sim.advance(200)
    kept.sync()
    sim.lag(0)
    load = kept.sync()
    assert load.appeared >= len(late)
    assert load.overlap_rows - load.overlap_equal >= len(late)
    again = kept.sync()
    assert again.overlap_rows == again.overlap_equal > load.overlap_equal


# -------------------------------------------------------------------------------------------------------------- settled


def hide(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    """A server that leaves a row out of every page, but counts it."""
    shown = routes.studio_page

    def page(*arguments: Any) -> Page:
        found = shown(*arguments)
        return Page([row for row in found.rows if row.id != hidden], found.next_cursor, found.total)

    monkeypatch.setattr(routes, "studio_page", page)


def at_page(sim: Simulator, number: int, act: Callable[[], None]) -> None:
    """Does something when so many pages of the walk by id were asked for."""
    asked = 0

    def look(simulator: Simulator, request: int, path: str) -> None:
        nonlocal asked
        asked += "limit=50&order=id-false" in path
        if asked == number and "limit=50&order=id-false" in path:
            act()

    sim.before_request(look)


def miscount(monkeypatch: pytest.MonkeyPatch, hidden: set[str], too_few: int) -> None:
    """A server that leaves rows out of every page, and whose count is too low by even more."""
    shown = routes.studio_page

    def page(*arguments: Any) -> Page:
        found = shown(*arguments)
        total = None if found.total is None else max(1, found.total - too_few)
        return Page([row for row in found.rows if row.id not in hidden], found.next_cursor, total)

    monkeypatch.setattr(routes, "studio_page", page)


@pytest.mark.parametrize("deleted", [0, 5])
@pytest.mark.parametrize(("lane", "hidden"), [("sweep", 50), ("sweep", 0), ("changes", 0)])
def test_a_count_that_is_too_low_proves_nothing(
    simulate: Simulate, archive: Archives, monkeypatch: pytest.MonkeyPatch, lane: str, hidden: int, deleted: int
) -> None:
    sim = simulate(speed=0)
    kept = archive(sim, overlap_seconds=60)
    if lane == "changes":
        kept.sync()
        sim.advance(3600)
        for task_id in sorted(sim.ids())[:150]:
            sim.update(task_id, phase="failed", errorMessage="more")
    ids = sorted(sim.ids())
    counts = 0

    def delete(simulator: Simulator, number: int, path: str) -> None:
        nonlocal counts
        counts += "count=true" in path
        if counts == 3:  # the one behind the walk
            counts += 1
            for task_id in ids[:deleted]:
                simulator.delete(task_id)

    sim.before_request(delete)
    miscount(monkeypatch, set(ids[100 : 100 + 2 * hidden : 2]), hidden + 10)
    load = kept.sync(lane)
    assert load.server_count_after == load.tasks_seen - 10 - deleted
    assert load.deleted == ids[:deleted]
    assert load.reasons == ["the load read 10 tasks more than the server counts: its count confirms nothing"]
    assert load.verdict == "limited"


def test_a_count_of_nothing_does_not_have_the_list_read_twice(
    simulate: Simulate, archive: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulate(tasks=1200, speed=0)
    miscount(monkeypatch, set(), 1199)
    load = archive(sim, page_size=1000).sync()
    assert load.reasons == ["the load read 1,199 tasks more than the server counts: its count confirms nothing"]
    assert load.requests < 12


def test_a_missed_task_does_not_hide_behind_one_deleted_meanwhile(
    simulate: Simulate, archive: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulate(speed=0)
    ids = sorted(sim.ids())
    hide(monkeypatch, ids[120])
    at_page(sim, 5, lambda: sim.delete(ids[3]))  # it was read: the counts add up again
    load = archive(sim, overlap_seconds=1).sync()
    assert load.server_count_after == load.tasks_seen == 299
    assert (load.settled_count, load.settled_seen) == (300, 299)
    assert load.verdict == "limited"
    assert load.reasons == [f"1 task counted by the server at first, gone when the walk came: {UNSETTLED}"]


def test_a_missed_task_does_not_hide_behind_one_that_came_and_went(
    simulate: Simulate, archive: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulate(speed=0)
    hide(monkeypatch, sorted(sim.ids())[120])
    new: list[str] = []
    at_page(sim, 2, lambda: new.append(sim.insert({"id": "ffffffff-0000-4000-8000-000000000000"}, createdAt=sim.now())))
    sim.before_request(lambda _, __, path: sim.remove(new.pop()) if new and "updatedAt" in path else None)
    load = archive(sim, overlap_seconds=1).sync()
    assert load.server_count_after == load.tasks_seen == 300
    assert load.verdict == "broken"
    assert load.reasons == ["the load did not read 1 task that the server counts, created before it began"]
    assert load.proven_until_ms is None


def test_tasks_deleted_after_they_were_read_leave_a_whole_proof(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    ids = sorted(sim.ids())
    at_page(sim, 5, lambda: [sim.delete(task_id) for task_id in ids[:20]] and None)
    load = archive(sim, overlap_seconds=1).sync()
    assert (load.server_count_after, load.tasks_seen, load.deleted) == (280, 300, ids[:20])
    assert (load.settled_count, load.settled_seen, load.verdict, load.reasons) == (300, 300, "whole", [])


def test_tasks_without_a_creation_time_and_poisoned_ones_upset_no_count(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    odd, poisoned, new = *sorted(sim.ids())[20:220:100], sim.insert(createdAt=sim.now())
    sim.replace(odd, {"type": "clip", "status": {"phase": "failed", "updatedAt": sim.now()}})
    kept = archive(sim, overlap_seconds=1)
    load = kept.sync()
    assert load.verdict == "whole", load.reasons
    assert load.settled_count == 299 == load.settled_seen - 1
    assert new in kept.landed()
    sim.poison(poisoned)
    again = kept.sync("sweep")
    assert again.verdict == "limited"
    assert [UNSETTLED in reason for reason in again.reasons] == [False]


# ------------------------------------------------------------------------------------------------------------- vanished


def test_a_task_in_another_project_or_of_another_user_is_said_to_be(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    kept.sync()
    moved, foreign, gone = sorted(sim.ids())[40::90]
    project = next(iter(sim.tasks("second-project").values()))["projectId"]
    user = next(iter(sim.tasks("other-user").values()))["userId"]
    sim.replace(moved, sim.tasks()[moved] | {"projectId": project})
    sim.replace(foreign, sim.tasks()[foreign] | {"userId": user})
    sim.remove(gone)
    load = kept.sync("sweep")
    assert load.vanished == [moved, foreign, gone]
    assert load.deleted == [gone]
    said = {missing.task_id: missing.reason for missing in load.unreadable}
    assert said == {moved: f"{ELSEWHERE} ({project})", foreign: "belongs to another user (403)"}
    assert load.reasons == [
        f"1 archived task now {ELSEWHERE}, first {moved}",
        f"1 unreadable task, first {foreign}: belongs to another user (403)",
    ]
    assert load.verdict == "limited"
    assert {moved, foreign} <= kept.landed().keys()  # nothing is removed by absence alone
    sim.replace(moved, sim.tasks("second-project")[moved] | {"projectId": sim._accounts["default"].project_id})
    back = kept.sync("sweep")
    assert back.vanished == [foreign]


def test_a_key_that_may_list_and_not_get_is_said_once(
    simulate: Simulate, archive: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    kept.sync()
    monkeypatch.setattr(routes, "_get_task", refuse)
    whole = kept.sync("sweep")
    assert (whole.verdict, whole.reasons) == ("whole", [])
    gone = sorted(sim.ids())[40:93]
    for task_id in gone:
        sim.remove(task_id)
    for _ in range(2):
        said: list[str] = []
        load = kept.extraction(ProgressCallbacks(say=said.append)).sync("sweep")
        assert load.reasons == [f"{LISTS_ONLY}: a change or deletion of 53 tasks, first {gone[0]}, cannot be known"]
        assert (load.verdict, load.vanished, load.deleted, load.unreadable) == ("limited", gone, [], [])
        assert said == [LISTS_ONLY]
        assert load.requests <= whole.requests + 3
    refreshed = kept.extraction().refresh(sorted(sim.ids())[:7])
    assert [LISTS_ONLY in reason for reason in refreshed.reasons] == [True]
    assert refreshed.requests == 3
    monkeypatch.undo()
    assert kept.sync("sweep").deleted == gone


def refuse(backend: routes.Backend, request: routes.Request, task_id: str) -> Response:
    raise refused(403, "access forbidden by the rules of this key")


# --------------------------------------------------------------------------------------------------------------- clocks


def test_our_clock_may_jump_while_a_load_runs(
    simulate: Simulate, archive: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulate(speed=0)
    kept = archive(sim)
    clock, real, real_ns = [0.0], time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() + clock[0])
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + int(clock[0] * 1e9))
    at_page(sim, 6, lambda: clock.__setitem__(0, -86_400.0))
    before = real() - sim.now() / 1000
    first = kept.sync()
    assert clock == [-86_400.0]
    assert (first.verdict, first.finished_at_ms) == ("whole", first.started_at_ms)
    assert first.clock_skew_seconds == pytest.approx(before, abs=5)  # as most of the answers found it
    for jump in (86_400 * 3, -86_400 * 9):
        sim.advance(120)
        sim.update(changed := min(sim.ids()), phase="running", progress=0.5)
        clock[0] += jump
        load = kept.sync()
        assert (load.lane, load.verdict) == ("changes", "whole")
        assert changed in {row["task_id"] for row in kept.rows(load.load_id)}
    assert kept.landed() == kept.expected()
    ids = [load.load_id for load in kept.manifests()]
    assert ids == sorted(ids)
    assert all((load.finished_at_ms or 0) >= load.started_at_ms for load in kept.manifests())


def test_one_wrong_date_of_the_server_moves_no_point(
    simulate: Simulate, archive: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulate(speed=0)
    now = sim.now()
    dates = iter([now + DAY_MS])
    monkeypatch.setattr(sim, "now", lambda: next(dates, now))
    assert archive(sim).sync().proven_until_ms == now // 1000 * 1000


HOURS_2 = 7200


@pytest.mark.parametrize("ahead_seconds", [0, 30 * 86_400, -30 * 86_400], ids=["ours is right", "ahead", "behind"])
@pytest.mark.parametrize("is_idle", [True, False])
def test_a_servers_clock_that_stood_ahead_hides_no_change(
    simulate: Simulate,
    archive: Archives,
    monkeypatch: pytest.MonkeyPatch,
    set_our_clock: Callable[..., None],
    ahead_seconds: int,
    is_idle: bool,
) -> None:
    """Its Dates were two hours ahead when the account was swept, and are right from then on."""
    sim = simulate(speed=0)
    set_our_clock(sim, ahead_seconds)
    kept = archive(sim)
    if is_idle:
        sim.advance(86_400 * 3)
        for task_id in list(sim._world._lives):
            sim._world.halt(task_id)
    with monkeypatch.context() as patch:
        wrong = sim.now() + HOURS_2 * 1000
        patch.setattr(sim, "now", lambda: wrong)
        first = kept.sync()
    is_said = ahead_seconds <= 0
    assert first.verdict == ("limited" if is_said else "whole")
    assert [f"{HOURS_2 - ahead_seconds:,} s ahead of ours" in reason for reason in first.reasons] == [True] * is_said
    assert (first.proven_until_ms or 0) <= (wrong if ahead_seconds > 0 else time.time_ns() // 1_000_000)
    for task_id in sorted(sim.ids())[:100]:
        sim.advance(60)
        sim.update(task_id, phase="failed", errorMessage="in between")
    sim.advance(86_400)
    second = kept.sync()
    assert (second.lane, second.verdict) == ("changes", "whole" if ahead_seconds >= 0 else "limited")
    assert kept.landed() == kept.expected()
    assert second.tasks_seen < 200 or ahead_seconds < 0  # not the whole list


def test_a_servers_clock_that_is_set_back_hides_no_change(
    simulate: Simulate, archive: Archives, set_our_clock: Callable[..., None]
) -> None:
    """The times of its updates stood ahead as well."""
    sim = simulate(speed=0)
    set_our_clock(sim)
    kept = archive(sim)
    sim.advance(HOURS_2)
    sim.update(max(sim.ids()), phase="running", progress=0.1)
    set_our_clock(sim, -HOURS_2)
    first = kept.sync()
    assert (first.verdict, first.proven_until_ms) == ("limited", sim.now() - HOURS_2 * 1000)
    sim.advance(-HOURS_2)
    set_our_clock(sim)
    sim.advance(60)
    sim.update(changed := min(sim.ids()), phase="failed", errorMessage="in between")
    sim.advance(86_400)
    second = kept.sync()
    assert (second.lane, second.verdict) == ("changes", "whole")
    assert changed in {row["task_id"] for row in kept.rows(second.load_id)}


def test_a_point_proven_by_a_clock_that_stood_wrong_is_not_gone_on_from(
    simulate: Simulate, archive: Archives, monkeypatch: pytest.MonkeyPatch, set_our_clock: Callable[..., None]
) -> None:
    """Ours stood wrong likewise."""
    sim = simulate(speed=0)
    kept = archive(sim)
    with monkeypatch.context() as patch:
        tomorrow = sim.now() + DAY_MS
        patch.setattr(sim, "now", lambda: tomorrow)
        set_our_clock(sim, DAY_MS / 1000)
        assert kept.sync().proven_until_ms == tomorrow // 1000 * 1000
    set_our_clock(sim)
    sim.advance(4000)
    sim.update(changed := min(sim.ids()), phase="running", progress=0.5)
    load = kept.sync()
    assert (load.lane, load.window.updated_from_ms, load.verdict) == ("changes", None, "whole")
    assert changed in {row["task_id"] for row in kept.rows(load.load_id)}
    assert Catalog(kept.zone).proven_until_ms("default") == sim.now() // 1000 * 1000
    assert kept.landed() == kept.expected()
    assert kept.sync().window.updated_from_ms is not None
