"""The `task-archive` command: thin over the jobs that Dagster runs too.

Exit status: 0 done and proved; 1 failed, nothing half-published; 2 usage or settings; 3 done and published, but the
proof has a gap, which is printed.
"""

import gc
import json
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pipelines import __version__, ending
from pipelines.errors import ArchiveError, SettingsError, in_one_line, is_lack_of_memory
from pipelines.harmless import printable
from pipelines.settings import SECONDS_OF_UNIT, check_address_space, load_settings

# Heavy imports (Dagster above all) stay inside the commands that need them: --help, query and status answer at once.

FAILED, USAGE, GAP = 1, 2, 3

# Garbage is looked for every few pages. More often takes time, more seldom memory: httpx leaves answers in circles.
GC_THRESHOLDS = 10_000, 10, 10
DRIFT_SHOWN = 5
LONGEST_DURATION_SECONDS = 366 * 86_400
DAY = click.DateTime(formats=["%Y-%m-%d"])


def duration(text: str) -> float:
    """Seconds of 90s, 5m, 8h or 2d."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    seconds = float(found[1]) * SECONDS_OF_UNIT[found[2]] if found else 0
    if not 0 < seconds <= LONGEST_DURATION_SECONDS:
        raise click.BadParameter(f"{text!r} is no duration such as 90s, 5m, 8h or 2d, at most 366d")
    return seconds


def is_of_duckdb(error: Exception) -> bool:
    return "duckdb" in sys.modules and isinstance(error, sys.modules["duckdb"].Error)


class Command(click.Group):
    """Turns every failure that we know into one line and its exit status, and every signal too."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As a process of its own."""
        ending.watch()
        return super().__call__(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return self._invoke(ctx)
        except SettingsError as error:
            click.echo(f"task-archive: {printable(str(error))}", err=True)
            ctx.exit(USAGE)
        except ArchiveError as error:
            click.echo(f"task-archive: {printable(str(error))}", err=True)
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
            if ending.is_near(0 if is_over else ending.PATIENCE_SECONDS):  # whatever the signal made of it
                ending.leave()
            raise


def example(line: str) -> str:
    """An example for a command's help."""
    return f"\b\nExample:\n  {line}"


@click.group(cls=Command, context_settings={"help_option_names": ["-h", "--help"]}, epilog=example("task-archive demo"))
@click.version_option(__version__, prog_name="task-archive")
def main() -> None:
    """Archive the task history of Livepeer Studio, and ask it questions in SQL."""
    check_address_space()
    gc.set_threshold(*GC_THRESHOLDS)


@main.command(epilog=example("task-archive demo"))
@click.option("--tasks", default=20_000, show_default=True, help="Tasks that the simulated account has.")
@click.option("--days", default=30, show_default=True, help="Days over which they were made.")
@click.option("--home", default="demo-archive", show_default=True, help="Folder of the demo's archive, made anew.")
def demo(tasks: int, days: int, home: str) -> None:
    """Show it all on a simulated account: two nightly runs and what the archive then answers."""
    from pipelines.demo import run_demo

    run_demo(tasks, days, Path(home))


@main.command(epilog=example("task-archive sync --lane sweep"))
@click.option(
    "--lane",
    type=click.Choice(["auto", "changes", "sweep"]),
    default="auto",
    show_default=True,
    help="auto: everything at first, then what changed since the last proven point.",
)
@click.option("--account", help="One account; all that have a key otherwise.")
def sync(lane: str, account: str | None) -> None:
    """The nightly job: fetch, land, build, publish."""
    settings = load_settings()
    settings.accounts(account)
    settings.check_origin()
    _run("nightly", {"lane": lane} | ({"account": account} if account else {}))


@main.command(epilog=example("task-archive observe --every 5m --for 8h"))
@click.option("--every", type=duration, help="Go on with a pass this often, until --for is over or Ctrl-C.")
@click.option("--for", "how_long", type=duration, help="For so long; needs --every.")
@click.option("--account", help="One account; all that have a key otherwise.")
def observe(every: float | None, how_long: float | None, account: str | None) -> None:
    """Fetch what changed, lightly: a pass that finds nothing new costs one request and publishes nothing.

    The more often, the better is known when tasks waited, ran and failed: the API overwrites it.
    """
    from pipelines import observing

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
@click.option("--from", "first", type=DAY, required=True, help="First day of creation, UTC.")
@click.option("--to", "last", type=DAY, required=True, help="Last day of creation, UTC, included.")
def backfill(first: datetime, last: datetime) -> None:
    """Fetch tasks created on given days again; each day is a Dagster partition."""
    from pipelines.defs.landing import FIRST_DAY

    settings = load_settings()
    settings.accounts()
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    from_day, to_day = first.strftime("%Y-%m-%d"), last.strftime("%Y-%m-%d")
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


@main.command(epilog=example('task-archive query "select type, count(*) from tasks group by all"'))
@click.argument("sql_or_name", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    show_default=True,
    help="json: an object a line. csv: text that a spreadsheet would run as a formula gets an apostrophe in front.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file.")
@click.option("--as-of", metavar="TIMESTAMP", help="Answer as a version published then would have; UTC unless it says.")
def query(sql_or_name: str | None, form: str, output: Path | None, as_of: str | None) -> None:
    """Ask the published version: SQL, or the NAME of a query; without either, list the names."""
    from pipelines.reading import named_queries, run_query, sql_of

    if sql_or_name is None:
        for name, answers in named_queries().items():
            click.echo(f"{name:24} {answers}")
        return
    run_query(load_settings(), sql_of(sql_or_name), "ndjson" if form == "json" else form, output, as_of)


@main.command(epilog=example("task-archive export --format xlsx --table daily_task_stats --output stats.xlsx"))
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "xlsx", "parquet", "arrow", "ndjson"]),
    required=True,
    help="csv, xlsx: text never becomes a formula. arrow: a file, or a stream where it goes into a pipe.",
)
@click.option("--table", help="A published table.")
@click.option("--query", "query", metavar="SQL|NAME", help="SQL, or the name of a query.")
@click.option(
    "--since",
    metavar="DAY",
    help="Of a table with task_id: all rows of the tasks of which the archive has learned anything new since the "
    "start of this day, UTC, however old the tasks are. Replace those tasks' rows by it. A timestamp does too.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file, replaced once all is there.")
