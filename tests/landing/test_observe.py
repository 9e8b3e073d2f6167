"""The lane `observe`: one request and no trace where nothing changed, else the changes and, in turn, the open tasks."""

from collections.abc import Callable
from typing import Any

import pytest

from pipelines.errors import SettingsError
from pipelines.landing.manifest import Manifest
from pipelines.livepeer import failures
from pipelines.simulator import Simulator
from pipelines.simulator import api as routes
from pipelines.simulator.listing import Page

Simulate = Callable[..., Simulator]
Archives = Callable[..., Any]


@pytest.fixture
def sim(simulate: Simulate) -> Simulator:
    return simulate(speed=0)


@pytest.fixture
def kept(sim: Simulator, archive: Archives) -> Any:
    """An archive that has all of the account."""
    kept = archive(sim, observe_lookups=3)
    kept.sync()
    sim.requests.clear()
    return kept


def observe(kept: Any, *open_tasks: str) -> Manifest | None:
    load: Manifest | None = kept.extraction().observe(lambda before_ms: list(open_tasks))
    return load


def paths(sim: Simulator) -> list[str]:
    return [recorded.path for recorded in sim.requests]


def test_nothing_new_costs_a_request_and_leaves_no_trace(sim: Simulator, kept: Any) -> None:
    before = kept.files()
    for number in range(1, 4):
        assert observe(kept, min(sim.ids())) is None
        assert not kept.extraction().has_news()
        assert len(sim.requests) == 2 * number
    assert kept.files() == before
    assert {folder.name for folder in (kept.settings.home.landing / "default").iterdir()} == {
        load.load_id for load in kept.manifests()
    }


def test_an_account_without_recent_changes_is_as_cheap(sim: Simulator, kept: Any) -> None:
    for task_id in list(sim._world._lives):
        sim._world.halt(task_id)
    sim._world._generators.clear()
    sim.advance(40 * 86_400)
    kept.sync()
    sim.requests.clear()
    assert observe(kept) is None
    assert len(sim.requests) == 1


def test_a_change_lands_and_moves_the_proven_point(
    sim: Simulator, kept: Any, set_our_clock: Callable[..., None]
) -> None:
    set_our_clock(sim)
    sim.advance(3600)
    sim.update(changed := min(sim.ids()), phase="failed", errorMessage="seen")
    new = sim.insert()
    assert kept.extraction().has_news()
    sim.requests.clear()
    load = observe(kept)
    assert load is not None
    assert (load.lane, load.verdict, load.reasons) == ("observe", "whole", [])
    assert {changed, new} <= {row["task_id"] for row in kept.rows(load.load_id)}
    assert load.proven_until_ms == sim.now() // 1000 * 1000
    assert load.server_count_before == load.server_count_after == load.tasks_seen
    assert load.requests == len(sim.requests) <= 3 + load.pages  # no probe
    assert kept.landed() == kept.expected()
    assert observe(kept) is None
    assert kept.sync().window.updated_from_ms == load.proven_until_ms - kept.settings.overlap_seconds * 1000


def test_a_change_that_comes_back_to_an_earlier_state_is_news(sim: Simulator, kept: Any) -> None:
    task_id = max(sim.ids(), key=lambda i: sim.tasks()[i]["status"]["updatedAt"])
    original = sim.tasks()[task_id]
    for name in ("B", "A", "B"):
        sim.replace(task_id, original | ({"name": "renamed"} if name == "B" else {}))
        load = observe(kept)
        assert load is not None
        assert (load.changed, load.rows_landed) == (1, 1)
        assert observe(kept) is None
    sim.delete(task_id)
    kept.sync("sweep")
    assert observe(kept) is None
    sim.undelete(task_id)
    assert observe(kept) is not None
    assert kept.landed() == kept.expected()


def test_many_changes_of_one_moment_are_compared_to_the_last_page(sim: Simulator, kept: Any) -> None:
    sim.advance(60)
    now = sim.now()
    for task_id in sorted(sim.ids())[:170]:  # more than three pages of one timestamp
        sim.update(task_id, phase="failed", updatedAt=now)
    assert observe(kept) is not None
    assert observe(kept) is None
    last = max(i for i, task in sim.tasks().items() if task["status"]["updatedAt"] == now)
    sim.replace(last, sim.tasks()[last] | {"name": "renamed"})
    load = observe(kept)
    assert load is not None
    assert load.rows_landed == 1


