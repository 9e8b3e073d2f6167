"""The history of tasks against a replay in plain Python, and what it tells of lives that are known."""

from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipelines.landing.catalog import Catalog
from pipelines.landing.manifest import Manifest
from pipelines.landing.zone import Zone
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from tests.warehouse import schedules
from tests.warehouse.schedules import CREATED_MS, FIRST_LOAD_MS, SKEW_MS, Answer, Load, Schedule, land, life, rows_of

HOUR = 3_600_000
Row = dict[str, Any]


def landed(home: Path) -> list[Row]:
    """The landed observations in the order of fetching."""
    files = str(Settings(home=home).home.landing / "*" / "*" / "*.parquet")
    if not list(Settings(home=home).home.landing.glob("*/*/*.parquet")):
        return []
    query = "select *, epoch_ms(fetched_at) as fetched_ms from read_parquet(?) order by load_id, page, position"
    rows: list[Row] = duckdb.connect().sql(query, params=[files]).to_arrow_table().to_pylist()
    return rows


def replay(rows: list[Row], loads: list[Manifest]) -> dict[tuple[str, int], Row]:
    """task_history, from landed observations one after the other. Times in epoch ms, by our clock or the server's."""
    by_id = {load.load_id: load for load in loads}
    expected = {}
    for task_id in {row["task_id"] for row in rows}:
        told = [row for row in rows if row["task_id"] == task_id]
        newest: Row | None = None
        before: Row = {"payload_sha256": None, "load_id": None, "lane": None}
        was_set_back = False
        standing: list[Row] = []
        late: list[Row] = []
        for place, row in enumerate(told):
            is_set_back, told_by = False, row["load_id"]
            if row["payload"] is not None:
                is_repeated = (
                    row["payload_sha256"] == before["payload_sha256"]
                    and row["load_id"] != before["load_id"]
                    and "events" not in (row["lane"], before["lane"])
                )
                if newest is None or row["updated_at_ms"] >= newest["updated_at_ms"]:
                    newest = row
                elif row["lane"] == "refresh" or is_repeated:
                    newest, is_set_back, was_set_back = row, True, True
                    told_by = before["load_id"] if is_repeated else told_by
                elif not row["is_deleted"] and row["payload_sha256"] not in {
                    each["payload_sha256"] for each in told[:place]
                }:
                    late.append(row | {"place": place, "is_late": True, "state": row, "after_ms": row["updated_at_ms"]})
            before = row
            if newest is None:
                continue
            turn = (newest["payload_sha256"], row["is_deleted"])
            if not standing or turn != standing[-1]["turn"]:
                was_deleted = bool(standing) and standing[-1]["is_deleted"]
                is_met = row["is_deleted"] or was_deleted or is_set_back
                from_ms = known_ms(row) if is_met else newest["updated_at_ms"]
                ranks = {
                    "latest_from_ms": max([from_ms, *(each["latest_from_ms"] for each in standing[-1:])]),
                    "after_ms": max([newest["updated_at_ms"], *(each["after_ms"] for each in standing)]),
                }
                ranks["from_ms"] = ranks["latest_from_ms"] if was_set_back else from_ms
                about = {"turn": turn, "place": place, "is_late": False, "state": newest, "was_set_back": was_set_back}
                standing.append(row | about | ranks | {"told_by": told_by})
        states = sorted(standing + late, key=lambda row: (row["after_ms"], row["place"]))
        for position, row in enumerate(states):
            following = standing[standing.index(row) + 1 :] if row in standing else []
            ends = [following[0]["load_id"]] if following else []
            ends += [
                load.load_id
                for load in loads
                if load.load_id >= row["load_id"]
                and task_id in [*load.vanished, *(missing.task_id for missing in load.unreadable)]
            ]
            is_followed = bool(following) and min(ends) == following[0]["load_id"]
            proven_before = following[0]["told_by"] if is_followed else min(ends, default="~")
            proofs = [
                load
                for load in loads
                if load.proven_until_ms and load.load_id < proven_before and not row["is_deleted"]
            ]
            fetched, updated = row["fetched_ms"], row["state"]["updated_at_ms"]
            if row["is_late"]:
                last, stood_from, stood_until = fetched, updated, updated
            else:
                last, stood_from = max([fetched, *(load.started_at_ms for load in proofs)]), row["from_ms"]
                stood_until = max([known_ms(row), updated, *(load.proven_until_ms or 0 for load in proofs)])
                if row["is_deleted"]:
                    stood_until = stood_from
                elif not ends:  # it stands: how far it is proven is the account's, in freshness
                    last = stood_until = None
                elif is_followed and (following[0]["was_set_back"] or "events" in (row["lane"], following[0]["lane"])):
                    stood_until = max(stood_from, min(stood_until, following[0]["from_ms"]))
                else:
                    stood_until = max(stood_from, stood_until)
            expected[task_id, position] = {
                "payload_sha256": row["state"]["payload_sha256"],
                "is_deleted": row["is_deleted"],
                "is_late": row["is_late"],
                "observed_by": by_id[row["load_id"]].lane,
                "load_id": row["load_id"],
                "first_observed_at": fetched,
                "last_observed_at": last,
                "stood_from_at": stood_from,
                "stood_until_at": stood_until,
                "known_at": by_id[row["load_id"]].finished_at_ms,
            }
            if not row["is_deleted"] and not row["is_late"]:
                expected[task_id, position]["closed_by_load_id"] = min(ends, default=None)
    return expected


