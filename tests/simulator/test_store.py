"""What a list walk loses, and what one row does to a page."""

import json
from collections.abc import Callable, Iterator

import httpx
import pytest

from pipelines.simulator import Simulator

NOW = 1_795_000_000_000
ROWS, LIMIT = 200, 20

Fetch = Callable[[dict[str, object]], list[dict]]
Walk = Callable[[Fetch], Iterator[dict]]


# --- ways to walk the list ----------------------------------------------------------------------------------------


def by_offset(order: str | None) -> Walk:
    def walk(fetch: Fetch) -> Iterator[dict]:
        for offset in range(0, 10 * ROWS, LIMIT):
            page = fetch({"cursor": f"skip{offset}"} | ({"order": order} if order else {}))
            yield from page
            if not page:
                return

    return walk


def by_time(field: str) -> Walk:
    def time_of(task: dict) -> int:
        return task["createdAt"] if field == "createdAt" else task["status"]["updatedAt"]

    def walk(fetch: Fetch) -> Iterator[dict]:
        since, skip = 0, 0
        while True:
            filters = json.dumps([{"id": field, "value": {"gte": since}}])
            page = fetch({"order": f"{field}-false,id-false", "filters": filters, "cursor": f"skip{skip}"})
            yield from page
            if len(page) < LIMIT:
                return
            last = time_of(page[-1])
            skip = skip + LIMIT if last == since else 0  # a page full of one time: go on inside it
            since = last

    return walk


def by_id(fetch: Fetch) -> Iterator[dict]:
    cursor: dict[str, object] = {}
    while page := fetch({"order": "id-false"} | cursor):
        yield from page
        cursor = {"cursor": page[-1]["id"]}


WALKS: dict[str, Walk] = {
    "offset": by_offset(None),
    "offset createdAt": by_offset("createdAt-false"),
    "offset createdAt,id": by_offset("createdAt-false,id-false"),
    "keyset createdAt": by_time("createdAt"),
    "keyset updatedAt": by_time("updatedAt"),
    "keyset id": by_id,
}

# --- what happens to the table after three pages were read ----------------------------------------------------------


def nothing(sim: Simulator, read: list[str]) -> None:
    pass


def unread_row_updated(sim: Simulator, read: list[str]) -> None:
    sim.update(min(sim.ids() - set(read)), phase="running")


def read_row_deleted(sim: Simulator, read: list[str]) -> None:
    sim.delete(read[0])


def read_row_updated(sim: Simulator, read: list[str]) -> None:
    sim.update(read[0], phase="running")


def row_inserted(sim: Simulator, read: list[str]) -> None:
    sim.insert(id="f" * 8, type="clip")  # an id ahead of all


def row_inserted_behind(sim: Simulator, read: list[str]) -> None:
    sim.insert(id="0" * 8, type="clip")


Event = Callable[[Simulator, list[str]], None]
LOSES, WHOLE = True, False
# (walk, event): does it lose rows that were there all the time?
TABLE: dict[tuple[str, Event], bool] = {
    ("offset", nothing): LOSES,
    ("offset", unread_row_updated): LOSES,
    ("offset", read_row_deleted): LOSES,
    ("offset", read_row_updated): WHOLE,
    ("offset", row_inserted): WHOLE,  # but see the duplicates below
    ("offset createdAt", nothing): LOSES,
    ("offset createdAt", read_row_deleted): LOSES,
    ("offset createdAt,id", nothing): WHOLE,
    ("offset createdAt,id", unread_row_updated): WHOLE,
    ("offset createdAt,id", read_row_deleted): LOSES,
    **{
        (walk, event): WHOLE
        for walk in ("keyset createdAt", "keyset updatedAt", "keyset id")
        for event in (nothing, unread_row_updated, read_row_deleted, read_row_updated, row_inserted)
    },
}


