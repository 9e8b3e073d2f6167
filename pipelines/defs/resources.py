"""The archive as a Dagster resource: its settings, held by one run."""

import importlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any

import dagster as dg
from pydantic import PrivateAttr

from pipelines.landing.context import Progress, ProgressCallbacks
from pipelines.landing.copies import Copies, shared
from pipelines.landing.lock import locked
from pipelines.landing.zone import Zone
from pipelines.settings import Settings, WrongSettings, environment_variable, load_settings

SECONDS_BETWEEN_LINES = 5.0

# The command sets this to draw a progress bar; other runs write lines to Dagster's log.
callbacks_of_this_process: ContextVar[ProgressCallbacks | None] = ContextVar("callbacks_of_this_process", default=None)


def settings_or_defaults() -> Settings:
    """The settings, for what Dagster has to know as it loads; of one that is wrong its default, and a warning.

    Runs then fail and say what is wrong, but the page still shows everything.
    """
    try:
        return load_settings()
    except WrongSettings as error:
        dg.get_dagster_logger().warning(f"{error}; until then Dagster shows the default")
        fields = Settings.model_fields
        wrong = [name for name in fields if {name, environment_variable(name)} & set(error.names)]
        return load_settings(**{name: fields[name].get_default(call_default_factory=True) for name in wrong})


def executor(of_workers: bool = False) -> dg.ExecutorDefinition:
    """What executes runs: by the setting, for a run whose steps are to run at the same time never in one process."""
    name = settings_or_defaults().executor
    if name == "in_process":
        return dg.multiprocess_executor if of_workers else dg.in_process_executor
    if name == "multiprocess":
        return dg.multiprocess_executor
    module, attribute = name.split(":")
    found: dg.ExecutorDefinition = getattr(importlib.import_module(module), attribute)
    return found


class Archive(dg.ConfigurableResource[Any]):
    """The archive of the home that the environment names, held by one run at a time."""

    _settings: Settings = PrivateAttr()
    _held: ExitStack = PrivateAttr()
    _copies: Copies | None = PrivateAttr()

    @property
    def settings(self) -> Settings:
        """The settings as they were when the run began."""
        return self._settings

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Takes the lock; of an archive with a store too, and brings both up to each other."""
        self._settings = load_settings()
        say = context.log.info if context.log is not None else print
        with ExitStack() as held:
            held.enter_context(locked(self._settings))
            self._copies = held.enter_context(shared(self._settings, say))
            self._held = held.pop_all()

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Gives the lock back."""
        self._held.close()

    @property
    def zone(self) -> Zone:
        """The landing zone; what is written there goes to the store, where there is one."""
        return Zone(self._settings.home.landing, *([self._copies.put] if self._copies else []))

    def callbacks(self, say: Callable[[str], None]) -> ProgressCallbacks:
        """Where a lane reports its progress: the command's progress bar, or a line every few seconds."""
        return callbacks_of_this_process.get() or ProgressCallbacks(progress=lines(say), say=say)


def lines(say: Callable[[str], None]) -> Callable[[Progress], None]:
    """Progress as a line every few seconds."""
    said_at = time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal said_at
        if time.monotonic() - said_at >= SECONDS_BETWEEN_LINES:
            said_at = time.monotonic()
            say(str(progress))

    return report