def known_ms(row: Row) -> int:
    """When a row tells how things were, by the server's clock: an event when its snapshot was made."""
    fetched_ms: int = row["fetched_ms"] - SKEW_MS
    return min(fetched_ms, row["updated_at_ms"]) if row["lane"] == "events" else fetched_ms


def millis(value: Any) -> Any:
    return round(value.timestamp() * 1000) if isinstance(value, datetime) else value


def replay_tasks(rows: list[Row], loads: list[Manifest]) -> dict[str, Row]:
    """What the tasks table tells of each task but its payload."""
    states: dict[str, list[Row]] = {}
    for (task_id, _), row in sorted(replay(rows, loads).items()):
        states.setdefault(task_id, []).append(row | {"task_id": task_id})
    expected = {}
    for task_id, history in states.items():
        newest = history[-1]
        there = max((row for row in history if not row["is_deleted"] and not row["is_late"]), key=order, default=None)
        gone = [row for row in history if row["is_deleted"] and (there is None or order(row) > order(there))]
        seen = None
        if there is not None:
            ends = [gone[0]["load_id"]] if gone else []
            ends += [
                load.load_id
                for load in loads
                if load.load_id >= there["load_id"]
                and task_id in [*load.vanished, *(missing.task_id for missing in load.unreadable)]
            ]
            swept = [
                load.started_at_ms
                for load in loads
                if load.lane == "sweep" and load.verdict != "broken" and load.load_id < min(ends, default="~")
            ]
            seen = max([there["first_observed_at"], *swept]) if ends else None
        # An event that lands after the newest state, and is late, changes nothing of the task.
        by_then = (row for row in rows if row["task_id"] == task_id and row["load_id"] <= newest["load_id"])
        first = min(row["fetched_ms"] for row in by_then)
        expected[task_id] = {
            "payload_sha256": newest["payload_sha256"],
            "observed_at": newest["first_observed_at"],
            "known_at": newest["known_at"],
            "first_seen_at": first,
            "last_seen_at": first if there is None else seen,
            "deleted_at": gone[0]["first_observed_at"] if gone else None,
            "deleted_after_at": seen if gone else None,
        }
    return expected


def order(row: Row) -> tuple[str, int]:
    return row["load_id"], row["first_observed_at"]


# A failing example is shown as it is: to make it smaller would take minutes.
@settings(max_examples=4, suppress_health_check=list(HealthCheck), phases=[Phase.reuse, Phase.generate])
@given(schedule=schedules.schedules())
def test_history_and_tasks_are_a_replay_of_what_landed(
    tmp_path_factory: pytest.TempPathFactory, schedule: Schedule
) -> None:
    """And as of the end of each load, of what had landed by then."""
    home = tmp_path_factory.mktemp("home")
    loads = land(schedule, home)
    rows = landed(home)
    with schedules.built(home) as connection:
        assert_is(connection, "", rows, loads)
        assert_is_known(connection, home)
        for number, load in enumerate(loads):
            by_then = [row for row in rows if row["load_id"] <= load.load_id]
            moment = f"_as_of(make_timestamptz({load.finished_at_ms}000))"
            assert_is(connection, moment, by_then, loads[: number + 1])


