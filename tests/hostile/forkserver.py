"""Runs jobs of the archive in children of a process that has imported everything, and kills them when it is time.

A line of JSON on standard input is a job, a line on standard output what became of it. This process itself opens no
connection and starts no thread: its children begin as fresh ones do, three seconds earlier.
"""

import json
import os
import select
import shlex
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from pipelines.cli.main import main
from pipelines.definitions import defs
from pipelines.landing.lanes import Extraction
from pipelines.settings import load_settings
from pipelines.warehouse import build
from pipelines.warehouse.models import load_models
from pipelines.warehouse.publish import publish

# What changes names in the file system, takes a lock or starts a process: a job is killed before each of them. A folder
# that is removed with all that is in it is one step.
BOUNDARIES = {
    "fcntl.flock",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "shutil.rmtree",
    "subprocess.Popen",
}


def sync() -> None:
    """The stops of a sync one after the other, as the job has them, without Dagster around them."""
    settings = load_settings()
    Extraction(settings, "default", "run").sync()
    make_tables()
    publish(settings)


def land_and_build() -> None:
    """A sync short of its publication."""
    Extraction(load_settings(), "default", "run").sync()
    make_tables()


def rebuild() -> None:
    """The stops of a rebuild."""
    settings = load_settings()
    build.forget(settings)
    make_tables()
    publish(settings)


def make_tables() -> None:
    settings = load_settings()
    list(build.build_version(settings))


JOBS: dict[str, Callable[[], Any]] = {
    "sync": sync,
    "land and build": land_and_build,
    "publish": lambda: publish(load_settings()),
    "rebuild": rebuild,
    "fingerprint key": lambda: load_settings().fingerprint_key_bytes(),
}


class Boundaries:
    """Counts the boundaries that this process crosses below a folder, and kills it before the last one allowed."""

    def __init__(self, home: str, last: int | None) -> None:
        self.crossed = 0
        self._home = home
        self._last = last
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not (event in BOUNDARIES or (event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))):
            return
        # Below the home, or a file that is open already.
        if event != "fcntl.flock" and not str(args[0]).startswith((self._home, sys.executable, *"0123456789")):
            return
        self.crossed += 1
        if self.crossed == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


def run_child(order: dict[str, Any], tell: int) -> int:
    """The job, in the child; returns its exit status."""
    output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(order["environment"])
    status: Any = 0
    boundaries = Boundaries(order["environment"]["TASK_ARCHIVE_HOME"], order["kill_before"])
    try:
        command, *arguments = shlex.split(order["job"])
        if command == "task-archive":
            main(arguments)
        else:
            JOBS[order["job"]]()
    except SystemExit as leaving:
        status = leaving.code or 0
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
        print(f"{type(error).__name__}: {error}")
        status = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(tell, json.dumps([boundaries.crossed, time.process_time()]).encode())
    return int(status)


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Forks, waits, kills on time; tells how it ended (below 0: the signal), the boundaries and seconds it took.

    Time is the child's own on a processor: on a busy machine, too, each part of a job is hit as often as it is long.
    """
    hear, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os._exit(run_child(order, tell))
    os.close(tell)
    descriptor = os.pidfd_open(child)  # names this child even once it has ended
    if order["kill_after"] is not None:
        clock = ~child << 3 | 2  # as clock_getcpuclockid(3) makes it
        while not select.select([descriptor], [], [], 0.001)[0]:
            if time.clock_gettime(clock) >= order["kill_after"]:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                break
    _, status = os.waitpid(child, 0)
    os.close(descriptor)
    crossed, seconds = json.loads(os.read(hear, 100) or b"[0, 0]")
    os.close(hear)
    return {"status": os.waitstatus_to_exitcode(status), "crossed": crossed, "seconds": seconds}


if __name__ == "__main__":
    defs.resolve_job_def("nightly")
    load_models()
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
