"""The client against a server that misbehaves: what is tried again, what is given up, and what is said of it."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pipelines.errors import SettingsError
from pipelines.landing.lanes import Extraction
from pipelines.livepeer import failures
from pipelines.livepeer.answer import Limits
from pipelines.livepeer.client import LONGEST_WAIT_SECONDS, Client, ClientOptions
from pipelines.livepeer.pace import Pace
from pipelines.livepeer.redact import Redactor
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from tests.conftest import NOW_MS

IMPATIENT = {"timeout_seconds": 5.0, "retry_wait_seconds": 0.01}


@pytest.fixture
def sim(simulate: Callable[..., Simulator]) -> Simulator:
    return simulate(tasks=60, speed=0)


@pytest.fixture
def connect(clean_environment: None) -> Iterator[Callable[..., Client]]:
    """connect(url, key, fields of ClientOptions): a client."""
    clients: list[Client] = []

    def connect(url: str, key: str = "sim-key-default", **options: Any) -> Client:
        client = Client(url, key, Redactor(b"key", [key]).scrub, ClientOptions(**(IMPATIENT | options)), Limits())
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.__exit__(None, None, None)


class Scripted(ThreadingHTTPServer):
    """Answers with what it was told, the last answer for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ScriptedHandler)
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.targets: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/api"

    def says(self, status: int, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.append((status, {"Content-Type": content_type} | named, body))


class _ScriptedHandler(BaseHTTPRequestHandler):
    server: Scripted
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.targets.append(self.path)
        answers = self.server.answers
        status, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    server = Scripted()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def is_one_clear_line(error: Exception) -> bool:
    text = str(error)
    return "\n" not in text and "127.0.0.1" in text and "sim-key" not in text and len(text) < 400


# ------------------------------------------------------------------------------------------------------ tried again


@pytest.mark.parametrize("kind", ["429", "500", "502", "503", "drop", "truncate", "html", "html-error", "empty-body"])
def test_passing_trouble_passes(sim: Simulator, connect: Callable[..., Client], kind: str) -> None:
    sim.fault(kind, times=2)
    said: list[str] = []
    client = connect(sim.url, on_retry=said.append)
    page = client.list_tasks(limit=60, order="id-false")
    assert len(page.rows) == 60
    assert (client.traffic.requests, client.traffic.attempts_repeated) == (3, 2) == (len(sim.requests), len(said))
    assert all("127.0.0.1" in line and "attempt" in line for line in said)


def test_an_answer_that_takes_too_long_is_asked_for_again(sim: Simulator, connect: Callable[..., Client]) -> None:
    sim.fault("slow", seconds=1.5)
    began = time.monotonic()
    page = connect(sim.url, timeout_seconds=0.3).list_tasks(limit=5)
    assert len(page.rows) == 5
    assert time.monotonic() - began < 1.4


@pytest.mark.parametrize("as_date", [False, True])
def test_the_wait_that_the_server_asks_for_is_kept(
    sim: Simulator, connect: Callable[..., Client], as_date: bool
) -> None:
    # The date is one on the server's clock, which lies months away from ours here: sim.now stands still.
    sim.advance(-90 * 86400)
    asked = formatdate(sim.now() // 1000 + 1, usegmt=True) if as_date else 1
    sim.fault("429", retry_after=asked)
    began = time.monotonic()
    connect(sim.url).list_tasks(limit=1)
    assert 1 <= time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("retry_after", "waits"),
    [("86400", LONGEST_WAIT_SECONDS), ("Fri, 01 Jan 2100 00:00:00 GMT", LONGEST_WAIT_SECONDS), ("soon", None)],
)
def test_no_wait_is_endless_or_unreadable(
    sim: Simulator,
    connect: Callable[..., Client],
    monkeypatch: pytest.MonkeyPatch,
    retry_after: str,
    waits: float | None,
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    sim.fault("429", retry_after=retry_after)
    connect(sim.url).list_tasks(limit=1)
    assert len(slept) == 1
    assert slept[0] == waits if waits else slept[0] < 0.1


def test_waits_grow(sim: Simulator, connect: Callable[..., Client], monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    sim.fault("503", times=None)
    with pytest.raises(failures.ServerFault):
        connect(sim.url, retry_wait_seconds=1, attempts=6).list_tasks(limit=1)
    assert len(slept) == 5
    assert all(2**number <= wait <= 2**number + 1 for number, wait in enumerate(slept))


# --------------------------------------------------------------------------------------------------------- given up


@pytest.mark.parametrize(
    ("kind", "failure", "attempts"),
    [
        ("429", failures.RateLimited, 6),
        ("500", failures.RowFault, 3),
        ("502", failures.ServerFault, 6),
        ("503", failures.ServerFault, 6),
        ("drop", failures.Interrupted, 6),
        ("truncate", failures.Interrupted, 6),
        ("html", failures.NotJson, 3),
        ("html-error", failures.ServerFault, 6),
        ("empty-body", failures.NotJson, 3),
    ],
)
def test_trouble_that_stays_is_told_in_one_line(
    sim: Simulator, connect: Callable[..., Client], kind: str, failure: type[Exception], attempts: int
) -> None:
    sim.fault(kind, times=None)
    with pytest.raises(failure) as raised:
        connect(sim.url).list_tasks(limit=50)
    assert type(raised.value) is failure
    assert is_one_clear_line(raised.value)
    assert "<" not in str(raised.value)  # no HTML
    assert len(sim.requests) == attempts


def test_one_setting_bounds_all_attempts(sim: Simulator, connect: Callable[..., Client]) -> None:
    sim.fault("503", times=None)
    with pytest.raises(failures.ServerFault):
        connect(sim.url, attempts=2).list_tasks(limit=1)
    assert len(sim.requests) == 2


def test_a_row_fault_that_is_expected_is_not_asked_for_again(sim: Simulator, connect: Callable[..., Client]) -> None:
    sim.fault("500", times=None)
    with pytest.raises(failures.RowFault):
        connect(sim.url).list_tasks(limit=1, expect_row_fault=True)
    assert len(sim.requests) == 1


def test_a_wrong_key_is_never_repeated_nor_tried_again(sim: Simulator, connect: Callable[..., Client]) -> None:
    key = "2f1c8f6e-wrong-key-0815"
    with pytest.raises(failures.WrongKey) as raised:
        connect(sim.url, key).list_tasks(limit=1)
    assert sim.requests[0].status == 401
    assert len(sim.requests) == 1
    assert key not in str(raised.value)
    assert "wrong-key" not in str(raised.value)
    assert "LIVEPEER_API_KEY" in str(raised.value)
    assert "no token" in str(raised.value)  # the server's words are there, only without the key
    assert raised.value.__cause__ is None


def test_a_key_restricted_by_cors(sim: Simulator, connect: Callable[..., Client]) -> None:
    client = connect(sim.url, sim.api_keys["cors"])
    with pytest.raises(failures.Forbidden, match="CORS"):
        client.list_tasks(limit=1)
    assert client.get_task(min(sim.ids())).status == 200


def test_a_page_that_refuses_is_a_proxys(scripted: Scripted, connect: Callable[..., Client]) -> None:
    scripted.says(403, b"<html>Forbidden</html>", "text/html")
    with pytest.raises(failures.Forbidden, match=r"an HTML page\. Is a proxy in the way\?") as raised:
        connect(scripted.url).list_tasks(limit=1)
    assert is_one_clear_line(raised.value)


def test_a_wrong_path(sim: Simulator, connect: Callable[..., Client]) -> None:
    with pytest.raises(failures.NotFound, match="LIVEPEER_API_URL") as raised:
        connect(sim.url + "/v2").list_tasks(limit=1)
    assert is_one_clear_line(raised.value)
    assert len(sim.requests) == 1
    with pytest.raises(failures.BadRequest, match="LIVEPEER_API_URL"):
        connect(sim.url.removesuffix("/api")).list_tasks(limit=1)


def test_a_web_page_where_the_api_should_be(scripted: Scripted, connect: Callable[..., Client]) -> None:
    scripted.says(200, b"<!DOCTYPE html><html>sim-key-default</html>", "text/html")
    with pytest.raises(failures.NotJson, match="an HTML page instead of JSON: is LIVEPEER_API_URL right") as raised:
        connect(scripted.url).list_tasks(limit=1)
    assert is_one_clear_line(raised.value)
    assert len(scripted.targets) == 3


@pytest.mark.parametrize("body", [b'{"errors":[]}', b"null", b'"text"', b'[{"id":"a"}', b"[1 2]"])
def test_json_that_is_no_list_of_tasks(scripted: Scripted, connect: Callable[..., Client], body: bytes) -> None:
    scripted.says(200, body)
    with pytest.raises(failures.BadRequest, match="answered /task with no list: ") as raised:
        connect(scripted.url).list_tasks(limit=1)
    assert is_one_clear_line(raised.value)


def test_nobody_listens(sim: Simulator, connect: Callable[..., Client]) -> None:
    url = sim.url
    sim.close()
    client = connect(url)
    with pytest.raises(failures.Unreachable, match=r"cannot reach 127\.0\.0\.1") as raised:
        client.list_tasks(limit=1)
    assert is_one_clear_line(raised.value)
    assert client.traffic.requests == 6


def test_a_server_that_starts_again_is_waited_for(
    simulate: Callable[..., Simulator], connect: Callable[..., Client]
) -> None:
    before = simulate(tasks=60, speed=0)
    url = before.url
    before.close()
    client = connect(url, attempts=9, retry_wait_seconds=0.1)
    again = Simulator(tasks=60, days=10, seed=1, now=NOW_MS, speed=0)
    start = threading.Timer(1.5, again.serve, [urlsplit(url).port])  # after the fourth attempt at the latest
    start.start()
    try:
        assert len(client.list_tasks(limit=60).rows) == 60
        assert client.traffic.attempts_repeated > 3
    finally:
        start.join()
        again.close()


def test_a_long_error_of_many_lines_becomes_one_short_line(scripted: Scripted, connect: Callable[..., Client]) -> None:
    scripted.says(400, b'{"errors":["first\\n\\tsecond sim-key-default ' + b"x" * 5000 + b'"]}')
    with pytest.raises(failures.BadRequest, match="first second") as raised:
        connect(scripted.url).list_tasks(limit=1)
    assert is_one_clear_line(raised.value)


@pytest.mark.parametrize(
    "body", [b'{"errors":null}', b'{"message":{"a":1}}', b"[1]", b"\xff\xfe", b"", b'{"errors":[{"a":[1]}]}', b"<x>"]
)
def test_any_error_body_is_told(scripted: Scripted, connect: Callable[..., Client], body: bytes) -> None:
    scripted.says(418, body)
    with pytest.raises(failures.BadRequest, match="418") as raised:
        connect(scripted.url).list_tasks(limit=1)
    assert is_one_clear_line(raised.value)


ODD_CHARSETS = ["hex", "undefined", "idna", "unicode_escape", "no-such-codec", '"', "utf-16"]


@pytest.mark.parametrize("charset", ODD_CHARSETS)
def test_an_error_in_any_charset_is_told(scripted: Scripted, connect: Callable[..., Client], charset: str) -> None:
    scripted.says(418, b'{"errors":["a teapot"]}', f"application/json; charset={charset}")
    with pytest.raises(failures.BadRequest, match="a teapot") as raised:
        connect(scripted.url).list_tasks(limit=1)
    assert is_one_clear_line(raised.value)


def test_an_error_nested_too_deeply_is_told(scripted: Scripted, connect: Callable[..., Client]) -> None:
    scripted.says(418, b'{"errors":' + b"[" * 100_000)
    with pytest.raises(failures.BadRequest, match="418") as raised:
        connect(scripted.url).list_tasks(limit=1)
    assert is_one_clear_line(raised.value)


ODD_DATES = [
    "soon",
    "Fri, 01 Jan 99999999999999999999 10:00:00 GMT",
    "Fri, 01 Jan 2026 10:00:00 +99999999999999",
    "Fri, 99999999999999999999 Jan 2026 10:00:00 GMT",
]


@pytest.mark.parametrize("date", ODD_DATES)
def test_a_date_that_cannot_be_read_is_none(scripted: Scripted, connect: Callable[..., Client], date: str) -> None:
    scripted.says(200, b"[]", Date=date, X_Total_Count="9" * 5000)
    client = connect(scripted.url)
    page = client.list_tasks(limit=1)
    assert (page.server_at_ms, page.total_count, client.traffic.clock_skew_seconds) == (None, None, None)
    scripted.answers = []
    scripted.says(429, b"[]", Retry_After=date)
    scripted.says(200, b"[]")
    assert client.list_tasks(limit=1).rows == []


@pytest.mark.parametrize(
    "url",
    ["http://a..b/api", f"http://{'a' * 70}.b/api", "http://xn--/api", "http://\u2603.net/api", "http://h:port/api"],
)
def test_an_url_that_cannot_be_asked_is_one_line(connect: Callable[..., Client], url: str) -> None:
    client = connect(url)
    with pytest.raises(failures.BadRequest, match=r"cannot be asked: .*: is LIVEPEER_API_URL right") as raised:
        client.list_tasks(limit=1)
    assert "\n" not in str(raised.value)
    assert client.traffic.requests == 1


def test_an_id_too_long_for_an_url_is_one_line(sim: Simulator, connect: Callable[..., Client]) -> None:
    with pytest.raises(failures.BadRequest, match="URL too long") as raised:
        connect(sim.url).get_task("x" * 70_000)
    assert is_one_clear_line(raised.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("HTTP_PROXY", "http://[::1"), ("ALL_PROXY", "ftp://127.0.0.1:9"), ("SSL_CERT_FILE", "/no/such/file")],
)
def test_a_proxy_or_certificate_that_is_none_is_one_line(
    connect: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.undo()  # what spares the other tests the reading of certificates
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=variable) as raised:
        connect("http://127.0.0.1:9/api")
    assert "\n" not in str(raised.value)


# ------------------------------------------------------------------------------------------- where the key may not go


def test_a_redirect_is_not_followed(
    sim: Simulator, simulate: Callable[..., Simulator], connect: Callable[..., Client]
) -> None:
    other = simulate(tasks=5)
    sim.fault("redirect", times=None, location=f"{other.url}/task?token=abc")
    client = connect(sim.url)
    for ask in (lambda: client.list_tasks(limit=1), lambda: client.get_task("some-id")):
        with pytest.raises(failures.Redirected, match=r"redirects to http://127\.0\.0\.1: not followed") as raised:
            ask()
        assert is_one_clear_line(raised.value)
        assert "abc" not in str(raised.value)
    assert len(sim.requests) == 2  # not tried again either
    assert other.requests == []


@pytest.mark.parametrize("location", ["http://[::1", "/login", "http://\u2603..net:port", ""])
def test_a_redirect_to_nowhere_is_one_line(scripted: Scripted, connect: Callable[..., Client], location: str) -> None:
    scripted.says(302, b"", Location=location.encode().decode("latin-1"))
    with pytest.raises(failures.Redirected, match="not followed") as raised:
        connect(scripted.url).list_tasks(limit=1)
    assert is_one_clear_line(raised.value)
    assert "None" not in str(raised.value)
    assert len(scripted.targets) == 1


def test_of_a_link_only_the_cursor_is_taken(
    scripted: Scripted, simulate: Callable[..., Simulator], connect: Callable[..., Client]
) -> None:
    other = simulate(tasks=5)
    link = f'<{other.url}/task?limit=1&cursor=skip%31>; rel="next"'
    scripted.says(200, b'[{"id":"a"}]', Link=link)
    client = connect(scripted.url)
    page = client.list_tasks(limit=1)
    assert page.next_cursor == "skip1"
    client.list_tasks(limit=1, cursor=page.next_cursor)
    assert scripted.targets == ["/api/task?limit=1", "/api/task?limit=1&cursor=skip1"]
    assert other.requests == []


@pytest.mark.parametrize(
    "link",
    [
        "",
        "garbage",
        '<http://[::1/?a=b>; rel="next"',
        '<http://x/?a=b>; rel="next"',
        '<http://x/?cursor=c>; rel="prev"',
    ],
)
def test_a_link_without_a_next_cursor(scripted: Scripted, connect: Callable[..., Client], link: str) -> None:
    scripted.says(200, b"[]", Link=link)
    assert connect(scripted.url).list_tasks(limit=1).next_cursor is None


@pytest.mark.parametrize("url", ["http://archive.invalid/api", "http://10.0.0.1:8080/api", "http://127.0.0.1.nip.io"])
def test_plain_http_to_another_machine_is_refused(
    sim: Simulator, archive_settings: Callable[..., Settings], url: str
) -> None:
    with pytest.raises(SettingsError, match="unencrypted") as raised:
        Extraction(archive_settings(sim, api_url=url), "default", "run")
    assert "TASK_ARCHIVE_ALLOW_HTTP" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert sim.api_key not in str(raised.value)
    Extraction(archive_settings(sim, api_url=url, allow_http=True), "default", "run")
    Extraction(archive_settings(sim, api_url="https" + url.removeprefix("http")), "default", "run")


# ------------------------------------------------------------------------------------------------------ what it says


def test_a_page(sim: Simulator, connect: Callable[..., Client]) -> None:
    client = connect(sim.url)
    page = client.list_tasks(limit=50, order="id-false", count=True)
    assert page.rows == [row.body for row in sim._listed("default")][:50]
    assert page.total_count == 60
    assert page.next_cursor == "skip50"
    assert page.server_at_ms == sim.now() // 1000 * 1000
    assert client.traffic.bytes_received >= sum(map(len, page.rows))
    assert client.list_tasks(limit=1).total_count is None


def test_filters_and_cursors_survive_the_query_string(sim: Simulator, connect: Callable[..., Client]) -> None:
    rows = sim._listed("default")
    created = sorted(row.created_at or 0 for row in rows)
    window = [{"id": "createdAt", "value": {"gte": created[20], "lt": created[40]}}]
    page = connect(sim.url).list_tasks(limit=1000, order="id-false", filters=window, cursor=rows[9].id, count=True)
    kept = [row for row in rows[10:] if created[20] <= (row.created_at or 0) < created[40]]
    assert page.rows == [row.body for row in kept]
    assert page.total_count == len(kept) > 0


def test_one_task(sim: Simulator, connect: Callable[..., Client]) -> None:
    client = connect(sim.url)
    mine, deleted, poisoned, removed = sorted(sim.ids())[:4]
    sim.delete(deleted)
    sim.poison(poisoned)
    sim.remove(removed)
    foreign = min(sim.ids("other-user"))
    assert client.get_task(mine).payload == sim._row(mine).body
    assert b'"deleted":true' in (client.get_task(deleted).payload or b"")
    assert [(client.get_task(i).status, client.get_task(i).payload) for i in (poisoned, removed, foreign)] == [
        (500, None),
        (404, None),
        (403, None),
    ]


def test_an_id_cannot_lead_to_another_path(scripted: Scripted, connect: Callable[..., Client]) -> None:
    scripted.says(200, b"{}")
    client = connect(scripted.url)
    for task_id in ("../user?a=b#c", "..", "."):
        client.get_task(task_id)
    assert scripted.targets == ["/api/task/%2E%2E%2Fuser%3Fa%3Db%23c", "/api/task/%2E%2E", "/api/task/%2E"]


def test_a_page_of_a_proxy_does_not_pass_for_a_task_that_is_gone(
    scripted: Scripted, connect: Callable[..., Client]
) -> None:
    scripted.says(404, b"<html>404 Not Found</html>", "text/html")
    with pytest.raises(failures.ApiError):
        connect(scripted.url).get_task("some-id")


def test_requests_are_spaced(sim: Simulator, connect: Callable[..., Client]) -> None:
    client = connect(sim.url, pace=Pace(20))
    began = time.monotonic()
    for _ in range(6):
        client.list_tasks(limit=1)
    assert time.monotonic() - began >= 5 / 20


ASK = """
import sys
from itertools import pairwise
from pathlib import Path
from pipelines.livepeer.pace import Pace
pace = Pace(20, Path(sys.argv[1]))
for _ in range(4):
    pace.wait()
    print(pace._last_at)
"""


def test_processes_keep_to_one_rate(tmp_path: Path) -> None:
    asking = [sys.executable, "-c", ASK, str(tmp_path / "requests")]
    processes = [subprocess.Popen(asking, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    sent = sorted(float(line) for process in processes for line in process.communicate()[0].split())
    assert len(sent) == 12
    assert all(later - sooner >= 1 / 20 - 1e-4 for sooner, later in pairwise(sent))


def test_a_rate_holds_where_nothing_can_be_noted(tmp_path: Path) -> None:
    for file in (tmp_path / "no folder" / "requests", tmp_path / "spoilt"):
        if file.parent.exists():
            file.write_bytes(b"no time at all")
        pace = Pace(20, file)
        began = time.monotonic()
        for _ in range(4):
            pace.wait()
        assert time.monotonic() - began >= 3 / 20


def test_a_clock_set_back_holds_no_request_up(tmp_path: Path) -> None:
    file = tmp_path / "requests"
    file.write_bytes(b"%20.6f" % (time.time() + 3600))
    began = time.monotonic()
    Pace(20, file).wait()
    assert time.monotonic() - began < 10
