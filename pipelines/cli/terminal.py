"""What the command shows of a run: its progress, and what came of its loads."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from pipelines.defs.resources import callbacks_of_this_process, lines
from pipelines.landing.context import Progress as LaneProgress
from pipelines.landing.context import ProgressCallbacks
from pipelines.landing.events import summary
from pipelines.landing.manifest import Manifest
from pipelines.text import counted, printable


def print_loads(loads: list[Manifest]) -> None:
    """A line for each load with its proof, and one for each gap."""
    for load in loads:
        if load.lane == "events":
            click.echo(f"{load.lane:10} {load.account}: {summary(load)}")
            continue
        seconds = ((load.finished_at_ms or load.started_at_ms) - load.started_at_ms) / 1000
        confirmed = (
            f"server counts {load.server_count_after:,}"
            if load.server_count_after is not None
            else "no count to compare"
        )
        read, requests = counted(load.tasks_seen, "task"), counted(load.requests, "request")
        click.echo(
            f"{load.lane:10} {load.account}: {read} read, {load.appeared:,} new, {load.changed:,} changed, "
            f"{len(load.deleted):,} deleted; {requests} in {seconds:.1f} s"
        )
        if load.lane == "range":  # the sweep proves it
            continue
        click.echo(f"proof      {load.verdict}: {confirmed}, {len(load.unreadable):,} unreadable")
        for reason in load.reasons:
            click.echo(f"  gap      {printable(reason)}")


@contextmanager
def watching() -> Iterator[None]:
    """Shows how far a run has come: a bar on a terminal, lines otherwise. On standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        token = callbacks_of_this_process.set(ProgressCallbacks(progress=lines(_to_stderr), say=_to_stderr))
        try:
            yield
        finally:
            callbacks_of_this_process.reset(token)
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), console=console, transient=True) as bar:
        shown: dict[str, TaskID] = {}

        def report(progress: LaneProgress) -> None:
            if progress.account not in shown:
                shown[progress.account] = bar.add_task("", total=None)
            bar.update(
                shown[progress.account],
                description=str(progress),
                completed=progress.tasks_read,
                total=progress.expected_tasks,
            )

        def made(tables: int, total: int) -> None:
            if "" not in shown:
                shown[""] = bar.add_task("")
            bar.update(shown[""], description=f"tables: {tables} of {total}", completed=tables, total=total)

        def say(line: str) -> None:
            bar.console.print(printable(line), markup=False, highlight=False, emoji=False)

        token = callbacks_of_this_process.set(ProgressCallbacks(progress=report, say=say, tables=made))
        try:
            yield
        finally:
            callbacks_of_this_process.reset(token)


def _to_stderr(line: str) -> None:
    click.echo(printable(line), err=True)
