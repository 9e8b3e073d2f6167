"""A sweep that several processes fetch, by the command and by Dagster's executors."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from pipelines.cli.run import divided_sweep, prepare_instance
from pipelines.defs.landing import ID_RANGES, landed_tasks
from pipelines.defs.ranges import id_ranges
from pipelines.defs.resources import Archive
from pipelines.errors import Busy
from pipelines.landing.lock import locked, locked_by_worker
from pipelines.settings import Settings, load_settings
from pipelines.simulator import Simulator
from tests.conftest import set_variables, silent, variables_of
from tests.landed import LandedFiles
from tests.test_signals import Command

TASKS = 400


@pytest.fixture
def simulated(
    simulate: Callable[..., Simulator], clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Simulator, Settings]:
    simulator = simulate(tasks=TASKS, days=8, speed=0, now=None)
    others = {"TASK_ARCHIVE_PAGE_SIZE": "50", "TASK_ARCHIVE_ATTEMPTS": "1"}
    set_variables(monkeypatch, variables_of(simulator, tmp_path / "archive", **others))
    return simulator, load_settings()


def lanes(settings: Settings) -> list[str]:
    return [load.lane for load in LandedFiles(settings.home.landing).manifests("default")]


def published(settings: Settings) -> list[tuple[Any, ...]]:
    with duckdb.connect(settings.home.published / "task_archive.duckdb", read_only=True) as connection:
        return connection.execute("select lane, tasks_seen, verdict from loads order by load_id").fetchall()


def test_the_command_fetches_by_workers_and_proves_the_whole(simulated: tuple[Simulator, Settings]) -> None:
    simulator, settings = simulated
    simulator.fault("503", at=10, times=None)  # some worker's page, and all that follow
    with Command("sync", "--lane", "sweep", "--workers", "2") as command:
        _, errors = command.process.communicate(timeout=300)
    assert command.process.returncode == 1
    assert [line for line in errors.splitlines() if "range" not in line] == [
        f"task-archive: {simulator.url.split('/')[2]} failed with 503: Service Unavailable"
    ], errors
    asked = len(simulator.requests)

    simulator.clear_faults()
    with Command("sync", "--lane", "sweep", "--workers", "2") as command:
        said, errors = command.process.communicate(timeout=300)
    assert command.process.returncode == 0, errors
    assert [line.split()[0] for line in said.splitlines()] == [
        "range", "range", "sweep", "proof", "published", "report",
    ]  # fmt: skip
    assert f"proof      whole: server counts {TASKS}, 0 unreadable" in said
    assert "Traceback" not in errors
    assert "DEBUG" not in errors
    pages = [one for one in simulator.requests[asked:] if "limit=50&order=id-false" in one.path]
    assert len(pages) <= TASKS / 50 + 3  # what had landed is not fetched again
    seen = published(settings)
    assert [lane for lane, _, _ in seen] == ["range", "range", "sweep"]
    assert {verdict for _, _, verdict in seen} == {"whole"}
    assert seen[0][1] + seen[1][1] == seen[2][1] == TASKS


def test_workers_are_for_sweeps(simulated: tuple[Simulator, Settings]) -> None:
    with Command("sync", "--workers", "2") as command:
        _, errors = command.process.communicate(timeout=60)
    assert command.process.returncode == 2
    assert errors == ("task-archive: --workers needs --lane sweep: other lanes ask for too little to share it\n")


@pytest.mark.slow
def test_a_signal_ends_the_workers_too(simulated: tuple[Simulator, Settings]) -> None:
    simulator, _ = simulated
    of_ranges = "cursor=7fffffff"  # the second one's first page
    with silent(simulator, of=of_ranges) as came, Command("sync", "--lane", "sweep", "--workers", "2") as command:
        assert came.wait(120)
        command.ends_by(signal.SIGINT, whole_group=True)


@pytest.mark.slow
def test_the_job_runs_from_ranges_to_the_published_version(simulated: tuple[Simulator, Settings]) -> None:
    _, settings = simulated
    prepare_instance(settings)
    config = {
        "ops": {
            "landing__id_ranges": {"ops": {"divide": {"config": {"ranges": 3}}}},
            "landing__tasks": {"config": {"lane": "sweep"}},
        },
        "execution": {"config": {"max_concurrent": 3}},
    }
    with dg.DagsterInstance.get() as instance:
        done = dg.execute_job(dg.reconstructable(divided_sweep), instance, config)
        assert done.success
        event = instance.get_latest_materialization_event(ID_RANGES)
        assert event is not None
        assert event.asset_materialization is not None
        shown = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    assert (shown["ranges"], shown["tasks seen"]) == (3, TASKS)
    assert lanes(settings) == ["range", "range", "range", "sweep"]
    assert published(settings)[-1] == ("sweep", TASKS, "whole")


def test_one_process_may_do_it_all(simulated: tuple[Simulator, Settings]) -> None:
    """Such as assets chosen on Dagster's page, whose run holds the archive itself."""
    _, settings = simulated
    done = dg.materialize(
        [id_ranges, landed_tasks],
        resources={"archive": Archive()},
        run_config={
            "ops": {
                "landing__id_ranges": {"ops": {"divide": {"config": {"ranges": 2}}}},
                "landing__tasks": {"config": {"lane": "sweep"}},
            }
        },
    )
    assert done.success
    assert lanes(settings) == ["range", "range", "sweep"]


def test_workers_share_the_archive_and_a_run_has_it_alone(
    archive_settings: Callable[..., Settings], simulate: Any
) -> None:
    settings = archive_settings(simulate(tasks=1), lock_wait_seconds=0.1)
    with locked_by_worker(settings), locked_by_worker(settings):
        for alone in (locked(settings), locked_by_worker(settings, is_alone=True)):
            with pytest.raises(Busy, match="another run holds"), alone:
                pass
    with locked_by_worker(settings, is_alone=True), pytest.raises(Busy), locked_by_worker(settings):
        pass
    with locked(settings), locked_by_worker(settings):  # within the run
        pass
    with locked(settings):
        pass
