"""What Dagster shows, and a real run of each job in a real instance."""

import base64
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
import yaml
from click.testing import CliRunner

from pipelines.alerts.conditions import load_conditions
from pipelines.cli.main import main
from pipelines.cli.run import Done, RunFailed, prepare_instance, run_job
from pipelines.definitions import defs
from pipelines.defs.event_log import EventLog
from pipelines.defs.tables import CHECKS, TASK_ARCHIVE, _check_results
from pipelines.settings import Settings, load_settings
from pipelines.simulator import Simulator
from pipelines.warehouse.checks import CheckResult
from pipelines.warehouse.from_tables import BuiltTable
from pipelines.warehouse.models import load_models, published_models
from pipelines.warehouse.working import COMPLETE, Working
from tests.conftest import set_variables, variables_of
from tests.landed import LandedFiles

ROOT = Path(__file__).parent.parent.parent

LANDING = {"landing/tasks", "landing/created_days"}


@pytest.fixture
def simulated(
    simulate: Callable[..., Simulator], clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Simulator, Settings]:
    simulator = simulate(tasks=400, days=8, speed=0)
    set_variables(monkeypatch, variables_of(simulator, tmp_path / "archive"))
    return simulator, load_settings()


def test_assets_jobs_and_schedules_are_these() -> None:
    keys = {key.to_user_string() for key in defs.resolve_all_asset_keys()}
    assert keys == {
        *LANDING,
        "landing/id_ranges",
        *(f"{model.layer}/{model.name}" for model in published_models()),
        "published/report",
        "published/task_archive",
    }
    assert {job.name for job in defs.jobs or []} == {
        "nightly", "observe", "backfill", "refresh", "rebuild", "divided_sweep",
    }  # fmt: skip
    schedules = [schedule for schedule in defs.schedules or [] if isinstance(schedule, dg.ScheduleDefinition)]
    assert {schedule.name: (schedule.cron_schedule, schedule.default_status.value) for schedule in schedules} == {
        "nightly": ("15 2 * * *", "RUNNING"),
        "sweep": ("45 3 * * 0", "RUNNING"),
    }
    assert [(sensor.name, sensor.default_status.value) for sensor in defs.sensors or []] == [
        ("run_failed", "RUNNING"),
        ("run_succeeded", "RUNNING"),
        ("alerts", "RUNNING"),
        ("observe", "STOPPED"),
    ]


def test_lineage_is_read_from_the_sql() -> None:
    graph = defs.resolve_asset_graph()

    def parents(*key: str) -> set[str]:
        return {parent.to_user_string() for parent in graph.get(dg.AssetKey(list(key))).parent_keys}

    assert parents("landing", "tasks") == {"landing/id_ranges"}
    assert parents("core", "tasks") == LANDING | {"core/loads"}
    assert parents("history", "task_history") == LANDING | {"core/loads"}
    assert parents("history", "superseded_tasks") == LANDING | {"core/loads"}
    assert parents("history", "task_attempts") == {"history/task_intervals"}
    assert parents("marts", "daily_task_stats") == {"marts/fact_tasks"}
    assert parents("marts", "fact_tasks") == {"core/tasks", "marts/freshness", "core/thresholds", "core/error_texts"}
    assert "marts/hourly_throughput" in parents("published", "task_archive")


