"""A home in trouble: two runs at once, a full disk, a clock that jumps, a file system that is read-only."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.publish import publish
from tests.conftest import FINGERPRINT_KEY, NOW_MS, silent
from tests.hostile.conftest import Tell
from tests.hostile.test_kills import Server, change_tasks, tables_of

pytestmark = pytest.mark.slow

TASKS, PAGE = 300, 50
MEGABYTE = 1_000_000


class Command:
    """The `task-archive` command on a home: a child of the fork server, or a process of its own."""

    def __init__(self, server: Server, simulator: Simulator, home: Path) -> None:
        self.home = home
        self._server = server
        self.environment = {
            "LIVEPEER_API_URL": simulator.url,
            "LIVEPEER_API_KEY": simulator.api_key,
            "TASK_ARCHIVE_HOME": str(home),
            "TASK_ARCHIVE_PAGE_SIZE": str(PAGE),
            "TASK_ARCHIVE_FINGERPRINT_KEY": FINGERPRINT_KEY,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pipelines.cli", *arguments]
        environment = self.environment | {"PATH": os.environ["PATH"]}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)

    def __call__(self, *arguments: str, **variables: str) -> tuple[int, str]:
        """Its exit status and all that it prints."""
        output = self.home.parent / "output"
        output.write_text("")
        order = {"job": shlex.join(["task-archive", *arguments]), "environment": self.environment | variables}
        reply = self._server.run(order | {"output": str(output), "kill_after": None, "kill_before": None})
        return reply["status"], output.read_text()

    def fails(self, *arguments: str, **variables: str) -> str:
        """Status 1 and one line that says why, which is returned."""
        status, output = self(*arguments, **variables)
        lines = [line for line in output.splitlines() if line.startswith("task-archive:")]
        assert (status, len(lines), "Traceback" in output) == (1, 1, False), output
        return lines[0]

    def succeeds(self, *arguments: str, **variables: str) -> str:
        status, output = self(*arguments, **variables)
        assert status == 0, output
        return output

    @property
    def version(self) -> str:
        return str((self.home / "published" / "current").readlink())


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, errors = process.communicate(timeout=300)
    return process.returncode, output + errors


@pytest.fixture
def simulator(simulate: Callable[..., Simulator], clean_environment: None) -> Simulator:
    return simulate(tasks=TASKS, speed=0)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    forking = Server()
    yield forking
    forking.close()


@pytest.fixture
def command(server: Server, simulator: Simulator, tmp_path: Path) -> Command:
    return Command(server, simulator, tmp_path / "archive")


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """mounts(folder, bytes): an empty file system of that size there."""
    mounted: list[Path] = []

    def mount(folder: Path, size: int) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        arguments = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
        if shutil.which("mount") is None or subprocess.run(arguments, capture_output=True).returncode:
            pytest.skip("this system lets us mount nothing")
        mounted.append(folder)
        return folder

    yield mount
    for folder in reversed(mounted):
        subprocess.run(["umount", str(folder)], check=True)


# ------------------------------------------------------------------------------------------------------- two at once


def test_a_second_sync_waits_or_leaves(command: Command, simulator: Simulator, figure: Tell) -> None:
    with silent(simulator) as came:
        first = command.start("sync")
        assert came.wait(120)
        assert "another run holds" in command.fails("sync", TASK_ARCHIVE_LOCK_WAIT_SECONDS="0.3")
        second = command.start("sync")
        time.sleep(8)
        assert second.poll() is None
        asked = len(simulator.requests)
    assert [ended(process)[0] for process in (first, second)] == [0, 0]
    assert asked <= 1  # only the first had asked anything
    loads = sorted(path.name for path in (command.home / "landing" / "default").iterdir())
    assert [name.rsplit("-", 1)[1] for name in loads] == ["sweep", "changes"]
    figure("lock: second sync beside a running one", 2, "one left with a line after its wait, one waited and then ran")


def test_a_dead_process_holds_no_lock(command: Command, simulator: Simulator, figure: Tell) -> None:
    with silent(simulator) as came:
        first = command.start("sync")
        assert came.wait(120)
        first.send_signal(signal.SIGKILL)
        ended(first)
    command.succeeds("sync", TASK_ARCHIVE_LOCK_WAIT_SECONDS="0")
    figure("lock: holder killed", 1, "the next sync went on at once")


# --------------------------------------------------------------------------------------------------------- disk full


@dataclass
class Account:
    """An account before and after changes: a home that was synced before, and the tables there must be in the end."""

    simulator: Simulator
    home: Path
    tables: dict[str, Any]


@pytest.fixture(scope="module")
def account(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    folder = tmp_path_factory.mktemp("account")
    with Simulator(tasks=TASKS, days=10, seed=1, now=NOW_MS, speed=0).serve() as simulator:
        before, after = (Command(server, simulator, folder / name) for name in ("before", "after"))
        before.succeeds("sync")
        change_tasks(simulator)
        shutil.copytree(before.home, after.home, symlinks=True)
        after.succeeds("sync")
        yield Account(simulator, before.home, tables_of(after.home))


@pytest.mark.parametrize(
    ("folder", "left"),
    [
        ("landing", 0),
        ("warehouse", 0),
        ("warehouse", MEGABYTE),
        ("warehouse", MEGABYTE // 4),
        ("published", 0),
        ("published", MEGABYTE),
        (".", 0),
        (".", MEGABYTE),
    ],
)
def test_a_full_disk(
    account: Account,
    server: Server,
    tmp_path: Path,
    mounts: Callable[..., Path],
    figure: Tell,
    folder: str,
    left: int,
) -> None:
    command = Command(server, account.simulator, tmp_path / "archive")
    small = mounts(command.home / folder, 120 * MEGABYTE)
    shutil.copytree(account.home, command.home, symlinks=True, dirs_exist_ok=True)
    version, tables = command.version, tables_of(command.home)
    ballast = small / "ballast"
    fill(ballast, left)
    said = command.fails("sync")
    assert re.search("no space|full|could not write", said, re.IGNORECASE), said
    assert command.version == version
    assert tables_of(command.home) == tables
    ballast.unlink()
    command.succeeds("sync")
    assert tables_of(command.home) == account.tables
    where = "the whole home" if folder == "." else folder
    figure(f"disk full: {where}", 1, "one line and status 1; readers undisturbed; with room again the tables are equal")


def fill(ballast: Path, left: int) -> None:
    """Takes all room on the file system but so many bytes."""
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(ballast.parent).free - left)


# --------------------------------------------------------------------------------------------------------- the clock


def test_a_clock_that_jumps(
    simulator: Simulator, archive: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, figure: Tell
) -> None:
    """Our clock is set hours back and forth between loads and within them; the server's goes on as it should."""
    random = Random(1)
    jumps = 0
    shift_ns = 0
    real_ns = time.time_ns

    def time_ns() -> int:
        nonlocal jumps, shift_ns
        if random.random() < 0.05:
            jumps += 1
            shift_ns = random.randint(-30 * 3600, 30 * 3600) * 1_000_000_000
        return real_ns() + shift_ns

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.fromtimestamp(time_ns() / 1e9, tz or UTC)

    jumping, steady = archive(simulator, home="jumping", page_size=20), archive(simulator, home="steady", page_size=20)
    proven: list[int] = []
    versions: list[str] = []
    for _ in range(12):
        with monkeypatch.context() as patch:
            patch.setattr("time.time_ns", time_ns)
            patch.setattr("time.time", lambda: time_ns() / 1e9)
            patch.setattr(build, "datetime", Jumping)
            load = jumping.sync()
            assert load.verdict == "whole"
            list(build.build_version(jumping.settings))
            versions.append(publish(jumping.settings).version)
        assert (jumping.settings.home.published / "task_archive.duckdb").exists()
        steady.sync()
        assert jumping.landed() == steady.landed() == jumping.expected()
        proven.append(load.proven_until_ms)
        simulator.advance(random.choice([1, 60, 3600]))
        for task_id in random.sample(sorted(simulator.ids()), 20):
            simulator.update(task_id, phase="running", progress=random.random())
        simulator.insert()
    assert [load.load_id for load in jumping.manifests()] == sorted(load.load_id for load in jumping.manifests())
    assert proven == sorted(proven) == [load.proven_until_ms for load in steady.manifests()]
    assert versions == sorted(set(versions))
    assert jumps > 20
    figure("clock: jumps of up to 30 hours", jumps, "in 12 loads and publications; nothing lost, order and proofs kept")


