"""The demo: a simulated account, two nightly runs, looks and webhooks in between, and the answers."""

import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

import click
import httpx
from pydantic import SecretStr

from pipelines.cli.run import run_job
from pipelines.cli.terminal import print_loads, watching
from pipelines.errors import ArchiveError, SettingsError
from pipelines.home import Home
from pipelines.listening.server import Receiver, bound, serving
from pipelines.serving.published import run_query, sql_of
from pipelines.serving.status import status
from pipelines.settings import load_settings
from pipelines.warehouse.models import PUBLISHED_LAYERS, published_models

HOURS = 12
LOOKS, LOOK_MINUTES = 3, 5
WEBHOOK_SECRET = token_hex(16)
NOTE = ".task-archive-demo"


def run_demo(tasks: int, days: int, home: Path) -> None:
    """Runs the demo in `home`, which is made anew; leaves alone a folder that no demo made."""
    Home.at(home)  # raises where DuckDB could not write
    if home.exists() and not (home / NOTE).exists() and any(home.iterdir()):
        raise SettingsError(f"{home} is no demo's archive: name another folder with --home")
    began = time.monotonic()
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / NOTE).touch()
    with bound("127.0.0.1", 0) as listening, _simulator(tasks, days, listening.getsockname()[1]) as environment:
        os.environ.update(environment, TASK_ARCHIVE_HOME=str(home))
        settings = load_settings(
            alert_webhook_url=None,
            alert_email_to=None,
            alert_file=None,
            webhook_secrets={"default": SecretStr(WEBHOOK_SECRET)},
            listen_tolerance_seconds=86_400,  # the simulated clock is hours behind
        )
        _heading(f"First nightly run: a sweep of {tasks:,} simulated tasks of {days} days")
        with watching():
            print_loads(run_job(settings, "nightly").loads)
        _heading(
            f"{LOOKS} looks, {LOOK_MINUTES} simulated minutes apart, while webhooks deliver what happens in between"
        )
        with serving(Receiver(settings, lambda line: None), listening):
            for _ in range(LOOKS):
                _advance(environment["LIVEPEER_API_URL"], LOOK_MINUTES * 60)
                looked = run_job(settings, "observe").loads
                print_loads(looked)
                if not looked:
                    click.echo("observe    default: nothing new")
            _advance(environment["LIVEPEER_API_URL"], HOURS * 3600 - LOOKS * LOOK_MINUTES * 60)
        _heading(f"Second nightly run, {HOURS} simulated hours after the first: only what changed")
        with watching():
            print_loads(run_job(settings, "nightly").loads)
    _heading("Rows by table")
    rows = status(settings).rows
    for layer in PUBLISHED_LAYERS:
        held = ", ".join(f"{model.name} {rows[model.name]:,}" for model in published_models() if model.layer == layer)
        click.echo(textwrap.fill(held, 110, initial_indent=f"{layer:9}", subsequent_indent=" " * 9))
    for title, name in (
        ("How often do tasks fail?", "failure_rate_by_type"),
        ("How long do they take?", "durations_by_type"),
        ("Why do they fail?", "why_tasks_fail"),
        ("How much is processed?", "throughput_by_day"),
    ):
        _heading(f"{title}  (task-archive query {name})")
        run_query(settings, f"from (\n{sql_of(name)}) limit 8", "table", None)
    _heading(f"Done in {time.monotonic() - began:.0f} s")
    click.echo(f"DuckDB   {home / 'published' / 'task_archive.duckdb'}")
    click.echo(f"Parquet  {home / 'published' / 'parquet'}")
    click.echo(f"Report   {home / 'published' / 'report.html'}  (open it in a browser)")
    command = "task-archive" if shutil.which("task-archive") else Path(sys.argv[0])
    click.echo("\nTry next:")
    click.echo(f"  TASK_ARCHIVE_HOME={home} {command} explain failure_rate --type upload")
    click.echo(f"  TASK_ARCHIVE_HOME={home} {command} ui")


def _heading(text: str) -> None:
    click.echo(f"\n{text}\n{'─' * len(text)}")


@contextmanager
def _simulator(tasks: int, days: int, webhook_port: int) -> Iterator[dict[str, str]]:
    """The simulator in a process of its own, its clock behind ours so that time can pass; yields its settings."""
    command = [sys.executable, "-m", "pipelines.cli", "simulate", "--port", "0"]
    command += ["--tasks", str(tasks), "--days", str(days), "--behind-hours", str(HOURS), "--incidents", "2"]
    command += ["--webhook", f"http://127.0.0.1:{webhook_port}/default", "--webhook-secret", WEBHOOK_SECRET]
    # In a session of its own: Ctrl-C is for the demo, which ends it.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().strip() for _ in range(2)]
            if not all(lines):
                raise ArchiveError("the simulator did not start")
            yield dict(line.split("=", 1) for line in lines)
        finally:
            process.kill()


def _advance(api_url: str, seconds: int) -> None:
    httpx.post(
        api_url.removesuffix("/api") + "/simulator/advance", json={"seconds": seconds}, timeout=60
    ).raise_for_status()
