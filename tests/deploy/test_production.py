"""Production as deploy/ describes it, for real: the wheel in an environment of its own, Dagster on PostgreSQL, code
location, webserver and daemon as processes; schedules, a backfill, pools, and a run that is killed."""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
import yaml

from pipelines.simulator import Simulator
from tests.conftest import Cluster

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[2]
DEPLOY = CHECKOUT / "deploy"

RUNS = """{ runsOrError { ... on Runs { results {
    runId jobName status startTime endTime tags { key value } } } } }"""
BACKFILL = """mutation ($of: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $of) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs are of an environment that holds the wheel and what deploy/requirements.lock names."""
    folder = tmp_path_factory.mktemp("production")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    pip = [str(folder / "venv" / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    locked = ["--require-hashes", "-r", str(DEPLOY / "requirements.lock")]
    subprocess.run([*pip, "install", "--no-deps", *locked], check=True)
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, CHECKOUT], check=True)
    subprocess.run([*pip, "install", "--no-deps", *map(str, folder.glob("*.whl"))], check=True)
    return folder / "venv" / "bin"


class Production:
    """The three processes on a home, as the units of systemd start them, and what GraphQL tells of them."""

    def __init__(self, programs: Path, folder: Path, simulator: Simulator, database_url: str) -> None:
        self.home = folder / "archive"
        (self.home / "dagster").mkdir(parents=True)
        shutil.copy(DEPLOY / "dagster.yaml", self.home / "dagster")
        self.code_port, self.port = free_port(), free_port()
        workspace = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())
        workspace["load_from"][0]["grpc_server"]["port"] = self.code_port
        (folder / "workspace.yaml").write_text(yaml.safe_dump(workspace))
        self._programs, self._folder = programs, folder
        self._environment = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "DAGSTER_HOME": str(self.home / "dagster"),
            "DAGSTER_POSTGRES_URL": database_url,
            "TASK_ARCHIVE_HOME": str(self.home),
            "TASK_ARCHIVE_CODE_HOST": "127.0.0.1",
            "TASK_ARCHIVE_EXECUTOR": "multiprocess",
            "TASK_ARCHIVE_SCHEDULE": "* * * * *",
            "TASK_ARCHIVE_SWEEP_SCHEDULE": "0 0 1 1 *",
            "TASK_ARCHIVE_PAGE_SIZE": "50",
            "LIVEPEER_API_URL": simulator.url,
            "LIVEPEER_API_KEY": simulator.api_key,
        }
        self._started = ExitStack()

    def __enter__(self) -> "Production":
        for service in ("code", "webserver", "daemon"):
            self._start(service)
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    def _start(self, service: str) -> None:
        """The command of a unit of systemd, with ports and folders of its own."""
        unit = (DEPLOY / "systemd" / f"task-archive-{service}.service").read_text()
        (command,) = (line.partition("=")[2] for line in unit.splitlines() if line.startswith("ExecStart="))
        command = command.replace("/srv/task-archive/venv/bin", str(self._programs))
        command = command.replace("/srv/task-archive", str(self._folder))
        command = command.replace("-p 4000", f"-p {self.code_port}").replace("-p 3000", f"-p {self.port}")
        log = self._started.enter_context((self._folder / f"{service}.log").open("wb"))
        process = subprocess.Popen(
            command.split(), env=self._environment, cwd=self._folder, stdout=log, stderr=log, start_new_session=True
        )

        if service == "code":
            self._group_of_code = process.pid

        def stop() -> None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

        self._started.callback(stop)

    def command(self, *arguments: str) -> str:
        done = subprocess.run(
            [self._programs / "task-archive", *arguments],
            env=self._environment,
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def ask(self, query: str, **variables: Any) -> Any:
        url = f"http://127.0.0.1:{self.port}/graphql"
        return httpx.post(url, json={"query": query, "variables": variables}, timeout=30).json()["data"]

    def runs(self, **that: str) -> list[dict[str, Any]]:
        """Runs with these values, the newest first; the tags of a run are fields too."""
        try:
            found = self.ask(RUNS)["runsOrError"]["results"]
        except httpx.TransportError:  # it is still starting
            return []
        flat = [run | {tag["key"]: tag["value"] for tag in run["tags"]} for run in found]
        return [run for run in flat if all(run.get(key) == value for key, value in that.items())]

    def kill_what_runs(self) -> bool:
        """Kills the processes of a run and of its steps, once there are any."""
        found = False
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                of_code = os.getpgid(int(folder.name)) == self._group_of_code
                if of_code and "multiprocessing.spawn" in (folder / "cmdline").read_text():
                    os.kill(int(folder.name), signal.SIGKILL)
                    found = True
            except OSError:
                continue
        return found

    def tasks(self) -> int:
        with duckdb.connect(self.home / "published" / "task_archive.duckdb", read_only=True) as connection:
            return int(connection.execute("select count(*) from tasks").fetchall()[0][0])


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(what: Callable[[], Any], seconds: float = 180) -> Any:
    ends = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < ends, f"waited {seconds} s"
        time.sleep(0.5)
    return found


@pytest.fixture
def production(
    programs: Path, simulate: Callable[..., Simulator], clean_environment: None, tmp_path: Path, cluster: Cluster
) -> Iterator[tuple[Production, Simulator]]:
    simulator = simulate(tasks=600, days=40, speed=0, now=None)
    database_url = cluster.url().replace("postgresql:", "postgresql+psycopg2:")
    with Production(programs, tmp_path, simulator, database_url) as production:
        yield production, simulator


def test_production_runs_as_deployed(production: tuple[Production, Simulator]) -> None:
    running, simulator = production
    wait_for(lambda: running.runs(jobName="nightly", status="SUCCESS"))  # the schedule fired
    assert running.tasks() == 600
    assert not list(running.home.rglob("*.db"))  # Dagster's records are in PostgreSQL

    # A command by hand is in the same records.
    assert "proof      whole" in running.command("sync")
    assert any("dagster/schedule_name" not in run for run in running.runs(jobName="nightly", status="SUCCESS"))

    # Thirty partitions are backfilled.
    days = [time.strftime("%Y-%m-%d", time.gmtime(time.time() - (5 + ago) * 86_400)) for ago in range(30)]
    asked = {
        "assetSelection": [{"path": ["landing", "created_days"]}],
        "partitionNames": sorted(days),
        "title": "thirty days",
    }
    assert running.ask(BACKFILL, of=asked)["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess"
    wait_for(lambda: [run for run in running.runs(status="SUCCESS") if "dagster/backfill" in run])

    # A run whose process is killed half-way is tried again, and ends whole.
    simulator.insert(name="the last")
    simulator.fault("slow", seconds=3, times=None)
    victim = wait_for(lambda: running.runs(jobName="nightly", status="STARTED"))[0]["runId"]
    wait_for(running.kill_what_runs)
    simulator.clear_faults()
    again = wait_for(lambda: running.runs(status="SUCCESS", **{"dagster/parent_run_id": victim}), 300)
    assert running.runs(runId=victim)[0]["status"] == "FAILURE"
    assert again[0]["dagster/retry_number"] == "1"
    assert running.tasks() == 601

    # The pools let one run in at a time; the command, which is no run of the queue, waited for the lock.
    queued = [run for run in running.runs() if {"dagster/schedule_name", "dagster/backfill"} & run.keys()]
    spans = sorted((run["startTime"], run["endTime"]) for run in queued if run["status"] in ("SUCCESS", "FAILURE"))
    assert len(spans) >= 3
    assert [pair for pair in itertools.pairwise(spans) if pair[1][0] < pair[0][1]] == []
