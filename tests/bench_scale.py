"""Does cost follow the change? `make bench-scale` runs an archive's life at some sizes, and one of very many loads.

Each row is the command as a user types it, in a process of its own against a simulated account; wall seconds, CPU
seconds and peak memory. The last column sets a row against the same row of the smallest archive.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from pipelines.landing.catalog import Catalog
from pipelines.landing.manifest import Lane, Manifest, Window
from pipelines.landing.writer import LoadWriter
from pipelines.landing.zone import Zone
from pipelines.livepeer.redact import Redactor
from pipelines.livepeer.tasks.rows import Row, read_row
from pipelines.livepeer.walks import Capabilities
from pipelines.report.queries import query
from pipelines.simulator import Simulator
from pipelines.warehouse.database import connect
from pipelines.warehouse.sql import sql_folder

SIZES = [int(size) for size in sys.argv[1:] if size.isdigit()] or [200_000, 2_000_000, 5_000_000]
LOADS = [100, 100_000] if "--without-loads" not in sys.argv else []
DAYS = 365
NIGHT = 2_700  # tasks that are new or changed
TASK_ARCHIVE = [sys.executable, "-m", "pipelines.cli"]

# A process that is started counts the memory of the one that starts it, so that is a small one.
MEASURE = """
import json, os, subprocess, sys, time
began = time.monotonic()
process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
_, status, usage = os.wait4(process.pid, 0)
seconds, cpu_seconds = time.monotonic() - began, usage.ru_utime + usage.ru_stime
print(json.dumps([os.waitstatus_to_exitcode(status), seconds, cpu_seconds, usage.ru_maxrss / 1024]))
"""


class Figures(NamedTuple):
    """One command: what it did, wall and CPU seconds, peak memory in MiB."""

    name: str
    seconds: float
    cpu_seconds: float
    peak_mib: float


def run(name: str, home: Path, simulator: Simulator, *arguments: str) -> Figures:
    environment = os.environ | {
        "LIVEPEER_API_URL": simulator.url,
        "LIVEPEER_API_KEY": simulator.api_key,
        "TASK_ARCHIVE_HOME": str(home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        measured = subprocess.run(
            [sys.executable, "-c", MEASURE, *TASK_ARCHIVE, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            check=True,
        )
        status, seconds, cpu_seconds, peak_mib = json.loads(measured.stdout)
        output.seek(0)
        if status not in (0, 3):
            raise SystemExit(f"{name}: {' '.join(arguments)} failed:\n{output.read()[-2000:]}")
    return Figures(name, seconds, cpu_seconds, peak_mib)


def life(home: Path, tasks: int) -> Iterator[Figures]:
    """An account of `tasks` tasks: its first sync, a night, looks with and without news, a sweep, a rebuild."""
    began_ms = int(time.time() * 1000) - 10 * 86_400_000
    with Simulator(tasks=tasks, days=DAYS, seed=7, now=began_ms, speed=0).serve() as simulator:
        yield run("first sync", home, simulator, "sync")
        simulator.advance(NIGHT / tasks * DAYS * 86_400)
        yield run("a night of 2,700", home, simulator, "sync")
        simulator.advance(60)
        for _ in range(3):
            simulator.insert()
        yield run("observe, few news", home, simulator, "observe")
        yield run("observe, no news", home, simulator, "observe")
        yield run("sweep, no news", home, simulator, "sync", "--lane", "sweep")
        yield run("rebuild", home, simulator, "rebuild")
        yield run("query why_tasks_fail", home, simulator, "query", "why_tasks_fail")
        yield run("status", home, simulator, "status")
    print(*slowest_queries(home), *disk(home), sep="\n", flush=True)
    shutil.rmtree(home)


def slowest_queries(home: Path) -> Iterator[str]:
    """The slowest three of the named queries, and of the report's: the second time, in DuckDB alone."""
    for folder in ("queries", "report"):
        with connect(home / "published" / "task_archive.duckdb", read_only=True) as connection:
            seconds: dict[str, float] = {}
            for name in ("from_day", "to_day", "account", "type"):
                connection.execute(f"set variable {name} = null")
            if folder == "report":
                connection.execute(query("scope").select)
            for path in sorted((sql_folder() / folder).glob("*.sql")):
                sql = path.read_text(encoding="utf-8")
                for _ in range(2):
                    began = time.monotonic()
                    connection.execute(sql).fetchall()
                    seconds[path.stem] = time.monotonic() - began
        slowest = sorted(seconds, key=lambda name: -seconds[name])[:3]
        listed = ", ".join(f"{name} {seconds[name] * 1000:.0f} ms" for name in slowest)
        yield f"slowest of {len(seconds)} in sql/{folder}: {listed}"


