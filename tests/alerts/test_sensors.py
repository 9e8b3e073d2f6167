"""Telling somebody that a run has failed: a real call to a real server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from pipelines.defs.sensors import run_failed
from pipelines.runs import RunFailed, prepare_instance, run_job
from pipelines.settings import load_settings


@pytest.fixture
def failed_run(
    clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.RunFailureSensorContext]:
    """The context of a nightly run that failed because nothing listens at the API's address."""
    variables = {
        "LIVEPEER_API_URL": "http://127.0.0.1:9/api",
        "LIVEPEER_API_KEY": "key",
        "TASK_ARCHIVE_HOME": str(tmp_path / "archive"),
        "TASK_ARCHIVE_RETRY_WAIT_SECONDS": "0",
        "DAGSTER_HOME": "",
        "DAGSTER_DISABLE_TELEMETRY": "",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    with pytest.raises(RunFailed, match="cannot reach"):
        run_job(settings, "nightly")
    prepare_instance(settings)
    with dg.DagsterInstance.get() as instance:
        run = instance.get_runs()[0]
        event = next(
            entry.dagster_event
            for entry in instance.all_logs(run.run_id)
            if entry.dagster_event and entry.dagster_event.event_type_value == "PIPELINE_FAILURE"
        )
        context = dg.build_run_status_sensor_context("run_failed", event, instance, run)
        yield context.for_run_failure()


def test_the_webhook_is_told_once_with_job_and_reason(
    failed_run: dg.RunFailureSensorContext, webhook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASK_ARCHIVE_ALERT_WEBHOOK_URL", webhook.url)
    run_failed(failed_run)
    assert len(webhook.received) == 1
    assert f"run {failed_run.dagster_run.run_id[:8]} of job nightly failed" in webhook.received[0]["text"]


def test_a_webhook_that_fails_breaks_nothing(
    failed_run: dg.RunFailureSensorContext, webhook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook.status = 500
    monkeypatch.setenv("TASK_ARCHIVE_ALERT_WEBHOOK_URL", webhook.url)
    run_failed(failed_run)
    assert len(webhook.received) == 1


def test_without_a_channel_nothing_is_told(failed_run: dg.RunFailureSensorContext) -> None:
    run_failed(failed_run)
