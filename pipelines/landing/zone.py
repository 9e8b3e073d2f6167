"""Where loads lie and how they are found: `landing/<account>/<load_id>/` with Parquet parts and a manifest."""

import hashlib
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.landing.manifest import Manifest, Part, decode, encode

# One observation of a task: what the API said of it at a moment, redacted.
OBSERVATION = pa.schema(
    [
        pa.field("account", pa.string(), nullable=False),
        pa.field("lane", pa.string(), nullable=False),
        pa.field("load_id", pa.string(), nullable=False),
        pa.field("page", pa.int32(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("fetched_at", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("task_id", pa.string()),
        pa.field("created_at_ms", pa.int64()),
        pa.field("updated_at_ms", pa.int64()),
        pa.field("is_deleted", pa.bool_(), nullable=False),
        pa.field("payload", pa.string()),
        pa.field("payload_sha256", pa.string()),
    ]
)

ROWS_PER_GROUP = 1_000  # what is read to have a task again

MANIFEST = "manifest.json"
PROGRESS = "progress.json"


class Zone:
    """The landing zone under `root`."""

    def __init__(self, root: Path, kept: Callable[[Path], None] = lambda path: None) -> None:
        """`kept` is called with each file of a load once it is written, such as to copy it."""
        self.root = root
        self.kept = kept
        self.damaged = root.with_name(f"{root.name}-damaged")  # what was set aside, in the same folders

    def folder(self, account: str, load_id: str) -> Path:
        """The folder of a load."""
        return self.root / account / load_id

    def is_leftover(self, folder: Path) -> bool:
        """Whether a folder is no more than what a kill leaves of a load before its first note.

        That is one part at most, since the first is noted before the second is written, and in the newest load, since
        each run clears before it begins. Anything else without a note has lost it.
        """
        if (folder / MANIFEST).exists() or (folder / PROGRESS).exists():
            return False
        parts = len(list(folder.glob("part-*.parquet")))
        return parts == 0 or (parts == 1 and folder.name == max(path.name for path in folder.parent.glob("*/")))

    def names(self, account: str | None = None) -> Iterator[tuple[str, str]]:
        """Account and load of each folder; a path for each would take longer than all else where loads are many."""
        for folder in self.root.glob(f"{account or '*'}/"):
            with os.scandir(folder) as entries:
                yield from ((folder.name, entry.name) for entry in entries)

    def new_load_id(self, lane: str, now_ms: int) -> str:
        """An id that sorts behind every load before it, even where the clock was set back."""
        return self.new_load_ids([lane], now_ms)[0]

    def new_load_ids(self, lanes: Sequence[str], now_ms: int) -> list[str]:
        """The same for several loads, in order."""
        last = max((name for _, name in self.names() if re.match(r"\d{8}T\d{9}Z-", name)), default="")
        first_ms = now_ms
        if last >= (stamp := _stamp(now_ms)):
            then = datetime.strptime(last[: len(stamp) - 1], "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC)
            first_ms = round(then.timestamp() * 1000) + 1
        return [f"{_stamp(first_ms + number)}-{lane}" for number, lane in enumerate(lanes)]

    def damage_of(self, path: Path, part: Part) -> str | None:
        """What is wrong with a part that is there, if anything: reads every byte of it."""
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == part.sha256:
                return None
        return "was cut" if path.stat().st_size < part.bytes else "was altered"

    def set_aside(self, file: Path) -> None:
        """Moves a file out of the landing zone to its place in `damaged`, beside any that lies there already."""
        target = self.damaged / file.relative_to(self.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        names = itertools.chain([target.name], (f"{target.name}.{number}" for number in itertools.count(1)))
        shutil.move(file, next(path for name in names if not (path := target.with_name(name)).exists()))


def _stamp(millis: int) -> str:
    moment = datetime.fromtimestamp(millis / 1000, UTC)
    return moment.strftime("%Y%m%dT%H%M%S") + f"{millis % 1000:03d}Z"


def read_note(path: Path) -> Manifest | None:
    """A manifest or the note of an open load; None where it is missing, cut, or not that of its folder's load."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, FileNotFoundError):
        note = decode(path.read_bytes())
        if (note.account, note.load_id) == (path.parent.parent.name, path.parent.name):
            return note
    return None


def note_of(folder: Path) -> Manifest | None:
    """The manifest of a load, or the note of one that is open."""
    return read_note(folder / MANIFEST) or read_note(folder / PROGRESS)


def write_durably(path: Path, data: bytes) -> None:
    """Replaces a file by `data` so that a kill leaves the old file or the new one, never a part of one."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_part(rows: pa.Table, path: Path) -> Part:
    """Writes observations as a part that survives a power cut."""
    pq.write_table(rows, path, compression="zstd", row_group_size=ROWS_PER_GROUP)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    sync_folder(path.parent)
    return Part(path.name, len(rows), path.stat().st_size, digest)


def write_note(folder: Path, manifest: Manifest) -> None:
    """The state of an open load."""
    write_durably(folder / PROGRESS, encode(manifest))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Completes a load: from here on it is immutable."""
    write_durably(folder / MANIFEST, encode(manifest))
    (folder / PROGRESS).unlink(missing_ok=True)
