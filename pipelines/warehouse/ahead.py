"""Making ahead: while a first load is fetched, the rows of the tasks that have landed of it are made, in a process of
its own, as fetching keeps one core busy.

They are kept in the fresh file, which the making of the tables goes on with. So the process may fail or be killed at
any moment: what it did not get to is made afterwards, as is all where the file is spoilt. It ends with its standard
input, which the death of the fetching process closes too.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace

from pipelines.landing.catalog import Catalog
from pipelines.landing.context import Progress, ProgressCallbacks
from pipelines.landing.lock import locked_by_worker
from pipelines.landing.zone import Zone
from pipelines.settings import Settings
from pipelines.warehouse.change import ahead
from pipelines.warehouse.given import SETTINGS, given_by
from pipelines.warehouse.making import BATCHES_HELD, Maker, rows_at_once
from pipelines.warehouse.memory import keep_little
from pipelines.warehouse.working import TABLES, Working

SECONDS_BETWEEN_LOOKS = 0.2

# What the process has to know of the settings; none of it is secret.
NEEDED = {"home", "lock_wait_seconds", "memory_mb", "slo", *SETTINGS.names}

BESIDE_WORKERS = "beside-workers"


@contextmanager
def made_ahead(
    settings: Settings, callbacks: ProgressCallbacks, beside_workers: bool = False
) -> Iterator[ProgressCallbacks]:
    """Whom to tell of the progress of loads, so that what lands of large ones is made ahead while this is open.

    Nothing is made where there are tables to go on from, or where Spark makes them. beside_workers: the archive is not
    held by this process, but by the workers of a sweep, and the making holds it with them.
    """
    if Working(settings).file.exists() or settings.engine == "spark":
        yield callbacks
        return
    process: subprocess.Popen[bytes] | None = None

    def report(progress: Progress) -> None:
        nonlocal process
        if process is None and progress.rows_read > rows_at_once(settings):
            process = _started(settings, [BESIDE_WORKERS] if beside_workers else [])
        callbacks.progress(progress)

    try:
        yield replace(callbacks, progress=report)
    except BaseException:
        if process is not None:
            process.kill()
        raise
    finally:
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait()


def _started(settings: Settings, arguments: list[str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if process.stdin is not None:
        with suppress(OSError):  # it has ended: nothing is made ahead
            process.stdin.write(settings.model_dump_json(include=NEEDED).encode() + b"\n")
            process.stdin.flush()
    return process


def main() -> None:
    """Makes what lands, until standard input is closed. Its first line holds the settings."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that fetches
    os.nice(5)
    keep_little()
    settings = Settings.model_validate_json(sys.stdin.buffer.readline())
    stop = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        stop.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    given, rows, held = given_by(settings, []), rows_at_once(settings), 0
    with (
        locked_by_worker(settings) if BESIDE_WORKERS in sys.argv else nullcontext(),
        Catalog(Zone(settings.home.landing)) as catalog,
        Working(settings).opened_fresh(given.fingerprint) as connection,
    ):
        while not stop.is_set():
            change = ahead(connection, catalog, rows)
            if new := sum(part.rows for part in change.parts if part.is_new):
                Maker(connection, catalog, change, given.tables, rows).make_ahead()
                held += new
            else:
                stop.wait(SECONDS_BETWEEN_LOOKS)
            if held > BATCHES_HELD * rows or stop.is_set():
                connection.execute(f"checkpoint {TABLES}")
                held = 0


if __name__ == "__main__":
    main()
