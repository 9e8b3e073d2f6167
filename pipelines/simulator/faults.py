"""What can go wrong between a client and the server: throttling, proxies, broken connections."""

import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from pipelines.simulator.wire import Response, json_response

KINDS = ("429", "500", "502", "503", "drop", "truncate", "slow", "html", "html-error", "redirect", "empty-body")

_HTML = b"<!DOCTYPE html><html><head><title>%b</title></head><body><h1>%b</h1></body></html>\n"


@dataclass
class Fault:
    """One kind of trouble, for `times` requests (None: without end) from request number `at` on.

    kind          options
    429           retry_after: seconds, or an HTTP date as text
    500 502 503   -
    drop          - (the connection is closed without an answer)
    truncate      - (the connection is closed half-way through the body)
    slow          seconds
    html          - (200 and an HTML page)
    html-error    - (502 and an HTML page)
    redirect      location: URL
    empty-body    - (200 without a body)
    """

    kind: str
    at: int
    times: int | None
    match: str | None
    options: dict[str, Any] = field(default_factory=dict)

    def strikes(self, number: int, path: str) -> bool:
        """Does it meet this request? Counts the ones that it meets."""
        if number < self.at or self.times == 0 or (self.match is not None and self.match not in path):
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def answer(self) -> Response | None:
        """What is sent instead of the server's answer; None: the server answers, see `distort`."""
        match self.kind:
            case "429":
                retry_after = self.options.get("retry_after")
                headers = [] if retry_after is None else [("Retry-After", str(retry_after))]
                return json_response(429, {"errors": ["Too Many Requests"]}, headers)
            case "500":
                return json_response(500, {"errors": ["Internal server error: error"]})
            case "502" | "503":
                return json_response(int(self.kind), {"errors": [HTTPStatus(int(self.kind)).phrase]})
            case "drop":
                return Response(0, [], b"", sent_bytes=0)
            case "html":
                return _html(200, b"Livepeer Studio")
            case "html-error":
                return _html(502, b"502 Bad Gateway")
            case "redirect":
                return Response(302, [("Location", self.options["location"])], b"")
            case "empty-body":
                return Response(200, [("Content-Type", "application/json; charset=utf-8")], b"")
        return None

    def distort(self, response: Response) -> Response:
        """The server's own answer as it arrives under this fault."""
        if self.kind == "slow":
            time.sleep(self.options["seconds"])
        elif self.kind == "truncate":
            return Response(response.status, response.headers, response.body, sent_bytes=len(response.body) // 2)
        return response


def _html(status: int, title: bytes) -> Response:
    return Response(status, [("Content-Type", "text/html; charset=utf-8")], _HTML % (title, title))