def test_the_nightly_job_publishes_and_shows_what_it_did(simulated: tuple[Simulator, Settings]) -> None:
    simulator, settings = simulated
    done = run_job(settings, "nightly")
    assert done.is_proven
    with dg.DagsterInstance.get() as instance:
        assert not instance.telemetry_enabled
        assert isinstance(instance.event_log_storage, EventLog)
        run = instance.get_run_by_id(done.run_id)
        assert run is not None
        assert (run.job_name, run.status) == ("nightly", dg.DagsterRunStatus.SUCCESS)
        event = instance.get_latest_materialization_event(dg.AssetKey(["core", "tasks"]))
        assert event is not None
        assert event.asset_materialization is not None
        metadata = event.asset_materialization.metadata
        assert metadata["dagster/row_count"].value == 400
        assert metadata["seconds to check and export"].value > 0
        columns = {column.name: column for column in metadata["dagster/column_schema"].value.columns}
        assert columns["created_at"].type == "TIMESTAMP WITH TIME ZONE"
        assert "UTC" in (columns["created_at"].description or "")
        checks = instance.event_log_storage.get_latest_asset_check_execution_by_key(
            [
                dg.AssetCheckKey(dg.AssetKey(asset.split("/")), name)
                for asset, name in (
                    ("landing/tasks", "proof_is_whole"),
                    ("core/tasks", "rows_are_sound"),
                    ("core/tasks", "rows_are_plausible"),
                )
            ]
        )
        found = {
            key.name: record.event.dagster_event.asset_check_evaluation_data
            for key, record in checks.items()
            if record.event
        }
        assert {name: evaluation.passed for name, evaluation in found.items()} == {
            "proof_is_whole": True, "rows_are_sound": True, "rows_are_plausible": True,
        }  # fmt: skip
        assert found["rows_are_plausible"].metadata["failing rows: created_at <= updated_at"].value == 0
    with duckdb.connect(str(settings.home.published / "task_archive.duckdb"), read_only=True) as connection:
        ids = {row[0] for row in connection.execute("select task_id from tasks").fetchall()}
        in_sql = "printf('%016x', (sum(('0x' || left(sha256({}), 16))::ubigint) % 18446744073709551616)::ubigint)"
        of_ids, of_states = (in_sql.format(text) for text in ("task_id", "task_id || ':' || epoch_ms(updated_at)"))
        digests = connection.execute(f"select {of_ids}, {of_states} from tasks").fetchall()
        assert connection.execute("select digest_ids, digest_states from loads").fetchall() == digests
    assert ids == simulator.ids()


def test_who_watches_a_run_is_told_of_each_event(simulated: tuple[Simulator, Settings]) -> None:
    _, settings = simulated
    prepare_instance(settings)
    is_told = threading.Event()

    def told(event: Any, _: str) -> None:
        if event.message == "while it was watched":
            is_told.set()

    with dg.DagsterInstance.get() as instance, dg.DagsterInstance.get() as watching:
        run = instance.create_run_for_job(defs.resolve_job_def("nightly"))
        watching.watch_event_logs(run.run_id, None, told)
        instance.report_engine_event("while it was watched", run)
        assert is_told.wait(30)
        file = settings.home.dagster / "history" / "runs" / f"{run.run_id}.db"
        written_at = file.stat().st_mtime_ns
        assert len(watching.all_logs(run.run_id)) > 1
        assert file.stat().st_mtime_ns == written_at  # reading tells nobody: the one who reads would be told again


def test_rows_that_are_not_plausible_are_reported_and_published() -> None:
    tasks = load_models()["tasks"]
    outcomes = [
        CheckResult(check, int(check.description == "created_at <= updated_at"), "task_id=odd")
        for check in tasks.checks
    ]
    keys = {dg.AssetCheckKey(dg.AssetKey(["core", "tasks"]), name) for name in CHECKS.values()}
    sound, plausible = _check_results(BuiltTable(tasks, 1, [], outcomes), keys)
    assert (sound.passed, plausible.passed, plausible.severity) == (True, False, dg.AssetCheckSeverity.WARN)
    assert plausible.description == "created_at_updated_at: 1 row, such as task_id=odd"


def test_the_sweep_schedule_runs_the_nightly_job_by_the_lane_sweep() -> None:
    schedule = defs.resolve_schedule_def("sweep")
    (request,) = schedule.evaluate_tick(dg.build_schedule_context()).run_requests or []
    assert schedule.job_name == "nightly"
    assert request.run_config["ops"]["landing__tasks"]["config"]["lane"] == "sweep"
    assert dg.validate_run_config(defs.resolve_job_def("nightly"), request.run_config)


