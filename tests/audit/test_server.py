"""`task-archive verify`: each difference between archive and server is found by its id, in requests that grow with the
differences, and nothing is written."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from pipelines.audit.server import SLICES, TYPES, CannotVerify, Comparison, verify
from pipelines.cli.main import main
from pipelines.landing.lanes import Extraction
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.publish import publish
from tests.landed import LandedFiles

PAGE = 100
ACCOUNT = {"days": 40, "seed": 5, "now": 1_795_000_000_000, "speed": 0}
FINGERPRINT = "fingerprint key of the tests"
DAY_MS = 86_400_000
RANGE_MS = 60 * 365 * DAY_MS  # from 1970 on

Simulate = Callable[..., Simulator]
Archives = Callable[..., Any]


def make_published(settings: Settings, zone: Any) -> None:
    list(build.build_version(settings))
    publish(settings)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """homes(tasks): an archive, made and published once, of an account of so many tasks."""

    @cache
    def home(tasks: int) -> Path:
        with Simulator(**ACCOUNT, tasks=tasks).serve() as simulator:
            folder = tmp_path_factory.mktemp("published") / "archive"
            keys = {"default": SecretStr(simulator.api_key)}
            settings = Settings(
                home=folder, api_url=simulator.url, api_keys=keys, fingerprint_key=SecretStr(FINGERPRINT)
            )
            assert Extraction(settings, "default", "run").sync().verdict == "whole"
            make_published(settings, LandedFiles(settings.home.landing))
        return folder

    return home


@pytest.fixture
def synced(homes: Callable[[int], Path], simulate: Simulate, archive: Archives, tmp_path: Path) -> Callable[..., Any]:
    """synced(tasks): an archive, published, of an account that stands still, and the account as it was then."""

    def synced(tasks: int = 2000, page_size: int = PAGE) -> Any:
        shutil.copytree(homes(tasks), tmp_path / f"archive of {tasks}", symlinks=True)
        return archive(simulate(**ACCOUNT, tasks=tasks), home=f"archive of {tasks}", page_size=page_size)

    return synced


def compare(kept: Any) -> Comparison:
    """Also sees that it writes nothing."""
    before = every_file(kept.settings.home.path)
    found = verify(kept.settings, "default")
    assert every_file(kept.settings.home.path) == before
    return found


def every_file(home: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in home.rglob("*")}


def of_kind(found: Comparison, kind: str) -> set[str]:
    return {difference.task_id for difference in found.differences if difference.kind == kind}


def old_ids(kept: Any) -> list[str]:
    """Tasks that did not change in the last days."""
    before_ms = kept.simulator.now() - 10 * DAY_MS
    tasks = kept.simulator.tasks()
    return sorted(task_id for task_id, task in tasks.items() if task["status"]["updatedAt"] < before_ms)


def hide(kept: Any, task_id: str) -> None:
    """As if the server had listed it all along and the archive had missed it: it comes with its old times."""
    task = kept.simulator.tasks()[task_id]
    kept.simulator.insert(task | {"id": f"{task_id[:-4]}beef"})


def test_equal(synced: Callable[..., Any]) -> None:
    kept = synced()
    kept.settings = kept.settings.model_copy(update={"fingerprint_key": None})  # and none is made
    found = compare(kept)
    assert found.is_equal
    assert found.differences == []
    assert (found.server, found.archive) == (2000, 2000)
    assert {count.type: count.server for count in found.types} == {count.type: count.archive for count in found.types}
    assert sum(count.server for count in found.types) == 2000
    assert "equal" in list(found.lines())[-1]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))])
def test_each_difference_is_found_by_its_id(synced: Callable[..., Any], seed: int) -> None:
    kept = synced()
    sim, random = kept.simulator, Random(seed)
    ids = old_ids(kept)
    missing, marked, removed, outdated = (set(part) for part in disjoint(random, ids, 3, 2, 2, 3))
    for task_id in missing:
        hide(kept, task_id)
    for task_id in marked:
        sim.delete(task_id)
    for task_id in removed:
        sim.remove(task_id)
    for task_id in outdated:  # a change that no load met: its time lies before the last proven point
        sim.update(task_id, phase="failed", errorMessage="not met", updatedAt=sim.now() - DAY_MS)
    found = compare(kept)
    assert not found.is_equal
    assert of_kind(found, "missing") == {f"{task_id[:-4]}beef" for task_id in missing}
    assert of_kind(found, "deleted") == marked | removed
    assert of_kind(found, "outdated") == outdated
    assert len(found.differences) == 10
    by_id = {difference.task_id: difference for difference in found.differences}
    for task_id in marked:
        assert by_id[task_id].type in TYPES
        assert (by_id[task_id].created_at or "").endswith("UTC")
    assert sum(sum(kinds.values()) for kinds in found.by_day().values()) == 10

    if seed:
        return
    # What it says to do heals it.
    kept.extraction().refresh([difference.task_id for difference in found.differences])
    make_published(kept.settings, kept.zone)
    assert compare(kept).is_equal


@pytest.mark.slow
@pytest.mark.parametrize("healed_by", ["refresh", "sweeps"])
def test_a_servers_clock_that_was_set_back(
    simulate: Simulate, archive: Archives, set_our_clock: Callable[..., None], healed_by: str
) -> None:
    """States that came about since then have older times than those before: what it says to do heals them."""
    sim = simulate(**ACCOUNT, tasks=200)
    set_our_clock(sim)
    kept = archive(sim, page_size=PAGE)
    changed = sorted(sim.ids())[::40]
    sim.advance(7200)
    for task_id in changed:
        sim.update(task_id, phase="running", progress=0.5)
    kept.sync()
    sim.advance(-7200)
    sim.advance(60)
    for task_id in changed:
        sim.update(task_id, phase="failed", errorMessage="set back")
    sim.advance(3600)
    kept.sync()  # reads the whole list, since the clock stands before the proven point
    sim.advance(3600)
    kept.sync()  # and goes on from there
    make_published(kept.settings, kept.zone)
    found = compare(kept)
    assert of_kind(found, "outdated") == {difference.task_id for difference in found.differences} == set(changed)
    if healed_by == "refresh":
        (told,) = (line for line in found.lines() if "task-archive refresh -- " in line)
        assert set(told.split(" -- ")[1].split()) == set(changed)
        kept.extraction().refresh(changed)
    else:
        kept.sync("sweep")
    make_published(kept.settings, kept.zone)
    found = compare(kept)
    assert (found.is_equal, found.differences) == (True, [])
    assert kept.sync("sweep").rows_landed == 0
    make_published(kept.settings, kept.zone)
    assert compare(kept).is_equal


def disjoint(random: Random, ids: list[str], *sizes: int) -> list[list[str]]:
    drawn = random.sample(ids, sum(sizes))
    return [[drawn.pop() for _ in range(size)] for size in sizes]


def test_what_changed_since_the_last_proven_point_is_told_and_no_difference(synced: Callable[..., Any]) -> None:
    kept = synced()
    sim = kept.simulator
    sim.advance(2 * 86_400)
    before = kept.simulator.ids()
    for task_id in Random(1).sample(old_ids(kept), 40):
        sim.update(task_id, phase="failed", errorMessage="since")
    sim.insert()
    found = compare(kept)
    assert found.is_equal, found.differences
    new = len(sim.ids() - before) + len(before) - 2000
    assert new >= 1
    assert found.new_since == new
    assert found.changed_since >= new + 40
    assert found.server == 2000 + new


def test_what_changes_while_it_looks_is_no_difference(synced: Callable[..., Any]) -> None:
    kept = synced()
    sim = kept.simulator
    ids = Random(2).sample(old_ids(kept), 30)
    lost = old_ids(kept)[3]
    sim.remove(lost)

    def change(simulator: Simulator, number: int, path: str) -> None:
        simulator.advance(0.5)
        simulator.update(ids[number % len(ids)], phase="running", progress=number / 1e4)
        simulator.insert()

    sim.before_request(change)
    found = compare(kept)
    assert [difference.task_id for difference in found.differences] == [lost]


@pytest.mark.slow
def test_requests_grow_with_the_differences_and_not_with_the_archive(synced: Callable[..., Any]) -> None:
    constant = len(TYPES) + sum(SLICES.values()) + 12
    requests: dict[tuple[int, int], int] = {}
    few, many = 400, 3200
    for tasks in (few, many):
        kept = synced(tasks, page_size=25)
        gone: set[str] = set()
        doomed = Random(3).sample(old_ids(kept), 8)
        for differences in (0, 8):
            for task_id in doomed[len(gone) : differences]:
                kept.simulator.remove(task_id)
                gone.add(task_id)
            found = compare(kept)
            assert of_kind(found, "deleted") == gone
            requests[tasks, differences] = found.requests
            assert found.requests <= constant + differences * (math.log2(RANGE_MS) + 4)
    assert requests[few, 0] == requests[many, 0] <= constant
    # Eight times the tasks are three more halvings, or some more where the times are uneven.
    assert requests[many, 8] - requests[few, 8] <= 8 * 8


@pytest.mark.parametrize("spread_ms", [1000, 0], ids=["a day", "one moment"])
def test_more_than_a_page_of_missing_tasks(synced: Callable[..., Any], spread_ms: int) -> None:
    """Also where the archive has nothing before them."""
    kept = synced(400)
    at_ms = 1_600_000_000_000
    born = {
        kept.simulator.insert(createdAt=moment, status={"phase": "failed", "updatedAt": moment})
        for moment in (at_ms + number * spread_ms for number in range(3 * PAGE))
    }
    found = compare(kept)
    assert of_kind(found, "missing") == born
    assert found.by_day() == {"2020-09-13": {"missing": 300}}
    assert any("sync --lane sweep" in line for line in found.lines())


def test_tasks_without_a_time_or_of_an_unknown_type(synced: Callable[..., Any]) -> None:
    kept = synced(400)
    sim = kept.simulator
    at_ms = sim.now() - 9 * DAY_MS
    status = {"phase": "failed", "updatedAt": at_ms}
    timeless = {"id": "00000000-0000-4000-8000-000000000001", "type": "clip", "status": status}
    sim.insert(timeless)
    odd = sim.insert(type="new-type", createdAt=at_ms, status=status)
    found = compare(kept)
    assert of_kind(found, "missing") == {odd, timeless["id"]} == {different.task_id for different in found.differences}


def test_what_the_list_shows_no_more_is_told_and_no_difference(synced: Callable[..., Any]) -> None:
    """The archive holds it as the server has it: it was moved to a project that the key does not list."""
    kept = synced(400)
    moved = old_ids(kept)[4]
    task = kept.simulator.tasks()[moved]
    kept.simulator.replace(moved, task | {"projectId": "0b6b1d8e-52c1-4c2e-8d83-1b9d3f2f6a10"})
    found = compare(kept)
    assert of_kind(found, "unlisted") == {moved} == {different.task_id for different in found.differences}
    assert found.is_equal
    assert not any(line.startswith("do ") for line in found.lines())


def test_a_row_that_the_server_cannot_serve(synced: Callable[..., Any]) -> None:
    kept = synced(400)
    task_id = old_ids(kept)[5]
    hide(kept, task_id)
    poisoned = f"{task_id[:-4]}beef"
    kept.simulator.poison(poisoned)
    found = compare(kept)
    assert {(difference.task_id, difference.kind) for difference in found.differences} == {(poisoned, "unreadable")}


@pytest.mark.slow
@pytest.mark.parametrize("is_archived", [True, False])
def test_rows_that_a_load_could_not_have_cost_a_request_each(
    simulate: Simulate, archive: Archives, is_archived: bool
) -> None:
    kept = archive(simulate(**ACCOUNT, tasks=2000), page_size=1000, retry_wait_seconds=1)
    ids = old_ids(kept)
    if is_archived:
        kept.sync()
    poisoned = [kept.simulator.poison(task_id) for task_id in ids[100:1700:400]]
    assert kept.sync("sweep").verdict == "limited"
    make_published(kept.settings, kept.zone)
    found = compare(kept)
    assert found.requests <= 60
    assert of_kind(found, "unreadable") == (set() if is_archived else set(poisoned))
    assert "unserved   4 rows" in "\n".join(found.lines())
    assert len(found.differences) == (0 if is_archived else 4)
    assert not any("None" in line or line.startswith("do ") for line in found.lines())
    missing = next(task_id for task_id in ids[1000:] if task_id not in poisoned)
    hide(kept, missing)  # it does not hide behind them
    assert of_kind(compare(kept), "missing") == {f"{missing[:-4]}beef"}


@pytest.mark.parametrize("api", ["legacy", "opaque"])
def test_a_server_that_cannot_be_compared_with_is_said(
    synced: Callable[..., Any], simulate: Simulate, api: str
) -> None:
    kept = synced(400)
    old = simulate(tasks=100, api=api)
    settings = kept.settings.model_copy(update={"api_url": old.url})
    with pytest.raises(CannotVerify, match="sync --lane sweep"):
        verify(settings, "default")


# ---------------------------------------------------------------------------------------------------------- the command


@dataclass
class Command:
    """`task-archive verify` on an archive."""

    kept: Any

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["verify", *arguments], catch_exceptions=False)


@pytest.fixture
def run(synced: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Command:
    kept = synced(400)
    monkeypatch.setenv("TASK_ARCHIVE_HOME", str(kept.settings.home))
    monkeypatch.setenv("LIVEPEER_API_URL", kept.simulator.url)
    monkeypatch.setenv("LIVEPEER_API_KEY", kept.simulator.api_key)
    return Command(kept)


def test_the_command(run: Command) -> None:
    assert run().exit_code == 0
    gone = old_ids(run.kept)[0]
    run.kept.simulator.remove(gone)
    result = run()
    assert result.exit_code == 3
    assert f"task-archive refresh -- {gone}" in result.stdout
    found = json.loads(run("--json", "--account", "default").stdout)["accounts"][0]
    assert [difference["task_id"] for difference in found["differences"]] == [gone]
    assert run("--account", "acme").exit_code == 2


def test_the_command_on_the_landing_zone(run: Command) -> None:
    kept = run.kept
    sound = run("--landing")
    assert sound.exit_code == 0, sound.output
    (load,) = kept.manifests()
    assert f"sound      {len(load.parts) + 1:,} files" in sound.stdout
    path, part = next(iter(kept.zone.parts([load])))
    path.write_bytes(path.read_bytes()[:-1])
    before = every_file(kept.settings.home.landing)
    result = run("--landing")
    assert result.exit_code == 3
    assert (
        f"landed file default/{load.load_id}/{path.name} was cut, {part.rows:,} observations, fetched 20"
        in result.stdout
    )
    assert "put it back from a backup; without one, the next `task-archive sync` reads" in result.stdout
    assert json.loads(run("--landing", "--json").stdout)["damages"][0]["file"] == path.name
    assert every_file(kept.settings.home.landing) == before
    kept.sync()
    assert "a sweep has brought back their current state" in run("--landing").stdout
