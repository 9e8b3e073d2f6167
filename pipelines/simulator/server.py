"""The HTTP server: reads requests off the socket, writes responses, one `sendall` each."""

import contextlib
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from pipelines.simulator.api import MAX_REQUEST_LINE, Request
from pipelines.simulator.wire import KEEP_ALIVE_SECONDS, Response

SEND_SECONDS = 60  # how long a client may take to read a response


class Application(Protocol):
    """What answers. A response of status 0 is none: the connection is closed without a word."""

    def respond(self, request: Request, body: bytes) -> Response: ...

    def now(self) -> int: ...


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, application: Application, port: int) -> None:
        self.application = application
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of ours; anything else is."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        """Stop listening and end the connections that are kept alive."""
        super().server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    raw_requestline: bytes
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        self.connection.settimeout(KEEP_ALIVE_SECONDS)  # an idle connection is closed
        super().handle_one_request()

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._send(self.server.application.respond(Request(self.command, self.path, headers), body))

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Requests that cannot be parsed: no body, as Node does it."""
        too_long = len(self.raw_requestline) > MAX_REQUEST_LINE
        self.command = ""
        self._send(Response(431 if too_long else code, [], b"", sent_bytes=0))

    def log_message(self, format: str, *args: object) -> None:
        """The simulator keeps its own list of requests."""

    def _send(self, response: Response) -> None:
        if response.sent_bytes is not None:
            self.close_connection = True
        if response.status == 0:
            return
        self.connection.settimeout(SEND_SECONDS)
        keep_alive = not self.close_connection
        now = self.server.application.now()
        self.connection.sendall(response.message(now, with_body=self.command != "HEAD", keep_alive=keep_alive))
