"""Commands that fetch, land and build: thin over the jobs that Dagster runs too."""

import json
import sys
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Any

import click

from pipelines.cli.group import DAY_UTC, FAILED, GAP, duration, example, main
from pipelines.errors import SettingsError
from pipelines.settings import load_settings
from pipelines.text import printable


@main.command(epilog=example("task-archive sync --lane sweep"))
@click.option(
    "--lane",
    type=click.Choice(["auto", "changes", "sweep"]),
    default="auto",
    show_default=True,
    help="auto: everything at first, then what changed since the last proven point.",
)
@click.option("--account", help="One account; all that have a key otherwise.")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="So many processes fetch a sweep, a range of ids each."
)
def sync(lane: str, account: str | None, workers: int | None) -> None:
    """The nightly job: fetch, land, build, publish."""
    settings = load_settings()
    settings.accounts(account)
    settings.check_origin()
    if workers is not None:
        if lane != "sweep":
            raise SettingsError("--workers needs --lane sweep: other lanes ask for too little to share it")
        _fetch_ranges(workers, account)
    _run("nightly", {"lane": lane} | ({"account": account} if account else {}))


@main.command(epilog=example("task-archive observe --every 5m --for 8h"))
@click.option("--every", type=duration, help="Go on with a pass this often, until --for is over or Ctrl-C.")
@click.option("--for", "how_long", type=duration, help="For so long; needs --every.")
@click.option("--account", help="One account; all that have a key otherwise.")
def observe(every: float | None, how_long: float | None, account: str | None) -> None:
    """Fetch what changed, lightly: a pass that finds nothing new costs one request and publishes nothing.

    The more often, the better is known when tasks waited, ran and failed: the API overwrites it.
    """
    from pipelines.cli import observe as observing

    settings = load_settings()
    settings.accounts(account)
    settings.check_origin()
    if how_long is not None and every is None:
        raise SettingsError("--for needs --every: how often to look")
    status = 0
    for done in observing.passes(settings, account, every, how_long):
        click.echo(f"{datetime.now():%H:%M:%S} {printable(done.says)}", err=done.has_failed)
        status = FAILED if done.has_failed else GAP if done.has_gap else 0
    sys.exit(status)


@main.command(epilog=example("task-archive backfill --from 2026-10-01 --to 2026-10-07"))
@click.option("--from", "first", type=DAY_UTC, required=True, help="First day of creation, UTC.")
@click.option("--to", "last", type=DAY_UTC, required=True, help="Last day of creation, UTC, included.")
def backfill(first: date, last: date) -> None:
    """Fetch tasks created on given days again; each day is a Dagster partition."""
    from pipelines.defs.landing import FIRST_DAY

    settings = load_settings()
    settings.accounts()
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    from_day, to_day = first.isoformat(), last.isoformat()
    if not FIRST_DAY <= from_day <= to_day <= today:
        raise SettingsError(f"--from and --to must be days in order between {FIRST_DAY} and today, {today}")
    _run(
        "backfill",
        tags={"dagster/asset_partition_range_start": from_day, "dagster/asset_partition_range_end": to_day},
    )


@main.command(epilog=example("task-archive refresh 10d93d74-259a-4146-91db-8f077f165878"))
@click.argument("task_ids", nargs=-1, required=True, metavar="TASK_ID...")
@click.option("--account", help="Account whose key is used; all in turn otherwise.")
def refresh(task_ids: tuple[str, ...], account: str | None) -> None:
    """Fetch single tasks by id."""
    load_settings().accounts(account)
    for task_id in task_ids:
        if not task_id or printable(task_id) != task_id:
            raise SettingsError(f"no task has the id {task_id!r}")
    _run("refresh", {"task_ids": list(task_ids)} | ({"account": account} if account else {}))


@main.command(epilog=example("task-archive rebuild --verify"))
@click.option("--verify", "compares", is_flag=True, help="Publish nothing: compare what is published with it.")
@click.option("--json", "as_json", is_flag=True, help="With --verify: for machines.")
def rebuild(compares: bool, as_json: bool) -> None:
    """Make every table again from the landing zone, and publish. Asks the API nothing."""
    if not compares:
        _run("rebuild")
        return
    from pipelines.audit.replay import compare_with_rebuilt
    from pipelines.landing.lock import locked

    settings = load_settings()
    with locked(settings):
        compared = compare_with_rebuilt(settings, lambda line: click.echo(line, err=True))
    lines = [line for table in compared for line in table.lines()]
    found = {"tables": [asdict(table) | {"is_equal": table.is_equal} for table in compared]}
    click.echo(json.dumps(found, indent=1) if as_json else "\n".join(map(printable, lines)))
    sys.exit(0 if all(table.is_equal for table in compared) else GAP)


def _fetch_ranges(workers: int, account: str | None) -> None:
    """Has several processes fetch what the sweep that follows proves."""
    from pipelines.cli.run import fetch_ranges
    from pipelines.cli.terminal import watching

    with watching():
        fetch_ranges(load_settings(), workers, account)


def _run(job: str, config: dict[str, Any] | None = None, tags: dict[str, str] | None = None) -> None:
    """Runs a job, prints what came of it, and leaves with its exit status."""
    from pipelines.cli.run import run_job
    from pipelines.cli.terminal import print_loads, watching
    from pipelines.landing.catalog import Catalog
    from pipelines.landing.damage import lost, summary
    from pipelines.landing.zone import Zone

    settings = load_settings()
    with watching():
        done = run_job(settings, job, config, tags)
    print_loads(done.loads)
    click.echo(f"published  {settings.home.published / 'task_archive.duckdb'}")
    click.echo(f"report     {settings.home.published / 'report.html'}")
    with Catalog(Zone(settings.home.landing)) as catalog:
        if gone := summary(lost(catalog)):
            click.echo(f"damaged    {gone}")
    if not done.is_proven:
        sys.exit(GAP)
