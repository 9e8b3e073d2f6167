"""From a webhook to the history: what events add, and that they harm nothing in whatever order they come."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr

from pipelines.cli.doctor import examine
from pipelines.landing.journal import Journal, Line
from pipelines.livepeer.webhook import in_list_order
from pipelines.serving.news import has_news
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.publish import publish
from tests.listening.conftest import SHARED, Listener

Simulate = Callable[..., Simulator]
Archives = Callable[..., Any]


@pytest.fixture
def kept(simulate: Simulate, archive: Archives) -> Any:
    """An archive whose simulator lives now, as a delivery's time must lie close to ours."""
    return archive(simulate(now=None, tasks=200), listen_tolerance_seconds=86_400)


def write(kept: Any, *tasks: Any, observed_at_ms: int | None = None) -> None:
    """Events of tasks, as the listener writes them."""
    at_ms = observed_at_ms if observed_at_ms is not None else kept.simulator.now()
    lines = [Line(at_ms, 0, in_list_order(json.dumps(task).encode())) for task in tasks]
    Journal(kept.settings.home.events, "default").append(lines)


def land(kept: Any) -> Any:
    return kept.extraction().land_events()


def history(kept: Any, task_id: str | None = None) -> list[dict[str, Any]]:
    list(build.build_version(kept.settings))
    publish(kept.settings)
    with duckdb.connect(str(kept.settings.home.published / "task_archive.duckdb"), read_only=True) as connection:
        query = "select * from task_history where task_id = coalesce(?, task_id) order by task_id, position"
        found: list[dict[str, Any]] = connection.execute(query, [task_id]).df().to_dict("records")
    return found


def states(kept: Any, task_id: str) -> list[tuple[Any, ...]]:
    return [(row["phase"], row["observed_by"], bool(row["is_late"])) for row in history(kept, task_id)]


def task(phase: str, updated_at_ms: int, task_id: str = "t1", **fields: Any) -> dict[str, Any]:
    return {
        "id": task_id,
        "type": "clip",
        "createdAt": 1_000,
        "status": {"phase": phase, "updatedAt": updated_at_ms},
    } | fields


def test_events_show_every_state_and_the_list_then_has_no_news(
    kept: Any, listen: Callable[[Settings], Listener]
) -> None:
    sim = kept.simulator
    kept.sync()
    listener = listen(kept.settings)
    sim.add_webhook(f"{listener.url}/default", SHARED)
    for _ in range(60):  # at night little happens
        sim.advance(1200)
        if len(sim.webhooks.answers) > 40:
            break
    assert {status for _, status in sim.webhooks.answers} == {200}
    load = land(kept)
    assert (load.lane, load.verdict, load.proven_until_ms) == ("events", "whole", None)
    assert load.rows_landed + load.unchanged == load.rows_read == len(sim.webhooks.answers) > 10
    assert kept.landed() == kept.expected()
    following = kept.sync()
    # What the list shows of a task has the bytes that landed already; a moment has passed since the last event.
    assert following.rows_landed <= 2
    assert following.tasks_seen >= 1
    rows = history(kept)
    by_events = [row for row in rows if row["observed_by"] == "events"]
    assert {"pending", "waiting", "running"} <= {row["phase"] for row in by_events}
    for task_id in {row["task_id"] for row in by_events}:
        of_task = [row for row in rows if row["task_id"] == task_id]
        for row, after in pairwise(of_task):
            assert row["stood_from_at"] <= row["stood_until_at"] <= after["stood_from_at"]
    assert len({(row["task_id"], row["updated_at"]) for row in by_events}) == len(by_events)
    assert not Journal(kept.settings.home.events, "default").waiting_bytes


def test_a_retry_that_lacks_its_schedule_is_no_state_of_its_own(
    kept: Any, listen: Callable[[Settings], Listener]
) -> None:
    sim = kept.simulator
    task_id = sim.insert(task("running", 2_000, scheduledAt=1_500))
    kept.sync()
    sim.add_webhook(f"{listen(kept.settings).url}/default", SHARED)
    sim.update(task_id, phase="waiting", retries=1, errorMessage="lost")
    sim.webhooks.settle()
    load = land(kept)
    assert load.rows_landed == 1
    kept.sync()
    assert [(row["phase"], row["retries"], row["observed_by"]) for row in history(kept, task_id)][1:] == [
        ("waiting", 1, "events")
    ]
    assert kept.landed()[task_id] == kept.expected()[task_id]


def test_duplicates_redeliveries_and_another_order_are_harmless(kept: Any) -> None:
    kept.sync()
    write(kept, task("completed", 4_000), task("completed", 4_000))
    write(kept, task("waiting", 2_000))
    assert land(kept).rows_landed == 2
    write(kept, task("running", 3_000), task("completed", 4_000), task("waiting", 2_000))
    load = land(kept)
    assert (load.rows_landed, load.unchanged) == (1, 2)
    assert states(kept, "t1") == [
        ("waiting", "events", False),
        ("running", "events", True),
        ("completed", "events", False),
    ]


def test_an_old_snapshot_replaces_no_newer_state(kept: Any) -> None:
    task_id = kept.simulator.insert(task("completed", 4_000, "t1"))
    kept.sync()
    write(kept, task("running", 3_000, task_id))
    land(kept)
    kept.sync("sweep")
    assert states(kept, task_id) == [("running", "events", True), ("completed", "sweep", False)]
    assert kept.landed() == kept.expected()


