"""Commands that read the published version."""

import json
from datetime import date
from pathlib import Path

import click

from pipelines.cli.group import DAY, example, main, print_described
from pipelines.errors import SettingsError
from pipelines.settings import load_settings
from pipelines.text import counted, printable

DRIFT_SHOWN = 5


@main.command(epilog=example('task-archive query "select type, count(*) from tasks group by all"'))
@click.argument("sql_or_name", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    show_default=True,
    help="json: one object per line. csv: text that a spreadsheet would run as a formula gets an apostrophe in front.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file.")
@click.option("--as-of", metavar="TIMESTAMP", help="Answer as a version published then would have; UTC unless it says.")
def query(sql_or_name: str | None, form: str, output: Path | None, as_of: str | None) -> None:
    """Ask the published version: SQL, or the NAME of a query; without either, list the names."""
    from pipelines.serving.published import named_queries, run_query, sql_of

    if sql_or_name is None:
        print_described(named_queries().items())
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
    "start of this day, UTC (-7d: seven days ago), however old the tasks are. Replace those tasks' rows by it. A "
    "timestamp does too.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file, replaced once all is there.")
def export(form: str, table: str | None, query: str | None, since: str | None, output: Path | None) -> None:
    """Write a published table or a query's rows to a file, of any size in little memory."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    from pipelines.serving.published import run_export

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.completed:,} rows"), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        shown = bar.add_task("", total=None)
        done = run_export(load_settings(), form, table, query, since, output, lambda rows: bar.advance(shown, rows))
    if done.texts_cut:
        click.echo(f"{done.texts_cut:,} texts were cut: a cell of a sheet takes 32,767 characters", err=True)
    if output is not None:
        click.echo(f"{output}: {counted(done.written, 'row')}", err=True)


@main.command(epilog=example("task-archive explain failure_rate --day 2026-11-20 --type upload"))
@click.argument("metric", required=False)
@click.option("--day", type=DAY, help="One day, in the time zone of TASK_ARCHIVE_TIME_ZONE; all of them otherwise.")
@click.option("--type", "task_type", help="One type of task; all of them otherwise.")
@click.option("--account", help="One account; all of them otherwise.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def explain(metric: str | None, day: date | None, task_type: str | None, account: str | None, as_json: bool) -> None:
    """What a number means, how it comes about, and the SQL of the rows behind it; without METRIC, list them."""
    from pipelines.serving import explain as explaining

    if metric is None:
        print_described(explaining.glossary().items())
        return
    found = explaining.explain(load_settings(), metric, day, task_type, account)
    click.echo(json.dumps(found.as_dict(), indent=1) if as_json else "\n".join(map(printable, found.lines())))


@main.command(epilog=example("task-archive report --from 2026-10-01 --to 2026-10-31 --type upload --open"))
@click.option("--from", "first", type=DAY, help="First day of creation; 89 days before the last otherwise.")
@click.option("--to", "last", type=DAY, help="Last day, included; the last whole day that is proven otherwise.")
@click.option("--type", "task_type", help="One type of task; all of them otherwise.")
@click.option("--account", help="One account; all of them otherwise.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default="report.html", show_default=True)
@click.option("--open", "opens", is_flag=True, help="Open it in the browser.")
def report(
    first: date | None,
    last: date | None,
    task_type: str | None,
    account: str | None,
    output: Path,
    opens: bool,
) -> None:
    """Write a report of the published version: one HTML file that needs nothing else, fit for a mail.

    The report of each nightly run is published/report.html. Days are those of TASK_ARCHIVE_TIME_ZONE.
    """
    from pipelines.report.page import make
    from pipelines.report.queries import ReportFilter

    settings = load_settings()
    if first and last and first > last:
        raise SettingsError("--from must not be after --to")
    report_filter = ReportFilter(first, last, task_type, account)
    output.write_text(make(settings, report_filter).html, encoding="utf-8")
    click.echo(f"report     {output.resolve()}")
    if opens:
        click.launch(output.resolve().as_uri())


@main.command(epilog=example("task-archive docs --open"))
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default="catalogue.html", show_default=True)
@click.option("--open", "opens", is_flag=True, help="Open it in the browser.")
def docs(output: Path, opens: bool) -> None:
    """Write the catalogue of the published version: tables, columns, metrics and queries, one HTML file to search.

    The catalogue of each nightly run is published/catalogue.html.
    """
    from pipelines.docs.catalogue import make

    output.write_text(make(load_settings()), encoding="utf-8")
    click.echo(f"catalogue  {output.resolve()}")
    if opens:
        click.launch(output.resolve().as_uri())


@main.command(epilog=example("task-archive task 10d93d74"))
@click.argument("task_id")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def task(task_id: str, as_json: bool) -> None:
    """All that the archive knows of one task; the beginning of its id will do where it is the only one."""
    from pipelines.serving.export import plain, write
    from pipelines.serving.published import published
    from pipelines.serving.task import find_task, sections

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


@main.command(epilog=example("task-archive status --json"))
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def status(as_json: bool) -> None:
    """How fresh and whole the archive is, and what it holds."""
    from pipelines.serving.status import status as read_status
    from pipelines.text import age
    from pipelines.warehouse.seal import PUBLISH_AGAIN, summary

    found = read_status(load_settings())
    if as_json:
        click.echo(found.as_json())
        return
    shown = [("home", found.home), ("published", found.published_version or "nothing yet: run `task-archive sync`")]
    for account in found.accounts:
        ago = f", {age(account.unproven_seconds)} ago" if account.unproven_seconds is not None else ""
        swept, since = account.last_whole_sweep_at, account.seconds_since_whole_sweep
        last = account.last_load
        shown += [
            ("account", f"{account.account}: {counted(account.tasks, 'task')}, {account.open_tasks:,} open"),
            ("  proven until", f"{account.proven_until_at or 'never'}{ago}"),
            ("  whole sweep", f"{swept}, {age(since)} ago" if since is not None else "never"),
            (
                "  last load",
                f"{last['load_id']}: {last['verdict']}, {counted(last['tasks_seen'], 'task')} read, "
                f"{last['appeared']:,} new, {last['changed']:,} changed",
            ),
            *(("    gap", reason) for reason in last["reasons"]),
        ]
    shown += [("interrupted", f"{load}: the next sync continues or closes it") for load in found.open_loads]
    for drift in found.drift[:DRIFT_SHOWN]:
        new = "new, " if drift["is_new"] else ""
        often = f"{drift['observations']:,} times since {drift['first_seen_at']}"
        shown.append(("drift", f"{drift['account']}: {drift['kind']} {drift['path']} ({new}{often})"))
    if len(found.drift) > DRIFT_SHOWN:
        shown.append(("", f'and {len(found.drift) - DRIFT_SHOWN} more: `task-archive query "from drift"`'))
    if found.altered_files:
        shown.append(("altered", f"{summary(found.altered_files)}: {PUBLISH_AGAIN}"))
    shown += [("damaged", f"{damaged}: see `task-archive verify --landing`") for damaged in found.damaged_files]
    if found.rows:
        shown.append(("rows", ", ".join(f"{table} {rows:,}" for table, rows in found.rows.items())))
    shown.append(("disk", ", ".join(f"{folder} {size / 1e6:,.1f} MB" for folder, size in found.bytes.items())))
    print_described(shown)


@main.command(epilog=example("task-archive prometheus --output /var/lib/node_exporter/task_archive.prom"))
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file, replaced once all is there.")
def prometheus(output: Path | None) -> None:
    """Print gauges of the published version and its active alerts, in Prometheus' text format."""
    from pipelines.alerts.gauges import gauges
    from pipelines.landing.zone import write_durably

    text = "".join(f"{line}\n" for line in gauges(load_settings()))
    if output is None:
        click.echo(text, nl=False)
    else:
        write_durably(output, text.encode())