def disk(home: Path) -> Iterator[str]:
    """What the landing zone and the published versions take, against the JSON that landed."""
    parts = [pq.read_metadata(path) for path in home.glob("landing/*/*/part-*.parquet")]
    payload = parts[0].schema.names.index("payload")
    json_bytes = sum(
        part.row_group(group).column(payload).total_uncompressed_size
        for part in parts
        for group in range(part.num_row_groups)
    )
    seen: set[int] = set()

    def taken(folder: Path) -> int:
        """Bytes of the files that no folder before has."""
        files = {path.lstat().st_ino: path.lstat().st_size for path in folder.rglob("*") if path.is_file()}
        fresh = files.keys() - seen
        seen.update(fresh)
        return sum(files[each] for each in fresh)

    yield f"{'landing':24}{taken(home / 'landing') / json_bytes:9.1%} of {json_bytes / 1e6:,.0f} MB of JSON"
    for version in sorted((home / "published" / "versions").iterdir(), reverse=True):
        database = (version / "task_archive.duckdb").stat().st_size
        beside = taken(version) - database
        share = f"{(database + beside) / json_bytes:9.1%}, {beside / json_bytes:.1%} beside its DuckDB file"
        yield f"{'a published version':24}{share}"


def many_loads(home: Path, loads: int) -> Iterator[Figures]:
    """2,000 tasks of which each load brings a few: a year of looks every five minutes."""
    began_ms = int(time.time() * 1000) - loads * 300_000 - 3_600_000
    sync_to_disk, os.fsync = os.fsync, lambda descriptor: None  # what is made here need not survive
    with (
        Simulator(tasks=2_000, days=30, seed=7, now=began_ms, speed=0).serve() as simulator,
        Catalog(Zone(home / "landing")) as catalog,
    ):
        bodies = [read_row(row.body) for row in simulator._listed("default")]
        for number in range(loads):
            at_ms = began_ms + number * 300_000
            lane: Lane = "sweep" if number == 0 else "observe"
            load = Manifest(
                load_id=f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(at_ms / 1000))}{at_ms % 1000:03d}Z-{lane}",
                account="default",
                lane=lane,
                window=Window(),
                api_url=simulator.url,
                code_version="bench",
                run_id="bench",
                started_at_ms=at_ms,
                finished_at_ms=at_ms + 1_000,
                proven_until_ms=at_ms,
                clock_skew_seconds=0.0,
                capabilities=Capabilities(id_keyset=True, filters=True, count=True),
                verdict="whole",
            )
            writer = LoadWriter(catalog, load, Redactor(b"bench"))
            rows = (
                bodies if number == 0 else [changed(bodies[(number * 3 + place) % 2_000], at_ms) for place in range(3)]
            )
            writer.add_page(rows, at_ms + 500)
            writer.complete()
        os.fsync = sync_to_disk
        simulator.advance(loads * 300)
        yield run("sync", home, simulator, "sync", "--lane", "sweep")
        simulator.insert()
        yield run("sync again", home, simulator, "sync")
        yield run("observe, no news", home, simulator, "observe")
        simulator.insert()
        yield run("observe, few news", home, simulator, "observe")
        yield run("status", home, simulator, "status")
    shutil.rmtree(home)


def changed(row: Row, at_ms: int) -> Row:
    """The task of a row as it would be with another updatedAt."""
    task = json.loads(row.payload)
    task["status"]["updatedAt"] = at_ms
    return read_row(json.dumps(task).encode())


def main() -> None:
    print(f"{os.cpu_count()} cores, settings at their defaults")
    for title, sizes, rows in (("tasks", SIZES, life), ("loads", LOADS, many_loads)):
        first: dict[str, Figures] = {}
        for size in sizes:
            print(
                f"\n{size:,} {title}\n{'':24}{'seconds':>9}{'CPU s':>9}{'peak MiB':>10}{'against first':>15}",
                flush=True,
            )
            with tempfile.TemporaryDirectory() as folder:
                for row in rows(Path(folder) / "home", size):
                    ratio = row.seconds / first.setdefault(row.name, row).seconds
                    print(
                        f"{row.name:24}{row.seconds:9.1f}{row.cpu_seconds:9.1f}{row.peak_mib:10,.0f}{ratio:13.2f} x",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
