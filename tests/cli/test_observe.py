"""Observing as a user meets it: an idle pass costs a request and runs nothing, a change is published, a failed pass
ends nothing."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from click.testing import CliRunner, Result

from pipelines.cli.main import main
from pipelines.cli.run import RunFailed, prepare_instance, run_job
from pipelines.definitions import defs
from pipelines.settings import Settings, load_settings
from pipelines.simulator import Simulator
from tests.conftest import set_variables, variables_of
from tests.landed import LandedFiles

Simulated = tuple[Simulator, Settings]
ACCOUNT: dict[str, Any] = {"tasks": 200, "days": 6, "seed": 1, "now": 1_795_000_000_000, "speed": 0}


@pytest.fixture(scope="module")
def after_a_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of an archive after its first nightly run, for each test to copy."""
    home = tmp_path_factory.mktemp("night") / "archive"
    with Simulator(**ACCOUNT).serve() as simulator, pytest.MonkeyPatch.context() as patch:
        set_variables(patch, variables_of(simulator, home))
        run_job(load_settings(), "nightly")
    return home


@pytest.fixture
def synced(
    after_a_night: Path,
    simulate: Callable[..., Simulator],
    clean_environment: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Simulated:
    """An account and its archive, which knows all of it."""
    simulator = simulate(**ACCOUNT)
    shutil.copytree(after_a_night, tmp_path / "archive", symlinks=True)
    set_variables(monkeypatch, variables_of(simulator, tmp_path / "archive"))
    return simulator, load_settings()


def observe(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["observe", *arguments], catch_exceptions=False)


def lines(result: Result) -> list[str]:
    said = [re.fullmatch(r"\d\d:\d\d:\d\d (.+)", line) for line in result.output.splitlines()]
    return [line[1] for line in said if line]


def files(settings: Settings) -> dict[str, tuple[int, int]]:
    """Every file of the landing zone and of what is published, with its size and time."""
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for folder in (settings.home.landing, settings.home.published)
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def phases(settings: Settings, *task_ids: str) -> list[str]:
    with duckdb.connect(str(settings.home.published / "task_archive.duckdb"), read_only=True) as connection:
        query = "select phase from tasks where task_id in (select unnest(?)) order by task_id"
        return [phase for (phase,) in connection.execute(query, [list(task_ids)]).fetchall()]


def test_an_idle_pass_costs_one_request_and_leaves_no_trace(synced: Simulated) -> None:
    simulator, settings = synced
    before = files(settings)
    prepare_instance(settings)
    with dg.DagsterInstance.get() as instance:
        runs = instance.get_runs_count()
        for _ in range(3):
            result = observe()
            assert (result.exit_code, lines(result)) == (0, ["nothing new"])
        assert len(simulator.requests) == 3
        assert instance.get_runs_count() == runs
    assert files(settings) == before


def test_an_idle_run_of_the_job_lands_and_publishes_nothing(synced: Simulated) -> None:
    simulator, settings = synced
    before = files(settings)
    done = run_job(settings, "observe")
    assert done.loads == []
    assert len(simulator.requests) == 1
    assert files(settings) == before
    with dg.DagsterInstance.get() as instance:
        run = instance.get_run_by_id(done.run_id)
        assert run is not None
        assert run.status == dg.DagsterRunStatus.SUCCESS
        steps = {record.step_key: record.status.value for record in instance.get_run_step_stats(done.run_id) if record}
    assert steps.pop("landing__tasks") == "SUCCESS"
    assert set(steps.values()) == {"SKIPPED"}
    assert {"tables", "published__report"} <= steps.keys()


def test_a_change_is_landed_and_published_by_the_next_pass_where_that_failed(
    synced: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator, settings = synced
    changed = sorted(simulator.ids())[:3]
    simulator.advance(600)
    for task_id in changed:
        simulator.update(task_id, phase="failed", errorMessage="while observed")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.defs.tables.publish", full)
        result = observe()
    assert result.exit_code == 1
    assert re.search("failed: .*No space left", result.output)
    load = LandedFiles(settings.home.landing).manifests()[-1]
    assert (load.lane, load.verdict) == ("observe", "whole")
    assert phases(settings, *changed) != ["failed"] * 3

    result = observe()
    assert (result.exit_code, lines(result)) == (0, ["nothing new, published"])
    assert phases(settings, *changed) == ["failed"] * 3
    assert lines(observe()) == ["nothing new"]


def test_a_failed_pass_prints_its_line_and_the_next_one_follows(
    synced: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator, _ = synced
    monkeypatch.setenv("TASK_ARCHIVE_ATTEMPTS", "1")
    simulator.fault("503", times=1)
    result = observe("--every", "1s", "--for", "1.5s")
    first, *others = lines(result)
    assert first.startswith("failed: 127.0.0.1")
    assert "503" in first
    assert others == ["nothing new"]
    assert result.exit_code == 0
    simulator.fault("503", times=None)
    result = observe("--every", "1s", "--for", "1.5s")
    assert [line.partition(":")[0] for line in lines(result)] == ["failed", "failed"]
    assert result.exit_code == 1


@pytest.mark.slow
def test_a_gap_is_told_by_the_exit_status(synced: Simulated) -> None:
    simulator, settings = synced
    simulator.advance(600)
    new = simulator.insert()
    poisoned = min(simulator.ids())
    simulator.replace(poisoned, {"type": "upload", "status": {"updatedAt": simulator.now(), "phase": "failed"}})
    result = observe()
    assert result.exit_code == 3, result.output
    line = rf"(1 new.*), published; gap: 1 unreadable task, first {poisoned}.*"
    assert re.fullmatch(line, lines(result)[0])
    assert phases(settings, new) == [simulator.tasks()[new]["status"]["phase"]]


def test_what_is_wrong_is_said_at_once(synced: Simulated) -> None:
    for arguments in (
        ("--every", "often"),
        ("--for", "8h"),
        ("--account", "acme"),
        ("--every", "0s"),
        ("--every", "9" * 20 + "d"),
    ):
        assert observe(*arguments).exit_code == 2, arguments


def test_before_the_first_sync_it_says_what_to_run(synced: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    _, settings = synced
    monkeypatch.setenv("TASK_ARCHIVE_HOME", str(settings.home.path.parent / "fresh"))
    result = observe()
    assert result.exit_code == 1
    assert "run `task-archive sync`" in result.output


def test_ctrl_c_ends_the_loop(synced: Simulated) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "observe", "--every", "5s"]
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background is started with it ignored
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    assert process.stdout.readline().endswith("nothing new\n")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "task-archive: ended by SIGINT; what had landed is kept, the next run goes on from there\n"


def test_the_sensor_runs_the_job_only_where_there_is_news(synced: Simulated) -> None:
    simulator, settings = synced
    sensor = defs.resolve_sensor_def("observe")
    assert (sensor.default_status, sensor.minimum_interval_seconds) == (dg.DefaultSensorStatus.STOPPED, 300)
    prepare_instance(settings)

    def tick() -> Any:
        with dg.DagsterInstance.get() as instance, dg.build_sensor_context(instance) as context:
            return sensor.evaluate_tick(context)

    idle = tick()
    assert (idle.run_requests, idle.skip_message) == ([], "nothing new")
    assert len(simulator.requests) == 1
    simulator.advance(60)
    simulator.insert()
    assert len(tick().run_requests or []) == 1
    simulator.fault("503", times=None)
    before = len(simulator.requests)
    assert len(tick().run_requests or []) == 1  # the run says what is wrong, and the failure sensor sends an alert
    assert len(simulator.requests) - before == 1  # a tick makes one attempt
    with pytest.raises(RunFailed, match="503"):
        run_job(settings, "observe")
