"""One answer of the server, read whole within limits: a proxy, or whoever answers in its place, may send anything."""

import socket
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

import httpx

from pipelines.livepeer import failures
from pipelines.settings import Settings

MOST_ERROR_BYTES = 65_536  # of an error no more is read, as it becomes one line
BYTES_AT_ONCE = 1_000_000
SECONDS_BETWEEN_CUTS = 0.1


@dataclass(frozen=True)
class Limits:
    """How much of an answer, and of a list, is taken: see the settings of the same names."""

    answer_mb: int = 100
    answer_seconds: float = 600
    pages_beyond_count: int = 1000

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.answer_mb, settings.answer_seconds, settings.pages_beyond_count)


@dataclass(frozen=True)
class Answer:
    """An answer with its body unpacked; of an error only the beginning of the body."""

    status: int
    headers: httpx.Headers
    path: str
    body: bytes


class Reader:
    """Reads answers, one at a time."""

    def __init__(self, http: httpx.Client, host: str, limits: Limits) -> None:
        self._http = http
        self._host = host
        self._limits = limits
        self._socket: socket.socket | None = None  # of the connection in use

    def get(self, url: str, params: dict[str, str]) -> Answer:
        """Raises what httpx raises, and failures.Excessive, Overdue, or Interrupted where a packed body is no whole."""
        with (
            self._in_time(),
            self._http.stream("GET", url, params=params, extensions={"trace": self._note}) as response,
        ):
            most = self._limits.answer_mb * 1_000_000 if response.status_code == 200 else MOST_ERROR_BYTES
            body = bytearray()  # not a list of chunks: a server may send a byte in each
            for chunk in self._unpacked(response):
                body += chunk
                if len(body) > most:
                    break
            if len(body) > most and response.status_code == 200:
                raise failures.Excessive(
                    f"{self._host} answers with more than {self._limits.answer_mb} MB (TASK_ARCHIVE_ANSWER_MB): "
                    "lower TASK_ARCHIVE_PAGE_SIZE, or allow more"
                )
            return Answer(response.status_code, response.headers, response.url.path, bytes(body))

    def _unpacked(self, response: httpx.Response) -> Iterator[bytes]:
        """The body a piece at a time, however far it expands: httpx would unpack all that has come at once."""
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding == "identity":
            yield from response.iter_raw()
            return
        if coding != "gzip":
            raise failures.BadRequest(f"{self._host} answers in a coding that it was not asked for, {coding[:50]!r}")
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        is_empty = True
        try:
            for packed in response.iter_raw():
                is_empty = False
                while packed:
                    yield unpacker.decompress(packed, BYTES_AT_ONCE)
                    packed = unpacker.unconsumed_tail
            yield unpacker.flush()
        except zlib.error as error:
            raise failures.Interrupted(f"the answer of {self._host} is damaged: {error}") from None
        if not (unpacker.eof or is_empty):
            raise failures.Interrupted(f"the answer of {self._host} broke off inside its gzip")

    def _note(self, event: str, info: Mapping[str, Any]) -> None:
        """httpx's trace of a request: a new connection is a new socket."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Cuts the connection of an answer that takes too long in all: one that drips meets no timeout of a read."""
        is_read, is_late = threading.Event(), threading.Event()

        def watch() -> None:
            if is_read.wait(self._limits.answer_seconds):
                return
            is_late.set()
            while not is_read.wait(SECONDS_BETWEEN_CUTS):  # it may be connecting still
                if self._socket is not None:
                    with suppress(OSError):
                        socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # not TLS's own, which writes first

        overdue = failures.Overdue(
            f"{self._host} took longer than {self._limits.answer_seconds:g} s over one answer "
            "(TASK_ARCHIVE_ANSWER_SECONDS)"
        )
        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        except (httpx.TransportError, failures.Interrupted):
            if is_late.is_set():
                raise overdue from None
            raise
        finally:
            is_read.set()
        if is_late.is_set():  # without a length the end of the connection would pass for the end of the body
            raise overdue