def test_a_backfill_of_days_is_one_run_and_marks_each_day(simulated: tuple[Simulator, Settings]) -> None:
    simulator, settings = simulated
    from datetime import UTC, datetime, timedelta

    last = datetime.fromtimestamp(simulator.now() / 1000, UTC) - timedelta(days=1)
    days = [(last - timedelta(days=ago)).strftime("%Y-%m-%d") for ago in (2, 1, 0)]
    done = run_job(
        settings,
        "backfill",
        tags={"dagster/asset_partition_range_start": days[0], "dagster/asset_partition_range_end": days[-1]},
    )
    assert [load.lane for load in done.loads] == ["backfill"]
    with dg.DagsterInstance.get() as instance:
        assert instance.get_materialized_partitions(dg.AssetKey(["landing", "created_days"])) == set(days)
    with duckdb.connect(str(settings.home.published / "task_archive.duckdb"), read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        found = connection.execute("select task_id, cast(created_at as date)::varchar from tasks").fetchall()
    expected = {
        task_id
        for task_id, task in simulator.tasks().items()
        if days[0] <= datetime.fromtimestamp(task["createdAt"] / 1000, UTC).strftime("%Y-%m-%d") <= days[-1]
    }
    assert {task_id for task_id, _ in found} == expected != set()
    assert {day for _, day in found} <= set(days)


def test_days_that_a_whole_sweep_has_proven_show_as_materialized(simulated: tuple[Simulator, Settings]) -> None:
    from datetime import UTC, datetime, timedelta

    simulator, settings = simulated
    run_job(settings, "nightly")
    first = datetime.fromtimestamp(min(task["createdAt"] for task in simulator.tasks().values()) / 1000, UTC).date()
    today = datetime.fromtimestamp(simulator.now() / 1000, UTC).date()
    expected = {(first + timedelta(days=day)).isoformat() for day in range((today - first).days)}
    with dg.DagsterInstance.get() as instance:
        assert instance.get_materialized_partitions(dg.AssetKey(["landing", "created_days"])) == expected


@pytest.mark.slow
def test_runs_of_the_command_belong_to_the_code_location(simulated: tuple[Simulator, Settings]) -> None:
    _, settings = simulated
    done = run_job(settings, "nightly")
    name = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"][0]["python_module"]["location_name"]
    assert name == tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dagster"]["code_location_name"]
    with dg.DagsterInstance.get() as instance:
        (run,) = instance.get_runs(filters=dg.RunsFilter(tags={".dagster/repository": f"__repository__@{name}"}))
        assert run.run_id == done.run_id


def test_a_selection_of_tables_is_reported_alone_and_checks_run_alone(simulated: tuple[Simulator, Settings]) -> None:
    _, settings = simulated
    run_job(settings, "nightly")
    before = (settings.home.published / "current").readlink()
    with dg.DagsterInstance.get() as instance:
        job = defs.resolve_implicit_global_asset_job_def()
        slo = dg.AssetKey(["marts", "slo"])
        result = job.get_subset(asset_selection={slo}, asset_check_selection=set()).execute_in_process(
            instance=instance
        )
        assert {event.asset_key for event in result.get_asset_materialization_events()} == {slo}
        assert (settings.home.published / "current").readlink() != before

        before = (settings.home.published / "current").readlink()
        check = dg.AssetCheckKey(dg.AssetKey(["core", "tasks"]), "rows_are_sound")
        result = job.get_subset(asset_selection=set(), asset_check_selection={check}).execute_in_process(
            instance=instance
        )
        assert [each.asset_check_key for each in result.get_asset_check_evaluations()] == [check]
        assert result.get_asset_check_evaluations()[0].passed
        assert result.get_asset_materialization_events() == []
    assert (settings.home.published / "current").readlink() == before


def test_alert_conditions_are_checks_on_the_version(simulated: tuple[Simulator, Settings]) -> None:
    simulator, settings = simulated
    poisoned = sorted(simulator.ids())[7]
    simulator.poison(poisoned)
    run_job(settings, "nightly")
    with dg.DagsterInstance.get() as instance:
        keys = [dg.AssetCheckKey(TASK_ARCHIVE, condition.name) for condition in load_conditions()]
        records = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
        found = {
            key.name: record.event.dagster_event.asset_check_evaluation_data
            for key, record in records.items()
            if record.event and record.event.dagster_event
        }
    assert found.keys() == {condition.name for condition in load_conditions()}
    assert not found["proof_limited"].passed
    assert poisoned in (found["proof_limited"].description or "")
    assert found["proof_broken"].passed


@pytest.mark.parametrize("cron", ["whenever", "99 99 * * *"])
def test_a_wrong_setting_keeps_no_definition_from_loading(clean_environment: None, cron: str) -> None:
    line = (
        "from pipelines.definitions import defs; print(defs.resolve_schedule_def('nightly').cron_schedule); "
        "print(defs.resolve_schedule_def('sweep').cron_schedule)"
    )
    wrong = {"TASK_ARCHIVE_SCHEDULE": cron, "TASK_ARCHIVE_SWEEP_SCHEDULE": "1 1-5/2 * jan-mar MON,thu"}
    loaded = subprocess.run(
        [sys.executable, "-c", line], env=os.environ | wrong, capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert loaded.stdout.splitlines() == ["15 2 * * *", "1 1-5/2 * jan-mar MON,thu"]  # the others stay
    assert "TASK_ARCHIVE_SCHEDULE" in loaded.stderr


def test_a_busy_port_is_one_line(simulated: tuple[Simulator, Settings]) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        result = CliRunner().invoke(main, ["ui", "--port", str(port)])
    assert result.exit_code == 2
    assert f"port {port} is not free" in result.stderr


def test_refresh_fetches_single_tasks_and_marks_deleted_ones(simulated: tuple[Simulator, Settings]) -> None:
    simulator, settings = simulated
    run_job(settings, "nightly")
    changed, deleted, *_ = sorted(simulator.ids())
    simulator.update(changed, phase="failed", errorMessage="made to fail")
    simulator.remove(deleted)
    done: Done = run_job(settings, "refresh", {"task_ids": [changed, deleted]})
    assert done.loads[0].deleted == [deleted]
    with duckdb.connect(str(settings.home.published / "task_archive.duckdb"), read_only=True) as connection:
        rows = connection.execute(
            "select task_id, phase, error_message, deleted_at is not null from tasks where task_id in (?, ?)",
            [changed, deleted],
        ).fetchall()
    by_id: dict[str, Any] = {row[0]: row[1:] for row in rows}
    assert by_id[changed] == ("failed", "made to fail", False)
    assert by_id[deleted][2] is True


def test_a_check_that_fails_keeps_the_version_before(
    simulated: tuple[Simulator, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, settings = simulated
    run_job(settings, "nightly")
    before = (settings.home.published / "current").readlink()

    tasks = load_models()["tasks"]
    before_sql = tasks.compiled_sql
    twice = tasks.compiled_sql.removesuffix("from states") + "from (from states union all from states)"
    assert twice != tasks.compiled_sql
    object.__setattr__(tasks, "compiled_sql", twice)
    try:
        with pytest.raises(RunFailed, match=r"nothing is published: tasks: key_is_unique: \d+ rows, such as task_id="):
            run_job(settings, "rebuild")
        with dg.DagsterInstance.get() as instance:
            (run,) = instance.get_runs(filters=dg.RunsFilter(job_name="rebuild"))
            events = [entry.dagster_event for entry in instance.all_logs(run.run_id) if entry.dagster_event]
        assert not any(event.is_step_materialization for event in events)
        is_sound = {
            event.asset_check_evaluation_data.asset_key.to_user_string(): event.asset_check_evaluation_data.passed
            for event in events
            if event.event_type_value == "ASSET_CHECK_EVALUATION"
            and event.asset_check_evaluation_data.check_name == "rows_are_sound"
        }
        assert is_sound["core/tasks"] is False
        assert is_sound["core/profiles"] is True
    finally:
        object.__setattr__(tasks, "compiled_sql", before_sql)
    assert (settings.home.published / "current").readlink() == before
    assert (Working(settings).file).exists()
    assert not (settings.home.warehouse / COMPLETE).exists()


def attempts_of_a_scheduled_run(settings: Settings) -> tuple[int, str]:
    """How often the nightly job that the daemon runs tries to land, and what it says in the end."""
    prepare_instance(settings)
    with dg.DagsterInstance.get() as instance:
        result = defs.resolve_job_def("nightly").execute_in_process(instance=instance, raise_on_error=False)
    assert not result.success
    starts = [event for event in result.all_events if event.event_type_value in ("STEP_START", "STEP_RESTARTED")]
    data = next(event.step_failure_data for event in result.all_events if event.is_step_failure)
    assert data.user_failure_data is not None
    return len(starts), data.user_failure_data.description or ""


def test_only_what_may_pass_is_tried_again(
    simulated: tuple[Simulator, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator, settings = simulated
    monkeypatch.setattr("pipelines.defs.landing.RETRY_WAIT_SECONDS", 0)
    monkeypatch.setenv("TASK_ARCHIVE_ATTEMPTS", "1")
    simulator.fault("503", times=None)
    attempts, says = attempts_of_a_scheduled_run(settings)
    assert (attempts, "failed with 503" in says) == (3, True)
    simulator.clear_faults()

    def broken(*_: object) -> None:
        raise KeyError("what only the trace may show")

    monkeypatch.setattr("pipelines.livepeer.walks.probe", broken)
    attempts, says = attempts_of_a_scheduled_run(settings)
    assert attempts == 1
    line = r"KeyError in line \d+ of test_definitions.py, a fault of this program: please report it"
    assert re.fullmatch(line, says)
    with pytest.raises(RunFailed, match=line):
        run_job(settings, "nightly")

    def crowded(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pipelines.livepeer.walks.probe", crowded)
    assert attempts_of_a_scheduled_run(settings) == (1, "there is not enough memory")


SYNC = [sys.executable, "-m", "pipelines.cli", "sync"]


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_no_lock(
    simulated: tuple[Simulator, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator, settings = simulated
    monkeypatch.setenv("TASK_ARCHIVE_PAGE_SIZE", "20")
    monkeypatch.setenv("TASK_ARCHIVE_LOCK_WAIT_SECONDS", "0.2")
    is_reading, go_on = threading.Event(), threading.Event()

    def hold(simulator: Simulator, number: int, path: str) -> None:
        if "cursor=" in path and "limit=20&" in path and not go_on.is_set():
            is_reading.set()
            go_on.wait(60)

    simulator.before_request(hold)
    with subprocess.Popen(SYNC, env=os.environ.copy(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        assert is_reading.wait(60)
        with pytest.raises(RunFailed, match="another run holds"):
            run_job(settings, "nightly")
        first.kill()
    go_on.set()
    assert run_job(settings, "nightly").is_proven


@pytest.mark.slow
def test_of_two_runs_at_once_the_second_waits(simulated: tuple[Simulator, Settings]) -> None:
    simulator, settings = simulated
    simulator.latency_seconds = 0.1
    runs = [subprocess.Popen(SYNC, env=os.environ.copy(), stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [run.wait(180) for run in runs] == [0, 0]
    first, second = LandedFiles(settings.home.landing).manifests()
    assert (first.lane, second.lane, first.verdict, second.verdict) == ("sweep", "changes", "whole", "whole")
    assert (first.finished_at_ms or 0) <= second.started_at_ms


def test_workspace_yaml_loads_in_dagster(tmp_path: Path) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("LIVEPEER", "TASK_ARCHIVE"))
    }
    environment |= {"DAGSTER_DISABLE_TELEMETRY": "1", "DAGSTER_HOME": str(tmp_path)}
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-w", str(ROOT / "workspace.yaml")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "task_archive" in done.stdout + done.stderr


def test_the_instance_is_made_without_telemetry(simulated: tuple[Simulator, Settings]) -> None:
    _, settings = simulated
    prepare_instance(settings)
    assert "enabled: false" in (settings.home.dagster / "dagster.yaml").read_text()
    assert os.environ["DAGSTER_DISABLE_TELEMETRY"] == "1"


@pytest.mark.slow
def test_a_run_in_the_background_can_be_ended_afterwards(simulated: tuple[Simulator, Settings]) -> None:
    _, settings = simulated
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts a job in the background
    ending = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        run_job(settings, "nightly")
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGTERM, ending)


@pytest.mark.slow
def test_the_page_in_the_background_can_be_ended(simulated: tuple[Simulator, Settings]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts a job in the background
    try:
        page = subprocess.Popen([sys.executable, "-m", "pipelines.cli", "ui", "--port", str(port)])
    finally:
        signal.signal(signal.SIGINT, interrupt)
    with page:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        else:
            pytest.fail("the page does not answer")
        page.terminate()
        try:
            page.wait(60)
        except subprocess.TimeoutExpired:
            page.kill()
            raise


@pytest.mark.slow
def test_the_report_comes_after_the_tables_and_stops_nothing(
    simulated: tuple[Simulator, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, settings = simulated
    done = run_job(settings, "nightly")
    before, report = (settings.home.published / "current").readlink(), settings.home.published / "report.html"
    assert report.resolve().parent.name == before.name
    with dg.DagsterInstance.get() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(["published", "report"]))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    pictures = re.findall(r"base64,([^)]+)\)", str(metadata["charts"].value))
    assert len(pictures) == 3
    for picture in pictures:
        assert len(picture) < 100_000
        assert b"<svg" in base64.b64decode(picture)
    assert done.is_proven

    def broken(*_: object) -> None:
        raise ValueError("the moon is in the way")

    monkeypatch.setattr("pipelines.report.page.render", broken)
    with pytest.raises(RunFailed, match="tables are published, but their report could not be made: the moon is"):
        run_job(settings, "nightly", {"lane": "sweep"})
    assert (settings.home.published / "current").readlink() != before
    assert report.resolve().parent.name == before.name
