"""Telling somebody that a run has failed: a real call to a real server."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import dagster as dg
import pytest

from pipelines.defs.sensors import run_failed
from pipelines.runs import RunFailed, prepare_instance, run_job
from pipelines.settings import load_settings


class Webhook(HTTPServer):
    """Keeps what is posted to it and answers with `status`."""

    received: list[dict[str, str]]
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Post)
        self.received = []


class Post(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(json.loads(body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    server = Webhook()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


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
    failed_run: dg.RunFailureSensorContext, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASK_ARCHIVE_FAILURE_WEBHOOK_URL", f"http://127.0.0.1:{webhook.server_port}/hook/T0/secret")
    run_failed(failed_run)
    assert len(webhook.received) == 1
    assert "job nightly failed" in webhook.received[0]["text"]
    assert failed_run.dagster_run.run_id[:8] in webhook.received[0]["text"]


def test_a_webhook_that_fails_breaks_nothing(
    failed_run: dg.RunFailureSensorContext, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook.status = 500
    monkeypatch.setenv("TASK_ARCHIVE_FAILURE_WEBHOOK_URL", f"http://127.0.0.1:{webhook.server_port}/hook")
    run_failed(failed_run)
    monkeypatch.setenv("TASK_ARCHIVE_FAILURE_WEBHOOK_URL", "http://127.0.0.1:9/hook")
    run_failed(failed_run)
    assert len(webhook.received) == 1


def test_without_a_webhook_it_only_logs(failed_run: dg.RunFailureSensorContext) -> None:
    run_failed(failed_run)
