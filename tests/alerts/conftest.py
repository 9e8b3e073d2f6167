"""Real servers on loopback that keep what is sent to them."""

import json
import threading
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP as Server
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session
from click.testing import CliRunner, Result

from pipelines.cli.main import main


class Webhook(HTTPServer):
    """Keeps what is posted to it, and answers with `status` and `body`."""

    path = "/services/T0123/B4567/x-secret-of-the-webhook"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Post)
        self.received: list[dict[str, Any]] = []
        self.status, self.body = 200, b"ok"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{self.path}"


class Post(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/json"
        self.server.received.append(json.loads(body))
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(self.server.body)

    def do_GET(self) -> None:  # what a redirected POST becomes
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    server = Webhook()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class MailServer(Controller):
    """Keeps the mails that it is given; answers RCPT with what `replies` says, if it says."""

    login = ("robot", "p@ss word/with:all")

    def __init__(self, **arguments: Any) -> None:
        self.received: list[EmailMessage] = []
        self.encrypted: list[bool] = []
        self.replies: dict[str, str] = {}
        super().__init__(self, "127.0.0.1", 0, authenticator=self.authenticate, auth_require_tls=False, **arguments)

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()

    def authenticate(self, server: Server, session: Session, envelope: Envelope, kind: str, data: object) -> AuthResult:
        assert isinstance(data, LoginPassword)
        return AuthResult(success=(data.login.decode(), data.password.decode()) == self.login, handled=False)

    async def handle_RCPT(
        self, server: Server, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address not in self.replies:
            envelope.rcpt_tos.append(address)
        return self.replies.get(address, "250 OK")

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        mail = message_from_bytes(envelope.original_content or b"", policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.received.append(mail)
        self.encrypted.append(server.transport.get_extra_info("sslcontext") is not None)
        return "250 taken"


@pytest.fixture
def mail_server() -> Iterator[Callable[..., MailServer]]:
    """mail_server(arguments of aiosmtpd's Controller): a running one, stopped when the test ends."""
    running: list[MailServer] = []

    def mail_server(**arguments: Any) -> MailServer:
        running.append(MailServer(**arguments))
        running[-1].start()
        return running[-1]

    yield mail_server
    for server in running:
        server.stop()


@pytest.fixture
def home(clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of an archive that nothing was set for."""
    home = tmp_path / "archive"
    monkeypatch.setenv("TASK_ARCHIVE_HOME", str(home))
    return home


@pytest.fixture
def run(home: Path) -> Callable[..., Result]:
    """run(arguments, variables): the command in this process."""

    def run(*arguments: str, **variables: str) -> Result:
        return CliRunner().invoke(main, arguments, env=variables, catch_exceptions=False)

    return run