# --------------------------------------------------------------------------------------------------------- read-only


def test_a_read_only_home(command: Command, mounts: Callable[..., Path], figure: Tell) -> None:
    home = mounts(command.home, 100 * MEGABYTE)
    command.succeeds("sync")
    version = command.version
    subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
    for arguments in (["sync"], ["rebuild"], ["refresh", "some-task"]):
        assert "read-only" in command.fails(*arguments).lower()
    assert command.version == version
    reading = [["query", "failure_rate_by_type"], ["query", "from tasks", "--format", "csv"], ["status"], ["verify"]]
    reading += [["verify", "--landing"], ["status", "--json"]]
    for arguments in reading:
        command.succeeds(*arguments)
    figure("read-only home: commands that write", 3, "one line and status 1")
    figure("read-only home: commands that read", len(reading), "answer as ever")


def test_a_read_only_home_before_the_first_sync(command: Command, mounts: Callable[..., Path]) -> None:
    home = mounts(command.home, MEGABYTE)
    subprocess.run(["mount", "-o", "remount,ro", str(home)], check=True)
    assert "read-only" in command.fails("sync").lower()


def test_a_home_that_cannot_be(command: Command, figure: Tell) -> None:
    command.home.parent.joinpath("file").write_text("not a folder")
    impossible = {"TASK_ARCHIVE_HOME": str(command.home.parent / "file" / "archive")}
    assert "Not a directory" in command.fails("sync", **impossible)
    figure("read-only home: a path that cannot be a folder", 1, "one line and status 1")
