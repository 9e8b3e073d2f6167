"""What the tests share: an archive in a folder of its own that talks to a simulator, and a look at what has landed."""

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import httpx
import hypothesis
import pytest

from pipelines.landing.context import ProgressCallbacks
from pipelines.landing.lanes import Extraction
from pipelines.landing.manifest import Manifest
from pipelines.livepeer.redact import Redactor
from pipelines.settings import Settings, load_settings
from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.publish import publish
from tests.landed import LandedFiles

NOW_MS = 1_795_000_000_000  # 2026-11-18, when the simulators' clocks start
FINGERPRINT_KEY = "fingerprint key of the tests"

# A busy machine is no failure.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

tls_context = cache(httpx.create_ssl_context)  # takes 30 ms, and every client wants one


def forget_this_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No setting of it gets in: neither from the environment, a proxy's included, nor from a .env file."""
    for name in list(os.environ):
        if name.startswith(("LIVEPEER_", "TASK_ARCHIVE_", "DAGSTER_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("httpx._transports.default.create_ssl_context", tls_context)


def variables_of(simulator: Simulator, home: Path, **others: str) -> dict[str, str]:
    """What the command finds in its environment for an archive of a simulated account."""
    return {
        "LIVEPEER_API_URL": simulator.url,
        "LIVEPEER_API_KEY": simulator.api_key,
        "TASK_ARCHIVE_HOME": str(home),
        "TASK_ARCHIVE_RETRY_WAIT_SECONDS": "0.01",
        "DAGSTER_HOME": "",
        "DAGSTER_DISABLE_TELEMETRY": "1",
        **others,
    }


def set_variables(patch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        patch.setenv(name, value)


def needs(program: str, found: str | None = None) -> str:
    """Where a program is that tests look through. Without it they are skipped, or fail where it is said to be there."""
    found = found or shutil.which(program)
    if found is None and program in os.environ.get("TASK_ARCHIVE_TESTS_NEED", "").split():
        pytest.fail(f"{program} is not installed, and TASK_ARCHIVE_TESTS_NEED names it")
    return found or pytest.skip(f"{program} is not installed")


IN_CLEAR, IN_URL = "pass/word@of%the:archive", "pass%2Fword%40of%25the%3Aarchive"


@dataclass
class Cluster:
    """A PostgreSQL server on loopback."""

    port: int

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}:{IN_URL}@127.0.0.1:{self.port}/{database}"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    installed = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/postgres")))
    programs = Path(needs("postgresql", installed[-1] if installed else shutil.which("postgres"))).parent
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    as_postgres = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="postgres") as folder:
        if as_postgres:
            shutil.chown(folder, "postgres")
        password = Path(folder) / "password"
        password.write_text(IN_CLEAR)
        password.chmod(0o644)
        run = [*as_postgres, str(programs / "initdb"), "-D", f"{folder}/data", "-U", "postgres", "-A", "scram-sha-256"]
        subprocess.run([*run, "--pwfile", str(password), "--no-sync", "-E", "UTF8"], check=True, capture_output=True)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        control = [*as_postgres, str(programs / "pg_ctl"), "-D", f"{folder}/data"]
        subprocess.run([*control, "-w", "-l", f"{folder}/log", "-o", options, "start"], check=True, capture_output=True)
        yield Cluster(port)
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, capture_output=True)


@pytest.fixture
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_this_machine(monkeypatch, tmp_path)


@pytest.fixture
def simulate() -> Iterator[Callable[..., Simulator]]:
    """simulate(arguments of Simulator): a served one; small, and closed when the test ends."""
    open_simulators: list[Simulator] = []

    def simulate(**arguments: Any) -> Simulator:
        simulator = Simulator(**({"tasks": 300, "days": 10, "seed": 1, "now": NOW_MS} | arguments)).serve()
        open_simulators.append(simulator)
        return simulator

    yield simulate
    for simulator in open_simulators:
        simulator.close()


@pytest.fixture
def set_our_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """set_our_clock(simulator, ahead_seconds=0): from now on our clock goes by the simulator's, so far ahead of it."""

    def set_our_clock(simulator: Simulator, ahead_seconds: float = 0) -> None:
        clock = simulator._clock  # the Dates that it sends may be others
        monkeypatch.setattr("time.time", lambda: clock.now() / 1000 + ahead_seconds)
        monkeypatch.setattr("time.time_ns", lambda: clock.now() * 1_000_000 + round(ahead_seconds * 1e9))

    return set_our_clock


@pytest.fixture
def archive_settings(tmp_path: Path, clean_environment: None) -> Callable[..., Settings]:
    """archive_settings(simulator, home=folder under tmp_path, fields of Settings): impatient settings for it."""
    return lambda simulator, home="archive", **fields: impatient_settings(simulator, tmp_path / home, **fields)


def impatient_settings(simulator: Simulator, home: Path, **fields: Any) -> Settings:
    defaults = {
        "api_url": simulator.url,
        "api_keys": {"default": simulator.api_key},
        "page_size": 50,
        "retry_wait_seconds": 0.002,
        "request_timeout_seconds": 10,
        "fingerprint_key": FINGERPRINT_KEY,
    }
    return load_settings(home=home, **(defaults | fields))


