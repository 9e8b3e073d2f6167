"""What Livepeer's webhooks send: the signature, the event, and the snapshot of its task as the list would show it."""

import hashlib
import hmac
import re
from typing import Any, NamedTuple

import msgspec

_SIGNATURE = re.compile(rb"t=(\d{1,15}),v1=([0-9a-f]{64})")
# Of an export to IPFS the server adds these as it serves a task, behind what its database holds.
_ADDED = ("videoFileUrl", "videoFileGatewayUrl", "nftMetadataUrl", "nftMetadataGatewayUrl")
_INTEGER = re.compile(r"0|[1-9]\d{0,9}")


class Refused(ValueError):
    """A delivery that is not taken, and why. `status`: the answer's; a server of Livepeer's sends no 4xx again."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Event(NamedTuple):
    """An event; `snapshot`: JSON of the task as it was at `created_at_ms`, or whatever a task's event had instead.

    Times are the server's, epoch ms: a redelivery keeps `created_at_ms` and has a later `sent_at_ms`.
    """

    name: str
    created_at_ms: int | None
    sent_at_ms: int | None
    snapshot: bytes

    @property
    def is_of_task(self) -> bool:
        return self.name.startswith("task.")


class Webhook(msgspec.Struct):
    """A webhook as the API lists it."""

    id: str = ""
    url: str = ""
    events: list[str] = []
    sharedSecret: str | None = None

    def comes_to(self, url: str) -> bool:
        """Whether its deliveries go to an address."""
        return self.url.rstrip("/").lower() == url.lower()


class _Task(msgspec.Struct):
    snapshot: msgspec.Raw


class _Payload(msgspec.Struct):
    task: _Task


class _Body(msgspec.Struct):
    event: str
    payload: msgspec.Raw = msgspec.Raw(b"null")
    createdAt: Any = None
    timestamp: Any = None


class _Request(msgspec.Struct):
    body: str


class _Delivery(msgspec.Struct):
    request: _Request


def check_signature(body: bytes, header: str | None, secret: str, now_ms: int, tolerance_seconds: float) -> Event:
    """The event of a body.

    Raises Refused (401) unless the header `Livepeer-Signature: t=<ms>,v1=<hex>` is that of the body, and recent.

    v1 is the HMAC-SHA256 of the body alone; t is not signed, so that the body's own `timestamp` must equal it.
    """
    found = _SIGNATURE.fullmatch((header or "").encode("utf-8", "replace"))
    if found is None:
        raise Refused(401, "no signature" if not header else "the signature cannot be read")
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, found[2].decode()):
        raise Refused(401, "the signature is not that of the shared secret")
    event = read_event(body)
    sent_at_ms = int(found[1])
    if event.sent_at_ms != sent_at_ms:
        raise Refused(401, "the signature's time is not the body's")
    if abs(now_ms - sent_at_ms) > tolerance_seconds * 1000:
        raise Refused(401, f"sent {(now_ms - sent_at_ms) / 1000:+,.0f} s ago, beyond the tolerance")
    return event


def read_event(body: bytes) -> Event:
    """The event of a body. Raises Refused (400) where it is none."""
    try:
        read = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(400, "the body is no event") from None
    try:
        snapshot = msgspec.json.decode(read.payload, type=_Payload).task.snapshot
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        snapshot = read.payload  # it lands all the same, and is quarantined
    return Event(read.event, _millis(read.createdAt), _millis(read.timestamp), bytes(snapshot))


def read_delivery(entry: bytes) -> Event:
    """The event that an entry of the API's log of deliveries tells of. Raises Refused (400) where it tells of none."""
    try:
        body = msgspec.json.decode(entry, type=_Delivery).request.body
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(400, "the entry holds no request") from None
    return read_event(body.encode("utf-8", "surrogatepass"))


def in_list_order(snapshot: bytes, **missing: bytes) -> bytes:
    """A snapshot with its keys in the order of the list, so that it has the bytes that the list shows of the state.

    The list comes from PostgreSQL's jsonb, which orders keys by length, then by bytes, by way of JavaScript, which has
    whole numbers first; a snapshot comes from memory. Values keep their bytes. `missing`: fields, as JSON, that are
    added where the snapshot lacks them. What is no JSON is left as it is.
    """
    try:
        return _ordered(snapshot, missing)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return snapshot


def _ordered(value: bytes, missing: dict[str, bytes]) -> bytes:
    value = value.strip()
    if value.startswith(b"{"):
        fields = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
        texts = missing | {name: _ordered(bytes(raw), {}) for name, raw in fields.items()}
        named = (msgspec.json.encode(name) + b":" + texts[name] for name in sorted(texts, key=_rank))
        return b"{" + b",".join(named) + b"}"
    if value.startswith(b"["):
        return b"[" + b",".join(_ordered(bytes(raw), {}) for raw in _elements(value)) + b"]"
    msgspec.json.decode(value)
    return value


def _elements(value: bytes) -> list[msgspec.Raw]:
    return msgspec.json.decode(value, type=list[msgspec.Raw])


def _rank(name: str) -> tuple[int, int, bytes]:
    if name in _ADDED:
        return 2, _ADDED.index(name), b""
    if _INTEGER.fullmatch(name) and int(name) < 2**32 - 1:
        return 0, int(name), b""
    encoded = name.encode("utf-8", "surrogatepass")
    return 1, len(encoded), encoded


def _millis(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53 else None
