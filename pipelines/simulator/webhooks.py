"""The server's webhooks: an event for each change of a task, delivered until somebody takes it.

A refused connection, a timeout and a 5xx are tried again after 5, 10, 20, … seconds, with the old snapshot and a new
timestamp and signature; a 4xx never; a 3xx counts as delivered, as the real server does it.
"""

import hashlib
import heapq
import hmac
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from pipelines.simulator.payloads import uuid4
from pipelines.simulator.store import Row, Task, encode

FIRST_RETRY_SECONDS, MOST_RETRY_SECONDS, MOST_ATTEMPTS = 5.0, 3600.0, 33
TIMEOUT_SECONDS = 30
DELIVERIES_AT_ONCE = 4
EVENTS = ("task.spawned", "task.updated", "task.completed", "task.failed")


@dataclass(frozen=True)
class Webhook:
    id: str
    url: str
    secret: str | None
    project_id: str

    def shown(self) -> dict[str, Any]:
        """As the API lists it."""
        return {
            "id": self.id,
            "name": "task archive",
            "url": self.url,
            "events": list(EVENTS),
            "projectId": self.project_id,
            **({} if self.secret is None else {"sharedSecret": self.secret}),
        }


@dataclass(order=True)
class _Delivery:
    due: float
    number: int
    webhook: Webhook = field(compare=False)
    event: dict[str, Any] = field(compare=False)
    attempts: int = field(compare=False, default=0)


class Webhooks:
    """Sends events from threads of its own. `now`: the server's time, ms; `retry_factor`: of the real server's waits
    between attempts."""

    def __init__(self, seed: int, now: Callable[[], int]) -> None:
        self.registered: list[Webhook] = []
        self.answers: list[tuple[str, int]] = []  # event and status of each delivery; 0: none
        self._log: dict[str, list[dict[str, Any]]] = {}  # by webhook, what was answered
        self.retry_factor = 1.0
        self._now = now
        self._random = Random(f"{seed} webhooks")
        self._log_random = Random(f"{seed} log of deliveries")
        self._waiting: list[_Delivery] = []
        self._under_way = 0
        self._numbers = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self._senders = ThreadPoolExecutor(DELIVERIES_AT_ONCE)
        self._client: httpx.Client | None = None  # it takes a while to make, and few simulators have webhooks

    def register(self, url: str, secret: str | None, project_id: str) -> None:
        if self._client is None:
            self._client = httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False)
            threading.Thread(target=self._send_what_is_due, daemon=True).start()
        self.registered.append(Webhook(uuid4(self._random), url, secret, project_id))

    def changed(self, row: Row, before: Row | None) -> None:
        """Tells of a change of a task; of a deletion the server tells nothing."""
        if not self.registered or row.is_deleted:
            return
        task = row.task()
        phase = task.get("status", {}).get("phase")
        names = ["task.spawned" if before is None else "task.updated"]
        if before is not None and phase in ("completed", "failed"):
            names.append(f"task.{phase}")
        if before is not None and phase == "waiting" and task.get("status", {}).get("retries"):
            task.pop("scheduledAt", None)  # as at an automatic retry
        for webhook in self.registered:
            if webhook.project_id == row.project_id:
                for name in names:
                    self._add(_Delivery(0, 0, webhook, self._event(webhook, name, task, row.written_at)))

    def settle(self, seconds: float = 60) -> bool:
        """Waits until each event was delivered or waits for another attempt; whether that came to pass."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._under_way and not self._is_due(), seconds)

    def log(self, webhook_id: str) -> list[dict[str, Any]]:
        """The deliveries of a webhook that were answered, oldest first."""
        with self._changed:
            return list(self._log.get(webhook_id, []))

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._senders.shutdown(cancel_futures=True)
        if self._client is not None:
            self._client.close()

    def _event(self, webhook: Webhook, name: str, task: Task, at: int) -> dict[str, Any]:
        payload: dict[str, Any] = {"task": {"id": task["id"], "type": task.get("type"), "snapshot": _from_memory(task)}}
        if name in ("task.completed", "task.failed"):
            payload["success"] = name == "task.completed"
        return {"id": uuid4(self._random), "webhookId": webhook.id, "createdAt": at, "event": name, "payload": payload}

    def _add(self, delivery: _Delivery) -> None:
        with self._changed:
            self._numbers += 1
            delivery.number = self._numbers
            heapq.heappush(self._waiting, delivery)
            self._changed.notify_all()

    def _is_due(self) -> bool:
        return bool(self._waiting) and self._waiting[0].due <= time.monotonic()

    def _send_what_is_due(self) -> None:
        while True:
            with self._changed:
                while not self._is_closed and not self._is_due():
                    self._changed.wait(self._waiting[0].due - time.monotonic() if self._waiting else None)
                if self._is_closed:
                    return
                delivery = heapq.heappop(self._waiting)
                self._under_way += 1
            self._senders.submit(self._deliver, delivery)

    def _deliver(self, delivery: _Delivery) -> None:
        sent_ms = self._now()
        body = encode(delivery.event | {"timestamp": sent_ms})
        headers = {"Content-Type": "application/json", "User-Agent": "livepeer.studio"}
        if delivery.webhook.secret is not None:
            digest = hmac.new(delivery.webhook.secret.encode(), body, hashlib.sha256).hexdigest()
            headers["Livepeer-Signature"] = f"t={sent_ms},v1={digest}"
        assert self._client is not None
        try:
            status = self._client.post(delivery.webhook.url, content=body, headers=headers).status_code
        except (httpx.HTTPError, RuntimeError):  # refused, timed out; or closed meanwhile
            status = 0
        self.answers.append((delivery.event["event"], status))
        if status:
            self._log_delivery(delivery, sent_ms, headers, body, status)
        delivery.attempts += 1
        if (status == 0 or status >= 500) and delivery.attempts < MOST_ATTEMPTS:
            wait = min(FIRST_RETRY_SECONDS * 2 ** (delivery.attempts - 1), MOST_RETRY_SECONDS) * self.retry_factor
            delivery.due = time.monotonic() + wait
            self._add(delivery)
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    def _log_delivery(
        self, delivery: _Delivery, sent_ms: int, headers: dict[str, str], body: bytes, status: int
    ) -> None:
        """Notes a delivery as the API documents the entries of its log."""
        webhook = delivery.webhook
        with self._changed:
            entry = {
                "id": uuid4(self._log_random),
                "webhookId": webhook.id,
                "event": delivery.event["event"],
                "createdAt": self._now(),
                "duration": (self._now() - sent_ms) / 1000,
                "success": status < 300,
                "request": {"url": webhook.url, "method": "POST", "headers": headers, "body": body.decode()},
                "response": {"body": "", "status": status, "statusText": ""},
            }
            self._log.setdefault(webhook.id, []).append(entry)


def _from_memory(task: Task) -> Task:
    """A snapshot has its keys in another order than the list, which comes from the database."""
    return {name: task[name] for name in reversed(task)}
