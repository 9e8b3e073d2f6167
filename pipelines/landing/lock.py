"""The lock of an archive: one run writes at a time, and the workers of one sweep write side by side."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import Busy
from pipelines.settings import Settings

SECONDS_BETWEEN_TRIES = 0.05

_held_alone: set[Path] = set()  # by this process


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Holds the archive alone; the system lets go of it when the process dies. Raises Busy after the wait."""
    with _locked(settings, fcntl.LOCK_EX):
        _held_alone.add(settings.home.lock)
        try:
            yield
        finally:
            _held_alone.remove(settings.home.lock)


@contextmanager
def locked_by_worker(settings: Settings, is_alone: bool = False) -> Iterator[None]:
    """The same beside other workers, or alone among them; within a run that holds the archive, by that. Raises Busy."""
    if settings.home.lock in _held_alone:
        yield
        return
    with _locked(settings, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH):
        yield


@contextmanager
def _locked(settings: Settings, kind: int) -> Iterator[None]:
    settings.home.make()
    until = time.monotonic() + settings.lock_wait_seconds
    with settings.home.lock.open("a") as file:
        while True:
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise Busy(
                        f"another run holds {settings.home}; waited {settings.lock_wait_seconds:g} s "
                        "(TASK_ARCHIVE_LOCK_WAIT_SECONDS)"
                    ) from None
            time.sleep(SECONDS_BETWEEN_TRIES)
        yield
