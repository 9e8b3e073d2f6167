"""The `task-archive` command itself: what all of its commands share.

Exit status: 0 done and proved; 1 failed, nothing half-published; 2 usage or settings; 3 done and published, but the
proof has a gap, which is printed.
"""

import gc
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable
from datetime import date
from typing import Any

import click

from pipelines import __version__, signals
from pipelines.days import day_of
from pipelines.errors import ArchiveError, SettingsError, in_one_line, is_lack_of_memory
from pipelines.settings import check_address_space, load_settings
from pipelines.text import printable
from pipelines.valid import SECONDS_OF_UNIT

FAILED, USAGE, GAP = 1, 2, 3

# Garbage is looked for every few pages. More often takes time, more seldom memory: httpx leaves answers in circles.
GC_THRESHOLDS = 10_000, 10, 10
LONGEST_DURATION_SECONDS = 366 * 86_400


class Day(click.ParamType[date]):
    """A day, also relative to today in the time zone of the settings, or in the one given."""

    name = "day"

    def __init__(self, zone: str | None = None) -> None:
        self._zone = zone

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            return day_of(value, self._zone or load_settings().time_zone)
        except SettingsError as error:
            self.fail(str(error), param, ctx)


DAY, DAY_UTC = Day(), Day("UTC")


def duration(text: str) -> float:
    """Seconds of 90s, 5m, 8h or 2d."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    seconds = float(found[1]) * SECONDS_OF_UNIT[found[2]] if found else 0
    if not 0 < seconds <= LONGEST_DURATION_SECONDS:
        raise click.BadParameter(f"{text!r} is not a valid duration (for example 90s, 5m, 8h or 2d, at most 366d)")
    return seconds


def is_of_duckdb(error: Exception) -> bool:
    return "duckdb" in sys.modules and isinstance(error, sys.modules["duckdb"].Error)


class Command(click.Group):
    """Turns every failure that we know into one line and its exit status, and every signal too."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As a process of its own."""
        signals.watch()
        return super().__call__(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return self._invoke(ctx)
        except SettingsError as error:
            click.echo(f"task-archive: {printable(str(error))}", err=True)
            ctx.exit(USAGE)
        except ArchiveError as error:
            first, *rest = str(error).splitlines() or [""]
            click.echo("\n".join([f"task-archive: {printable(first)}", *map(printable, rest)]), err=True)
            ctx.exit(FAILED)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            click.echo(f"task-archive: {error.filename or 'the system'}: {error.strerror or error}", err=True)
            ctx.exit(FAILED)
        except Exception as error:
            if not (is_lack_of_memory(error) or is_of_duckdb(error)):
                raise
            click.echo(f"task-archive: {printable(in_one_line(error))}", err=True)
            ctx.exit(FAILED)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BaseException as error:
            is_over = isinstance(error, SystemExit | click.exceptions.Exit)
            if signals.is_near(0 if is_over else signals.PATIENCE_SECONDS):  # whatever the signal made of it
                signals.leave()
            raise


def print_described(pairs: Iterable[tuple[str, str]], gap: int = 2) -> None:
    """Names with text beside them, which wraps beside the names on a terminal; in a pipe each is one line."""
    pairs = [(name, printable(text)) for name, text in pairs]
    beside = max((len(name) for name, _ in pairs), default=0) + gap
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    for name, text in pairs:
        lines = textwrap.wrap(text, max(20, width - beside), break_long_words=False, break_on_hyphens=False) or [""]
        click.echo(f"{name:{beside}}{lines[0]}".rstrip())
        for line in lines[1:]:
            click.echo(" " * beside + line)


def example(line: str) -> str:
    """An example for a command's help."""
    return f"\b\nExample:\n  {line}"


@click.group(cls=Command, context_settings={"help_option_names": ["-h", "--help"]}, epilog=example("task-archive demo"))
@click.version_option(__version__, prog_name="task-archive")
def main() -> None:
    """Archive the task history of Livepeer Studio, and ask it questions in SQL."""
    check_address_space()
    gc.set_threshold(*GC_THRESHOLDS)
