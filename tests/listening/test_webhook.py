"""Signatures, events and the order of the list: what the recorded deliveries of the real server say."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.livepeer.webhook import Refused, check_signature, in_list_order, read_event
from pipelines.simulator.store import encode
from tests.listening.conftest import SHARED

LIVEPEER = Path(__file__).parents[1] / "fixtures" / "livepeer"
RECORDED = [json.loads(line) for line in (LIVEPEER / "webhooks.jsonl").read_text("utf-8").splitlines()]


def header_of(delivery: Any) -> str:
    return str(dict(delivery["headers"])["Livepeer-Signature"])


def check(delivery: Any, **changed: Any) -> None:
    given = {
        "body": delivery["body"].encode(),
        "header": header_of(delivery),
        "secret": SHARED,
        "now_ms": delivery["received_ms"],
        "tolerance_seconds": 300,
    }
    check_signature(**(given | changed))


def test_every_recorded_signature_holds() -> None:
    assert len(RECORDED) == 45
    for delivery in RECORDED:
        check(delivery)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"header": None}, "no signature"),
        ({"header": ""}, "no signature"),
        ({"header": "t=1,v1=00"}, "cannot be read"),
        ({"header": "t=1,v1=" + "0" * 63 + "é"}, "cannot be read"),
        ({"secret": "another"}, "shared secret"),
        ({"body": RECORDED[1]["body"].encode()}, "shared secret"),
        ({"body": RECORDED[0]["body"].encode()[:-1]}, "shared secret"),
        ({"header": "t=1," + header_of(RECORDED[0]).partition(",")[2]}, "time is not the body's"),
        ({"now_ms": RECORDED[0]["received_ms"] + 301_000}, "beyond the tolerance"),
        ({"now_ms": RECORDED[0]["received_ms"] - 301_000}, "beyond the tolerance"),
    ],
)
def test_a_signature_that_is_another_is_refused(changed: Any, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        check(RECORDED[0], **changed)
    assert refused.value.status == 401


def test_an_event_is_read() -> None:
    event = read_event(RECORDED[0]["body"].encode())
    assert (event.name, event.is_of_task) == ("task.spawned", True)
    assert (event.created_at_ms, event.sent_at_ms) == (1795547373707, 1795547373775)
    assert json.loads(event.snapshot) == json.loads(RECORDED[0]["body"])["payload"]["task"]["snapshot"]


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"{}", b'{"event":1}', b'{"event":"task.x"', b"\xff", b"[" * 9999])
def test_what_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        read_event(body)
    assert refused.value.status == 400


@pytest.mark.parametrize("payload", ["null", "[]", '{"task":1}', '{"task":{}}', '{"task":{"id":"x"}}'])
def test_an_event_without_a_snapshot_keeps_what_it_has(payload: str) -> None:
    event = read_event(f'{{"event":"task.updated","payload":{payload},"createdAt":"x"}}'.encode())
    assert (event.snapshot.decode(), event.created_at_ms) == (payload, None)


def test_the_list_has_this_order() -> None:
    """Rows of the real server's list, whose keys somebody shuffled, are as they were."""
    for task in json.loads((LIVEPEER / "page_100_tasks.json").read_text("utf-8")):
        assert in_list_order(encode(reversed_keys(task))) == encode(task)


def test_snapshots_from_the_servers_database_have_the_list_order_already() -> None:
    """Before they end: `output` is added in memory, and stands at another place."""
    tasks = [json.loads(delivery["body"])["payload"]["task"]["snapshot"] for delivery in RECORDED]
    running = [task for task in tasks if task["status"]["phase"] == "running"]
    assert running
    for task in running:
        assert list(json.loads(in_list_order(encode(task)))) == list(task)


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: reversed_keys(value[name]) for name in reversed(value)}
    return [reversed_keys(each) for each in value] if isinstance(value, list) else value


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["1", "10", "02"]), inner),
)


@pytest.mark.slow
@given(JSON)
def test_the_order_changes_no_value(value: Any) -> None:
    ordered = in_list_order(encode(value))
    assert json.loads(ordered) == json.loads(encode(value))
    assert in_list_order(ordered) == ordered
    assert in_list_order(encode(reversed_keys(value))) == ordered


@given(st.binary())
def test_what_is_no_json_is_left_as_it_is(body: bytes) -> None:
    try:
        json.loads(body)
    except ValueError:
        assert in_list_order(body) == body


def test_a_field_is_added_where_it_lacks() -> None:
    assert in_list_order(b'{"zz":1,"a":2}', b=b"3") == b'{"a":2,"b":3,"zz":1}'
    assert in_list_order(b'{"b":1,"a":2}', b=b"3") == b'{"a":2,"b":1}'
