"""What people get to hear over the life of an archive: each thing once, again when it lasts or gets worse, its end."""

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import Result
from filelock import FileLock
from pydantic import SecretStr

from pipelines.alerts import notify
from pipelines.alerts.message import Alert
from pipelines.alerts.state import AlertState, Notification, due, load_state, over
from pipelines.cli.observe import observe
from pipelines.cli.run import prepare_instance
from pipelines.defs import sensors
from pipelines.landing.lanes import Extraction
from pipelines.settings import Settings, load_settings
from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.publish import publish
from tests.conftest import variables_of

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
ALARM = Alert("failing", "default", "alarm", "default: 7 % failed", "task-archive status", score=7)
NOTICE = Alert("drift", "default $.a", "notice", "default: drift", "task-archive status")
Run = Callable[..., Result]


def told(alert: Alert, hours_ago: float) -> dict[str, Notification]:
    at = NOW - timedelta(hours=hours_ago)
    return {alert.key: Notification(alert.condition, alert.severity, alert.summary, alert.score, at)}


@pytest.mark.parametrize(
    ("alert", "degree", "hours_ago", "is_due"),
    [
        (ALARM, 7, 23.9, False),
        (ALARM, 7, 24, True),  # it lasts
        (ALARM, 13.9, 0, False),
        (ALARM, 14, 0, True),  # it got worse
        (NOTICE, 1, 1000, False),
        (NOTICE, 2, 0, True),
    ],
)
def test_an_alert_is_told_again_when_it_lasts_or_gets_worse(
    alert: Alert, degree: float, hours_ago: float, is_due: bool
) -> None:
    now = replace(alert, score=degree)
    assert due({}, [now], NOW, 24) == [now]
    assert due(told(alert, hours_ago), [now], NOW, 24) == ([now] if is_due else [])


def test_what_holds_no_longer_is_over_unless_nobody_could_ask() -> None:
    known = told(ALARM, 1) | told(NOTICE, 1)
    assert over(known, [ALARM], []).keys() == {NOTICE.key}
    assert over(known, [], ["failing"]).keys() == {NOTICE.key}
    assert over(known, [ALARM, NOTICE], []) == {}


def test_a_runs_end_counts_once_and_in_order() -> None:
    state = AlertState()
    for run_id, minute, reason in [
        ("a", 1, "down"),
        ("a", 2, "down"),  # the daemon tells of it too
        ("b", 3, "down"),
        (None, 4, "down"),  # a look that led to no run
        (None, 5, "down"),
        ("late", 0, None),
    ]:
        state.ended("nightly", run_id, NOW + timedelta(minutes=minute), reason)
    assert (state.runs["nightly"].failed_runs, state.runs["nightly"].reason) == (4, "down")
    state.ended("refresh", "r", NOW + timedelta(minutes=5), "down")
    state.ended("observe", "o", NOW + timedelta(minutes=5), None)
    assert {job: run.reason for job, run in state.runs.items() if run.reason} == {"nightly": "down", "refresh": "down"}
    state.ended("nightly", "c", NOW + timedelta(minutes=6), None)
    assert (state.runs["nightly"].failed_runs, state.runs["nightly"].reason) == (0, None)
    assert state.runs["refresh"].reason is None


def variables(simulator: Simulator, home: Path) -> dict[str, str]:
    return variables_of(simulator, home, TASK_ARCHIVE_RETRY_WAIT_SECONDS="0", TASK_ARCHIVE_ATTEMPTS="1")


def account() -> Simulator:
    """Three uploads, of which nothing is to be told."""
    simulator = Simulator(tasks=0, speed=0).serve()
    for _ in range(3):
        simulator.insert(type="upload")
    return simulator


@pytest.fixture(scope="module")
def after_a_night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Simulator, Path]]:
    """An account, and the home of an archive that holds all of it, for each test to copy."""
    home = tmp_path_factory.mktemp("night") / "archive"
    with account() as simulator:
        keys = {"default": SecretStr(simulator.api_key)}
        settings = Settings(home=home, api_url=simulator.url, api_keys=keys)
        Extraction(settings, "default", "a run").sync()
        list(build.build_version(settings))
        publish(settings)
        yield simulator, home


