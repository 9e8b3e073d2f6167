"""The simulator answers as the real server did: every recorded exchange is replayed.

tests/fixtures/livepeer/recordings.jsonl holds the exchanges. Bodies that can be put together from the other two files
(`page_100_tasks.json`, the first page of the recorded account, and `tasks_by_scenario.json`) are not in it: the ETag is
a hash of the body, so that comparing ETags compares bodies.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipelines.simulator import Simulator
from pipelines.simulator.store import Account

FIXTURES = Path(__file__).parents[1] / "fixtures" / "livepeer"
RECORDINGS = [json.loads(line) for line in (FIXTURES / "recordings.jsonl").read_text("utf-8").splitlines()]
PAGE = json.loads((FIXTURES / "page_100_tasks.json").read_text("utf-8"))
SCENARIOS = json.loads((FIXTURES / "tasks_by_scenario.json").read_text("utf-8"))
BODIES = {recording["name"]: recording.get("body") for recording in RECORDINGS}

RECORDED_AT = 1_795_294_328_941  # ms; the moment of the recorded retry
ODD_USER = Account("odd", "odd-key", "01b36e06-61d0-4746-b5d1-9c9c3055678d", "d938078b-93c5-49bc-9054-02934505f5a3")

# The 2,500 rows of the recorded account were not kept, only its newest 100: of these exchanges status, Link, count and
# number of rows are compared, not the body and with it not Content-Length and ETag.
BODY_NOT_RECORDED = {
    "list-count-true",
    "order-createdAt_false",
    "order-createdAt_false_id_false",
    "order-createdAt",
    "order-garbage",
    "filter-createdAt-gte-lt",
    "keyset-id-first",
    "keyset-id-page3",
}
# The recordings hide the keys; these were not the ordinary one.
KEYS = {
    "get-other-users-task": "sim-key-other-user",
    "auth-none": None,
    "auth-bad-token": "deadbeef",
    "auth-bearer-only": "",
    "auth-cors-restricted-key-list": "sim-key-cors",
}
HOSTS = {"host-header": "livepeer.studio", "x-forwarded-proto": "livepeer.studio"}


def seeded_account() -> Simulator:
    """2,500 rows: the recorded page and older ones, 501 of them in the recorded window of createdAt, and 500 in all
    behind the recorded id cursor."""
    sim = empty()
    for task in [*PAGE, BODIES["get-ok"]]:
        sim.insert(task)
    sim.delete(sim.insert(BODIES["get-deleted-task"]))
    behind_cursor = 500 - sum(task["id"] > "ca9ba25a-f47c-4375-9f59-0bc14790bb11" for task in PAGE)
    for number in range(2500 - 101):
        created_at = 1_720_000_000_000 + 39_000_000 * number if number < 501 else 1_740_000_000_000 + number
        prefix = "ca9ba25b" if number < behind_cursor else "4a9ba25b"
        sim.insert(
            id=f"{prefix}-0000-4000-8000-{number:012}",
            createdAt=created_at,
            status={"phase": "completed", "updatedAt": created_at + 60_000},
        )
    return sim


def organic_account() -> Simulator:
    """The tasks that the real server's own endpoints and scheduler produced."""
    sim = empty()
    for task in SCENARIOS.values():
        sim.insert(task)
    return sim


def odd_account(*tasks: dict[str, Any]) -> Simulator:
    sim = empty()
    sim.accounts[ODD_USER.key] = ODD_USER
    for task in tasks:
        sim.insert(
            {"userId": ODD_USER.user_id, "createdAt": 1_795_290_000_000, "projectId": ODD_USER.project_id} | task
        )
    return sim


def empty() -> Simulator:
    return Simulator(tasks=0, now=RECORDED_AT, speed=0)


ODD_ROWS: dict[str, list[dict[str, Any]]] = {
    "odd-upload-no-params-get": [{"id": "4dcf54ec-0b79-4508-a902-a591ab82b738", "type": "upload"}],
    "odd-transcode-no-params-get": [{"id": "20f28a9e-a4ab-4646-b348-533137a4ff2a", "type": "transcode-file"}],
    "odd-no-status-list": BODIES["odd-no-status-list"],
    "odd-createdAt-string-list": [{"id": "a", "type": "clip", "createdAt": "2026-11-21T00:00:00Z"}],
    **{name: [body] for name, body in BODIES.items() if name.startswith("leak-")},
}


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Simulator]]:
    simulators = {"seeded": seeded_account(), "organic": organic_account()}
    simulators |= {name: odd_account(*tasks) for name, tasks in ODD_ROWS.items()}
    for sim in simulators.values():
        sim.serve()
    yield simulators
    for sim in simulators.values():
        sim.close()


def send(client: httpx.Client, servers: dict[str, Simulator], recording: dict[str, Any]) -> httpx.Response:
    name = recording["name"]
    key: str | None = "sim-key-default"
    sim = servers["seeded"]
    if name in ODD_ROWS:
        sim, key = servers[name], ODD_USER.key
    elif name.startswith(("organic", "retry")):
        sim, key = servers["organic"], "sim-key-other-user"
    key = KEYS.get(name, key)
    headers = recording["sent"] | ({} if key is None else {"Authorization": f"Bearer {key}".strip()})
    if name in HOSTS:
        headers["Host"] = HOSTS[name]
    path = recording["path"].replace("<PAD>", "x" * 20_000)
    return client.request(recording["method"], sim.url.removesuffix("/api") + path, headers=headers)


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording["name"])
def test_recorded_exchange(client: httpx.Client, servers: dict[str, Simulator], recording: dict[str, Any]) -> None:
    name = recording["name"]

    response = send(client, servers, recording)

    assert response.status_code == recording["status"]
    actual = {header: value for header, value in response.headers.items() if header != "date"}
    expected = {header.lower(): value for header, value in recording["headers"].items()}
    if name in BODY_NOT_RECORDED:
        expected |= {header: actual[header] for header in ("content-length", "etag")}
    if "link" in expected and name not in HOSTS:
        expected["link"] = expected["link"].replace("127.0.0.1:3104", response.request.headers["Host"])
    assert actual == expected
    if "rows" in recording:
        assert len(response.json()) == recording["rows"]
    if recording.get("body") is not None:
        assert (response.text if isinstance(recording["body"], str) else response.json()) == recording["body"]


def test_what_is_compared_less_than_whole() -> None:
    """So that the exceptions do not grow unnoticed."""
    assert len(RECORDINGS) == 63
    assert {name for name in BODIES} >= BODY_NOT_RECORDED
    assert len(BODY_NOT_RECORDED) == 8
