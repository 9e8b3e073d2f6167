"""Where loads lie and how they are found: `landing/<account>/<load_id>/` with Parquet parts and a manifest."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa

from pipelines.errors import LandingError
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

MANIFEST = "manifest.json"
PROGRESS = "progress.json"


class Zone:
    """The landing zone under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, account: str, load_id: str) -> Path:
        """The folder of a load."""
        return self.root / account / load_id

    def manifests(self, account: str | None = None) -> list[Manifest]:
        """Complete loads in the order they were made. Raises LandingError on a manifest that cannot be read."""
        found = [_read(path) for path in self.root.glob(f"{account or '*'}/*/{MANIFEST}")]
        return sorted(found, key=lambda manifest: manifest.load_id)

    def open_loads(self, account: str) -> list[Manifest]:
        """Loads that were begun and not completed, as far as they had got when their last part was written."""
        found = []
        for path in self.root.glob(f"{account}/*/"):
            if not (path / MANIFEST).exists():
                with suppress(FileNotFoundError):  # no note yet, or completed at this moment
                    found.append(_read(path / PROGRESS))
        return sorted(found, key=lambda manifest: manifest.load_id)

    def clear_leftovers(self, account: str) -> None:
        """Removes what kills left that is no load. Only for the run that holds the archive: another's may be new.

        Raises LandingError where a folder holds more than a kill can leave.
        """
        for path in self.root.glob(f"{account}/*/"):
            if (path / MANIFEST).exists():
                (path / PROGRESS).unlink(missing_ok=True)
            elif not (path / PROGRESS).exists():
                if len(list(path.glob("part-*.parquet"))) > 1:  # the first part is noted before the second is written
                    raise LandingError(
                        f"{path} has lost its {MANIFEST}: restore it, or remove the folder to fetch again"
                    )
                shutil.rmtree(path)

    def parts(self, manifests: Iterable[Manifest]) -> Iterator[tuple[Path, Part]]:
        """The Parquet files of loads."""
        for manifest in manifests:
            for part in manifest.parts:
                yield self.folder(manifest.account, manifest.load_id) / part.file, part

    def new_load_id(self, lane: str, now_ms: int) -> str:
        """An id that sorts behind every load before it, even where the clock was set back."""
        loads = (path.name for path in self.root.glob("*/*/") if re.match(r"\d{8}T\d{9}Z-", path.name))
        last = max(loads, default="")
        stamp = _stamp(now_ms)
        if last[: len(stamp)] >= stamp:
            then = datetime.strptime(last[: len(stamp) - 1], "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC)
            stamp = _stamp(round(then.timestamp() * 1000) + 1)
        return f"{stamp}-{lane}"

    def verify(self, path: Path, part: Part) -> None:
        """Raises LandingError where a part is missing or is not the file that was landed."""
        if not path.exists():
            raise LandingError(f"landed file is missing: {path}")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != part.sha256:
            raise LandingError(f"landed file was altered or cut: {path}")


def _stamp(millis: int) -> str:
    moment = datetime.fromtimestamp(millis / 1000, UTC)
    return moment.strftime("%Y%m%dT%H%M%S") + f"{millis % 1000:03d}Z"


def _read(path: Path) -> Manifest:
    try:
        return decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LandingError(
            f"{path} cannot be read ({error}): restore it, or remove its folder to fetch again"
        ) from None


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


def write_note(folder: Path, manifest: Manifest) -> None:
    """The state of an open load."""
    write_durably(folder / PROGRESS, encode(manifest))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Completes a load: from here on it is immutable."""
    write_durably(folder / MANIFEST, encode(manifest))
    (folder / PROGRESS).unlink(missing_ok=True)
