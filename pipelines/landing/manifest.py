"""The record of one load: what was asked, what came, and the proof that nothing is missing."""

from typing import Literal

import msgspec

from pipelines.livepeer.walks import Capabilities

Lane = Literal["sweep", "range", "changes", "observe", "backfill", "refresh", "events"]
Verdict = Literal["whole", "limited", "broken"]


class Part(msgspec.Struct, frozen=True):
    """One Parquet file of a load, `rows` observations, `bytes` long."""

    file: str
    rows: int
    bytes: int
    sha256: str


class Window(msgspec.Struct, frozen=True):
    """What a load was to fetch, epoch ms, upper bounds exclusive, or ids with after_id < id <= last_id; all None:
    everything the list shows."""

    updated_from_ms: int | None = None
    created_from_ms: int | None = None
    created_to_ms: int | None = None
    after_id: str | None = None
    last_id: str | None = None


class Missing(msgspec.Struct, frozen=True):
    """A task that the list could not serve, and why."""

    task_id: str
    reason: str


class Manifest(msgspec.Struct):
    """Written as `progress.json` while the load is open and as `manifest.json` once it is complete.

    tasks_seen: distinct tasks read; appeared, changed, unchanged: how they compare with what had landed before;
    digest_ids, digest_states: of the tasks read, see `digest`;
    overlap_rows: tasks read whose last change lies before the point proven so far; overlap_equal: of which had landed;
    settled_*: tasks created before settled_until_ms, in the server's count before the walk, and met;
    had_by_id: tasks that the list could not serve, and GET by id did;
    looked_up: open tasks asked for by id, their last change lying before the window;
    proven_until_ms: the server's clock when the walk began, up to which the archive holds every change after this load;
    ours, where that is further back than the overlap;
    newest_update_ms: the latest updatedAt met that does not lie ahead of that clock;
    ranges: of a sweep by several workers, the loads that fetched its ranges of ids;
    lost_files: landed files, as load/file, that were missing or quarantined when the load began.
    """

    load_id: str
    account: str
    lane: Lane
    window: Window
    api_url: str
    code_version: str
    run_id: str
    started_at_ms: int
    format: int = 1
    finished_at_ms: int | None = None
    server_started_at_ms: int | None = None
    proven_until_ms: int | None = None
    newest_update_ms: int | None = None
    clock_skew_seconds: float | None = None
    capabilities: Capabilities | None = msgspec.field(default=None, name="abilities")
    requests: int = 0
    attempts_repeated: int = 0
    bytes_received: int = 0
    pages: int = 0
    rows_read: int = 0
    rows_landed: int = 0
    tasks_seen: int = 0
    appeared: int = 0
    changed: int = 0
    unchanged: int = 0
    digest_ids: str | None = None
    digest_states: str | None = None
    overlap_rows: int = 0
    overlap_equal: int = 0
    looked_up: list[str] = []
    vanished: list[str] = []
    deleted: list[str] = []
    unreadable: list[Missing] = []
    had_by_id: list[str] = []
    server_count_before: int | None = None
    server_count_after: int | None = None
    settled_until_ms: int | None = None
    settled_count: int | None = None
    settled_seen: int = 0
    verdict: Verdict | None = None
    reasons: list[str] = []
    parts: list[Part] = []
    ranges: list[str] = []
    lost_files: list[str] = []
    stage: str = "start"
    cursor: str | None = None


def encode(manifest: Manifest) -> bytes:
    """Readable JSON."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1)


def decode(data: bytes) -> Manifest:
    """Raises msgspec.DecodeError where the file is cut or is no manifest."""
    return msgspec.json.decode(data, type=Manifest)


def needed(value: int | None) -> int:
    """A value that the steps before have set."""
    if value is None:
        raise ValueError("a value that the lane's steps have set before is missing")
    return value