def test_an_old_snapshot_and_a_stale_answer_set_no_task_back(kept: Any) -> None:
    """Two answers of an older time in a row do; an event is no answer."""
    sim = kept.simulator
    task_id = sim.insert(task("completed", 4_000, "t1"))
    kept.sync()
    write(kept, json.loads(in_list_order(json.dumps(task("running", 3_000, task_id)).encode())))
    land(kept)
    sim.replace(task_id, json.loads(in_list_order(json.dumps(task("running", 3_000, task_id)).encode())))
    kept.sync("sweep")
    assert history(kept, task_id)[-1]["phase"] == "completed"
    kept.sync("sweep")
    assert history(kept, task_id)[-1]["phase"] == "running"


def test_an_event_brings_no_deleted_task_back(kept: Any) -> None:
    sim = kept.simulator
    task_id = sim.insert(task("running", 3_000, "t1"))
    kept.sync()
    sim.remove(task_id)
    kept.sync("sweep")
    write(kept, task("completed", 4_000, task_id))
    assert land(kept).rows_landed == 1
    last = history(kept, task_id)[-1]
    assert (last["phase"], bool(last["is_deleted"])) == ("completed", True)
    assert kept.landed() == kept.expected()


def test_what_is_no_task_is_quarantined(kept: Any) -> None:
    kept.sync()
    Journal(kept.settings.home.events, "default").append([Line(1, None, b'{"task":1}')] * 2)
    assert land(kept).rows_landed == 1
    Journal(kept.settings.home.events, "default").append([Line(1, None, b'{"task":1}')])
    assert land(kept).rows_landed == 0
    history(kept)
    with duckdb.connect(str(kept.settings.home.published / "task_archive.duckdb"), read_only=True) as connection:
        assert connection.execute("select count(*) from quarantine").fetchall() == [(1,)]


def test_what_waits_is_news_and_an_interrupted_load_goes_on_first(kept: Any) -> None:
    sim = kept.simulator
    assert land(kept) is None
    kept.sync()
    history(kept)
    assert not has_news(kept.settings)
    write(kept, task("running", 3_000))
    assert has_news(kept.settings)
    sim.fault("500", at=len(sim.requests) + 4, times=None)
    with pytest.raises(Exception, match="500"):
        kept.sync("sweep")
    sim.clear_faults()
    assert land(kept) is None
    assert kept.sync("sweep").verdict == "whole"
    assert land(kept).rows_landed == 1


def test_a_look_proves_what_events_brought(kept: Any) -> None:
    kept.sync()
    write(kept, task("running", 3_000))
    extraction = kept.extraction()
    assert extraction.land_events() is not None
    assert extraction.observe().proven_until_ms is not None
    assert kept.extraction().observe() is None


def test_what_a_kill_left_after_landing_lands_nothing_twice(kept: Any) -> None:
    kept.sync()
    write(kept, task("running", 3_000))
    waiting = Journal(kept.settings.home.events, "default")
    (claimed,) = waiting.claim()
    kept_bytes = claimed.read_bytes()
    assert land(kept).rows_landed == 1
    claimed.write_bytes(kept_bytes)
    load = land(kept)
    assert (load.rows_landed, load.unchanged) == (0, 1)


EVENTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=12)


@hypothesis_settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(EVENTS, min_size=1, max_size=4))
def test_any_order_ends_in_the_same_states(
    simulate: Simulate,
    archive: Archives,
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[tuple[int, int]]],
) -> None:
    """However events are ordered, repeated and landed, each state of a task is one row, in the order of updatedAt."""
    home = tmp_path_factory.mktemp("events")
    kept = archive(simulate(tasks=3, now=None), home=str(home))
    kept.sync()
    sent = set()
    for batch in batches:
        write(kept, *(task("running", 1_000 + at, f"t{number}") for at, number in batch))
        sent |= {(f"t{number}", 1_000 + at) for at, number in batch}
        land(kept)
    rows = [row for row in history(kept) if row["observed_by"] == "events"]
    found = [(row["task_id"], round(row["updated_at"].timestamp() * 1000)) for row in rows]
    assert found == sorted(sent)


def test_doctor_looks_for_the_webhook(kept: Any) -> None:
    def found() -> Any:
        return next(finding for finding in examine(kept.settings) if finding.what == "webhook of default")

    assert "webhook of default" not in [finding.what for finding in examine(kept.settings)]
    kept.settings.listen_url = "https://hooks.example.com/tasks"
    assert "none of the project's 0 webhooks goes to https://hooks.example.com/tasks/default" in found().says
    kept.simulator.add_webhook("https://hooks.example.com/tasks/default", SHARED)
    assert "LIVEPEER_WEBHOOK_SECRET is not set" in found().says
    kept.settings.webhook_secrets = {"default": SecretStr("another")}
    assert "its shared secret is not that of" in found().says
    kept.settings.webhook_secrets = {"default": SecretStr(SHARED)}
    assert found().is_well
    log = next(finding for finding in examine(kept.settings) if finding.what == "log of deliveries to default")
    assert log.is_well
