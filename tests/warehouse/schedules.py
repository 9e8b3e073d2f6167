"""Made-up tasks and made-up loads that meet them: what the tests of history and as-of are tried on.

Every load lands by the real writer, so that what is unchanged does not land again.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from hypothesis import strategies as st

from pipelines.landing.catalog import Catalog
from pipelines.landing.events import EventLoad
from pipelines.landing.journal import Journal, Line
from pipelines.landing.manifest import Lane, Manifest, Missing, Window
from pipelines.landing.writer import LoadWriter
from pipelines.landing.zone import Zone
from pipelines.livepeer.redact import Redactor
from pipelines.livepeer.tasks.rows import read_row
from pipelines.settings import Settings
from pipelines.warehouse import build
from pipelines.warehouse.working import Working

CREATED_MS = 1_795_000_000_000
FIRST_LOAD_MS = CREATED_MS + 3_600_000
SKEW_MS = 7_000  # our clock runs so far before the server's


@dataclass(frozen=True)
class Answer:
    """What the API says of a task when a load asks: a state (of its life's number), with a mark, or that it is gone."""

    task: int
    state: int
    kind: str = "state"  # state, deleted, gone


@dataclass(frozen=True)
class Load:
    """A load: its answers in the order of fetching; tasks that it did not meet although they are known."""

    lane: Lane
    answers: tuple[Answer, ...]
    unmet: tuple[int, ...] = ()
    is_proven: bool = True
    account: str = "default"


@dataclass(frozen=True)
class Schedule:
    """The lives of tasks, as the payloads that the API shows one after the other, and the loads."""

    lives: tuple[tuple[dict[str, Any], ...], ...]
    loads: tuple[Load, ...]


def life(moves: list[str], pauses: list[int], name: str) -> tuple[dict[str, Any], ...]:
    """The payloads of a task that makes these moves, each so many milliseconds after the one before."""
    task: dict[str, Any] = {"id": name, "type": "upload", "createdAt": CREATED_MS}
    now = CREATED_MS
    status: dict[str, Any] = {"phase": "pending"}
    states = [task | {"status": status | {"updatedAt": now}}]
    for move, pause in zip(moves, pauses, strict=True):
        now += pause
        retries = status.get("retries", 0)
        if move == "schedule":
            task = task | {"scheduledAt": now}
            status = {"phase": "waiting", "retries": 0}
        elif move == "run":
            status = {"phase": "running", "retries": retries, "progress": 0}
        elif move == "progress":
            status = {"phase": "running", "retries": retries, "progress": status.get("progress", 0) + 0.25}
        elif move == "retry":
            status = {"phase": "waiting", "retries": retries + 1, "errorMessage": f"attempt {retries} failed"}
        elif move == "fail":
            status = {"phase": "failed", "retries": retries, "errorMessage": f"failed after {retries}"}
        else:
            status = {"phase": "completed"}
        states.append(task | {"status": status | {"updatedAt": now}})
    return tuple(states)


MOVES = ("schedule", "run", "progress", "retry", "fail", "complete")


@st.composite
def schedules(draw: st.DrawFn, accounts: tuple[str, ...] = ("default",)) -> Schedule:
    """Mostly later and later states, with stale answers, tombstones of both kinds and come-backs among them.

    Some tasks begin another life midway, whose times lie before those of the first: the server's clock was set back.
    Some loads are answered what the load before them was.
    """
    lives, firsts, set_back = [], [], []
    for number in range(draw(st.integers(1, 8))):
        two = []
        for _ in range(2):
            moves = ["schedule", *draw(st.lists(st.sampled_from(MOVES), max_size=6))]
            pauses = [draw(st.sampled_from([0, 1_000, 30_000, 3_600_000])) for _ in moves]
            two.append(life(moves, pauses, f"task-{number}"))
        lives.append(two[0] + two[1])
        firsts.append(len(two[0]))
        set_back.append(draw(st.sampled_from([1, 2, 4, 99, 99, 99])))  # the number of a load
    loads = []
    for number in range(count := draw(st.integers(1, 7))):
        answers = []
        for _ in range(draw(st.integers(0, 2 * len(lives)))):
            task = draw(st.integers(0, len(lives) - 1))
            is_first = number < set_back[task]
            low, high = (0, firsts[task] - 1) if is_first else (firsts[task], len(lives[task]) - 1)
            lived = number if is_first else number - set_back[task]
            state = low + lived * (high - low) // max(1, count - 1) + draw(st.integers(-2, 1))
            state = min(high, max(0, state))
            answers.append(Answer(task, state, draw(st.sampled_from(["state"] * 6 + ["deleted", "gone"]))))
        if loads and draw(st.integers(0, 3)) == 0:
            answers = list(loads[-1].answers)
        lane: Lane = draw(st.sampled_from(["sweep", "changes", "observe", "refresh", "events"]))
        if lane == "events":
            answers = [Answer(answer.task, answer.state) for answer in answers]
        unmet = tuple(draw(st.sets(st.integers(0, len(lives) - 1), max_size=1))) if lane == "sweep" else ()
        account = draw(st.sampled_from(accounts))
        loads.append(Load(lane, tuple(answers), unmet, draw(st.integers(0, 3)) > 0, account))
    return Schedule(tuple(lives), tuple(loads))


def land(schedule: Schedule, home: Path, landed: Callable[[], object] = lambda: None) -> list[Manifest]:
    """Lands the loads, an hour between them; `landed` is called after each."""
    manifests = []
    for number, load in enumerate(schedule.loads):
        manifests.append(land_one(load, schedule.lives, home, FIRST_LOAD_MS + number * 3_600_000))
        landed()
    return manifests


def land_one(load: Load, lives: tuple[tuple[dict[str, Any], ...], ...], home: Path, now: int) -> Manifest:
    """Lands a load that began at a time by our clock, after all others."""
    zone = Zone(Settings(home=home).home.landing)
    proves = load.is_proven and load.lane not in ("refresh", "events")
    unmet = [f"task-{task}" for task in load.unmet]
    manifest = Manifest(
        load_id=zone.new_load_id(load.lane, now),
        account=load.account,
        lane=load.lane,
        window=Window(),
        api_url="",
        code_version="",
        run_id="",
        started_at_ms=now,
        finished_at_ms=now + 60_000,
        proven_until_ms=now - SKEW_MS if proves else None,
        clock_skew_seconds=SKEW_MS / 1000,
        verdict="whole" if proves or load.lane == "events" else "broken",
        vanished=unmet[::2],
        unreadable=[Missing(task_id, "odd") for task_id in unmet[1::2]],
    )
    if load.lane == "events":
        return land_events(load, lives, home, manifest)
    writer = LoadWriter(Catalog(zone), manifest, Redactor(b"key"))
    for place, answer in enumerate(load.answers):
        fetched_ms = now + 1_000 * (place + 1)
        payload = lives[answer.task][answer.state]
        if answer.kind == "gone":
            if writer.known.has(payload["id"]):
                writer.add_gone(payload["id"], fetched_ms)
        else:
            marked = payload | ({"deleted": True} if answer.kind == "deleted" else {})
            writer.add_page([read_row(json.dumps(marked).encode())], fetched_ms)
    return writer.complete()


def land_events(load: Load, lives: tuple[tuple[dict[str, Any], ...], ...], home: Path, manifest: Manifest) -> Manifest:
    """Lands events of states, as a listener wrote them."""
    events = EventLoad(Catalog(Zone(Settings(home=home).home.landing)), manifest, Redactor(b"key"))
    journal = Journal(Settings(home=home).home.events, load.account)
    payloads = [lives[answer.task][answer.state] for answer in load.answers]
    journal.append(
        Line(payload["status"]["updatedAt"] + SKEW_MS + 50, SKEW_MS, json.dumps(payload).encode())
        for payload in payloads
    )
    files = journal.claim()
    events.land(files)
    for file in files:
        file.unlink()
    return events.writer.complete()


@contextmanager
def built(home: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables of what has landed."""
    list(build.build_version(Settings(home=home)))
    with Working(Settings(home=home)).opened(Working(Settings(home=home)).file) as connection:
        yield connection


def rows_of(connection: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    """The rows of a query, by column."""
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
