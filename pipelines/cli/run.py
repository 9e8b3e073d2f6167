"""Running the jobs from the command line: in this process, in the archive's own Dagster instance."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import yaml
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.instance.ref import InstanceRef
from filelock import FileLock
from sqlalchemy.exc import SQLAlchemyError

from pipelines import signals
from pipelines.alerts.notify import after_run
from pipelines.defs.landing import ID_RANGES
from pipelines.defs.resources import callbacks_of_this_process
from pipelines.defs.retention import forget_old_runs
from pipelines.errors import ArchiveError, SettingsError, in_one_line
from pipelines.landing.catalog import Catalog
from pipelines.landing.context import ProgressCallbacks
from pipelines.landing.manifest import Manifest
from pipelines.landing.ranges import progress_of
from pipelines.landing.zone import Zone, write_durably
from pipelines.settings import Settings
from pipelines.warehouse.ahead import made_ahead

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

# The code location, as workspace.yaml and pyproject.toml name it too: by it the page finds the runs of a job.
LOCATION = "task_archive"
REPOSITORY_TAG = ".dagster/repository"
WORKSPACE = f"""\
load_from:
  - python_module:
      module_name: pipelines.definitions
      location_name: {LOCATION}
""".encode()

NO_FILES_OF_OUTPUT = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
PAGE_GRACE_SECONDS = 2.0
SECONDS_BETWEEN_LOOKS = 0.5


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
    """Runs a job to its end, and sends alerts then. `config` is that of its landing asset, beside the lane of the job.

    Raises RunFailed with the reason in one line.
    """
    run_id = str(uuid.uuid4())
    with _failure_told(settings, name, run_id):
        done = _run(settings, run_id, name, _config(name, config or {}), tags or {})
    after_run(settings, name, run_id, None)
    return done


@contextmanager
def _failure_told(settings: Settings, job: str, run_id: str | None) -> Iterator[None]:
    """Sends an alert where a job fails inside."""
    try:
        yield
    except (RunFailed, OSError) as error:
        if not signals.is_near(signals.PATIENCE_SECONDS):  # a run that was stopped on purpose is no failure
            after_run(settings, job, run_id, in_one_line(error))
        raise


def fetch_ranges(settings: Settings, workers: int, account: str | None) -> None:
    """Has so many processes fetch the ranges of a sweep, which the nightly job then proves.

    Raises RunFailed with the reason in one line, and sends an alert as that job does.
    """
    with _failure_told(settings, "nightly", None):
        _fetch_ranges(settings, workers, account)


def _fetch_ranges(settings: Settings, workers: int, account: str | None) -> None:
    prepare_instance(settings)
    options = {"fails_at_once": True, "ranges": workers} | ({"account": account} if account else {})
    forked = {"forkserver": {"preload_modules": ["pipelines.definitions"]}}  # importing all takes seconds
    config = {
        "ops": {"landing__id_ranges": {"ops": {"divide": {"config": options}}}},
        "execution": {"config": {"max_concurrent": workers, "start_method": forked}},
    }
    of_processes = {"python_log_level": "CRITICAL"}  # they would print every step
    callbacks = callbacks_of_this_process.get() or ProgressCallbacks()
    with (
        _as_run_failed(settings),
        _restored(),
        _instance(settings, python_logs=of_processes) as instance,
        made_ahead(settings, callbacks, beside_workers=True) as callbacks,
        _progress_of_ranges(settings, account, callbacks),
    ):
        done = dg.execute_job(dg.reconstructable(divided_sweep), instance, config | QUIET, asset_selection=[ID_RANGES])
        failed = [event.step_failure_data for event in done.all_events if event.is_step_failure]
    if not done.success:
        raise RunFailed("; ".join(sorted(set(map(_why_failed, failed)))) or "the run failed without a reason")


def _why_failed(data: StepFailureData) -> str:
    """Why a step failed, in one line."""
    said = data.user_failure_data and data.user_failure_data.description
    return said or (" ".join(data.error.message.split())[:500] if data.error else "a step failed without a reason")


def divided_sweep() -> dg.JobDefinition:
    """The job, as the processes of its steps find it."""
    from pipelines.definitions import defs

    return defs.resolve_job_def("divided_sweep")


@contextmanager
def _progress_of_ranges(settings: Settings, account: str | None, callbacks: ProgressCallbacks) -> Iterator[None]:
    """Reports what processes have fetched so far, as long as it is open."""
    began, is_over = time.monotonic(), threading.Event()

    def look() -> None:
        while not is_over.wait(SECONDS_BETWEEN_LOOKS):
            for name in settings.accounts(account):
                if found := progress_of(Zone(settings.home.landing), name, time.monotonic() - began):
                    callbacks.progress(found)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _config(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The run configuration of a job. A user waits for the run, so a failure shows at once."""
    options = {"fails_at_once": True} | options
    if name == "rebuild":
        return {"ops": {"tables": {"config": {"makes_anew": True}}}}
    if name == "backfill":
        return {"ops": {"landing__created_days": {"config": options}}}
    lane = {} if name == "nightly" else {"lane": name}
    return {"ops": {"landing__tasks": {"config": lane | options}}}


def show_page(settings: Settings, port: int) -> int:
    """Dagster's web page and daemon, until they end or a signal comes: then all that they started ends too."""
    if set("*[") & set(str(settings.home)):
        raise SettingsError(
            f"Dagster's page cannot read its configuration below {settings.home}: its path holds * or ["
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise SettingsError(f"port {port} is not free ({error.strerror}): name another with --port") from None
    prepare_instance(settings)
    workspace = settings.home.dagster / "workspace.yaml"
    write_durably(workspace, WORKSPACE)
    arguments = ["dagster", "dev", "-w", str(workspace), "-h", "127.0.0.1", "-p", str(port)]
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
    with _as_run_failed(settings), _restored(), _instance(settings) as instance:
        job.execute_in_process(
            instance=instance,
            run_id=run_id,
            tags={REPOSITORY_TAG: f"__repository__@{LOCATION}"} | tags,
            run_config=config | QUIET,
        )
        forget_old_runs(instance, settings.keep_runs)
    with Catalog(Zone(settings.home.landing)) as catalog:
        return Done(run_id, catalog.of_run(run_id))


@contextmanager
def _as_run_failed(settings: Settings) -> Iterator[None]:
    """Makes what may go wrong in a run RunFailed, with the reason in one line."""
    try:
        yield
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


def _instance(settings: Settings, **overrides: Any) -> dg.DagsterInstance:
    """The archive's Dagster instance. Its databases are made by one process at a time: two at once would fail.

    What a step prints is for who runs the command: Dagster would have it written into a file and read again by two
    processes, which a Ctrl-C strikes too.
    """
    # Dagster takes the path of dagster.yaml for a pattern, and finds none below a folder whose name holds * or [.
    config = yaml.safe_load((settings.home.dagster / "dagster.yaml").read_bytes())
    overrides = config | {"compute_logs": NO_FILES_OF_OUTPUT} | overrides
    ref = InstanceRef.from_dir(str(settings.home.dagster), overrides=overrides)
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
