"""The rate of requests: one for an account, whichever processes ask for it at the same time."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


class Pace:
    """Lets requests go so many a second. `file`: holds when the last one went, for all processes that share it; where
    it cannot be written, each keeps to the rate by itself."""

    def __init__(self, requests_per_second: float = 0, file: Path | None = None) -> None:
        self._seconds = 1 / requests_per_second if requests_per_second else 0
        self._file = file
        self._last_at = 0.0

    def wait(self) -> None:
        """Returns when the next request may go."""
        if not self._seconds:
            return
        with self._shared() as file:
            last_at = self._last_at if file is None else _read(file)
            # A clock that was set back makes no request wait for longer than the rate says.
            time.sleep(min(max(0.0, last_at + self._seconds - time.time()), self._seconds))
            self._last_at = time.time()
            if file is not None:
                file.seek(0)
                file.write(b"%20.6f" % self._last_at)

    @contextmanager
    def _shared(self) -> Iterator[BinaryIO | None]:
        file = None
        if self._file is not None:
            with suppress(OSError):  # such as a home that may only be read
                file = self._file.open("r+b" if self._file.exists() else "w+b", buffering=0)
        if file is None:
            yield None
            return
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)  # those that wait go one after the other
            yield file


def _read(file: BinaryIO) -> float:
    try:
        return float(file.read(20))
    except ValueError:
        return 0.0