def assert_is(connection: duckdb.DuckDBPyConnection, as_of: str, rows: list[Row], loads: list[Manifest]) -> None:
    expected = replay(rows, loads)
    found = rows_of(connection, f"from task_history{as_of}")
    assert len(found) == len(expected)
    for row in found:
        wanted = expected[row["task_id"], row["position"]]
        assert {name: millis(row[name]) for name in wanted} == wanted, (as_of, row["task_id"], row["position"])
    tasks = replay_tasks(rows, loads)
    found = rows_of(connection, f"from tasks{as_of}")
    assert len(found) == len(tasks)
    for row in found:
        wanted = tasks[row["task_id"]]
        assert {name: millis(row[name]) for name in wanted} == wanted, (as_of, row["task_id"])


def assert_is_known(connection: duckdb.DuckDBPyConnection, home: Path) -> None:
    """What loads go by, to see what has landed before, is what the tables hold."""
    newest = {row["task_id"]: row for row in rows_of(connection, "from tasks")}
    with Catalog(Zone(Settings(home=home).home.landing)) as catalog:
        known = {state.key: state for state in catalog.states_between("default", None, None)}
    assert newest.keys() <= known.keys()
    for task_id, row in newest.items():
        assert (row["payload_sha256"], row["deleted_at"] is not None) == (
            known[task_id].sha256,
            known[task_id].is_deleted,
        )


