"""How fast is the archive? `make bench` prints it beside what a reader knows, measured in one run on the same pages.

    archive   task-archive sync: from the API to the published tables, proof, redaction, checks and Parquet included
    + report  the same until the command ends, with the report of what was published
    plain     a plain script: httpx, the default paging, pandas.json_normalize, a DuckDB table
    duckdb    a plain script with DuckDB: the pages fetched by id, kept as a file, read by read_json_auto into a table
    floor     the pages fetched and split into tasks, nothing kept

Each runs in a process of its own against one simulator in another; the figures are wall seconds and peak memory.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

TASKS = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 3

PLAIN = """
import os, sys, httpx, pandas, duckdb
url, key = os.environ["LIVEPEER_API_URL"], os.environ["LIVEPEER_API_KEY"]
tasks, skip = [], 0
with httpx.Client(headers={"Authorization": "Bearer " + key}, timeout=120) as client:
    while page := client.get(url + "/task", params={"limit": 1000, "cursor": f"skip{skip}"}).json():
        tasks += page
        skip += 1000
frame = pandas.json_normalize(tasks)
frame = frame.map(lambda value: str(value) if isinstance(value, list) else value)
connection = duckdb.connect(os.environ["TASK_ARCHIVE_HOME"] + "/plain.duckdb")
connection.execute("set enable_progress_bar = false")
connection.execute("create table tasks as select * from frame")
print(len(frame), "rows,", frame["id"].nunique(), "distinct")
"""

DUCKDB = """
import os, httpx, duckdb
url, key, home = os.environ["LIVEPEER_API_URL"], os.environ["LIVEPEER_API_KEY"], os.environ["TASK_ARCHIVE_HOME"]
cursor, pages = None, 0
with httpx.Client(headers={"Authorization": "Bearer " + key}, timeout=120) as client:
    while True:
        params = {"limit": 1000, "order": "id-false"} | ({"cursor": cursor} if cursor else {})
        answer = client.get(url + "/task", params=params)
        rows = answer.json()
        if not rows:
            break
        with open(f"{home}/{pages:06d}.json", "wb") as file:
            file.write(answer.content)
        cursor, pages = rows[-1]["id"], pages + 1
connection = duckdb.connect(home + "/plain.duckdb")
connection.execute("set enable_progress_bar = false")
pages = f"read_json_auto('{home}/*.json', sample_size=-1, union_by_name=true)"
connection.execute(f"create table tasks as from {pages}")
print(connection.execute("select count(*) from tasks").fetchone()[0], "rows")
"""

FLOOR = """
import os, httpx, msgspec
url, key = os.environ["LIVEPEER_API_URL"], os.environ["LIVEPEER_API_KEY"]
count, cursor = 0, None
split = msgspec.json.Decoder(list[msgspec.Raw])
with httpx.Client(headers={"Authorization": "Bearer " + key}, timeout=120) as client:
    while True:
        params = {"limit": 1000, "order": "id-false"} | ({"cursor": cursor} if cursor else {})
        rows = split.decode(client.get(url + "/task", params=params).content)
        if not rows:
            break
        count += len(rows)
        cursor = msgspec.json.decode(rows[-1])["id"]
print(count, "rows")
"""


class Figures(NamedTuple):
    """One run: wall seconds to its end and to the tables, CPU seconds, peak memory in MiB, and what it printed."""

    seconds: float
    tables_seconds: float
    cpu_seconds: float
    peak_mib: float
    said: str


def measure(command: list[str], environment: dict[str, str]) -> Figures:
    home = Path(environment["TASK_ARCHIVE_HOME"])
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    began, began_at = time.monotonic(), time.time()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        output.seek(0)
        said = output.read().strip().splitlines()
    if status != 0:
        raise SystemExit(f"{command} ended with {os.waitstatus_to_exitcode(status)}")
    link = home / "published" / "current"  # moved by the publication
    tables_seconds = link.lstat().st_mtime - began_at if link.is_symlink() else seconds
    return Figures(
        seconds, tables_seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, said[0] if said else ""
    )


def main() -> None:
    python = sys.executable
    commands = {
        "archive": [python, "-m", "pipelines.cli", "sync"],
        "plain": [python, "-c", PLAIN],
        "duckdb": [python, "-c", DUCKDB],
        "floor": [python, "-c", FLOOR],
    }
    simulate = [python, "-m", "pipelines.cli", "simulate", "--port", "0", "--tasks", str(TASKS)]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(simulate, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as simulator,
    ):
        try:
            assert simulator.stdout is not None
            environment = dict(simulator.stdout.readline().strip().split("=", 1) for _ in range(2))
            environment = os.environ | environment | {"TASK_ARCHIVE_HOME": str(Path(folder) / "home")}
            runs = [{name: measure(command, environment) for name, command in commands.items()} for _ in range(ROUNDS)]
        finally:
            simulator.terminate()
    print(f"{TASKS:,} tasks, {os.cpu_count()} cores, median of {ROUNDS} rounds\n")
    print(f"{'':8} {'seconds':>8} {'tasks/s':>9} {'CPU s':>7} {'peak MiB':>9}  {'against plain':>13}")
    rows = {name: [(one[name], one[name].tables_seconds, one["plain"].seconds) for one in runs] for name in commands}
    rows["+ report"] = [(one["archive"], one["archive"].seconds, one["plain"].seconds) for one in runs]
    for name in ("archive", "+ report", "plain", "duckdb", "floor"):
        figures, seconds, _ = sorted(rows[name], key=lambda row: row[1])[ROUNDS // 2]
        ratios = sorted(plain / seconds for _, seconds, plain in rows[name])
        print(
            f"{name:8} {seconds:8.1f} {TASKS / seconds:9,.0f} {figures.cpu_seconds:7.1f} "
            f"{figures.peak_mib:9,.0f}  {ratios[ROUNDS // 2]:11.2f} x  {figures.said}"
        )


if __name__ == "__main__":
    main()
