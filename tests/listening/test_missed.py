"""The API's log of deliveries: events that nobody took are fetched from it once, and an odd log harms nothing."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from pipelines.landing import missed
from pipelines.landing.context import ProgressCallbacks
from pipelines.landing.journal import Journal
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from pipelines.simulator.errors import not_found
from tests.conftest import Archive
from tests.listening.conftest import SHARED, Listener

CANARY = "CANARYpw77"


@pytest.fixture
def refused(
    simulate: Callable[..., Simulator],
    archive: Callable[..., Any],
    listen: Callable[..., Listener],
    set_our_clock: Callable[..., None],
) -> Archive:
    """An archive whose listener, by a wrong secret, has refused all events of a day: Livepeer sends none again."""
    kept: Archive = archive(simulate(tasks=200))
    set_our_clock(kept.simulator)
    kept.settings.webhook_secrets = {"default": SecretStr("another secret")}
    listener = listen(kept.settings)
    kept.settings.listen_url = listener.url
    kept.sync()
    kept.simulator.add_webhook(f"{listener.url}/default", SHARED)
    for _ in range(60):  # at night little happens
        kept.simulator.advance(1200)
        if len(kept.simulator.webhooks.answers) > 40:
            break
    task_id = sorted(kept.simulator.ids())[0]
    kept.simulator.update(task_id, phase="running", params={"upload": {"url": f"https://user:{CANARY}@example.com/a"}})
    kept.simulator.update(task_id, phase="failed", errorMessage="an end")
    kept.simulator.webhooks.settle()
    assert {status for _, status in kept.simulator.webhooks.answers} == {401}
    return kept


def run(kept: Archive) -> tuple[Any, Any, list[str]]:
    """A run of the nightly lane, the load of the events that land after it, and what was said."""
    said: list[str] = []
    extraction = kept.extraction(ProgressCallbacks(say=said.append))
    load = extraction.sync()
    assert CANARY.encode() not in b"".join(path.read_bytes() for path in kept.settings.home.path.rglob("*.log"))
    return load, extraction.land_events(), [line for line in said if "deliveries" in line]


def states_of(of: list[dict[str, Any]]) -> set[tuple[str, int]]:
    snapshots = (json.loads(each["request"]["body"])["payload"]["task"]["snapshot"] for each in of)
    return {(task["id"], task["status"]["updatedAt"]) for task in snapshots}


def landed_states(kept: Archive) -> set[tuple[str, int]]:
    return {(row["task_id"], row["updated_at_ms"]) for row in kept.rows()}


def log_of(kept: Archive) -> list[dict[str, Any]]:
    (webhook,) = kept.simulator.webhooks.registered
    return kept.simulator.webhooks.log(webhook.id)


def test_what_was_refused_is_fetched_once_and_holds_no_secret(refused: Archive) -> None:
    sent = states_of(log_of(refused))
    load, events, said = run(refused)
    assert (load.verdict, events.lane, events.verdict) == ("whole", "events", "whole")
    assert sent <= landed_states(refused)
    assert events.rows_landed > 10
    assert said == [f"{events.rows_read:,} events from the log of deliveries, which nothing had shown"]
    lanes = {(row["task_id"], row["updated_at_ms"]): row["lane"] for row in refused.rows()}
    assert {lanes[state] for state in sent} == {"changes", "events"}
    assert CANARY.encode() not in b"".join(refused.files().values())
    assert run(refused)[1:] == (None, [])
    again = refused.extraction()
    again.sync("sweep")
    assert again.land_events() is None


def test_observed_times_are_those_of_our_clock(refused: Archive, set_our_clock: Callable[..., None]) -> None:
    set_our_clock(refused.simulator, ahead_seconds=50)
    _, events, _ = run(refused)
    rows = [row for row in refused.rows(events.load_id) if row["payload"]]
    assert events.clock_skew_seconds == pytest.approx(50, abs=1.5)
    for row in rows:
        assert 45_000 <= row["fetched_at"].timestamp() * 1000 - row["updated_at_ms"] <= 60_000


def test_only_what_came_since_is_asked_for(refused: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    run(refused)
    first = log_of(refused)[-1]["createdAt"]
    refused.simulator.advance(7200)
    refused.simulator.webhooks.settle()
    since: list[int] = []
    pages = missed._pages
    monkeypatch.setattr(
        missed, "_pages", lambda client, of, since_ms: since.append(since_ms) or pages(client, of, since_ms)
    )
    run(refused)
    assert first - refused.settings.overlap_seconds * 1000 - 2000 <= since[0] <= refused.simulator.now() - 7_000_000


def test_pages_of_a_log_that_grows_lose_nothing(refused: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missed, "ENTRIES_PER_PAGE", 7)
    fetch = missed._events

    def grow(page: Any) -> Any:
        refused.simulator.update(sorted(refused.simulator.ids())[5], phase="running")
        refused.simulator.webhooks.settle()
        return fetch(page)

    monkeypatch.setattr(missed, "_events", grow)
    sent = states_of(log_of(refused))
    run(refused)
    assert sent <= landed_states(refused)


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ({"request": None}, "no event in 1 line of the log of deliveries"),
        ({"request": {"body": "{"}}, "no event in 1 line of the log of deliveries"),
        ({"request": {"body": '{"event":"stream.started"}'}}, None),
        ({"request": {"body": '{"event":"task.updated","payload":{}}'}}, None),
    ],
)
def test_an_entry_that_is_no_event_of_a_task_harms_nothing(refused: Archive, entry: Any, line: str | None) -> None:
    (webhook,) = refused.simulator.webhooks.registered
    odd = log_of(refused)[0] | entry
    refused.simulator.webhooks._log[webhook.id].append(odd)
    load, events, said = run(refused)
    assert (load.verdict, events.verdict) == ("whole", "whole")
    assert [text for text in said if "from the log" not in text] == ([line] if line else [])


def test_a_log_that_cannot_be_read_keeps_no_load_from_being_fetched(
    refused: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(webhook_id: str) -> Any:
        raise not_found()

    with monkeypatch.context() as broken:
        broken.setattr(refused.simulator.webhooks, "log", fail)
        load, events, said = run(refused)
    assert (load.verdict, events) == ("whole", None)
    (line,) = said
    assert line.startswith("the log of deliveries cannot be read, events may be missing: ")
    with monkeypatch.context() as endless:
        endless.setattr(missed, "ENTRIES_PER_PAGE", 1)
        endless.setattr(missed, "MOST_PAGES", 3)
        assert "lists deliveries without end: 3 pages" in run(refused)[2][-1]
    sent = states_of(log_of(refused))
    run(refused)
    assert sent <= landed_states(refused)  # all of the log is read, as it was not before


def test_without_a_listener_and_of_another_webhook_no_log_is_read(
    refused: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refused.simulator.webhooks, "log", lambda webhook_id: pytest.fail("it is read"))
    refused.settings.listen_url = "https://hooks.example.com/elsewhere"
    assert run(refused)[1:] == (None, [])
    refused.settings.listen_url = None
    assert run(refused)[1:] == (None, [])


def test_what_was_delivered_is_not_fetched_again(
    simulate: Callable[..., Simulator],
    archive: Callable[..., Any],
    listen: Callable[[Settings], Listener],
    set_our_clock: Callable[..., None],
) -> None:
    kept = archive(simulate(tasks=200))
    set_our_clock(kept.simulator)
    kept.sync()
    listener = listen(kept.settings)
    kept.settings.listen_url = listener.url
    kept.simulator.add_webhook(f"{listener.url}/default", SHARED)
    kept.simulator.advance(7200)
    kept.simulator.update(sorted(kept.simulator.ids())[0], phase="running")
    kept.simulator.webhooks.settle()
    kept.extraction().land_events()
    assert run(kept)[1:] == (None, [])
    assert not list(Journal(kept.settings.home.events, "default").folder.glob("*.log"))
