"""What the listener answers, and what is on the disk by then."""

import hashlib
import hmac
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipelines.errors import SettingsError
from pipelines.landing.journal import Journal, read
from pipelines.listening.server import Receiver
from pipelines.settings import Settings, load_settings
from pipelines.simulator import Simulator
from tests.listening.conftest import SHARED, Listener, event_of, signed

Listen = Callable[[Settings], Listener]


@pytest.fixture
def listener(simulate: Callable[..., Simulator], archive_settings: Callable[..., Settings], listen: Listen) -> Listener:
    return listen(archive_settings(simulate(tasks=3), answer_mb=1))


TASK = {
    "id": "t1",
    "createdAt": 1,
    "status": {"phase": "running", "updatedAt": 2},
    "params": {"pinata": {"jwt": "JWT"}},
}


def test_an_event_is_on_the_disk_redacted_when_it_is_answered(listener: Listener) -> None:
    assert listener.deliver(event_of(TASK)) == 200
    (line,) = listener.lines()
    task = json.loads(line.payload)
    assert task["id"] == "t1"
    assert task["params"]["pinata"]["jwt"].startswith("redacted-")
    everything = b"".join(path.read_bytes() for path in listener.settings.home.path.rglob("*") if path.is_file())
    assert b'"JWT"' not in everything


