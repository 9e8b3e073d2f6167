"""Ending on a signal: Ctrl-C, SIGTERM and SIGHUP end a command with one line and its children with it, within seconds.

Python raises in the main thread, so that what is open is closed. That may take long or never come to pass: a library's
code may be running, and Dagster holds signals back. So a thread of its own gives it some seconds, and ends the process
then. What a run had landed is kept all the same, as it is when it is killed.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS = 3.0
PATIENCE_SECONDS = 0.2  # what a signal broke may be known before the signal
SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it


class _Ending:
    """What has come to this process, once it watches."""

    def __init__(self) -> None:
        self.number: int | None = None  # of the first signal
        self.is_raised = False
        self.is_left = threading.Lock()
        self.stops: list[Callable[[], None]] = []
        self.stderr: int | None = None  # as the process began with it: Dagster redirects it


_ending = _Ending()


def watch() -> None:
    """From now on a signal ends this process. One that it was started with ignored, as a shell does it in the
    background and nohup does, stays so."""
    ignored = {number for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN}
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in SIGNALS:
        # Dagster gives SIGTERM the handler of SIGINT: were it none, nothing would end a run in the background.
        signal.signal(number, _nothing if number in ignored else _interrupt)
    _ending.stderr = os.dup(2)
    threading.Thread(target=_end, args=(reader, ignored), daemon=True).start()


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Has it called when a signal comes: what a library is busy with only another thread can stop."""
    _ending.stops.append(stop)
    try:
        yield
    finally:
        _ending.stops.remove(stop)


def is_near(patience_seconds: float = 0) -> bool:
    """Whether a signal has come; one that is on its way may take the patience."""
    until = time.monotonic() + patience_seconds
    while _ending.stderr is not None and _ending.number is None and time.monotonic() < until:
        time.sleep(0.01)
    return _ending.number is not None


def leave() -> NoReturn:
    """Ends this process as the signal that came asks, and its children."""
    _ending.is_left.acquire()  # for good: both threads may come here
    number = signal.Signals(_ending.number or signal.SIGINT)
    for child in _children():
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    line = f"task-archive: ended by {number.name}; what had landed is kept, the next run goes on from there\n"
    with suppress(OSError):  # the terminal may be gone
        stderr = _ending.stderr or 2
        os.write(stderr, (b"\r" + SHOW_CURSOR if os.isatty(stderr) else b"") + line.encode())
    os._exit(128 + number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _ending.number = _ending.number or number
    if not _ending.is_raised:
        _ending.is_raised = True  # a second one must not disturb the closing of what is open
        raise KeyboardInterrupt


def _nothing(number: int, frame: FrameType | None) -> None:
    pass


def _end(reader: int, ignored: set[signal.Signals]) -> None:
    while (number := os.read(reader, 1)[0]) not in SIGNALS or number in ignored:
        pass
    _ending.number = _ending.number or number
    for stop in list(_ending.stops):
        with suppress(Exception):  # it may be over, or closed
            stop()
    time.sleep(GRACE_SECONDS)
    leave()


def _children() -> list[int]:
    """Processes that this one started; on systems without /proc none, where they end with their standard input."""
    listed = [path.read_text(encoding="ascii") for path in Path("/proc/self/task").glob("*/children")]
    return [int(child) for line in listed for child in line.split()]