def lived_through(home: Path, moves: list[str], seen: list[int]) -> dict[str, list[Row]]:
    """The tables on a task that moves every hour, half an hour before a load; a load meets it in the states `seen`."""
    task = life(moves, [FIRST_LOAD_MS - CREATED_MS + HOUR // 2, *[HOUR] * (len(moves) - 1)], "task-0")
    # What a change load does not bring it has proved unchanged: one that misses a change has proved nothing.
    loads = [
        Load("changes", (Answer(0, state),) if state in seen else (), is_proven=state in seen)
        for state in range(len(task))
    ]
    land(Schedule((task,), tuple(loads)), home)
    with schedules.built(home) as connection:
        tables = ("task_intervals", "task_attempts", "processing_times", "daily_history_stats", "attempt_errors")
        return {table: rows_of(connection, f"from {table} order by all") for table in tables}


def hour(value: Any) -> float | None:
    """A time in hours since the first load, as far as the server's clock tells."""
    return None if value is None else round((millis(value) - FIRST_LOAD_MS) / HOUR, 1)


@st.composite
def lives_and_loads(draw: st.DrawFn) -> Schedule:
    """Lives as tasks really have them, with both kinds of retry, and hourly loads that meet some of the tasks."""
    lives = []
    for number in range(6):
        moves: list[str] = []
        for _ in range(draw(st.integers(1, 3))):  # the user's retries
            attempts = draw(st.integers(1, 3))
            moves += ["schedule", *["run", "retry"] * (attempts - 1), "run", "fail"]
        moves[-1] = draw(st.sampled_from(["fail", "complete"]))
        pauses = [HOUR, *(draw(st.sampled_from([600_000, HOUR // 2, 2 * HOUR])) for _ in moves[1:])]
        lives.append(life(moves, pauses, f"task-{number}"))
    loads = []
    seen = [-1] * len(lives)
    for number in range(12):
        now = FIRST_LOAD_MS + number * HOUR - SKEW_MS
        current = [sum(state["status"]["updatedAt"] <= now for state in states) - 1 for states in lives]
        met = draw(st.sets(st.integers(0, len(lives) - 1)))
        seen = [state if task in met else seen[task] for task, state in enumerate(current)]
        answers = tuple(Answer(task, current[task]) for task in sorted(met))
        loads.append(Load("changes", answers, is_proven=seen == current))
    return Schedule(tuple(lives), tuple(loads))


@settings(max_examples=4, suppress_health_check=list(HealthCheck), phases=[Phase.reuse, Phase.generate])
@given(schedule=lives_and_loads())
def test_what_is_told_of_intervals_and_attempts_is_true(
    tmp_path_factory: pytest.TempPathFactory, schedule: Schedule
) -> None:
    home = tmp_path_factory.mktemp("home")
    land(schedule, home)
    with schedules.built(home) as connection:
        intervals = rows_of(connection, "from task_intervals")
        attempts = rows_of(connection, "from task_attempts")
    starts: dict[tuple[Any, ...], int] = {}  # of each phase of each attempt
    ends: dict[tuple[Any, ...], int] = {}
    numbers: dict[tuple[Any, ...], int] = {}  # of each attempt, by scheduledAt and retries
    for states in schedule.lives:
        keys = [
            (task["id"], task.get("scheduledAt"), task["status"].get("retries", 0), task["status"]["phase"])
            for task in states
        ]
        times = [task["status"]["updatedAt"] for task in states]
        starts |= dict(zip(keys, times, strict=True))
        ends |= dict(zip(keys, times[1:], strict=False))
        tried = dict.fromkeys(key[:3] for key in keys[1:] if key[3] != "completed")
        numbers |= {keys[0][:3]: 0} | {attempt: number for number, attempt in enumerate(tried)}
    for row in intervals:
        key = (row["task_id"], millis(row["scheduled_at"]), row["retries"], row["phase"])
        assert millis(row["started_at_earliest"]) <= starts[key] <= millis(row["started_at_latest"]), row
        if row["ended_at_latest"] is not None:
            assert ends[key] <= millis(row["ended_at_latest"]), row
            if not row["is_followed_directly"] and row["phase"] != "pending":  # both are taken for granted
                assert millis(row["ended_at_earliest"]) <= ends[key], row
    for row in attempts:
        assert row["attempt"] <= numbers[row["task_id"], millis(row["scheduled_at"]), row["retry"]], row
        by = "scheduled_at" if row["retry"] == 0 else "retries"
        assert row["told_by"] == (by if row["attempt"] else "first"), row


RETRIED = ["schedule", "run", "retry", "run", "complete"]  # at 0.5, 1.5, 2.5, 3.5 and 4.5


def test_a_task_seen_in_every_state(tmp_path: Path) -> None:
    tables = lived_through(tmp_path, RETRIED, [0, 1, 2, 3, 4, 5])
    assert [
        (
            row["phase"],
            *(hour(row[f"started_at_{bound}"]) for bound in ("earliest", "latest")),
            row["is_start_exact"],
            *(hour(row[f"ended_at_{bound}"]) for bound in ("earliest", "latest")),
            row["is_end_exact"],
        )
        for row in tables["task_intervals"]
    ] == [
        ("pending", -1.0, -1.0, True, 0.5, 0.5, True),
        ("waiting", 0.5, 0.5, True, 1.0, 1.5, False),
        ("running", 1.0, 1.5, False, 2.0, 2.5, False),
        ("waiting", 2.0, 2.5, False, 3.0, 3.5, False),
        ("running", 3.0, 3.5, False, 4.5, 4.5, True),
        ("completed", 4.5, 4.5, True, None, None, False),
    ]
    assert [
        (row["attempt"], row["told_by"], row["outcome"], row["error_message"], row["is_observed"])
        for row in tables["task_attempts"]
    ] == [(0, "first", "failed", "attempt 0 failed", True), (1, "retries", "completed", None, True)]
    assert [hour(row["scheduled_at"]) for row in tables["task_attempts"]] == [0.5, 0.5]  # the server's retry keeps it
    (times,) = tables["processing_times"]
    assert times["was_seen_running"]
    bounds = [times[f"{bound}_{what}_seconds"] for what in ("queue_wait", "processing") for bound in ("min", "max")]
    assert [round(seconds / 3600, 1) for seconds in bounds] == [0.5, 1.0, 3.0, 3.5]
    (stats,) = tables["daily_history_stats"]
    assert (stats["rescued_tasks"], stats["completed_tasks"], stats["coverage"]) == (1, 1, 1.0)
    (error,) = tables["attempt_errors"]
    assert (error["template"], error["failed_attempts"], error["rescued_tasks"]) == (
        "attempt <number> failed",
        1,
        1,
    )


def test_a_task_seen_only_when_it_had_ended(tmp_path: Path) -> None:
    tables = lived_through(tmp_path, RETRIED, [5])
    assert [(row["phase"], row["is_start_exact"]) for row in tables["task_intervals"]] == [("completed", True)]
    assert [(row["attempt"], row["outcome"]) for row in tables["task_attempts"]] == [(0, "completed")]
    (times,) = tables["processing_times"]
    assert not times["was_seen_open"]
    bounds = [times[f"{bound}_{what}_seconds"] for what in ("queue_wait", "processing") for bound in ("min", "max")]
    assert [round(seconds / 3600, 1) for seconds in bounds] == [0.0, 4.0, 0.0, 4.0]
    (stats,) = tables["daily_history_stats"]
    assert (stats["rescued_tasks"], stats["coverage"]) == (0, 0.0)


def test_the_error_of_an_attempt_that_nobody_saw_is_told_by_the_next(tmp_path: Path) -> None:
    tables = lived_through(tmp_path, RETRIED, [3])
    assert [
        (row["attempt"], row["told_by"], row["outcome"], row["error_message"], row["is_observed"])
        for row in tables["task_attempts"]
    ] == [(0, "first", "failed", "attempt 0 failed", False), (1, "retries", "open", None, True)]
    (interval,) = tables["task_intervals"]
    assert (hour(interval["started_at_earliest"]), hour(interval["started_at_latest"])) == (0.5, 2.5)


def test_a_failed_task_that_comes_back_is_a_new_attempt(tmp_path: Path) -> None:
    tables = lived_through(tmp_path, ["schedule", "fail", "schedule", "complete"], [2, 4])
    assert [
        (row["attempt"], row["told_by"], row["outcome"], row["error_message"]) for row in tables["task_attempts"]
    ] == [(0, "first", "failed", "failed after 0"), (1, "scheduled_at", "completed", None)]
    assert [hour(row["scheduled_at"]) for row in tables["task_attempts"]] == [0.5, 2.5]
    failed, completed = tables["task_intervals"]
    assert (hour(failed["started_at_latest"]), hour(failed["ended_at_latest"])) == (1.5, 2.5)
    assert (failed["next_phase"], failed["is_followed_directly"]) == ("completed", False)
    assert hour(completed["started_at_latest"]) == 3.5


# Failed at 1.5; the user has it retried at 2.5, it runs at 3.5, and the server retries it at 4.5.
RETRIED_BY_BOTH = ["schedule", "fail", "schedule", "run", "retry", "run", "complete"]


def test_a_task_that_the_user_and_the_server_retried(tmp_path: Path) -> None:
    tables = lived_through(tmp_path, RETRIED_BY_BOTH, [0, 1, 2, 3, 4, 5, 6, 7])
    assert [(row["phase"], row["retries"], hour(row["scheduled_at"])) for row in tables["task_intervals"]] == [
        ("pending", 0, None),
        ("waiting", 0, 0.5),
        ("failed", 0, 0.5),
        ("waiting", 0, 2.5),
        ("running", 0, 2.5),
        ("waiting", 1, 2.5),
        ("running", 1, 2.5),
        ("completed", 0, 2.5),
    ]
    failed, waiting = tables["task_intervals"][2:4]
    assert [hour(failed["ended_at_latest"]), failed["is_end_exact"]] == [2.5, True]
    assert [hour(waiting["started_at_latest"]), waiting["is_start_exact"]] == [2.5, True]
    assert [
        (row["attempt"], row["told_by"], row["outcome"], row["error_message"], hour(row["scheduled_at"]))
        for row in tables["task_attempts"]
    ] == [
        (0, "first", "failed", "failed after 0", 0.5),
        (1, "scheduled_at", "failed", "attempt 0 failed", 2.5),
        (2, "retries", "completed", None, 2.5),
    ]


def test_a_repeated_attempt_seen_first_after_the_user_s_retry_did_not_wait_since_then(tmp_path: Path) -> None:
    """scheduledAt tells when the user had it retried; when the attempt before this one failed, it does not."""
    tables = lived_through(tmp_path, RETRIED_BY_BOTH, [2, 5, 7])
    _, waiting, _ = tables["task_intervals"]
    assert (waiting["phase"], waiting["is_start_exact"]) == ("waiting", False)
    assert (hour(waiting["started_at_earliest"]), hour(waiting["started_at_latest"])) == (2.5, 4.5)
    assert [
        (row["attempt"], row["told_by"], row["outcome"], row["error_message"], row["is_observed"])
        for row in tables["task_attempts"]
    ] == [
        (0, "first", "failed", "failed after 0", True),
        (1, "scheduled_at", "failed", "attempt 0 failed", False),
        (2, "retries", "completed", None, True),
    ]
    (times,) = tables["processing_times"]
    bounds = [times[f"{bound}_{what}_seconds"] for what in ("queue_wait", "processing") for bound in ("min", "max")]
    assert [round(seconds / 3600, 1) for seconds in bounds] == [0.0, 2.0, 2.0, 4.0]


@pytest.mark.parametrize("told", ["by id", "twice"])
@pytest.mark.parametrize("pause", [60, 10_800], ids=["before", "after"])
def test_a_task_whose_server_s_clock_was_set_back(
    simulate: Callable[..., Simulator],
    archive: Callable[..., Any],
    set_our_clock: Callable[..., None],
    told: str,
    pause: int,
) -> None:
    """It was two hours ahead. The states follow each other all the same, met before that time comes again or after."""
    sim = simulate(tasks=40, speed=0)
    kept = archive(sim)
    set_our_clock(sim, -7200)
    task_id = sim.insert(
        type="upload", scheduledAt=sim.now(), status={"phase": "running", "retries": 0, "updatedAt": sim.now()}
    )
    sim._world.halt(task_id)

    def moves(pause: int, **status: Any) -> int:
        sim.advance(pause)
        sim.update(task_id, retries=0, **status)
        sim.advance(600)
        return sim.now() - 600_000

    kept.sync("sweep")
    completed_ms = moves(3000, phase="completed")
    kept.sync("sweep")
    sim.advance(-7200)
    set_our_clock(sim)
    moves(60, phase="running", progress=0.5)
    sim.advance(pause)
    for _ in range(2 if told == "twice" else 1):
        sim.advance(60)
        if told == "twice":
            kept.sync("sweep")
        else:
            kept.extraction().refresh([task_id])
    met_ms = sim.now()
    failed_ms = moves(7200, phase="failed", errorMessage="at last")
    kept.sync("sweep")
    with schedules.built(kept.settings.home.path) as connection:
        history = rows_of(connection, f"from task_history where task_id = '{task_id}' order by position")
        intervals = rows_of(connection, f"from task_intervals where task_id = '{task_id}' order by position")
        timeline = rows_of(connection, f"from task_timeline('{task_id}')")
    stale = ["running"] if told == "twice" else []  # as the first sweep had to take it
    assert [row["phase"] for row in history if row["is_late"]] == stale
    stood = [row for row in history if not row["is_late"]]
    assert [row["phase"] for row in stood] == ["running", "completed", "running", "failed"]
    for row, following in pairwise(stood):
        assert row["stood_from_at"] <= row["stood_until_at"] <= following["stood_from_at"]
    assert [millis(row["stood_from_at"]) for row in stood[1:]] == [
        completed_ms,
        max(completed_ms, met_ms),
        failed_ms,
    ]
    assert [(row["phase"], row["is_start_exact"]) for row in intervals][-3:] == [
        ("completed", True),
        ("running", met_ms < completed_ms),  # then no moment is left between the two
        ("failed", True),
    ]
    for row, following in pairwise(intervals):
        assert row["started_at_latest"] <= row["ended_at_latest"] <= following["started_at_latest"]
        assert following["started_at_earliest"] <= following["started_at_latest"]
    events = [row["event"] for row in timeline if row["event"] not in ("created", "scheduled")]
    assert events[-3:] == ["completed", "running", "failed"]
