"""Events that webhooks delivered and that have not landed yet: `events/<account>/`, redacted, a line each.

A line is on the disk before the delivery is answered. The next landing run claims what is there, lands it and deletes
it; what a kill leaves lands again and is recognised.
"""

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from pipelines.landing.zone import sync_folder

OPEN = "open.log"
MOST_BYTES = 16_000_000  # of a file, which a load holds in memory
_BLANKS = bytes.maketrans(b"\r\n", b"  ")


class Line(msgspec.Struct, frozen=True):
    """An event of a task. observed_at_ms: by our clock, when its snapshot was made; skew_ms: our clock minus the
    server's, the delivery's way included."""

    observed_at_ms: int
    skew_ms: int | None
    payload: bytes = b""


class Journal:
    """The events of an account that wait."""

    def __init__(self, root: Path, account: str) -> None:
        self.folder = root / account

    def append(self, lines: Iterable[Line]) -> None:
        """Writes lines so that a power cut leaves them. Raises OSError where the disk refuses."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            path = self.folder / OPEN
            if path.exists() and path.stat().st_size >= MOST_BYTES:
                self._close(path)
            is_new = not path.exists()
            with path.open("ab+") as file:
                if size := file.tell():
                    file.seek(size - 1)
                    if file.read(1) != b"\n":  # a kill cut the last line off, which was not answered
                        file.write(b"\n")
                file.writelines(encoded(line) for line in lines)
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                sync_folder(self.folder)

    def claim(self) -> list[Path]:
        """The files to land, in the order in which they came; nothing is appended to them any more."""
        if not self.folder.exists():
            return []
        with self._locked():
            if (self.folder / OPEN).exists():
                self._close(self.folder / OPEN)
        return sorted(self.folder.glob("*-closed.log"))

    @property
    def waiting_bytes(self) -> int:
        """How much has not landed."""
        return sum(path.stat().st_size for path in self.folder.glob("*.log"))

    def _close(self, path: Path) -> None:
        path.rename(self.folder / f"{time.time_ns():020d}-closed.log")
        sync_folder(self.folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def read(path: Path) -> Iterator[Line]:
    """The lines of a file, less one that a kill cut off."""
    with path.open("rb") as file:
        for text in file:
            head, separator, payload = text.partition(b"\t")
            if separator and payload.endswith(b"\n"):
                line = msgspec.json.decode(head, type=Line)
                yield msgspec.structs.replace(line, payload=payload[:-1])


def encoded(line: Line) -> bytes:
    """A line as it is written: head and payload. JSON has line breaks between its values only."""
    head = {"observed_at_ms": line.observed_at_ms, "skew_ms": line.skew_ms}
    return msgspec.json.encode(head) + b"\t" + line.payload.translate(_BLANKS) + b"\n"