def test_an_event_is_one_line_however_it_is_written(listener: Listener) -> None:
    body = json.dumps(event_of(TASK) | {"timestamp": time.time_ns() // 1_000_000}, indent=1).encode()
    digest = hmac.new(SHARED.encode(), body, hashlib.sha256).hexdigest()
    assert listener.post(body, f"t={json.loads(body)['timestamp']},v1={digest}") == 200
    (line,) = listener.lines()
    assert json.loads(line.payload)["id"] == "t1"


def test_a_redelivery_is_as_old_as_its_snapshot(listener: Listener) -> None:
    now_ms = time.time_ns() // 1_000_000
    assert listener.deliver(event_of(TASK, createdAt=now_ms - 3_600_000)) == 200
    (line,) = listener.lines()
    assert abs(line.observed_at_ms - (now_ms - 3_600_000)) < 10_000
    assert line.skew_ms is not None
    assert 0 <= line.skew_ms < 10_000


def test_events_of_other_things_are_answered_and_ignored(listener: Listener) -> None:
    assert listener.deliver({"event": "asset.updated", "payload": {"id": "x"}}) == 200
    assert listener.lines() == []


def test_a_task_without_a_snapshot_waits_to_be_quarantined(listener: Listener) -> None:
    assert listener.deliver({"event": "task.updated", "payload": {"task": 1}}) == 200
    assert [json.loads(line.payload) for line in listener.lines()] == [{"task": 1}]


@pytest.mark.parametrize(
    ("send", "status"),
    [
        (lambda to: to.post(b"{}"), 401),
        (lambda to: to.post(b"{}", "t=1,v1=" + "0" * 64), 401),
        (lambda to: to.deliver(event_of(TASK), "another secret"), 401),
        (lambda to: to.deliver(event_of(TASK, timestamp=1)), 401),
        (lambda to: to.post(*signed(event_of(TASK)), account="nobody"), 404),
        (lambda to: to.post(*signed(event_of(TASK)), account="default/"), 404),
        (lambda to: to.post(*signed(event_of(TASK)), account="default/x"), 404),
        (lambda to: to.post(b" " * 1_000_001), 413),
        (lambda to: httpx.get(f"{to.url}/default", trust_env=False).status_code, 405),
        (lambda to: httpx.get(f"{to.url}/", trust_env=False).status_code, 404),
    ],
)
def test_what_is_not_livepeers_is_refused_and_never_redirected(listener: Listener, send: Any, status: int) -> None:
    assert send(listener) == status
    assert listener.lines() == []
    assert httpx.get(f"{listener.url}/health", trust_env=False).json()["status"] == "ok"


def test_a_refusal_is_said_once_for_each_reason(listener: Listener) -> None:
    for _ in range(3):
        listener.post(b"{}")
    assert listener.said == ["refused a delivery (401): no signature"]
    assert SHARED not in " ".join(listener.said)


def test_a_slow_and_a_cut_body_keep_nobody_waiting(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.listening.server.BODY_SECONDS", 0.3)
    port = int(listener.url.rpartition(":")[2])
    head = b"POST /default HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as slow, socket.create_connection(("127.0.0.1", port)) as cut:
        slow.sendall(head + b"{")
        cut.sendall(head + b"{")
        cut.close()
        assert listener.deliver(event_of(TASK)) == 200
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_a_disk_that_refuses_is_a_failure_of_ours(listener: Listener) -> None:
    listener.settings.home.events.parent.mkdir(exist_ok=True)
    listener.settings.home.events.write_text("in the way", encoding="utf-8")
    assert listener.deliver(event_of(TASK)) == 503
    assert listener.said[0].startswith("cannot write events: ")
    listener.settings.home.events.unlink()
    assert listener.deliver(event_of(TASK)) == 200


def test_without_a_secret_nothing_is_taken_unless_that_is_allowed(
    simulate: Callable[..., Simulator], archive_settings: Callable[..., Settings], listen: Listen
) -> None:
    settings = archive_settings(simulate(tasks=3))
    with pytest.raises(SettingsError, match="LIVEPEER_WEBHOOK_SECRET is not set"):
        Receiver(settings, print)
    settings.listen_unsigned = True
    receiver = Receiver(settings, print)
    assert receiver.accounts == ["default"]
    assert receiver.secrets == {}


def test_secrets_come_by_account(monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> None:
    monkeypatch.setenv("LIVEPEER_WEBHOOK_SECRET", "one-secret")
    monkeypatch.setenv("LIVEPEER_WEBHOOK_SECRET__SECOND", "other-secret")
    secrets = load_settings().webhook_secrets
    assert {name: secret.get_secret_value() for name, secret in secrets.items()} == {
        "default": "one-secret",
        "second": "other-secret",
    }


def test_a_cut_line_is_left_out_and_the_next_are_whole(tmp_path: Path) -> None:
    from pipelines.landing.journal import Line

    journal = Journal(tmp_path, "default")
    journal.append([Line(1, None, b"{}")])
    open_file = journal.folder / "open.log"
    open_file.write_bytes(open_file.read_bytes() + b'{"observed_at_ms":2,"skew_ms":nu')
    journal.append([Line(3, 4, b"\xff\t{}")])
    (closed,) = journal.claim()
    assert [(line.observed_at_ms, line.payload) for line in read(closed)] == [(1, b"{}"), (3, b"\xff\t{}")]
    assert journal.claim() == [closed]
    journal.append([Line(5, None, b"{}")])
    assert len(journal.claim()) == 2


def start(settings: Settings, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """The command in a process of its own, and where it listens."""
    environment = os.environ | {
        "TASK_ARCHIVE_HOME": str(settings.home),
        "LIVEPEER_API_URL": settings.api_url,
        "LIVEPEER_API_KEY": "sim-key-default",
        "LIVEPEER_WEBHOOK_SECRET": SHARED,
    }
    command = [sys.executable, "-m", "pipelines.cli", "listen", "--port", "0", *arguments]
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell in the background has it ignored
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("listening on http://127.0.0.1:"), process.stderr and process.stderr.read()
    return process, line.split()[2]


@pytest.mark.parametrize("kill_after_seconds", [0.05, 0.2, 0.5])
def test_a_kill_loses_nothing_that_was_answered(
    simulate: Callable[..., Simulator], archive_settings: Callable[..., Settings], kill_after_seconds: float
) -> None:
    settings = archive_settings(simulate(tasks=3))
    process, url = start(settings)
    answered: list[str] = []
    stop = threading.Event()

    def send(worker: int) -> None:
        with httpx.Client(trust_env=False) as client:
            for number in range(1000):
                task = {"id": f"{worker}-{number}", "status": {"updatedAt": number + 1}}
                body, signature = signed(event_of(task))
                try:
                    answer = client.post(f"{url}/default", content=body, headers={"Livepeer-Signature": signature})
                except httpx.HTTPError:
                    return
                if answer.status_code == 200:
                    answered.append(task["id"])
                if stop.is_set():
                    return

    with ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(send, worker) for worker in range(8)]
        while not answered:
            time.sleep(0.005)
        time.sleep(kill_after_seconds)
        process.kill()
        process.communicate()
        stop.set()
        for worker in workers:
            worker.result()
    written = {
        json.loads(line.payload)["id"]
        for path in Journal(settings.home.events, "default").claim()
        for line in read(path)
    }
    assert answered
    assert set(answered) <= written


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_a_line(
    simulate: Callable[..., Simulator], archive_settings: Callable[..., Settings], number: int
) -> None:
    process, url = start(archive_settings(simulate(tasks=3)))
    body, signature = signed(event_of(TASK))
    httpx.post(f"{url}/default", content=body, headers={"Livepeer-Signature": signature}, trust_env=False)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=10)
    assert "events: 1 written, 0 refused" in stderr
    assert "Traceback" not in stderr
    assert process.returncode == 128 + number


def test_a_port_that_is_taken_is_said(
    simulate: Callable[..., Simulator], archive_settings: Callable[..., Settings]
) -> None:
    settings = archive_settings(simulate(tasks=3))
    process, url = start(settings)
    try:
        with pytest.raises(AssertionError, match="cannot listen on"):
            start(settings, "--port", url.rpartition(":")[2])
    finally:
        process.kill()
        process.communicate()
