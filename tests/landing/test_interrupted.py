"""Runs killed at any moment: what the archive holds in the end is what an undisturbed one holds."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipelines.landing.writer import PAGES_PER_PART
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.database import connect
from pipelines.warehouse.working import Working
from tests.conftest import change_tasks

PAGE = 10
TASKS = 600
FINGERPRINT_KEY = "fingerprint key of the tests"
RUN_LANE = (
    "import sys; from pipelines.landing.lanes import Extraction; from pipelines.settings import load_settings; "
    "Extraction(load_settings(), 'default', 'run').sync(sys.argv[1])"
)
RUN_RANGE = (
    "import sys; from pipelines.landing.lanes import Extraction; from pipelines.settings import load_settings; "
    "Extraction(load_settings(), 'default', 'run').fetch_range(*sys.argv[1:])"
)
# What tells of the loads, not of the tasks.
OF_LOADS = (
    "load_id", "first_seen_at", "last_seen_at", "deleted_at", "deleted_after_at", "observed_at", "known_at",
    "closed_by_load_id",
)  # fmt: skip

Simulate = Callable[..., Simulator]
Archives = Callable[..., Any]


@pytest.fixture
def sim(simulate: Simulate) -> Simulator:
    return simulate(tasks=TASKS, speed=0)


@pytest.fixture
def archives(sim: Simulator, archive: Archives) -> tuple[Any, Any]:
    """The disturbed one and the quiet one."""
    return archive(sim, home="disturbed", page_size=PAGE), archive(sim, home="quiet", page_size=PAGE)


def environment(kept: Any) -> dict[str, str]:
    settings: Settings = kept.settings
    return {
        "PATH": os.environ["PATH"],
        "LIVEPEER_API_URL": settings.api_url,
        "LIVEPEER_API_KEY": kept.simulator.api_key,
        "TASK_ARCHIVE_HOME": str(settings.home),
        "TASK_ARCHIVE_PAGE_SIZE": str(PAGE),
        "TASK_ARCHIVE_FINGERPRINT_KEY": FINGERPRINT_KEY,
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def start(kept: Any, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        env=environment(kept),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_and_kill(kept: Any, pages: int, delay: float, *command: str) -> None:
    """Kills the process so many seconds after its so manieth page was asked for; with 0 the page is never answered."""
    sim: Simulator = kept.simulator
    process = start(kept, *command)
    asked = 0

    def kill() -> None:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)

    def count(simulator: Simulator, number: int, path: str) -> None:
        nonlocal asked
        asked += f"limit={PAGE}&" in path
        if asked == pages and f"limit={PAGE}&" in path:
            if delay:
                threading.Timer(delay, kill).start()
            else:
                kill()

    sim.before_request(count)
    try:
        output, _ = process.communicate(timeout=120)
    finally:
        kill()
        sim._callbacks.clear()
    assert process.returncode == -signal.SIGKILL, output


def finish(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        output, _ = process.communicate(timeout=180)
        assert process.returncode == 0, output


def pages_asked(sim: Simulator, since: int) -> list[str]:
    return [recorded.path for recorded in sim.requests[since:] if f"limit={PAGE}&order=id-false" in recorded.path]


def leftovers(home: Path) -> list[str]:
    """Files that no complete load accounts for."""
    return sorted(
        str(path.relative_to(home))
        for path in (home / "landing").rglob("*")
        if path.is_file() and path.name != "manifest.json" and not path.match("part-?????.parquet")
    )


def landed_twice(kept: Any) -> list[tuple[str, str]]:
    payloads = Counter((row["task_id"], row["payload_sha256"]) for row in kept.rows())
    return [payload for payload, times in payloads.items() if times > 1]


def check_landing(disturbed: Any, quiet: Any) -> None:
    assert disturbed.landed() == quiet.landed() == quiet.expected()
    assert landed_twice(disturbed) == []
    assert leftovers(disturbed.settings.home.path) == []
    noted = {path for path, _ in disturbed.zone.parts(disturbed.manifests())}
    assert noted == set(disturbed.settings.home.landing.rglob("part-*.parquet"))
    for path, part in disturbed.zone.parts(disturbed.manifests()):
        assert disturbed.zone.damage_of(path, part) is None
    assert disturbed.zone.open_loads("default") == []


def test_a_sweep_killed_again_and_again(sim: Simulator, archives: tuple[Any, Any]) -> None:
    disturbed, quiet = archives
    done = 0  # pages that no later run may ask for again
    for pages, delay in [(3, 0), (PAGES_PER_PART + 2, 0), (PAGES_PER_PART, 0.004), (25, 0.02)]:
        asked = len(sim.requests)
        start_and_kill(disturbed, pages, delay, "-c", RUN_LANE, "sweep")
        first, *_ = pages_asked(sim, asked) or ["never answered"]
        assert ("cursor" in first) == (done > 0) or first == "never answered"
        noted = disturbed.zone.open_loads("default")
        now_done = noted[0].pages if noted else 0
        assert now_done >= done + (pages - 1) // PAGES_PER_PART * PAGES_PER_PART
        done = now_done
        assert disturbed.manifests() == []
    assert done >= 3 * PAGES_PER_PART
    asked = len(sim.requests)
    load = disturbed.sync()
    assert len(pages_asked(sim, asked)) == TASKS // PAGE - done + 1
    assert (load.verdict, load.tasks_seen, load.appeared, load.rows_landed) == ("whole", TASKS, TASKS, TASKS)
    assert len(disturbed.manifests()) == 1
    assert load.requests > len(sim.requests) - asked  # what the killed ones had asked for, as far as it was noted
    undisturbed = quiet.sync()
    assert (load.digest_ids, load.digest_states) == (undisturbed.digest_ids, undisturbed.digest_states)
    check_landing(disturbed, quiet)
    assert disturbed.sync("sweep").rows_landed == 0


def test_workers_of_a_sweep_killed_again_and_again(sim: Simulator, archives: tuple[Any, Any]) -> None:
    disturbed, quiet = archives
    sweep, ranges = disturbed.extraction().begin_ranges(2)
    for place, pages, delay in [(0, 3, 0), (0, PAGES_PER_PART + 2, 0), (1, PAGES_PER_PART + 3, 0.004), (1, 5, 0.02)]:
        start_and_kill(disturbed, pages, delay, "-c", RUN_RANGE, sweep, ranges[place])
    assert disturbed.manifests() == []
    asked = len(sim.requests)
    finish(*(start(disturbed, "-c", RUN_RANGE, sweep, load_id) for load_id in ranges))  # both at once
    assert len(pages_asked(sim, asked)) <= TASKS // PAGE + 2 - 2 * PAGES_PER_PART
    load = disturbed.sync("sweep")
    assert (load.load_id, load.verdict, load.tasks_seen) == (sweep, "whole", TASKS)
    undisturbed = quiet.sync()
    assert (load.digest_ids, load.digest_states) == (undisturbed.digest_ids, undisturbed.digest_states)
    check_landing(disturbed, quiet)


def test_changes_killed_again_and_again(sim: Simulator, archives: tuple[Any, Any]) -> None:
    disturbed, quiet = archives
    for kept in archives:
        kept.sync()
    change_tasks(sim)
    for pages, delay in [(4, 0), (PAGES_PER_PART + 3, 0.002)]:
        start_and_kill(disturbed, pages, delay, "-c", RUN_LANE, "changes")
    for kept in archives:
        load = kept.sync()
        assert (load.lane, load.verdict) == ("changes", "whole")
    check_landing(disturbed, quiet)
    broken = [load for load in disturbed.manifests() if load.verdict == "broken"]
    assert len(broken) == 1  # the first was killed before it had noted anything
    assert broken[0].rows_landed >= 80  # what it had landed counts
    assert all(load.proven_until_ms is None for load in broken)
    assert disturbed.sync().rows_landed == 0
    assert built_tables(disturbed) == built_tables(quiet)


def built_tables(kept: Any) -> dict[str, list[tuple[Any, ...]]]:
    list(build.build_version(kept.settings))
    with connect(Working(kept.settings).file, read_only=True) as connection:
        tables = read_tables(connection)
    assert {row[0] for row in tables["tasks"]} == kept.simulator.ids()
    return tables


def read_tables(connection: duckdb.DuckDBPyConnection) -> dict[str, list[tuple[Any, ...]]]:
    """The tables of tasks without what tells of the loads."""
    tables = {}
    for table in ("tasks", "profiles", "tracks", "hashes", "files"):
        columns = [row[0] for row in connection.execute(f"describe {table}").fetchall()]
        kept = ", ".join(f'"{column}"' for column in columns if column not in OF_LOADS)
        tables[table] = connection.execute(f"select {kept} from {table} order by all").fetchall()
        assert tables[table]
    return tables


@pytest.mark.slow
@pytest.mark.parametrize("lane", ["sweep", "changes"])
def test_the_command_killed_and_run_again(sim: Simulator, archives: tuple[Any, Any], lane: str) -> None:
    disturbed, quiet = archives
    sync = ("-m", "pipelines.cli", "sync")
    if lane == "changes":
        finish(*(start(kept, *sync) for kept in archives))
        change_tasks(sim)
    start_and_kill(disturbed, PAGES_PER_PART + 4, 0, *sync)
    finish(*(start(kept, *sync) for kept in archives))
    check_landing(disturbed, quiet)
    published = []
    for kept in archives:
        with duckdb.connect(str(kept.settings.home.published / "task_archive.duckdb"), read_only=True) as connection:
            published.append(read_tables(connection))
        assert [load.verdict for load in kept.manifests()][-1] == "whole"
    assert published[0] == published[1]
    assert {row[0] for row in published[0]["tasks"]} == sim.ids()
