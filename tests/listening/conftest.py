"""A listener of the archive in a thread, and deliveries signed as the server signs them."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from pipelines.landing.journal import Journal, Line, read
from pipelines.listening.server import Receiver, bound, serving
from pipelines.settings import Settings

SHARED = "hook-shared-secret"


@dataclass
class Listener:
    """What listens, where, and what it said."""

    url: str
    settings: Settings
    receiver: Receiver
    said: list[str] = field(default_factory=list)

    def post(self, body: bytes, signature: str | None = None, account: str = "default") -> int:
        headers = {} if signature is None else {"Livepeer-Signature": signature}
        return httpx.post(f"{self.url}/{account}", content=body, headers=headers, trust_env=False).status_code

    def deliver(self, event: dict[str, Any], secret: str = SHARED) -> int:
        body, signature = signed(event, secret)
        return self.post(body, signature)

    def lines(self, account: str = "default") -> list[Line]:
        """What waits to be landed."""
        folder = Journal(self.settings.home.events, account).folder
        return [line for path in sorted(folder.glob("*.log")) for line in read(path)]


def signed(event: dict[str, Any], secret: str = SHARED) -> tuple[bytes, str]:
    """An event's body and its signature; `timestamp` is now unless it has one."""
    body = json.dumps({"timestamp": time.time_ns() // 1_000_000} | event).encode()
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return body, f"t={json.loads(body)['timestamp']},v1={digest}"


def event_of(task: Any, name: str = "task.updated", **fields: Any) -> dict[str, Any]:
    """The event of a snapshot."""
    payload = {"task": {"id": task.get("id"), "type": task.get("type"), "snapshot": task}}
    now_ms = time.time_ns() // 1_000_000
    return {"id": "e", "webhookId": "w", "createdAt": now_ms, "event": name, "payload": payload} | fields


@contextmanager
def listening_to(settings: Settings) -> Iterator[Listener]:
    said: list[str] = []
    receiver = Receiver(settings, said.append)
    with bound("127.0.0.1", 0) as listening, serving(receiver, listening):
        yield Listener(f"http://127.0.0.1:{listening.getsockname()[1]}", settings, receiver, said)


@pytest.fixture
def listen() -> Iterator[Callable[[Settings], Listener]]:
    """listen(settings): a listener that takes signed deliveries until the test ends."""
    with ExitStack() as listeners:

        def listen(settings: Settings) -> Listener:
            settings.webhook_secrets = settings.webhook_secrets or {"default": SecretStr(SHARED)}
            return listeners.enter_context(listening_to(settings))

        yield listen
