"""Answers that would not end, or not fit: what is taken of them, in what time and memory, and what is said."""

import gzip
import socket
import socketserver
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from pipelines.livepeer import failures
from pipelines.livepeer.answer import MOST_ERROR_BYTES, Limits
from pipelines.livepeer.client import Client, ClientOptions

MEGABYTE = 1_000_000
Send = Callable[[socket.socket], None]


class Raw(socketserver.ThreadingTCPServer):
    """Answers each request with bytes of its own choice, and closes the connection."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(self, send: Send) -> None:
        super().__init__(("127.0.0.1", 0), _RawHandler)
        self.send = send
        self.requests = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}/api"


class _RawHandler(socketserver.BaseRequestHandler):
    server: Raw

    def handle(self) -> None:
        self.request.recv(65_536)
        self.server.requests += 1
        with suppress(OSError):  # the client has had enough
            self.server.send(self.request)


@pytest.fixture
def connect(clean_environment: None) -> Iterator[Callable[..., tuple[Client, Raw]]]:
    """connect(what the server sends, fields of Limits): a client, and its server."""
    opened: list[tuple[Client, Raw]] = []

    def connect(send: Send, **limits: Any) -> tuple[Client, Raw]:
        server = Raw(send)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        options = ClientOptions(timeout_seconds=5, retry_wait_seconds=0.01)
        client = Client(server.url, "key", str, options, Limits(**limits))
        opened.append((client, server))
        return client, server

    yield connect
    for client, server in opened:
        client.__exit__(None, None, None)
        server.shutdown()
        server.server_close()


def head(*headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", "Content-Type: application/json", *headers, "", ""]).encode()


def sends(*pieces: bytes) -> Send:
    return lambda connection: connection.sendall(b"".join(pieces))


def drips(first: bytes, drop: bytes) -> Send:
    def send(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            time.sleep(0.1)
            connection.sendall(drop)

    return send


def floods(first: bytes, wave: bytes) -> Send:
    def send(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(wave)

    return send


def most_memory_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def is_one_clear_line(error: Exception, *names: str) -> bool:
    return (
        "\n" not in str(error) and all(name in str(error) for name in ("127.0.0.1", *names)) and len(str(error)) < 300
    )


# ------------------------------------------------------------------------------------------------------------- too much


def test_a_bomb_is_not_unpacked(connect: Callable[..., tuple[Client, Raw]]) -> None:
    bomb = gzip.compress(bytes(400 * MEGABYTE), 9)
    assert len(bomb) < MEGABYTE
    client, server = connect(sends(head("Content-Encoding: gzip", f"Content-Length: {len(bomb)}"), bomb), answer_mb=5)

    def ask() -> None:
        with pytest.raises(failures.Excessive) as raised:
            client.list_tasks(limit=1)
        assert is_one_clear_line(raised.value, "5 MB", "TASK_ARCHIVE_ANSWER_MB", "TASK_ARCHIVE_PAGE_SIZE")

    assert most_memory_bytes(ask) < 20 * MEGABYTE
    assert server.requests == 1


@pytest.mark.parametrize("coding", ["gzip, gzip", "br", "no-such-coding", "deflate"])
def test_only_the_coding_that_was_asked_for_is_unpacked(
    connect: Callable[..., tuple[Client, Raw]], coding: str
) -> None:
    client, server = connect(sends(head(f"Content-Encoding: {coding}"), gzip.compress(gzip.compress(b"[]"))))
    with pytest.raises(failures.BadRequest, match="coding that it was not asked for") as raised:
        client.list_tasks(limit=1)
    assert is_one_clear_line(raised.value, coding)
    assert server.requests == 1


@pytest.mark.parametrize(
    ("first", "wave"),
    [
        (head(), b" " * MEGABYTE),
        (head("Content-Length: 1000000000000"), b" " * MEGABYTE),
        (head("Transfer-Encoding: chunked"), b"10\r\n%b\r\n" % (b" " * 16) * 10_000),
    ],
    ids=["without a length", "with a length", "in small chunks"],
)
def test_a_flood_is_not_swallowed(connect: Callable[..., tuple[Client, Raw]], first: bytes, wave: bytes) -> None:
    client, server = connect(floods(first, wave), answer_mb=1)

    def ask() -> None:
        with pytest.raises(failures.Excessive) as raised:
            client.list_tasks(limit=1)
        assert is_one_clear_line(raised.value, "1 MB", "TASK_ARCHIVE_ANSWER_MB")

    assert most_memory_bytes(ask) < 8 * MEGABYTE
    assert server.requests == 1


def test_of_an_error_only_the_beginning_is_read(connect: Callable[..., tuple[Client, Raw]]) -> None:
    client, server = connect(floods(head(status="503 Busy"), b"busy " * 100_000))

    def ask() -> None:
        with pytest.raises(failures.ServerFault, match="503: busy busy") as raised:
            client.list_tasks(limit=1)
        assert is_one_clear_line(raised.value)

    assert most_memory_bytes(ask) < MOST_ERROR_BYTES + 8 * MEGABYTE
    assert server.requests == 6  # it may pass


def test_a_page_of_too_many_rows_is_refused(connect: Callable[..., tuple[Client, Raw]]) -> None:
    client, _ = connect(sends(head(), b"[" + b"0," * 10_000_000 + b"0]"))

    def ask() -> None:
        with pytest.raises(failures.BadRequest, match="more than 10,000 elements") as raised:
            client.list_tasks(limit=1)
        assert is_one_clear_line(raised.value)

    assert most_memory_bytes(ask) < 60 * MEGABYTE


# ------------------------------------------------------------------------------------------------------------- too slow


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (head("Content-Length: 1000000"), b" "),
        (head(), b" "),
        (head("Transfer-Encoding: chunked"), b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"s"),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    ],
    ids=["body", "body without a length", "chunks", "headers", "interim answers"],
)
def test_an_answer_that_drips_is_given_up(
    connect: Callable[..., tuple[Client, Raw]], first: bytes, drop: bytes
) -> None:
    client, server = connect(drips(first, drop), answer_seconds=0.5)
    began = time.monotonic()
    with pytest.raises(failures.Overdue) as raised:
        client.list_tasks(limit=1)
    assert is_one_clear_line(raised.value, "0.5 s", "TASK_ARCHIVE_ANSWER_SECONDS")
    assert time.monotonic() - began < 3
    assert server.requests == 2


def test_an_answer_that_is_slow_within_its_time_is_taken(connect: Callable[..., tuple[Client, Raw]]) -> None:
    def send(connection: socket.socket) -> None:
        connection.sendall(head("Content-Length: 12"))
        for character in b'[{"id":"a"}]':
            time.sleep(0.05)
            connection.sendall(bytes([character]))

    client, _ = connect(send, answer_seconds=30)
    assert client.list_tasks(limit=1).rows == [b'{"id":"a"}']
    assert len(threading.enumerate()) < 20  # no watcher outlives its answer


# --------------------------------------------------------------------------------------------------------------- packed


@pytest.mark.parametrize("rows", [0, 1, 5000])
def test_a_packed_answer_is_unpacked(connect: Callable[..., tuple[Client, Raw]], rows: int) -> None:
    listed = [b'{"id":"%d","x":"%s"}' % (number, b"y" * 1000) for number in range(rows)]
    client, _ = connect(sends(head("Content-Encoding: gzip"), gzip.compress(b"[" + b",".join(listed) + b"]")))
    assert client.list_tasks(limit=1).rows == listed


@pytest.mark.parametrize("harm", ["cut", "altered"])
def test_a_packed_answer_that_is_damaged_is_asked_for_again(
    connect: Callable[..., tuple[Client, Raw]], harm: str
) -> None:
    packed = gzip.compress(b"[" + b"1234567890," * 500 + b"0]")
    harmed = packed[:-4] if harm == "cut" else packed[:20] + b"\0\0\0\0" + packed[24:]
    client, server = connect(sends(head("Content-Encoding: gzip"), harmed))
    with pytest.raises(failures.Interrupted) as raised:
        client.list_tasks(limit=1)
    assert is_one_clear_line(raised.value)
    assert server.requests == 6


def test_an_empty_answer_need_not_be_packed(connect: Callable[..., tuple[Client, Raw]]) -> None:
    client, _ = connect(sends(head("Content-Encoding: gzip", "Content-Length: 0", status="429 Too Many")))
    with pytest.raises(failures.RateLimited):
        client.list_tasks(limit=1)
