"""What lands of a first load is made before the load is complete, and comes to what is made afterwards."""

import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from pipelines.errors import Busy
from pipelines.landing.context import ProgressCallbacks
from pipelines.landing.lanes import Extraction
from pipelines.landing.lock import locked, locked_by_worker
from pipelines.landing.ranges import progress_of
from pipelines.landing.zone import Zone
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.ahead import made_ahead
from pipelines.warehouse.working import Working
from tests.warehouse.test_change import digests, made_elsewhere

TASKS, PAGE = 12_000, 200


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate(tasks=TASKS, days=30)


@pytest.fixture
def settings(archive_settings: Callable[..., Settings], simulator: Simulator) -> Settings:
    return archive_settings(simulator, page_size=PAGE, memory_mb=100)


def fetch(settings: Settings) -> None:
    with made_ahead(settings, ProgressCallbacks()) as callbacks:
        Extraction(settings, "default", "test run", callbacks).sync()


def test_what_is_made_ahead_is_what_would_be_made_afterwards(
    settings: Settings, simulator: Simulator, tmp_path: Path
) -> None:
    def change_some_and_wait(simulator: Simulator, number: int, path: str) -> None:
        if number == 40:  # they were read already
            for task_id in sorted(simulator.ids())[:50]:
                simulator.advance(0.01)
                simulator.update(task_id, phase="failed", errorMessage="changed")
        if number > 50:  # on a busy machine the process takes its time to begin
            ends = time.monotonic() + 5
            while not Working(settings).fresh.exists() and time.monotonic() < ends:
                time.sleep(0.05)
        if number > 45:
            time.sleep(0.4)

    simulator.before_request(change_some_and_wait)
    fetch(settings)
    working = Working(settings)
    with duckdb.connect(working.fresh, read_only=True) as connection:
        (made,) = connection.execute("select count(*) from tasks").fetchall()[0]
        (parts,) = connection.execute("select count(*) from internal.parts").fetchall()[0]
    assert made >= 1_000
    assert parts >= 1
    said: list[str] = []
    list(build.build_version(settings, said.append))
    assert said == []
    assert not working.fresh.exists()
    assert digests(settings) == made_elsewhere(settings, tmp_path / "elsewhere")


@pytest.mark.slow
def test_it_holds_the_archive_beside_the_workers_of_a_sweep(settings: Settings, tmp_path: Path) -> None:
    """Each range is a load of its own, which its worker completes while others fetch."""
    sweep, ranges = Extraction(settings, "default", "test run").begin_ranges(3)
    made, impatient = Working(settings).fresh, settings.model_copy(update={"lock_wait_seconds": 0})
    with made_ahead(settings, ProgressCallbacks(), beside_workers=True) as callbacks:
        with locked_by_worker(settings):
            for load_id in ranges:
                Extraction(settings, "default", "test run").fetch_range(sweep, load_id)
            fetched = progress_of(Zone(settings.home.landing), "default", elapsed_seconds=1)
            assert fetched is not None
            assert fetched.tasks_read == fetched.expected_tasks == TASKS
            callbacks.progress(fetched)
            ends = time.monotonic() + 60
            while not made.exists() and time.monotonic() < ends:
                time.sleep(0.05)
        with pytest.raises(Busy), locked(impatient):
            pass
    with locked(impatient):
        Extraction(settings, "default", "test run").sync("sweep")
        list(build.build_version(settings))
    assert not made.exists()
    assert digests(settings) == made_elsewhere(settings, tmp_path / "elsewhere")


def test_nothing_is_made_ahead_where_there_are_tables(settings: Settings) -> None:
    list(build.build_version(settings))
    fetch(settings)
    assert not Working(settings).fresh.exists()


def test_what_was_made_ahead_and_is_spoilt_is_made_again(settings: Settings) -> None:
    fresh = Working(settings).fresh
    fresh.parent.mkdir(parents=True)
    fresh.write_bytes(bytes(100_000))
    assert {built.rows for built in build.build_version(settings) if built.model.name == "tasks"} == {0}