def test_a_time_in_the_future_is_no_news_for_ever(sim: Simulator, kept: Any) -> None:
    sim.update(min(sim.ids()), phase="failed", updatedAt=sim.now() + 40 * 86_400_000)
    assert observe(kept) is not None
    for _ in range(3):
        sim.advance(3 * 3600)
        kept.sync()
    sim.requests.clear()
    assert observe(kept) is None
    assert len(sim.requests) == 1


def test_open_tasks_are_asked_for_in_turn(sim: Simulator, kept: Any) -> None:
    ids = sorted(sim.ids())
    still_open, removed, marked = ids[:7], ids[2], ids[6]
    sim.remove(removed)
    sim.delete(marked)
    looked_up: list[str] = []
    deleted: list[str] = []
    for number in range(3):
        sim.advance(5)
        sim.update(ids[20], phase="running", progress=number / 10)
        load = observe(kept, *still_open)
        assert load is not None
        assert load.verdict == "whole", load.reasons
        assert sum(f"/task/{task_id}" in path for path in paths(sim) for task_id in still_open) == len(load.looked_up)
        assert load.server_count_after == load.tasks_seen  # those asked for by id do not count as met
        sim.requests.clear()
        looked_up += load.looked_up
        deleted += load.deleted
    assert looked_up == [*ids[:7], *ids[:2]]
    assert deleted == [removed, marked]
    assert kept.landed().keys() == kept.expected().keys()


def test_open_tasks_read_in_the_window_are_not_asked_for(sim: Simulator, kept: Any) -> None:
    sim.advance(5)
    sim.update(met := min(sim.ids()), phase="running", progress=0.1)
    assert observe(kept, met) is not None
    assert not any(f"/task/{met}" in path for path in paths(sim))


def test_what_it_misses_is_said(sim: Simulator, kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.advance(3600)
    new, hidden = sim.insert(createdAt=sim.now()), sim.insert(createdAt=sim.now())
    shown = routes.studio_page

    def page(*arguments: Any) -> Page:
        found = shown(*arguments)
        return Page([row for row in found.rows if row.id != hidden], found.next_cursor, found.total)

    monkeypatch.setattr(routes, "studio_page", page)
    load = observe(kept)
    assert load is not None
    assert (load.verdict, load.proven_until_ms) == ("broken", None)
    assert new in kept.landed()
    monkeypatch.undo()
    again = observe(kept)
    assert again is not None
    assert again.verdict == "whole"
    assert kept.landed() == kept.expected()


def test_a_server_that_dies_meanwhile_costs_nothing_that_had_landed(sim: Simulator, kept: Any) -> None:
    sim.advance(3600)
    for task_id in sorted(sim.ids())[:120]:
        sim.advance(0.01)
        sim.update(task_id, phase="failed", errorMessage="more")
    sim.fault("503", at=sim._started + 5, times=None)
    with pytest.raises(failures.ApiError):
        observe(kept)
    sim.clear_faults()
    load = observe(kept)
    assert load is not None
    assert [one.verdict for one in kept.manifests()] == ["whole", "broken", "whole"]
    assert kept.landed() == kept.expected()
    assert observe(kept) is None


def test_a_poisoned_row_is_said_until_the_window_has_left_it(sim: Simulator, kept: Any) -> None:
    sim.advance(3600)
    poisoned = min(sim.ids())
    sim.replace(poisoned, {"type": "upload", "status": {"updatedAt": sim.now(), "phase": "failed"}})
    load = observe(kept)
    assert load is not None
    assert load.verdict == "limited"
    assert [missing.task_id for missing in load.unreadable] == [poisoned]
    sim.advance(3600)
    kept.sync()
    kept.sync()
    sim.requests.clear()
    assert observe(kept) is None
    assert len(sim.requests) == 1


def test_it_needs_a_proven_sweep_and_a_server_that_can(simulate: Simulate, sim: Simulator, archive: Archives) -> None:
    with pytest.raises(SettingsError, match="no proven sweep"):
        observe(archive(sim, home="fresh"))
    old = simulate(api="legacy", speed=0)
    kept = archive(old, home="old")
    kept.sync()
    with pytest.raises(SettingsError, match="no proven sweep"):
        observe(kept)


def test_a_server_whose_clock_was_set_back_is_read_whole(
    sim: Simulator, archive: Archives, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = archive(sim, home="ahead")
    with monkeypatch.context() as patch:
        tomorrow = sim.now() + 86_400_000
        patch.setattr(sim, "now", lambda: tomorrow)
        kept.sync()
    sim.advance(60)
    sim.update(min(sim.ids()), phase="failed")
    load = observe(kept)
    assert load is not None
    assert load.verdict == "whole"
    assert kept.landed() == kept.expected()
    assert observe(kept) is None
