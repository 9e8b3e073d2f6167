"""Receiving Livepeer's webhooks: a delivery is answered once its event is on the disk, redacted.

Livepeer sends a delivery again, with the same snapshot, after a refused connection, a timeout of 30 s or a 5xx; after
a 4xx never; a 3xx it follows and counts as delivered. So a failure of ours is a 5xx, and nothing is ever redirected.
"""

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipelines.errors import SettingsError, in_one_line
from pipelines.landing.context import redactor_of
from pipelines.landing.journal import Journal, Line
from pipelines.livepeer.webhook import Event, Refused, check_signature, read_event
from pipelines.settings import WEBHOOK_VARIABLE, Settings

BODY_SECONDS = 10.0
MOST_DELIVERIES = 500  # at once; more get a 503, and come again
SECONDS_BETWEEN_LINES = 60.0

Waiting = tuple[str, Line, "asyncio.Future[None]"]


class Receiver:
    """Takes deliveries and writes their events; many that come at once cost one write."""

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        """Raises SettingsError where no account can be listened to."""
        self.settings = settings
        self.secrets = {name: secret.get_secret_value() for name, secret in settings.webhook_secrets.items()}
        self.accounts = [name for name in settings.accounts() if name in self.secrets or settings.listen_unsigned]
        if not self.accounts:
            raise SettingsError(
                f"{WEBHOOK_VARIABLE} is not set: set the shared secret of the webhook, or TASK_ARCHIVE_LISTEN_UNSIGNED"
            )
        self.say = say
        self.counts: Counter[str] = Counter()
        self._redactor = redactor_of(settings)
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue(MOST_DELIVERIES)

    def application(self) -> Starlette:
        """POST /<account> takes a delivery; GET /health answers while events can be written."""
        routes = [
            Route("/health", self._health, methods=["GET"]),
            Route("/{account}", self._deliver, methods=["POST"]),
        ]
        application = Starlette(routes=routes, lifespan=self._running)
        application.router.redirect_slashes = False
        return application

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "accounts": self.accounts, "events": self.counts["written"]})

    async def _deliver(self, request: Request) -> Response:
        try:
            account = str(request.path_params["account"]).lower()
            if account not in self.accounts:
                raise Refused(404, "no such account")
            event, line = self._read(account, request, await self._body(request))
        except Refused as refused:
            return self._refuse(refused)
        except ClientDisconnect:
            return self._refuse(Refused(400, "the body was cut off"))
        if not event.is_of_task:
            self.counts["not of tasks"] += 1
            return JSONResponse({"status": "ignored"})
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._queue.put((account, line, written))
        try:
            await written
        except OSError as error:
            self.counts["not written"] += 1
            self.say(f"cannot write events: {in_one_line(error)}")
            return JSONResponse({"status": "cannot write"}, status_code=503)
        self.counts["written"] += 1
        return JSONResponse({"status": "written"})

    async def _body(self, request: Request) -> bytes:
        most = self.settings.answer_mb * 1_000_000
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for part in request.stream():
                    size += len(part)
                    if size > most:
                        raise Refused(413, "the body is larger than TASK_ARCHIVE_ANSWER_MB")
                    parts.append(part)
        except TimeoutError:
            raise Refused(408, f"the body took longer than {BODY_SECONDS:g} s") from None
        return b"".join(parts)

    def _read(self, account: str, request: Request, body: bytes) -> tuple[Event, Line]:
        now_ms = time.time_ns() // 1_000_000
        event = self._event(account, request.headers.get("livepeer-signature"), body, now_ms)
        # A redelivery keeps the old snapshot: what it shows was so when the event was made.
        created_ms, sent_ms = event.created_at_ms, event.sent_at_ms
        age_ms = max(0, sent_ms - created_ms) if created_ms is not None and sent_ms is not None else 0
        skew_ms = now_ms - sent_ms if sent_ms is not None else None
        return event, Line(max(0, now_ms - age_ms), skew_ms, event.snapshot)

    def _event(self, account: str, signature: str | None, body: bytes, now_ms: int) -> Event:
        secret = self.secrets.get(account)
        if secret is None:
            return read_event(body)
        return check_signature(body, signature, secret, now_ms, self.settings.listen_tolerance_seconds)

    def _refuse(self, refused: Refused) -> Response:
        self.counts["refused"] += 1
        if self.counts[str(refused)] == 0:
            self.say(f"refused a delivery ({refused.status}): {refused}")
        self.counts[str(refused)] += 1
        return JSONResponse({"errors": [str(refused)]}, status_code=refused.status)

    @asynccontextmanager
    async def _running(self, application: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._tell())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            self._say_counts()

    async def _write(self) -> None:
        while True:
            together = [await self._queue.get()]
            while not self._queue.empty():
                together.append(self._queue.get_nowait())
            # What fails fails for those that wait, and the next are taken.
            (outcome,) = await asyncio.gather(asyncio.to_thread(self._append, together), return_exceptions=True)
            for _, _, written in together:
                _settle(written, outcome)

    def _append(self, together: Sequence[Waiting]) -> None:
        payloads = self._redactor.redact_all([line.payload for _, line, _ in together])
        for account in sorted({account for account, _, _ in together}):
            lines = (
                Line(line.observed_at_ms, line.skew_ms, payload)
                for (of, line, _), payload in zip(together, payloads, strict=True)
                if of == account
            )
            Journal(self.settings.home.events, account).append(lines)

    async def _tell(self) -> None:
        said = 0
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_LINES)
            if self.counts.total() != said:
                said = self.counts.total()
                self._say_counts()

    def _say_counts(self) -> None:
        counts = [f"{self.counts[name]:,} {name}" for name in ("written", "refused", "not of tasks", "not written")]
        self.say(f"{datetime.now():%H:%M:%S} events: {', '.join(counts)}")


def _settle(written: "asyncio.Future[None]", error: BaseException | None) -> None:
    """Lets the delivery that waits go on, unless it went away."""
    if not written.done():
        if error is None:
            written.set_result(None)
        else:
            written.set_exception(error)


def serve(receiver: Receiver, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Listens until a signal comes, and answers then what is under way. `ready`: called with the address, port 0 is a
    free one. Raises SettingsError where the address cannot be had."""
    server = _server(receiver)
    with bound(host, port) as listening:
        ready(f"http://{host}:{listening.getsockname()[1]}")
        server.run(sockets=[listening])


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises SettingsError where the address cannot be had."""
    try:
        return socket.create_server((host, port), backlog=2048)
    except (OSError, OverflowError) as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {error}") from None


@contextmanager
def serving(receiver: Receiver, listening: socket.socket) -> Iterator[None]:
    """Listens in a thread until the block ends."""
    server = _server(receiver)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def _server(receiver: Receiver) -> uvicorn.Server:
    config = uvicorn.Config(
        receiver.application(),
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=2 * MOST_DELIVERIES,
        timeout_graceful_shutdown=2,
    )
    config.load()  # which takes a second
    return uvicorn.Server(config)
