"""Parsing landed parts while later pages are still fetched, in a process of its own: fetching keeps one core busy.

What this process does not get to is parsed afterwards, by Observations.flatten; so it may fail or be killed at any
moment. It ends with its standard input, which the death of the fetching process closes too.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import msgspec

from pipelines.landing.manifest import Part
from pipelines.warehouse.flatten import Observations


class Landed(msgspec.Struct):
    """A part to parse, a line of JSON on standard input."""

    path: str
    part: Part


class Follower:
    """Takes landed parts; the process begins with the second, since most loads have but one."""

    def __init__(self, landing: Path, observations: Path) -> None:
        self._folders = (str(landing), str(observations))
        self._waiting: list[Landed] = []
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Follower":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is None or self._process.stdin is None:
            return
        with suppress(OSError):
            self._process.stdin.close()
        if kind is not None:
            self._process.kill()
        self._process.wait()

    def take(self, path: Path, part: Part) -> None:
        """Has a part parsed that was landed just now."""
        self._waiting.append(Landed(str(path), part))
        if len(self._waiting) == 1 and self._process is None:
            return
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, *self._folders],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        assert self._process.stdin is not None
        with suppress(OSError):
            for landed in self._waiting:
                self._process.stdin.write(msgspec.json.encode(landed) + b"\n")
            self._process.stdin.flush()
        self._waiting = []


def main(landing: str, observations: str) -> None:
    """Parses the parts named on standard input until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that fetches
    os.nice(5)
    parsed = Observations(Path(observations))
    parsed.prepare()
    with parsed.parser(Path(landing)) as parse:
        for line in sys.stdin.buffer:
            landed = msgspec.json.decode(line, type=Landed)
            parse(Path(landed.path), landed.part)


if __name__ == "__main__":
    main(*sys.argv[1:])
