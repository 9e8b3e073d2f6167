"""kill -9 at random moments and at every boundary; then a clean sync, and the tables are those of an undisturbed run.

Meanwhile a reader looks at the published versions all the time.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from random import Random
from typing import Any

import duckdb
import pytest

from pipelines.simulator import Simulator
from tests.conftest import FINGERPRINT_KEY, NOW_MS, change_tasks
from tests.hostile.conftest import Tell
from tests.landing.test_interrupted import OF_LOADS, leftovers

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("HOSTILE_KILLS", "200"))
EVERY = int(os.environ.get("HOSTILE_EVERY_BOUNDARY", "1"))  # 5: only each fifth of the boundaries
SERVERS = int(os.environ.get("HOSTILE_SERVERS", "2"))
TASKS, PAGE = 300, 10  # three parts: the process that parses beside the fetching runs
TABLES = ("tasks", "profiles", "tracks", "hashes", "files", "daily_task_stats", "failure_signatures")
TABLES += ("hourly_throughput", "fact_tasks", "task_history", "task_attempts")
# When the archive saw a state depends on when it looked.
OF_OBSERVING = (*OF_LOADS, "first_observed_at", "last_observed_at", "stood_from_at", "stood_until_at", "observed_by")
KEY = "fingerprint key"
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Kind:
    """A job that is killed, in a copy of which home, and the job that runs undisturbed after it."""

    name: str
    job: str
    start: str
    clean: str = "sync"
    share: int = 0  # of 200 random kills


KINDS = [
    Kind("sync, the first sweep", "sync", "empty", share=55),
    Kind("sync, changes", "sync", "full-synced", share=50),
    Kind("publish", "publish", "full-built", share=35),
    Kind("rebuild", "rebuild", "full-synced", share=40),
    Kind("task-archive sync, the first sweep", "task-archive sync", "empty", "task-archive sync", 8),
    Kind("task-archive sync, changes", "task-archive sync", "full-synced", "task-archive sync", 8),
    Kind("task-archive rebuild", "task-archive rebuild", "full-synced", "task-archive sync", 4),
]


class Server:
    """A fork server: one child at a time."""

    def __init__(self) -> None:
        environment = {"PATH": os.environ["PATH"], "OPENBLAS_NUM_THREADS": "1", "DAGSTER_DISABLE_TELEMETRY": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "forkserver.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment | {"PYTHONPATH": str(HERE.parent.parent)},
            cwd=tempfile.gettempdir(),
        )

    def run(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        reply: dict[str, Any] = json.loads(self._process.stdout.readline())
        return reply

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@dataclass
class Trial:
    """What one kill hit: the stage it was in; none where the job had ended before."""

    kind: Kind
    stage: str | None
    crossed: int = 0


@dataclass
class Laboratory:
    """Homes to kill in, what they must hold in the end, and fork servers that are free."""

    root: Path
    homes: Path
    simulator: Simulator
    servers: Queue[Server] = field(default_factory=Queue)
    seconds: dict[Kind, float] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)
    made: int = 0

    def run(self, home: Path, job: str, kill_after: float | None = None, kill_before: int | None = None) -> Any:
        """A job to its end or its kill; says its output where it fails otherwise."""
        output = self.root / f"{home.name}.log"
        environment = {
            "LIVEPEER_API_URL": self.simulator.url,
            "LIVEPEER_API_KEY": self.simulator.api_key,
            "TASK_ARCHIVE_HOME": str(home),
            "TASK_ARCHIVE_PAGE_SIZE": str(PAGE),
        }
        if job != KEY:
            environment["TASK_ARCHIVE_FINGERPRINT_KEY"] = FINGERPRINT_KEY
        order = {"job": job, "environment": environment, "output": str(output)}
        server = self.servers.get()
        try:
            reply = server.run(order | {"kill_after": kill_after, "kill_before": kill_before})
        finally:
            self.servers.put(server)
        assert reply["status"] in (0, -9), f"{job} left with {reply['status']}:\n{output.read_text()[-2000:]}"
        return reply

    @contextmanager
    def home(self, start: str) -> Iterator[Path]:
        """A copy of a home that the reader sees only whole."""
        self.made += 1
        home = self.homes / f"{start}-{self.made}-{time.monotonic_ns()}"
        copy = self.root / home.name
        shutil.copytree(self.root / start, copy, symlinks=True)
        copy.rename(home)
        yield home
        home.rename(copy)
        shutil.rmtree(copy)

    def trial(self, kind: Kind, kill_after: float | None = None, kill_before: int | None = None) -> Trial:
        with self.home(kind.start) as home:
            before = traces(home)
            reply = self.run(home, kind.job, kill_after, kill_before)
            if reply["status"] == 0:
                return Trial(kind, None, reply["crossed"])
            stage = stage_of(home, before)
            self.run(home, kind.clean)
            assert tables_of(home) == self.expected[kind.start], f"{kind.name}, killed while {stage}"
            assert leftovers(home) == []
            assert not list((home / "published").rglob(".*"))
            assert not (home / "warehouse" / "task_archive.duckdb.new").exists()
            assert nobody_works_on(home)
            return Trial(kind, stage)


@dataclass(frozen=True)
class Traces:
    """What tells how far a job got: loads, the newest file of the tables that are kept, the published version."""

    loads: frozenset[Path]
    made_at_ns: int
    version: str | None


def traces(home: Path) -> Traces:
    link = home / "published" / "current"
    kept = [*(home / "warehouse").glob("task_archive.duckdb*"), *(home / "warehouse").glob("parquet/*/*")]
    return Traces(
        frozenset((home / "landing").glob("*/*/")),
        max((path.stat().st_mtime_ns for path in kept), default=0),
        link.readlink().name if link.is_symlink() else None,
    )


def stage_of(home: Path, before: Traces) -> str:
    """What a killed job was about, by what it left."""
    after = traces(home)
    versions = home / "published" / "versions"
    newest = max((path.name for path in versions.glob("[!.]*")), default=None)
    new = after.loads - before.loads
    if after.version != before.version:
        return "ending"
    if list(versions.glob(".*")) or newest != after.version:
        return "publishing"
    if after.made_at_ns != before.made_at_ns:
        return "building tables"
    if any(not (load / "manifest.json").exists() for load in new):
        return "fetching"
    return "reading what changed" if new else "starting"


def tables_of(home: Path) -> dict[str, tuple[int, int]]:
    """Rows and a digest of each table, without what tells of loads and of when they looked."""
    found = {}
    with duckdb.connect(str(home / "published" / "task_archive.duckdb"), read_only=True) as connection:
        for table in TABLES:
            names = [row[0] for row in connection.execute(f"describe {table}").fetchall()]
            kept = ", ".join(f'"{name}"' for name in names if name not in OF_OBSERVING)
            digest = f"select count(*), sum(hash(kept)) from (select {kept} from {table}) as kept"
            found[table] = connection.execute(digest).fetchall()[0]
            assert found[table][0]
    return found


def nobody_works_on(home: Path) -> bool:
    """Whether no process is left that has the home among its arguments; one that parses ends with its parent."""
    for _ in range(300):
        if not any(str(home).encode() in command for command in commands()):
            return True
        time.sleep(0.1)
    return False


def commands() -> Iterator[bytes]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            yield (process / "cmdline").read_bytes()
        except OSError:
            continue


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    """An account that changes once; homes before and after; what undisturbed runs make of them."""
    # In memory, where the system has such a place: each of many hundred runs makes databases of Dagster anew.
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else tmp_path_factory.mktemp("kills")))
    (root / "homes").mkdir()
    with Simulator(tasks=TASKS, days=10, seed=1, now=NOW_MS, speed=0).serve() as simulator:
        made = Laboratory(root, root / "homes", simulator)
        for _ in range(SERVERS):
            made.servers.put(Server())
        (root / "empty").mkdir()
        made.run(root / "full-synced", "sync")
        change_tasks(simulator, tasks=150)
        shutil.copytree(root / "full-synced", root / "full-built", symlinks=True)
        for _ in range(2):  # so that a publication removes the oldest version
            made.run(root / "full-built", "rebuild")
        made.run(root / "full-built", "land and build")
        for kind in KINDS:
            with made.home(kind.start) as home:
                made.seconds[kind] = made.run(home, kind.job)["seconds"]
                if kind.job in ("sync", "publish"):
                    made.expected[kind.start] = tables_of(home)
        yield made
        while not made.servers.empty():
            made.servers.get().close()
    shutil.rmtree(root)


@contextmanager
def watched(laboratory: Laboratory, figure: Tell) -> Iterator[None]:
    """A reader looks meanwhile, and must never see a half state."""
    command = [sys.executable, str(HERE / "reader.py"), str(laboratory.homes)]
    reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield
    finally:
        output, _ = reader.communicate("\n", timeout=60)
    seen = json.loads(output)
    assert seen["half"] == []
    assert seen["looks"] > 0
    figure("kills: looks of a reader meanwhile", seen["looks"], "each saw one whole version")
    figure("kills: versions that the reader saw", seen["versions"])


def test_killed_at_random_moments(laboratory: Laboratory, figure: Tell) -> None:
    random = Random(1)

    def kill(kind: Kind) -> Trial:
        while True:
            trial = laboratory.trial(kind, kill_after=random.uniform(0, laboratory.seconds[kind]))
            if trial.stage is not None:
                return trial
            too_late.append(kind)

    too_late: list[Kind] = []
    wanted = [kind for kind in KINDS for _ in range(max(1, kind.share * KILLS // 200))]
    random.shuffle(wanted)
    with watched(laboratory, figure), ThreadPoolExecutor(SERVERS) as pool:
        trials = list(pool.map(kill, wanted))
    figure("kills: random moments", len(trials), "after a clean sync the tables were those of an undisturbed run")
    for kind in KINDS:
        stages = Counter(str(trial.stage) for trial in trials if trial.kind == kind)
        figure(f"kills: of these, {kind.name}", stages.total(), ", ".join(f"{n} {s}" for s, n in stages.most_common()))
    figure("kills: draws that came after the end of the job", len(too_late), "drawn again")


@pytest.mark.parametrize("kind", KINDS[:4], ids=lambda kind: kind.name)
def test_killed_at_every_boundary(laboratory: Laboratory, figure: Tell, kind: Kind) -> None:
    with laboratory.home(kind.start) as home:
        boundaries = laboratory.run(home, kind.job)["crossed"]
    assert boundaries > 5
    with watched(laboratory, figure), ThreadPoolExecutor(SERVERS) as pool:
        places = range(1, boundaries + 1, EVERY)
        trials = list(pool.map(lambda place: laboratory.trial(kind, kill_before=place), places))
    hit = [str(trial.stage) for trial in trials if trial.stage is not None]
    stages = ", ".join(f"{number} {stage}" for stage, number in Counter(hit).most_common())
    assert len(hit) == len(trials)
    figure(f"kills: boundaries of {kind.name}", len(hit), f"tables as undisturbed; {stages}")


def test_killed_while_the_fingerprint_key_is_made(laboratory: Laboratory, figure: Tell) -> None:
    with laboratory.home("empty") as home:
        boundaries = laboratory.run(home, KEY)["crossed"]
    assert boundaries >= 4
    for place in range(1, boundaries + 1):
        with laboratory.home("empty") as home:
            assert laboratory.run(home, KEY, kill_before=place)["status"] == -9
            laboratory.run(home, KEY)
            assert re.fullmatch("[0-9a-f]{64}", (home / "fingerprint.key").read_text())
            assert (home / "fingerprint.key").stat().st_mode & 0o777 == 0o600
    figure("kills: boundaries of making the fingerprint key", boundaries, "never an empty one")
