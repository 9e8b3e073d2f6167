"""HTTP messages: what goes over the socket, byte for byte as Express writes it."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from pipelines.simulator.store import encode

KEEP_ALIVE_SECONDS = 5

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Response:
    """`sent_bytes`: stop after so many bytes of the body and close the connection (None: send all, keep it open)."""

    status: int
    headers: Headers
    body: bytes
    sent_bytes: int | None = None

    def message(self, now_ms: int, with_body: bool, keep_alive: bool) -> bytes:
        """Head and body as one piece. The length is always that of the whole body, for HEAD too."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.status != 304 and (self.body or keep_alive):
            lines.append(f"Content-Length: {len(self.body)}")
        lines.append(f"Date: {formatdate(now_ms / 1000, usegmt=True)}")
        lines.append("Connection: keep-alive" if keep_alive else "Connection: close")
        if keep_alive:
            lines.append(f"Keep-Alive: timeout={KEEP_ALIVE_SECONDS}")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        return head + self.body[: self.sent_bytes] if with_body else head


def json_response(status: int, body: object, headers: Headers = ()) -> Response:
    """`body`: a value, or the bytes of its JSON."""
    data = body if isinstance(body, bytes) else encode(body)
    own = [("Content-Type", "application/json; charset=utf-8"), ("ETag", etag(data))]
    return Response(status, [*headers, *own], data)


def etag(body: bytes) -> str:
    """The weak tag of Express's `etag` package."""
    digest = base64.b64encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode()
    return f'W/"{len(body):x}-{digest[:27]}"'