@contextmanager
def silent(simulator: Simulator, of: str = "") -> Iterator[threading.Event]:
    """A server that answers no request whose path has that in it; tells when the first has come."""
    came, go = threading.Event(), threading.Event()

    def hold(simulator: Simulator, number: int, path: str) -> None:
        if of in path:
            came.set()
            go.wait(120)

    simulator.before_request(hold)
    try:
        yield came
    finally:
        simulator._callbacks.clear()
        go.set()


@dataclass
class Archive:
    """An archive of a simulated account: runs lanes, and reads what has landed from the Parquet files themselves."""

    simulator: Simulator
    settings: Settings
    account: str = "default"
    of_simulator: str = "default"  # the account's name there

    def extraction(self, callbacks: ProgressCallbacks | None = None) -> Extraction:
        return Extraction(self.settings, self.account, "test run", callbacks)

    def sync(self, lane: Any = "auto") -> Manifest:
        return self.extraction().sync(lane)

    @property
    def zone(self) -> LandedFiles:
        return LandedFiles(self.settings.home.landing)

    def manifests(self) -> list[Manifest]:
        return self.zone.manifests(self.account)

    def rows(self, load_id: str | None = None) -> list[dict[str, Any]]:
        """Rows of the landing zone in the order they were fetched."""
        found = str(self.settings.home.landing / self.account / (load_id or "*") / "part-*.parquet")
        if not list(self.settings.home.landing.glob(f"{self.account}/{load_id or '*'}/part-*.parquet")):
            return []
        query = "select * from read_parquet(?) order by load_id, page, position"
        rows: list[dict[str, Any]] = duckdb.sql(query, params=[found]).to_arrow_table().to_pylist()
        return rows

    def landed(self) -> dict[str, bytes]:
        """The newest state of each task that is there: latest updatedAt, then latest fetched.

        An older updatedAt counts where a GET by id answers it, or two loads in a row.
        """
        newest: dict[str, tuple[int, bytes]] = {}
        last: dict[str, dict[str, Any]] = {}
        for row in self.rows():
            before = last.get(row["task_id"], {"payload": None, "lane": None})
            last[row["task_id"]] = row
            if row["payload"] is None:
                continue
            at = -1 if row["updated_at_ms"] is None else row["updated_at_ms"]
            is_sure = row["lane"] == "refresh" or (
                row["payload"] == before["payload"]
                and row["load_id"] != before["load_id"]
                and "events" not in (row["lane"], before["lane"])
            )
            if is_sure or at >= newest.get(row["task_id"], (-1, b""))[0]:
                newest[row["task_id"]] = at, row["payload"].encode()
        return {task_id: payload for task_id, (_, payload) in newest.items() if not last[task_id]["is_deleted"]}

    def expected(self, bodies: dict[str, bytes] | None = None) -> dict[str, bytes]:
        """What should have landed of what the simulator lists (or of `bodies`): its bytes without their secrets."""
        redact = redacting(*self.simulator.api_keys.values())
        listed = bodies if bodies is not None else bodies_of(self.simulator, self.of_simulator)
        return {task_id: redact(body) for task_id, body in listed.items()}

    def files(self) -> dict[str, bytes]:
        """Every file of the landing zone."""
        root = self.settings.home.landing
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@cache
def redacting(*keys: str) -> Callable[[bytes], bytes]:
    return cache(Redactor(FINGERPRINT_KEY.encode(), keys).redact)


def bodies_of(simulator: Simulator, account: str = "default") -> dict[str, bytes]:
    """The bytes that the simulator sends for each task that it lists."""
    return {row.id: row.body for row in simulator._listed(account)}


@pytest.fixture
def archive(archive_settings: Callable[..., Settings]) -> Callable[..., Archive]:
    """archive(simulator, arguments of archive_settings): an archive of its account."""

    def archive(simulator: Simulator, **arguments: Any) -> Archive:
        return Archive(simulator, archive_settings(simulator, **arguments))

    return archive


@pytest.fixture(scope="session")
def published_archive(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A published archive to read from: some tasks were seen before they ended, its days are far from those of UTC."""
    with Simulator(tasks=3000, days=12, seed=4, now=NOW_MS - 7_200_000).serve() as simulator:
        settings = load_settings(
            home=tmp_path_factory.mktemp("published"),
            api_url=simulator.url,
            api_keys={"default": simulator.api_key},
            fingerprint_key=FINGERPRINT_KEY,
            time_zone="America/Los_Angeles",
        )
        for _ in range(2):
            Extraction(settings, "default", "test run").sync()
            simulator.advance(7200)
    list(build.build_version(settings))
    publish(settings)
    return settings


@pytest.fixture
def bodies() -> Callable[..., dict[str, bytes]]:
    """bodies(simulator): the bytes that it sends for each task that it lists now."""
    return bodies_of


def change_tasks(simulator: Simulator, tasks: int = 200) -> None:
    """An hour passes, in which the first tasks fail and some are new."""
    simulator.advance(3600)
    for task_id in sorted(simulator.ids())[:tasks]:
        simulator.advance(0.01)
        simulator.update(task_id, phase="failed", errorMessage="changed")
    for _ in range(20):
        simulator.insert(name="new")