def table(*, ties: bool) -> Simulator:
    """200 tasks; with ties, 30 at a time were created and updated in the same millisecond."""
    sim = Simulator(tasks=0, now=NOW, speed=0)
    for number in range(ROWS):
        created_at = NOW - 10_000_000 + 1000 * (number // 30 if ties else number)
        status = {"phase": "completed", "updatedAt": created_at + 500}
        sim.insert(id=f"{number * 7919 % 65536:08x}", createdAt=created_at, status=status)
    return sim


def walk_table(client: httpx.Client, walk: str, event: Event, *, ties: bool) -> tuple[Simulator, list[dict]]:
    """The tasks the walk yields while, before its fourth page, the event happens."""
    seen: list[dict] = []
    with table(ties=ties).serve() as sim:
        headers = {"Authorization": f"Bearer {sim.api_key}"}

        def on_request(simulator: Simulator, number: int, path: str) -> None:
            if number == 4:
                event(simulator, [task["id"] for task in seen])

        def fetch(params: dict[str, object]) -> list[dict]:
            return client.get(f"{sim.url}/task", params={"limit": LIMIT} | params, headers=headers).json()

        sim.before_request(on_request)
        for task in WALKS[walk](fetch):
            seen.append(task)
    return sim, seen


@pytest.mark.parametrize(
    ("walk", "event"), TABLE, ids=lambda value: value if isinstance(value, str) else value.__name__
)
def test_what_loses_rows(client: httpx.Client, walk: str, event: Event) -> None:
    ties = event is nothing
    there_all_the_time = table(ties=ties).ids()

    sim, seen = walk_table(client, walk, event, ties=ties)

    lost = (there_all_the_time & sim.ids()) - {task["id"] for task in seen}
    assert bool(lost) is TABLE[walk, event]


def test_offsets_with_ties_lose_rows_though_the_count_adds_up(client: httpx.Client) -> None:
    sim, seen = walk_table(client, "offset createdAt", nothing, ties=True)
    assert len(seen) == ROWS
    assert {task["id"] for task in seen} < sim.ids()


def test_an_insert_shifts_the_default_offsets_into_duplicates(client: httpx.Client) -> None:
    _, seen = walk_table(client, "offset", row_inserted, ties=False)
    assert len(seen) > len({task["id"] for task in seen})


@pytest.mark.parametrize(
    ("walk", "event", "is_seen"),
    [
        ("offset createdAt", row_inserted, True),
        ("offset createdAt,id", row_inserted, True),
        ("keyset createdAt", row_inserted, True),
        ("keyset updatedAt", row_inserted, True),
        ("keyset id", row_inserted, True),
        ("keyset id", row_inserted_behind, False),
        ("keyset createdAt", read_row_updated, False),
        ("keyset updatedAt", read_row_updated, True),
        ("keyset id", read_row_updated, False),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_a_walk_sees_of_a_change(client: httpx.Client, walk: str, event: Event, is_seen: bool) -> None:
    _, seen = walk_table(client, walk, event, ties=False)
    assert any(task["status"]["updatedAt"] == NOW for task in seen) is is_seen


# --- single requests --------------------------------------------------------------------------------------------------


def query(sim: Simulator, get: Callable[..., httpx.Response], **params: str) -> list[dict]:
    return get("/task", params={"limit": "1000"} | params).raise_for_status().json()


def test_an_id_cursor_with_another_order_gives_wrong_pages(sim: Simulator, get: Callable[..., httpx.Response]) -> None:
    page = query(sim, get, limit="10")
    following = query(sim, get, limit="10", cursor=page[-1]["id"])
    assert all(task["id"] > page[-1]["id"] for task in following)
    assert following[0]["status"]["updatedAt"] > page[-1]["status"]["updatedAt"]


@pytest.mark.parametrize("order", ["createdAt-false", "createdAt-true", "updatedAt-true,id-false", "type-false", ""])
def test_filters_do_not_depend_on_the_order(sim: Simulator, get: Callable[..., httpx.Response], order: str) -> None:
    times = sorted(task["createdAt"] for task in sim.tasks().values())
    sim.replace(max(sim.ids()), {"type": "clip", "status": {"phase": "waiting", "updatedAt": 1}})  # without createdAt
    low, high = times[50], times[200]
    for value, holds in [
        ({"gte": low, "lt": high}, lambda at: low <= at < high),
        ({"gt": low, "lte": high}, lambda at: low < at <= high),
        ({"lt": high}, lambda at: at < high),
        (low, lambda at: at == low),
    ]:
        filters = json.dumps([{"id": "createdAt", "value": value}])
        found = {task["id"] for task in query(sim, get, order=order, filters=filters)}
        assert found == {i for i, task in sim.tasks().items() if holds(task.get("createdAt", float("nan")))}


def test_filter_by_type(sim: Simulator, get: Callable[..., httpx.Response]) -> None:
    found = query(sim, get, filters=json.dumps([{"id": "type", "value": "export"}]))
    assert {task["id"] for task in found} == {i for i, task in sim.tasks().items() if task["type"] == "export"}


def test_a_poisoned_row_spoils_its_page_and_counts(sim: Simulator, get: Callable[..., httpx.Response]) -> None:
    poisoned = sim.poison()
    ids = sorted(sim.ids())
    before = ids[ids.index(poisoned) - 1]

    assert get(f"/task/{poisoned}").status_code == 500
    assert get("/task", params={"limit": "1000"}).json() == {
        "message": "Cannot read properties of undefined (reading 'upload')"
    }
    assert get("/task", params={"limit": "1", "order": "id-false", "cursor": before}).status_code == 500
    after = get("/task", params={"limit": "1", "order": "id-false", "cursor": poisoned, "count": "true"})
    assert after.headers["X-Total-Count"] == str(len(ids) - ids.index(poisoned) - 1)


def test_null_params_spoil_an_upload_and_nothing_else(sim: Simulator, get: Callable[..., httpx.Response]) -> None:
    clip = sim.insert(type="clip", params=None)
    upload = sim.insert(type="upload", params=None)
    assert get(f"/task/{clip}").json()["params"] is None
    assert get(f"/task/{upload}").json() == {"message": "Cannot read properties of null (reading 'upload')"}


def test_lists_show_one_project_and_get_shows_all_of_the_user(
    sim: Simulator, get: Callable[..., httpx.Response]
) -> None:
    other_project = sim.insert(account="second-project", type="clip")
    other_user = sim.insert(account="other-user", type="clip")
    assert {task["id"] for task in query(sim, get)} == sim.ids()
    assert other_project in {task["id"] for task in get("/task?limit=1000", key="second-project").json()}
    assert get(f"/task/{other_project}").status_code == 200
    assert get(f"/task/{other_user}").status_code == 403
    assert get(f"/task/{other_project}", key="cors").status_code == 200


def test_deleted_undeleted_and_removed_rows(sim: Simulator, get: Callable[..., httpx.Response]) -> None:
    task_id = min(sim.ids())
    before = get(f"/task/{task_id}").content
    sim.delete(task_id)
    assert task_id not in {task["id"] for task in query(sim, get)}
    assert get(f"/task/{task_id}").json()["deleted"] is True
    sim.undelete(task_id)
    assert get(f"/task/{task_id}").content == before
    sim.remove(task_id)
    assert get(f"/task/{task_id}").status_code == 404


def test_any_bytes_can_stand_in_for_a_row(sim: Simulator, get: Callable[..., httpx.Response]) -> None:
    task_id = max(sim.ids())
    sim.put_raw(task_id, b'{"id":NaN,"id":"\\ud83d"}')
    assert get("/task?order=id-true&limit=1").content == b'[{"id":NaN,"id":"\\ud83d"}]'
    assert task_id in sim.ids()
    assert task_id not in sim.tasks()
    sim.replace(task_id, {"name": "\ud83d", "size": 1e21})  # as JSON.stringify writes it
    assert get(f"/task/{task_id}").content == b'{"id":"%b","name":"\\ud83d","size":1e+21}' % task_id.encode()


def test_a_lagging_list_shows_the_past(sim: Simulator, get: Callable[..., httpx.Response]) -> None:
    old, gone = sorted(sim.ids())[:2]
    sim.advance(700)
    before = sim.tasks()
    sim.advance(1)
    sim.update(old, phase="running", progress=0.5)
    sim.delete(gone)
    new = sim.insert(type="clip")
    sim.advance(30)
    assert new in {task["id"] for task in query(sim, get)}

    sim.lag(30.5)

    assert {task["id"]: task for task in query(sim, get)} == before
    assert get(f"/task/{new}").status_code == 200


def test_the_older_api_knows_limit_and_cursor_only(client: httpx.Client) -> None:
    for api in ("legacy", "opaque"):
        with Simulator(tasks=130, days=10, now=NOW, speed=0, api=api).serve() as sim:
            seen: list[dict] = []
            url: str | None = f"{sim.url}/task?limit=50&order=id-false&count=true&filters=nonsense"
            while url:
                response = client.get(url, headers={"Authorization": f"Bearer {sim.api_key}"})
                assert "X-Total-Count" not in response.headers
                seen += response.json()
                url = response.links["next"]["url"] if "next" in response.links else None
            assert {task["type"] for task in seen} == {"import", "transcode"}
            newest_first = sorted(sim.tasks().values(), key=lambda task: (-task["createdAt"], task["id"]))
            assert seen == newest_first


def test_conditional_requests(sim: Simulator, get: Callable[..., httpx.Response]) -> None:
    first = get("/task?limit=5")
    again = get("/task?limit=5", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    sim.update(first.json()[0]["id"], phase="running")
    assert get("/task?limit=5", headers={"If-None-Match": first.headers["ETag"]}).status_code == 200
