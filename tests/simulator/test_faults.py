"""Faults as a plain client sees them, and the handles on a simulator in another process."""

import time
from collections.abc import Callable

import httpx
import pytest

from pipelines.simulator import Simulator

Get = Callable[..., httpx.Response]


@pytest.mark.parametrize("status", [500, 502, 503])
def test_errors(sim: Simulator, get: Get, status: int) -> None:
    sim.fault(str(status), times=2)
    assert [get("/task").status_code for _ in range(3)] == [status, status, 200]


@pytest.mark.parametrize("retry_after", [7, "Wed, 18 Nov 2026 10:00:00 GMT"])
def test_throttling(sim: Simulator, get: Get, retry_after: int | str) -> None:
    sim.fault("429", retry_after=retry_after)
    response = get("/task")
    assert (response.status_code, response.headers["Retry-After"]) == (429, str(retry_after))
    assert get("/task").status_code == 200


def test_dropped_and_truncated_connections(sim: Simulator, get: Get) -> None:
    sim.fault("drop")
    with pytest.raises(httpx.RemoteProtocolError):
        get("/task")
    sim.fault("truncate")
    with pytest.raises(httpx.RemoteProtocolError):
        get("/task")
    assert get("/task").status_code == 200


def test_html(sim: Simulator, get: Get) -> None:
    sim.fault("html")
    sim.fault("html-error")
    for status in (200, 502):
        response = get("/task")
        assert (response.status_code, response.headers["Content-Type"]) == (status, "text/html; charset=utf-8")


def test_empty_body(sim: Simulator, get: Get) -> None:
    sim.fault("empty-body")
    response = get("/task")
    assert (response.status_code, response.content) == (200, b"")


def test_redirect(sim: Simulator, get: Get) -> None:
    sim.fault("redirect", location="http://127.0.0.2:1/api/task")
    response = get("/task")
    assert (response.status_code, response.headers["Location"]) == (302, "http://127.0.0.2:1/api/task")


def test_slowness(sim: Simulator, get: Get) -> None:
    sim.fault("slow", seconds=0.3)
    with pytest.raises(httpx.ReadTimeout):
        get("/task", timeout=0.1)
    assert get("/task").status_code == 200


def test_which_requests_are_met(sim: Simulator, get: Get) -> None:
    sim.fault("500", at=3, match="limit=1")
    sim.fault("503", times=None, match="/task/")
    assert [get("/task?limit=1").status_code for _ in range(4)] == [200, 200, 500, 200]
    assert [get("/task/x").status_code for _ in range(3)] == [503] * 3
    sim.clear_faults()
    assert get("/task/x").status_code == 404
    assert [request.status for request in sim.requests] == [200, 200, 500, 200, 503, 503, 503, 404]
    assert sim.requests[0] == ("GET", "/api/task?limit=1", 200)
    with pytest.raises(ValueError, match="unknown fault"):
        sim.fault("earthquake")


def test_changes_between_pages(sim: Simulator, get: Get) -> None:
    before = sim.ids()
    sim.mutate_between_pages(inserts=2, updates=3, deletes=1)
    get("/task")
    assert sim.ids() == before
    get("/task")
    assert len(sim.ids() - before) == 2
    assert len(before - sim.ids()) == 1
    assert sum(task["status"]["updatedAt"] == sim.now() for task in sim.tasks().values()) >= 3


def test_handles_for_another_process(sim: Simulator) -> None:
    root = sim.url.removesuffix("/api")
    info = httpx.get(f"{root}/simulator/info").json()
    assert info == {"now": sim.now(), "tasks": 300, "seed": 1, "api_key": sim.api_key}
    answer = httpx.post(f"{root}/simulator/advance", json={"seconds": 3600}).json()
    assert answer == {"now": info["now"] + 3_600_000, "tasks": len(sim.ids())}
    assert httpx.get(f"{root}/simulator/other").status_code == 404
    assert sim.requests == []


def test_the_clock_runs_as_fast_as_told() -> None:
    sim = Simulator(tasks=0, now=0, speed=1000)
    time.sleep(0.05)
    assert 50_000 <= sim.now() < 5_000_000


def test_retry_over_http(sim: Simulator, get: Get) -> None:
    phases = {task["status"]["phase"]: task_id for task_id, task in sim.tasks().items()}
    headers = {"Authorization": f"Bearer {sim.api_key}"}
    assert httpx.post(f"{sim.url}/task/{phases['failed']}/retry", headers=headers).status_code == 200
    assert httpx.post(f"{sim.url}/task/{phases['completed']}/retry", headers=headers).status_code == 400
    assert get(f"/task/{phases['failed']}").json()["status"]["phase"] == "waiting"


def test_own_keys() -> None:
    with Simulator(tasks=3, speed=0, keys={"default": "my-key"}).serve() as sim:
        assert sim.api_key == "my-key"
        assert httpx.get(f"{sim.url}/task", headers={"Authorization": "Bearer my-key"}).status_code == 200


def test_closing_ends_connections_kept_alive() -> None:
    with httpx.Client() as client:
        with Simulator(tasks=3, speed=0).serve() as sim:
            url = sim.url
            client.get(f"{url}/task")
        with pytest.raises(httpx.TransportError):
            client.get(f"{url}/task")