@pytest.fixture
def synced(after_a_night: tuple[Simulator, Path], home: Path, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """An account whose archive knows all of it."""
    simulator, archive = after_a_night
    shutil.copytree(archive, home, symlinks=True)
    for name, value in variables(simulator, home).items():
        monkeypatch.setenv(name, value)
    return simulator


def ended_runs(event: str) -> list[dg.RunStatusSensorContext]:
    """What Dagster's daemon hands to a sensor: a context for each run that ended so, the oldest first."""
    prepare_instance(load_settings())
    with dg.DagsterInstance.get() as instance:
        return [
            dg.build_run_status_sensor_context("a sensor", entry.dagster_event, instance, run)
            for run in reversed(instance.get_runs())
            for entry in instance.all_logs(run.run_id)
            if entry.dagster_event and entry.dagster_event.event_type_value == event
        ]


def test_from_the_first_failure_to_its_end(
    run: Run,
    home: Path,
    webhook: Any,
    mail_server: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, file = mail_server(), tmp_path / "alerts.jsonl"
    simulator = account()
    for name, value in variables(simulator, home).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TASK_ARCHIVE_ALERT_WEBHOOK_URL", webhook.url)
    monkeypatch.setenv("TASK_ARCHIVE_ALERT_EMAIL_TO", "ops@example.com")
    monkeypatch.setenv("TASK_ARCHIVE_ALERT_SMTP_URL", f"smtp://127.0.0.1:{server.port}")
    monkeypatch.setenv("TASK_ARCHIVE_ALERT_FILE", str(file))
    simulator.fault("503", times=None)
    webhook.status = 500
    result = run("sync")
    assert result.exit_code == 1
    assert "alerts: webhook: it answered 500 ok\n" in result.stderr
    webhook.status, webhook.received = 200, []

    assert run("sync").exit_code == 1
    (message,) = webhook.received  # what did not arrive is told at the next end
    assert re.search(r"run [0-9a-f]{8} of job nightly failed at \S+ \S+ UTC, 2 times in a row", message["text"])
    assert "503" in message["text"]
    assert "Look closer: `task-archive doctor`" in message["text"]
    assert len(server.received) == len(file.read_text().splitlines()) == 1  # they were told at the first end

    failed = ended_runs("PIPELINE_FAILURE")  # the daemon comes to know of both
    assert len(failed) == 2
    for context in failed:
        sensors.run_failed(context.for_run_failure())
    assert len(webhook.received) == 1
    assert run("alert", "check").exit_code == 3
    assert load_state(load_settings()).runs["nightly"].failed_runs == 2

    # All that is to be told after the run that goes well at last is one message.
    simulator.clear_faults()
    poisoned = simulator.poison()
    simulator.insert(type="upload", surprise={"<!channel>": 1})
    monkeypatch.setenv("TASK_ARCHIVE_ALERT_FRESHNESS_HOURS", "0.00001")
    assert run("sync").exit_code == 3
    assert (len(webhook.received), len(server.received)) == (2, 2)
    text, mail = webhook.received[1]["text"], server.received[1]
    assert "<" not in text
    assert mail["Subject"].startswith("Task Archive: alarm: default: proven until ")
    assert mail["Subject"].endswith(" (and 3 more)")
    for told_text in (text, mail.get_content()):
        assert "the limit is 1e-05 hours" in told_text
        assert poisoned in told_text
        assert "drift, unknown path seen 1 times" in told_text
        assert re.search("over: run [0-9a-f]{8} of job nightly failed", told_text)
    (context,) = ended_runs("PIPELINE_SUCCESS")
    sensors.run_succeeded(context)
    skipped = sensors.alerts(dg.build_sensor_context())
    assert isinstance(skipped, dg.SkipReason)
    assert "the limit is" in str(skipped.skip_message)
    checked = run("alert", "check", "--json")
    found = json.loads(checked.stdout)
    assert checked.exit_code == 3
    assert [alert["condition"] for alert in found["alerts"]] == ["freshness_late", "drift", "proof_limited"]
    assert found["alerts"][0]["numbers"]["freshness_hours"] == 0.00001
    assert len(webhook.received) == 2
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(len(line["alerts"]), len(line["over"])) for line in lines] == [(1, 0), (3, 1)]
    assert lines[0]["alerts"][0]["numbers"]["failed_runs"] == 1
    secret = webhook.path.rsplit("/", 1)[1].encode()
    assert [path for path in home.rglob("*") if path.is_file() and secret in path.read_bytes()] == []

    (home / "alerts.json").unlink()  # as if the command had told nothing: the daemon does
    sensors.run_failed(failed[0].for_run_failure())
    (section, *_) = [block["text"]["text"] for block in webhook.received[2]["blocks"][1:]]
    assert section.splitlines()[1].endswith(" failed with 503: Service Unavailable`")
    assert section.splitlines()[1].startswith("`127.0.0.1:")  # our words, without Dagster's around them
    sensors.run_succeeded(context)
    assert "over: run " in webhook.received[3]["text"]
    simulator.close()


def test_a_stale_archive_is_told_once_though_several_look_at_the_same_time(
    synced: Simulator, webhook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASK_ARCHIVE_ALERT_WEBHOOK_URL", webhook.url)
    settings = load_settings(alert_freshness_hours=0.00001)
    said: list[str] = []
    looks = [threading.Thread(target=notify.check, args=(settings, said.append)) for _ in range(4)]
    for look in looks:
        look.start()
    for look in looks:
        look.join()
    assert len(webhook.received) == 1
    assert said == []


def test_an_observe_pass_that_fails_is_told_and_the_next_idle_one_ends_it(
    synced: Simulator, webhook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASK_ARCHIVE_ALERT_WEBHOOK_URL", webhook.url)
    synced.fault("503", times=None)
    for _ in range(2):
        assert observe(load_settings()).has_failed
    synced.clear_faults()
    for _ in range(2):
        assert observe(load_settings()).says == "nothing new"
    assert [re.sub(r" at \S+ \S+ UTC", "", message["blocks"][0]["text"]["text"]) for message in webhook.received] == [
        "Task Archive: alarm: job observe failed; readers stay on the version before",
        "Task Archive: over: job observe failed; readers stay on the version before",
    ]


def test_a_disk_that_takes_nothing_is_told(
    run: Run, synced: Simulator, home: Path, webhook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASK_ARCHIVE_ALERT_WEBHOOK_URL", webhook.url)
    for name in ("alerts.json", ".alerts.lock", ".lock"):
        (home / name).mkdir()  # neither the archive's lock nor anything of ours can be written
    result = run("sync")
    assert result.exit_code == 1
    (message,) = webhook.received
    assert "Is a directory" in message["text"]
    assert re.search(r"^alerts: .+alerts\.json.*: Is a directory$", result.stderr, re.MULTILINE)


def test_who_waits_too_long_for_another_look_is_told_so(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    monkeypatch.setattr(notify, "LOCK_SECONDS", 0.05)
    with FileLock(home / ".alerts.lock"):
        result = run("alert", "check")
    assert result.exit_code == 1
    assert result.stderr.startswith("task-archive: another process has been telling alerts of ")


def test_a_memory_that_is_damaged_is_made_anew(run: Run, home: Path) -> None:
    home.mkdir()
    (home / "alerts.json").write_text('{"told": 7')
    result = run("alert", "check")
    assert result.exit_code == 0
    assert result.stdout.startswith("not asked  drift: nothing is published under")
    assert load_state(load_settings()) == AlertState()


def test_before_anything_was_set_or_run(run: Run, home: Path) -> None:
    assert run("alert", "check").exit_code == 0
    assert isinstance(sensors.alerts(dg.build_sensor_context()), dg.SkipReason)