def export(form: str, table: str | None, query: str | None, since: str | None, output: Path | None) -> None:
    """Write a published table or a query's rows to a file, of any size in little memory."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    from pipelines.reading import run_export

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.completed:,} rows"), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        shown = bar.add_task("", total=None)
        done = run_export(load_settings(), form, table, query, since, output, lambda rows: bar.advance(shown, rows))
    if done.texts_cut:
        click.echo(f"{done.texts_cut:,} texts were cut: a cell of a sheet takes 32,767 characters", err=True)
    if output is not None:
        click.echo(f"{output}: {done.written:,} rows", err=True)


@main.command(epilog=example("task-archive explain failure_rate --day 2026-11-20 --type upload"))
@click.argument("metric", required=False)
@click.option("--day", type=DAY, help="One day, in the time zone of TASK_ARCHIVE_TIME_ZONE; all of them otherwise.")
@click.option("--type", "task_type", help="One type of task; all of them otherwise.")
@click.option("--account", help="One account; all of them otherwise.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def explain(
    metric: str | None, day: datetime | None, task_type: str | None, account: str | None, as_json: bool
) -> None:
    """What a number means, how it comes about, and the SQL of the rows behind it; without METRIC, list them."""
    from pipelines import explain as explaining

    if metric is None:
        for name, meaning in explaining.glossary().items():
            click.echo(f"{name:28} {meaning}")
        return
    found = explaining.explain(load_settings(), metric, day.date() if day else None, task_type, account)
    click.echo(json.dumps(found.as_dict(), indent=1) if as_json else "\n".join(map(printable, found.lines())))


@main.command(epilog=example("task-archive report --from 2026-10-01 --to 2026-10-31 --type upload --open"))
@click.option("--from", "first", type=DAY, help="First day of creation; 89 days before the last otherwise.")
@click.option("--to", "last", type=DAY, help="Last day, included; the last whole day that is proven otherwise.")
@click.option("--type", "task_type", help="One type of task; all of them otherwise.")
@click.option("--account", help="One account; all of them otherwise.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default="report.html", show_default=True)
@click.option("--open", "opens", is_flag=True, help="Open it in the browser.")
def report(
    first: datetime | None,
    last: datetime | None,
    task_type: str | None,
    account: str | None,
    output: Path,
    opens: bool,
) -> None:
    """Write a report of the published version: one HTML file that needs nothing else, fit for a mail.

    The report of each nightly run is published/report.html. Days are those of TASK_ARCHIVE_TIME_ZONE.
    """
    from pipelines.report.page import make
    from pipelines.report.queries import Narrowed

    settings = load_settings()
    if first and last and first > last:
        raise SettingsError("--from must not be after --to")
    narrowed = Narrowed(first.date() if first else None, last.date() if last else None, task_type, account)
    output.write_text(make(settings, narrowed).html, encoding="utf-8")
    click.echo(f"report     {output.resolve()}")
    if opens:
        click.launch(output.resolve().as_uri())


@main.command(epilog=example("task-archive task 10d93d74"))
@click.argument("task_id")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def task(task_id: str, as_json: bool) -> None:
    """All that the archive knows of one task; the beginning of its id will do where it is the only one."""
    from pipelines.export import plain, write
    from pipelines.reading import published
    from pipelines.task import find_task, sections

    with published(load_settings()) as connection:
        found = sections(find_task(connection, task_id))
        rows = {heading: connection.sql(sql).to_arrow_table().to_pylist() for heading, sql in found.items()}
        if as_json:
            click.echo(json.dumps(plain(rows), indent=1, default=str))
            return
        for heading, sql in found.items():
            if rows[heading]:
                click.echo(f"\n{heading}\n{'─' * len(heading)}")
                write(connection, sql, "table", None)


@main.group(epilog=example("task-archive publish postgres"))
def publish() -> None:
    """Publish the newest version elsewhere as well."""


@publish.command(epilog=example("task-archive publish postgres"))
@click.option("--all", "every_row", is_flag=True, help="Compare every row: mends what others did to the tables.")
def postgres(every_row: bool) -> None:
    """Make the tables of a PostgreSQL schema what the published version holds, in one transaction.

    The database is that of TASK_ARCHIVE_POSTGRES_DSN. Once that is set, the nightly job does the same. Rows are
    compared where the version differs from the one that was published there before.
    """
    from pipelines.warehouse.postgres import publish_to_postgres

    settings = load_settings()
    publish_to_postgres(settings, click.echo, every_row)
    click.echo(f"published  schema {settings.postgres_schema}")


@main.command(epilog=example("task-archive verify --account default"))
@click.option("--account", help="One account; all that have a key otherwise.")
@click.option("--landing", is_flag=True, help="Check the landed files against their manifests instead.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def verify(account: str | None, landing: bool, as_json: bool) -> None:
    """Compare the archive with the server as it is now; changes nothing. Exit status 3 where they differ."""
    settings = load_settings()
    if landing:
        from pipelines.landing.catalog import Catalog
        from pipelines.landing.damage import check
        from pipelines.landing.zone import Zone

        with Catalog(Zone(settings.landing)) as catalog:
            checked = check(catalog)
        lines, found, is_well = [*checked.lines()], checked.as_dict(), not checked.damages
    else:
        from pipelines.verify import verify as compare

        compared = [compare(settings, name) for name in settings.accounts(account)]
        lines = [line for one in compared for line in one.lines()]
        found, is_well = {"accounts": [one.as_dict() for one in compared]}, all(one.is_equal for one in compared)
    click.echo(json.dumps(found, indent=1) if as_json else "\n".join(map(printable, lines)))
    sys.exit(0 if is_well else GAP)


@main.command(epilog=example("task-archive rebuild --verify"))
@click.option("--verify", "compares", is_flag=True, help="Publish nothing: compare what is published with it.")
@click.option("--json", "as_json", is_flag=True, help="With --verify: for machines.")
def rebuild(compares: bool, as_json: bool) -> None:
    """Make every table again from the landing zone, and publish. Asks the API nothing."""
    if not compares:
        _run("rebuild")
        return
    from pipelines.defs.resources import locked
    from pipelines.warehouse.rebuild import compare_with_rebuilt

    settings = load_settings()
    lock = locked(settings)
    try:
        compared = compare_with_rebuilt(settings, lambda line: click.echo(line, err=True))
    finally:
        lock.release()
    lines = [line for table in compared for line in table.lines()]
    found = {"tables": [asdict(table) | {"is_equal": table.is_equal} for table in compared]}
    click.echo(json.dumps(found, indent=1) if as_json else "\n".join(map(printable, lines)))
    sys.exit(0 if all(table.is_equal for table in compared) else GAP)


@main.command(epilog=example("task-archive status --json"))
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def status(as_json: bool) -> None:
    """How fresh and whole the archive is, and what it holds."""
    from pipelines.reading import age
    from pipelines.reading import status as read_status

    found = read_status(load_settings())
    if as_json:
        click.echo(found.as_json())
        return
    click.echo(f"home       {found.home}")
    click.echo(f"published  {found.published_version or 'nothing yet: run `task-archive sync`'}")
    for account in found.accounts:
        ago = f", {age(account.unproven_seconds)} ago" if account.unproven_seconds is not None else ""
        swept, since = account.last_whole_sweep_at, account.seconds_since_whole_sweep
        last = account.last_load
        click.echo(f"account    {account.account}: {account.tasks:,} tasks, {account.open_tasks:,} open")
        click.echo(f"  proven until  {account.proven_until_at or 'never'}{ago}")
        click.echo(f"  whole sweep   {swept}, {age(since)} ago" if since is not None else "  whole sweep   never")
        click.echo(
            f"  last load     {last['load_id']}: {last['verdict']}, {last['tasks_seen']:,} tasks met, "
            f"{last['appeared']:,} new, {last['changed']:,} changed"
        )
        for reason in last["reasons"]:
            click.echo(f"                {printable(reason)}")
    for load in found.open_loads:
        click.echo(f"interrupted  {load}: the next sync goes on from there or closes it")
    for drift in found.drift[:DRIFT_SHOWN]:
        new = "new, " if drift["is_new"] else ""
        often = f"{drift['observations']:,} times since {drift['first_seen_at']}"
        click.echo(f"drift      {drift['account']}: {drift['kind']} {printable(drift['path'])} ({new}{often})")
    if len(found.drift) > DRIFT_SHOWN:
        click.echo(f'           and {len(found.drift) - DRIFT_SHOWN} more: `task-archive query "from drift"`')
    for damaged in found.damaged_files:
        click.echo(f"damaged    {damaged}: see `task-archive verify --landing`")
    if found.rows:
        click.echo("rows       " + ", ".join(f"{table} {rows:,}" for table, rows in found.rows.items()))
    click.echo("disk       " + ", ".join(f"{folder} {size / 1e6:,.1f} MB" for folder, size in found.bytes.items()))


@main.group(epilog=example("task-archive alert test"))
def alert() -> None:
    """Tell people what is wrong, by webhook, e-mail and a file."""


@alert.command("test", epilog=example("task-archive alert test"))
def alert_test() -> None:
    """Send a test message to every channel that is set, and print what each answered."""
    from pipelines.alerts.channels import Undelivered, configured
    from pipelines.alerts.message import test_message

    settings, well = load_settings(), True
    if not (channels := configured(settings)):
        raise SettingsError(
            "no channel is set: set TASK_ARCHIVE_ALERT_WEBHOOK_URL, TASK_ARCHIVE_ALERT_EMAIL_TO or "
            "TASK_ARCHIVE_ALERT_FILE"
        )
    for channel in channels:
        try:
            said = f"ok   {channel.name}: {channel.send(test_message(str(settings.home)))}"
        except Undelivered as error:
            said, well = f"FAIL {channel.name}: {error}", False
        click.echo(printable(said))
    sys.exit(0 if well else FAILED)


@alert.command("check", epilog=example("task-archive alert check --json"))
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def alert_check(as_json: bool) -> None:
    """Look what is wrong now, print it, and tell what was not told yet. Exit status 3 where anything is."""
    from pipelines.alerts.telling import check, to_stderr

    found = check(load_settings(), to_stderr)
    if as_json:
        click.echo(json.dumps(asdict(found), default=str, indent=1))
    else:
        for each in found.alerts:
            click.echo("\n".join(each.lines()))
        for condition, why in found.unasked.items():
            click.echo(f"not asked  {condition}: {printable(why)}")
        if not found.alerts:
            click.echo("nothing is wrong")
    sys.exit(GAP if found.alerts else 0)


@main.command(epilog=example("task-archive simulate --port 8900 --tasks 20000 --days 30 --seed 7"))
@click.option("--port", default=8900, show_default=True, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option("--tasks", default=20_000, show_default=True)
@click.option("--days", default=30, show_default=True, help="Days of history.")
@click.option("--seed", default=7, show_default=True, help="The same seed gives the same tasks.")
@click.option("--behind-hours", default=0.0, show_default=True, help="How far its clock lies behind ours.")
def simulate(port: int, tasks: int, days: int, seed: int, behind_hours: float) -> None:
    """Serve a simulated Livepeer Studio account on loopback."""
    import time

    from pipelines.simulator import Simulator

    now = time.time_ns() // 1_000_000 - round(behind_hours * 3_600_000)
    with Simulator(tasks=tasks, days=days, seed=seed, now=now).serve(port) as simulator:
        click.echo(f"LIVEPEER_API_URL={simulator.url}\nLIVEPEER_API_KEY={simulator.api_key}")
        sys.stdout.flush()
        while True:
            time.sleep(3600)


@main.command(epilog=example("task-archive doctor"))
def doctor() -> None:
    """Print the settings and check that the archive can work."""
    from pipelines.doctor import examine, shown_settings

    settings = load_settings()
    for variable, value, meaning in shown_settings(settings):
        click.echo(f"{variable:40} {value:32} {meaning}")
    click.echo()
    well = True
    for finding in examine(settings):
        click.echo(f"{'ok  ' if finding.is_well else 'FAIL'} {finding.what}: {printable(finding.says)}")
        well = well and finding.is_well
    sys.exit(0 if well else FAILED)


@main.command(epilog=example("task-archive ui --port 3000"))
@click.option("--port", default=3000, show_default=True)
def ui(port: int) -> None:
    """Open Dagster's web page and its schedules on the archive's instance (127.0.0.1 only)."""
    from pipelines.runs import show_page

    settings = load_settings()
    click.echo(f"Dagster on http://127.0.0.1:{port}, home {settings.home}")
    sys.exit(show_page(settings, port))


def _run(job: str, config: dict[str, Any] | None = None, tags: dict[str, str] | None = None) -> None:
    """Runs a job, prints what came of it, and leaves with its exit status."""
    from pipelines.landing.catalog import Catalog
    from pipelines.landing.damage import lost, summary
    from pipelines.landing.zone import Zone
    from pipelines.runs import run_job
    from pipelines.terminal import print_loads, watching

    settings = load_settings()
    with watching():
        done = run_job(settings, job, config, tags)
    print_loads(done.loads)
    click.echo(f"published  {settings.published / 'task_archive.duckdb'}")
    click.echo(f"report     {settings.published / 'report.html'}")
    with Catalog(Zone(settings.landing)) as catalog:
        if gone := summary(lost(catalog)):
            click.echo(f"damaged    {gone}")
    if not done.is_proven:
        sys.exit(GAP)


if __name__ == "__main__":
    main()
