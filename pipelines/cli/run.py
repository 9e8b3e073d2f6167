"""Running the jobs from the command line: in this process, in the archive's own Dagster instance."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from dagster._core.instance.ref import InstanceRef
from filelock import FileLock
from sqlalchemy.exc import SQLAlchemyError

from pipelines import signals
from pipelines.alerts.notify import after_run
from pipelines.defs.landing import FAILS_AT_ONCE
from pipelines.defs.retention import forget_old_runs
from pipelines.errors import ArchiveError, in_one_line
from pipelines.landing.catalog import Catalog
from pipelines.landing.manifest import Manifest
from pipelines.landing.zone import Zone, write_durably
from pipelines.settings import Settings

DAGSTER_YAML = b"""\
telemetry:
  enabled: false
nux:
  enabled: false
run_storage:
  module: pipelines.defs.event_log
  class: RunStorage
  config: &home
    base_dir: {env: DAGSTER_HOME}
event_log_storage:
  module: pipelines.defs.event_log
  class: EventLog
  config: *home
schedule_storage:
  module: pipelines.defs.event_log
  class: ScheduleStorage
  config: *home
retention:
  schedule: {purge_after_days: 30}
  sensor: {purge_after_days: 7}
"""

NO_FILES_OF_OUTPUT = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
PAGE_GRACE_SECONDS = 2.0


class RunFailed(ArchiveError):
    """A job that did not get to a published version."""


@dataclass(frozen=True)
class Done:
    """A job that published: its Dagster run and the loads it made."""

    run_id: str
    loads: list[Manifest]

    @property
    def is_proven(self) -> bool:
        return all(load.verdict == "whole" for load in self.loads)


def prepare_instance(settings: Settings) -> None:
    """The folder of the Dagster instance, telemetry off, made known to every Dagster process that we start."""
    settings.home.dagster.mkdir(parents=True, exist_ok=True)
    config = settings.home.dagster / "dagster.yaml"
    if not config.exists():
        write_durably(config, DAGSTER_YAML)
    os.environ["DAGSTER_HOME"] = str(settings.home.dagster)
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"


def run_job(
    settings: Settings, name: str, config: dict[str, Any] | None = None, tags: dict[str, str] | None = None
) -> Done:
    """Runs a job to its end, and tells people what is wrong then. `config` is that of its landing asset.

    Raises RunFailed with the reason in one line.
    """
    run_id = str(uuid.uuid4())
    try:
        done = _run(settings, run_id, name, config or {}, tags or {})
    except (RunFailed, OSError) as error:
        if not signals.is_near(signals.PATIENCE_SECONDS):  # nobody need be told of what somebody ended
            after_run(settings, name, run_id, in_one_line(error))
        raise
    after_run(settings, name, run_id, None)
    return done


def show_page(settings: Settings, port: int) -> int:
    """Dagster's web page and daemon, until they end or a signal comes: then all that they started ends too."""
    prepare_instance(settings)
    arguments = ["dagster", "dev", "-m", "pipelines.definitions", "-h", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env=os.environ | {"TASK_ARCHIVE_HOME": str(settings.home)},
        start_new_session=True,
    ) as page:
        try:
            return page.wait()
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(page.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    page.wait(PAGE_GRACE_SECONDS)


def _run(settings: Settings, run_id: str, name: str, config: dict[str, Any], tags: dict[str, str]) -> Done:
    from pipelines.definitions import defs

    prepare_instance(settings)
    job = defs.resolve_job_def(name)
    landing = {
        "nightly": "landing__account_tasks",
        "observe": "landing__observed_tasks",
        "refresh": "landing__refreshed_tasks",
    }.get(name)
    try:
        with _restored(), _instance(settings) as instance:
            job.execute_in_process(
                instance=instance,
                run_id=run_id,
                tags={FAILS_AT_ONCE: "true"} | tags,
                run_config={
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                    "ops": {landing: {"config": config}} if landing and config else {},
                },
            )
            forget_old_runs(instance, settings.keep_runs)
    except dg.Failure as failure:
        raise RunFailed(failure.description or "the run failed without a reason") from None
    except dg.DagsterError as error:
        cause = error.__cause__
        ours = cause if isinstance(cause, ArchiveError | OSError) else None
        raise RunFailed(in_one_line(ours) if ours else " ".join(str(error).split())[:500]) from None
    except (MemoryError, duckdb.Error) as error:
        raise RunFailed(in_one_line(error)) from None
    except SQLAlchemyError as error:
        raise RunFailed(
            f"Dagster cannot keep its records in {settings.home.dagster}: {_why(settings.home.dagster, error)}"
        ) from None
    with Catalog(Zone(settings.home.landing)) as catalog:
        return Done(run_id, catalog.of_run(run_id))


def _instance(settings: Settings) -> dg.DagsterInstance:
    """The archive's Dagster instance. Its databases are made by one process at a time: two at once would fail.

    What a step prints is for who runs the command: Dagster would have it written into a file and read again by two
    processes, which a Ctrl-C strikes too.
    """
    ref = InstanceRef.from_dir(str(settings.home.dagster), overrides={"compute_logs": NO_FILES_OF_OUTPUT})
    with FileLock(settings.home.dagster / ".lock"):
        return dg.DagsterInstance.from_ref(ref)


@contextmanager
def _restored() -> Iterator[None]:
    """Gives back what Dagster takes of the process: it gives SIGTERM the handler of SIGINT, which a job in the
    background is started with ignored. Nothing ended it ever after."""
    ends = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ends)


def _why(folder: Path, error: SQLAlchemyError) -> str:
    """Why a database there cannot be written: SQLite tells a full disk and one that is read-only badly apart."""
    probe = folder / ".probe"
    try:
        probe.write_bytes(bytes(1 << 18))
    except OSError as refused:
        return in_one_line(refused)
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return in_one_line(error)
