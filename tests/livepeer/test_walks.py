"""The walks by themselves: what they ask, what they yield, and where they refuse to go on."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from pipelines.livepeer import failures, pages, walks
from pipelines.livepeer.answer import Limits
from pipelines.livepeer.client import Client, ClientOptions
from pipelines.livepeer.redact import Redactor
from pipelines.livepeer.tasks import source
from pipelines.livepeer.walks import Rows, Unreadable
from pipelines.simulator import Simulator
from pipelines.simulator import api as routes
from pipelines.simulator import listing as server_listing
from pipelines.simulator.wire import Response, json_response

Simulate = Callable[..., Simulator]
Connect = Callable[[Simulator], Client]


@pytest.fixture
def connect(clean_environment: None) -> Iterator[Connect]:
    clients: list[Client] = []

    def connect(simulator: Simulator) -> Client:
        scrub = Redactor(b"key", [simulator.api_key]).scrub
        clients.append(
            Client(simulator.url, simulator.api_key, scrub, ClientOptions(retry_wait_seconds=0.001), Limits())
        )
        return clients[-1]

    yield connect
    for client in clients:
        client.__exit__(None, None, None)


def ids_of(steps: Iterator[Rows | Unreadable] | Iterator[Rows]) -> list[str | None]:
    """Ids in the order they come, unreadable ones with a ! before them."""
    ids: list[str | None] = []
    for step in steps:
        ids += [f"!{step.task_id}"] if isinstance(step, Unreadable) else [row.task_id for row in step.rows]
    return ids


def updated_since(sim: Simulator, since_ms: int) -> set[str]:
    return {row.id for row in sim._listed("default") if (row.updated_at or 0) >= since_ms}


# --------------------------------------------------------------------------------------------------------- capabilities


@pytest.mark.parametrize(("api", "able"), [("studio", True), ("legacy", False), ("opaque", False)])
def test_abilities_are_found_out(simulate: Simulate, connect: Connect, api: str, able: bool) -> None:
    sim = simulate(tasks=60, api=api, speed=0)
    capabilities, first = walks.probe(connect(sim))
    assert (capabilities.id_keyset, capabilities.filters, capabilities.count) == (able, able, able)
    assert first.server_at_ms == sim.now() // 1000 * 1000
    assert len(sim.requests) == 3


def test_abilities_are_found_out_where_rows_cannot_be_served(simulate: Simulate, connect: Connect) -> None:
    sim = simulate(tasks=60, speed=0)
    for task_id in (min(sim.ids()), max(sim.ids())):
        sim.poison(task_id)
    capabilities, _ = walks.probe(connect(sim))
    assert capabilities == walks.Capabilities(True, True, True)


@pytest.mark.parametrize("poisoned", [0, 1, 2])
def test_rows_are_counted(simulate: Simulate, connect: Connect, poisoned: int) -> None:
    sim = simulate(tasks=60, speed=0)
    client = connect(sim)
    for task_id in [min(sim.ids()), max(sim.ids())][:poisoned]:
        sim.poison(task_id)
    since = sorted(row.updated_at or 0 for row in sim._listed("default"))[30]
    assert pages.count(client, None) == 60
    assert pages.count(client, source.updated_since(since)) == len(updated_since(sim, since))
    assert pages.count(client, source.updated_since(source.FAR_FUTURE_MS)) == 0


def test_rows_that_cannot_be_served_cannot_be_counted(simulate: Simulate, connect: Connect) -> None:
    sim = simulate(tasks=60, speed=0)
    sim.advance(86400 * 40)
    sim.replace(
        min(sim.ids()), {"type": "upload", "createdAt": 1, "status": {"updatedAt": sim.now(), "phase": "failed"}}
    )
    assert pages.count(connect(sim), source.updated_since(sim.now())) is None


# ---------------------------------------------------------------------------------------------------------------- by id


@pytest.mark.parametrize("limit", [1, 7, 20, 60, 61, 1000])
def test_by_id(simulate: Simulate, connect: Connect, limit: int) -> None:
    sim = simulate(tasks=60, speed=0)
    steps = list(walks.by_id(connect(sim), limit))
    assert ids_of(iter(steps)) == sorted(sim.ids())
    for step in steps:
        assert isinstance(step, Rows)
        assert step.cursor == step.rows[-1].task_id
    assert len(sim.requests) == len(steps) + 1 == -(-60 // limit) + 1


def test_by_id_goes_on_from_any_text(simulate: Simulate, connect: Connect) -> None:
    sim = simulate(tasks=60, speed=0)
    ids = sorted(sim.ids())
    assert ids_of(walks.by_id(connect(sim), 20, after=ids[29])) == ids[30:]
    assert ids_of(walks.by_id(connect(sim), 20, after=ids[29][:-1])) == ids[29:]
    assert ids_of(walks.by_id(connect(sim), 20, after=ids[-1])) == []


def test_by_id_keeps_to_a_window(simulate: Simulate, connect: Connect) -> None:
    sim = simulate(tasks=60, speed=0)
    created = sorted(row.created_at or 0 for row in sim._listed("default"))
    window = source.created_between(created[10], created[40])
    inside = [row.id for row in sim._listed("default") if created[10] <= (row.created_at or 0) < created[40]]
    assert ids_of(walks.by_id(connect(sim), 9, window)) == inside


@pytest.mark.parametrize(
    ("places", "limit"),
    [
        ([0], 20),
        ([59], 20),
        ([19], 20),
        ([20], 20),
        ([3, 17], 1),
        ([3, 17], 1000),
        ([0, 59], 20),
        ([5, 7, 9], 20),
        ([5, 6, 7, 59], 20),
        ([30, 31], 1000),
    ],
    ids=str,
)
def test_by_id_goes_round_rows_that_cannot_be_served(
    simulate: Simulate, connect: Connect, places: list[int], limit: int
) -> None:
    sim = simulate(tasks=60, speed=0)
    ids = sorted(sim.ids())
    for place in places:
        sim.poison(ids[place])
    expected = [f"!{task_id}" if place in places else task_id for place, task_id in enumerate(ids)]
    assert ids_of(walks.by_id(connect(sim), limit)) == expected
    assert len(sim.requests) < len(places) * 500 + 3 * 60


def knowing(*ids: str) -> Callable[[str, str], list[str]]:
    return lambda after, last: [task_id for task_id in ids if after < task_id <= last]


@pytest.mark.parametrize("places", [[0], [700], [1499], [700, 701], [10, 999, 1000, 1400]], ids=str)
def test_a_known_row_that_cannot_be_served_costs_few_requests(
    simulate: Simulate, connect: Connect, places: list[int]
) -> None:
    sim = simulate(tasks=1500, speed=0)
    ids = sorted(sim.ids())
    gone = sim.insert({"id": f"{ids[700][:-4]}0000"})  # deleted, the archive knows it still
    sim.remove(gone)
    for place in places:
        sim.poison(ids[place])
    expected = [f"!{task_id}" if place in places else task_id for place, task_id in enumerate(ids)]
    hints = pages.Hints(between=knowing(*ids, gone))
    assert ids_of(walks.by_id(connect(sim), 1000, hints=hints)) == expected
    assert len(sim.requests) <= 3 + 25 * len(places)
    sim.requests.clear()
    hints = pages.Hints([ids[place] for place in places])
    assert ids_of(walks.by_id(connect(sim), 1000, hints=hints)) == expected
    assert len(sim.requests) <= 3 + 11 * len(places)


def test_what_was_found_before_may_have_changed(simulate: Simulate, connect: Connect) -> None:
    """Such a row is mended, another deleted, and a new one lies just before."""
    sim = simulate(tasks=60, speed=0)
    mended, new, removed, still, last = sorted(sim.ids())[10:60:9][:5]
    hints = pages.Hints([mended, removed, still])
    sim.remove(removed)
    for task_id in (new, still, last):
        sim.poison(task_id)
    expected = [f"!{task_id}" if task_id in (new, still, last) else task_id for task_id in sorted(sim.ids())]
    for limit in (1, 7, 20, 60, 1000):
        assert ids_of(walks.by_id(connect(sim), limit, hints=hints)) == expected


def test_a_row_that_the_list_cannot_serve_is_had_by_id(
    simulate: Simulate, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulate(tasks=60, speed=0)
    poisoned = sim.poison(sorted(sim.ids())[30])
    monkeypatch.setattr(routes, "_get_task", get_whatever)
    steps = list(walks.by_id(connect(sim), 20))
    assert ids_of(iter(steps)) == sorted(sim.ids())
    (by_id,) = (step for step in steps if isinstance(step, Rows) and step.is_by_id)
    assert (by_id.cursor, [row.payload for row in by_id.rows]) == (poisoned, [sim._row(poisoned).body])


def get_whatever(backend: routes.Backend, request: routes.Request, task_id: str) -> Response:
    """GET by id of a server that serves there what its list cannot."""
    return json_response(200, routes._own_row(backend, request, task_id).body)


def test_a_deletion_does_not_mislead_the_search(simulate: Simulate, connect: Connect) -> None:
    sim = simulate(tasks=60, speed=0)
    ids = sorted(sim.ids())
    sim.poison(ids[5])
    doomed = ids[20:]

    def delete(simulator: Simulator, number: int, path: str) -> None:
        if "count" in path and doomed:
            simulator.delete(doomed.pop())

    sim.before_request(delete)
    met = ids_of(walks.by_id(connect(sim), 20))
    assert met[:20] == [*ids[:5], f"!{ids[5]}", *ids[6:20]]


def test_by_id_gives_up_where_the_server_fails_on_everything(simulate: Simulate, connect: Connect) -> None:
    sim = simulate(tasks=60, speed=0)
    sim.fault("500", times=None)
    with pytest.raises(failures.RowFault):
        list(walks.by_id(connect(sim), 50))
    assert len(sim.requests) < 30


def test_a_fault_that_passes_names_no_row(simulate: Simulate, connect: Connect) -> None:
    """Fails long enough to start the search for a row, and then no more."""
    sim = simulate(tasks=60, speed=0)
    sim.fault("500", at=1, times=8)  # the page, and then what holds no row
    assert ids_of(walks.by_id(connect(sim), 16)) == sorted(sim.ids())
    assert len(sim.requests) == 10 + 4


@pytest.mark.parametrize("at", range(1, 9))
def test_single_faults_name_no_row(simulate: Simulate, connect: Connect, at: int) -> None:
    sim = simulate(tasks=60, speed=0)
    for number in range(at, 80, 2):
        sim.fault("500", at=number)
    assert ids_of(walks.by_id(connect(sim), 16)) == sorted(sim.ids())


def test_by_id_notices_a_server_that_does_not_keep_the_order(
    simulate: Simulate, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulate(tasks=60, speed=0)
    monkeypatch.setattr(server_listing, "parse_order", lambda text: server_listing.NEWEST_UPDATED)
    with pytest.raises(failures.BrokenWalk, match="order by id"):
        list(walks.by_id(connect(sim), 20))


def test_by_id_notices_a_server_that_ignores_the_cursor(simulate: Simulate, connect: Connect) -> None:
    sim = simulate(tasks=60, api="legacy", speed=0)
    with pytest.raises(failures.BrokenWalk):
        list(walks.by_id(connect(sim), 20))


# ------------------------------------------------------------------------------------------------------------ by update


@pytest.mark.parametrize("limit", [2, 7, 60, 1000])
def test_by_update(simulate: Simulate, connect: Connect, limit: int) -> None:
    sim = simulate(tasks=60, speed=0)
    since = sorted(row.updated_at or 0 for row in sim._listed("default"))[20]
    ids = ids_of(walks.by_update(connect(sim), limit, since))
    assert set(ids) == updated_since(sim, since)
    assert len(ids) < 3 * len(set(ids))


@pytest.mark.parametrize("tied", [19, 20, 21, 40, 41, 60])
@pytest.mark.parametrize("first", [True, False])
def test_by_update_with_a_time_that_fills_pages(simulate: Simulate, connect: Connect, tied: int, first: bool) -> None:
    sim = simulate(tasks=60, speed=0)
    sim.advance(1000)
    since = sim.now()
    for number, task_id in enumerate(sorted(sim.ids())):
        at = since + 500 if number < tied else since + (501 if first else 0) + number
        sim.update(task_id, phase="failed", updatedAt=at)
    assert set(ids_of(walks.by_update(connect(sim), 20, since))) == sim.ids()


def test_by_update_with_rows_updated_as_it_goes(simulate: Simulate, connect: Connect) -> None:
    sim = simulate(tasks=60, speed=0)
    since = min(row.updated_at or 0 for row in sim._listed("default"))
    untouched = sorted(sim.ids())

    def update(simulator: Simulator, number: int, path: str) -> None:
        simulator.advance(1)
        if untouched:
            simulator.update(untouched.pop(), phase="failed", errorMessage=f"at {number}")

    sim.before_request(update)
    seen: dict[str, bytes] = {}
    for step in walks.by_update(connect(sim), 20, since):
        assert isinstance(step, Rows)
        seen |= {row.task_id or "": row.payload for row in step.rows}
    assert seen == {row.id: row.body for row in sim._listed("default")}


@pytest.mark.parametrize("place", [0, 30, 59])
def test_by_update_goes_round_a_row_that_cannot_be_served(simulate: Simulate, connect: Connect, place: int) -> None:
    sim = simulate(tasks=60, speed=0)
    since = min(row.updated_at or 0 for row in sim._listed("default"))
    by_time = sorted(sim._listed("default"), key=lambda row: (row.updated_at or 0, row.id))
    poisoned = sim.poison(by_time[place].id)
    assert set(ids_of(walks.by_update(connect(sim), 20, since))) == (sim.ids() - {poisoned}) | {f"!{poisoned}"}


def test_by_update_notices_a_server_that_does_not_filter(
    simulate: Simulate, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulate(tasks=60, speed=0)
    monkeypatch.setattr(server_listing, "parse_filters", lambda text: server_listing.Filters())
    with pytest.raises(failures.BrokenWalk, match="updatedAt"):
        list(walks.by_update(connect(sim), 20, sim.now() + 1))


# --------------------------------------------------------------------------------------------------- lists without end


class Endless(ThreadingHTTPServer):
    """A task API whose list never ends, whatever it says that it counts."""

    daemon_threads = True

    def __init__(self, counts: int | None) -> None:
        super().__init__(("127.0.0.1", 0), _EndlessHandler)
        self.counts = counts
        self.pages = 0
        self.url = f"http://127.0.0.1:{self.server_port}/api"


class _EndlessHandler(BaseHTTPRequestHandler):
    server: Endless
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        rows = int(parse_qs(urlsplit(self.path).query)["limit"][0])
        self.server.pages += rows > 1
        first = self.server.pages * 1000
        listed = [{"id": f"{n:036}", "status": {"updatedAt": n}} for n in range(first, first + rows)]
        body = json.dumps(listed).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Link", f'<http://x/?cursor=skip{first}>; rel="next"')
        if self.server.counts is not None and "count=true" in self.path:
            self.send_header("X-Total-Count", str(self.server.counts))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


WALKS: dict[str, Callable[[Client, int], Iterator[Any]]] = {
    "by id": walks.by_id,
    "by update": lambda client, limit: walks.by_update(client, limit, 0),
    "documented": walks.by_documented_paging,
}


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize(("counts", "most_pages"), [(None, 30), (60, 36), (0, 30), (10_000, 1030)])
def test_a_list_without_end_is_not_walked_for_ever(
    clean_environment: None, walk: str, counts: int | None, most_pages: int
) -> None:
    server = Endless(counts)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    client = Client(server.url, "key", str, ClientOptions(), Limits(pages_beyond_count=30))
    try:
        with client, pytest.raises(failures.BrokenWalk, match="TASK_ARCHIVE_PAGES_BEYOND_COUNT") as raised:
            list(WALKS[walk](client, 20))
    finally:
        server.shutdown()
        server.server_close()
    assert server.pages == most_pages + 1
    assert ("none" if counts is None else f"counts {counts:,} tasks") in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("limit", [1, 2, 7])
def test_a_list_with_an_end_is_walked_to_it(simulate: Simulate, walk: str, limit: int) -> None:
    """However narrow the limit is: where pages overlap they are many more than the rows fill."""
    sim = simulate(tasks=60, speed=0)
    with Client(sim.url, sim.api_key, str, ClientOptions(), Limits(pages_beyond_count=1)) as client:
        assert set(ids_of(WALKS[walk](client, limit))) == sim.ids()


# ---------------------------------------------------------------------------------------------------- documented paging


@pytest.mark.parametrize("api", ["studio", "legacy", "opaque"])
@pytest.mark.parametrize("limit", [1, 7, 20, 60, 200])
def test_documented_paging(simulate: Simulate, connect: Connect, api: str, limit: int) -> None:
    sim = simulate(tasks=60, api=api, speed=0)
    assert set(ids_of(walks.by_documented_paging(connect(sim), limit))) == sim.ids()


def test_documented_paging_goes_on_until_a_pass_finds_nothing_new(simulate: Simulate, connect: Connect) -> None:
    sim = simulate(tasks=200, api="legacy", speed=0)
    sim.mutate_between_pages(inserts=0, updates=0, deletes=4, seed=3)
    met = set(ids_of(walks.by_documented_paging(connect(sim), 20)))
    assert sim.ids() <= met


def test_a_further_pass_finds_what_the_first_lost(simulate: Simulate, connect: Connect) -> None:
    sim = simulate(tasks=200, api="opaque", speed=0)  # its cursors cannot be moved back
    newest = sorted(sim._listed("default"), key=lambda row: row.created_at or 0)[-40:]
    pages = 0

    def delete(simulator: Simulator, number: int, path: str) -> None:
        nonlocal pages
        pages += 1
        for _ in range(5 if 1 < pages < 6 else 0):
            simulator.delete(newest.pop().id)

    sim.before_request(delete)
    met = ids_of(walks.by_documented_paging(connect(sim), 20))
    assert sim.ids() <= set(met)
    assert not sim.ids() <= set(met[:180])  # the first pass alone did lose some


def test_documented_paging_ends_on_an_account_that_never_stands_still(simulate: Simulate, connect: Connect) -> None:
    sim = simulate(tasks=60, api="legacy", speed=0)
    sim.mutate_between_pages(inserts=2, updates=0, deletes=0)
    assert len(ids_of(walks.by_documented_paging(connect(sim), 20))) > 60
    assert len(sim.requests) < 120
