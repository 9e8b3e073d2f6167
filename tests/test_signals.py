"""Commands that a signal ends, whatever they are at: one line, the signal's exit status, nothing left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from pipelines.settings import Settings
from pipelines.simulator import Simulator
from tests.conftest import silent

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
MOST_SECONDS = 5
ENDLESS = "select count(*) from tasks a, tasks b, tasks c where hash(a.task_id || b.task_id || c.task_id) % 7 = 1"


class Command:
    """A command as a process of its own; ended if the test fails."""

    def __init__(self, *arguments: str, ignores: tuple[signal.Signals, ...] = ()) -> None:
        self.arguments = arguments
        before = {number: signal.getsignal(number) for number in SIGNALS}
        for number in SIGNALS:  # a child begins with what is ignored
            signal.signal(number, signal.SIG_IGN if number in ignores else signal.SIG_DFL)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.cli", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,  # as a terminal's job has a group of its own
            )
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def ends_by(self, number: signal.Signals, whole_group: bool = False) -> list[str]:
        """Asserts that it ends as it should; returns what else was said on standard error."""
        children = descendants(self.process.pid)
        began = time.monotonic()
        (os.killpg if whole_group else os.kill)(self.process.pid, number)
        _, errors = self.process.communicate(timeout=60)
        assert time.monotonic() - began < MOST_SECONDS
        assert self.process.returncode == SIGNALS[number], errors
        *others, last = errors.splitlines()
        assert last == f"task-archive: ended by {number.name}; what had landed is kept, the next run goes on from there"
        assert [line for line in others if "task-archive:" in line or "Traceback" in line] == []
        assert [child for child in children if is_alive(child)] == []
        return others


def is_alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    return False


def descendants(pid: int) -> set[int]:
    children = {
        int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
    }
    return children | {further for child in children for further in descendants(child)}


def wait_for(holds: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture
def home(clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of the commands; their account is to be set."""
    monkeypatch.setenv("TASK_ARCHIVE_HOME", str(tmp_path / "archive"))
    monkeypatch.setenv("LIVEPEER_API_KEY", "key")
    return tmp_path / "archive"


@pytest.fixture
def simulator(home: Path, simulate: Callable[..., Simulator], monkeypatch: pytest.MonkeyPatch) -> Simulator:
    served = simulate(tasks=2000, days=6, speed=0, now=None)
    monkeypatch.setenv("LIVEPEER_API_URL", served.url)
    monkeypatch.setenv("LIVEPEER_API_KEY", served.api_key)
    return served


def finishes(*arguments: str) -> None:
    with Command(*arguments) as command:
        _, errors = command.process.communicate(timeout=120)
        assert command.process.returncode == 0, errors


@pytest.mark.parametrize("number", SIGNALS)
def test_a_run_that_waits_for_an_answer(simulator: Simulator, number: signal.Signals) -> None:
    with silent(simulator, of="cursor=") as came, Command("sync") as command:  # in the midst of the walk
        assert came.wait(60)
        assert command.ends_by(number) == []


@pytest.mark.slow
def test_other_commands_that_wait_for_an_answer(simulator: Simulator) -> None:
    finishes("sync")
    for command in ("verify", "doctor", "observe"):
        with silent(simulator) as came, Command(command) as waiting:
            assert came.wait(60)
            assert waiting.ends_by(signal.SIGTERM) == []


def test_ctrl_c_strikes_all_that_the_terminal_runs(simulator: Simulator) -> None:
    with silent(simulator, of="cursor=") as came, Command("sync") as command:
        assert came.wait(60)
        assert command.ends_by(signal.SIGINT, whole_group=True) == []


def test_a_run_that_waits_to_try_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("LIVEPEER_API_URL", f"http://127.0.0.1:{taken.getsockname()[1]}/api")
    monkeypatch.setenv("TASK_ARCHIVE_RETRY_WAIT_SECONDS", "100")
    with Command("sync") as command:
        assert command.process.stderr is not None
        assert "attempt 2 in" in command.process.stderr.readline()
        assert command.ends_by(signal.SIGINT) == []


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_a_run_that_builds(simulator: Simulator, home: Path, number: signal.Signals) -> None:
    with Command("sync") as command:
        wait_for(lambda: any(home.glob("landing/*/*/manifest.json")))
        time.sleep(0.4)
        command.ends_by(number)
    finishes("sync")


@pytest.mark.slow
def test_a_run_that_waits_for_another(simulator: Simulator) -> None:
    with silent(simulator) as came, Command("sync") as first, Command("sync") as second:
        assert came.wait(60)
        time.sleep(3)
        assert second.ends_by(signal.SIGINT) == []
        assert first.process.poll() is None


@pytest.mark.parametrize(("form", "number"), [*zip(["table", "csv", "parquet"], SIGNALS, strict=True)])
def test_a_query_that_takes_long(
    home: Path,
    published_archive: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    number: signal.Signals,
) -> None:
    monkeypatch.setenv("TASK_ARCHIVE_HOME", str(published_archive.home))
    (tmp_path / "out").mkdir()
    with Command("query", ENDLESS, "--format", form, "--output", "out/file") as command:
        wait_for(lambda: any((tmp_path / "out").iterdir()))
        time.sleep(0.2)
        assert command.ends_by(number) == []
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("number", SIGNALS)
def test_the_simulator(home: Path, number: signal.Signals) -> None:
    with Command("simulate", "--port", "0", "--tasks", "100") as command:
        assert command.process.stdout is not None
        assert command.process.stdout.readline().startswith("LIVEPEER_API_URL=")
        assert command.ends_by(number) == []


def test_the_demo_takes_its_simulator_with_it(home: Path) -> None:
    with Command("demo", "--tasks", "2000") as command:
        assert command.process.stdout is not None
        while "First nightly run" not in (line := command.process.stdout.readline()):
            assert line
        assert len(descendants(command.process.pid)) >= 1
        command.ends_by(signal.SIGINT, whole_group=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_the_page_takes_all_its_processes_with_it(home: Path, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    with Command("ui", "--port", str(port)) as command:

        def answers() -> bool:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return True
            return False

        wait_for(answers)
        assert len(descendants(command.process.pid)) >= 3
        command.ends_by(number)


def test_what_was_ignored_from_the_start_stays_ignored(simulator: Simulator) -> None:
    """As a shell starts a job in the background, or nohup does it. SIGTERM ends it all the same."""
    ignored = (signal.SIGINT, signal.SIGHUP)
    with silent(simulator) as came, Command("observe", "--every", "1s", ignores=ignored) as command:
        for number in ignored:
            os.kill(command.process.pid, number)
        time.sleep(MOST_SECONDS)
        assert command.process.poll() is None
        command.ends_by(signal.SIGTERM)
        assert not came.is_set()  # it could not begin before the first sync
