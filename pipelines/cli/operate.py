"""Commands for who runs the archive."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from pipelines.cli.group import FAILED, GAP, example, main
from pipelines.errors import SettingsError
from pipelines.serving.targets import names, target
from pipelines.settings import load_settings
from pipelines.text import printable


@main.command(epilog=example("task-archive demo"))
@click.option("--tasks", default=20_000, show_default=True, help="Tasks that the simulated account has.")
@click.option("--days", default=90, show_default=True, help="Days over which they were made.")
@click.option("--home", default="demo-archive", show_default=True, help="Folder of the demo's archive, made anew.")
def demo(tasks: int, days: int, home: str) -> None:
    """Show it all on a simulated account: two nightly runs, looks in between, and what the archive then answers."""
    from pipelines.cli.demo import run_demo

    run_demo(tasks, days, Path(home))


class Targets(click.Group):
    """A command for each destination, whose module is imported once it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in names():
            return None
        of = target(cmd_name)

        @click.command(of.name, help=of.help, epilog=example(f"task-archive publish {of.name}"))
        @click.option("--all", "every_row", is_flag=True, help="Compare all: repairs what others changed there.")
        def publish_there(every_row: bool) -> None:
            settings = load_settings()
            of.publish(settings, click.echo, every_row)
            click.echo(f"published  {of.place(settings)}")

        return publish_there


@main.group(cls=Targets, epilog=example("task-archive publish postgres"))
def publish() -> None:
    """Publish the newest version elsewhere as well."""


@main.command(epilog=example("task-archive listen --port 8765"))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on, behind a proxy with TLS.")
@click.option("--port", default=8765, show_default=True)
def listen(host: str, port: int) -> None:
    """Receive Livepeer's webhooks at /<account>: every state of a task, seconds after it came about.

    A delivery is answered once its event is on the disk. The next run of any lane lands what waits.
    """
    from pipelines.listening.server import Receiver, serve

    settings = load_settings()
    receiver = Receiver(settings, lambda line: click.echo(printable(line), err=True))
    serve(receiver, host, port, lambda at: click.echo(f"listening on {at} for {', '.join(receiver.accounts)}"))


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

        with Catalog(Zone(settings.home.landing)) as catalog:
            checked = check(catalog)
        lines, found, is_well = [*checked.lines()], checked.as_dict(), not checked.damages
    else:
        from pipelines.audit.server import verify as compare
        from pipelines.warehouse.seal import PUBLISH_AGAIN, altered, summary

        changed = [f"{path} {what}" for path, what in altered(settings.home)]
        compared = [] if changed else [compare(settings, name) for name in settings.accounts(account)]
        lines = [f"altered    {summary(changed)}: nothing was compared, {PUBLISH_AGAIN}"] if changed else []
        lines += [line for one in compared for line in one.lines()]
        found = {"altered_files": changed, "accounts": [one.as_dict() for one in compared]}
        is_well = not changed and all(one.is_equal for one in compared)
    click.echo(json.dumps(found, indent=1) if as_json else "\n".join(map(printable, lines)))
    sys.exit(0 if is_well else GAP)


@main.command(epilog=example("task-archive erase --creator 0x81bbe1…"))
@click.option("--creator", required=True, help="The creator's id, as the column creator_id of tasks has it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(creator: str, yes: bool) -> None:
    """Erase what tasks say of a creator, from landed files to every destination; of each task its id, type, times and
    phase stay.

    Counts and durations stay as they are. landing/erasures.jsonl keeps a record, with the creator's fingerprint.
    """
    from pipelines.cli.erase import erase_creator, tasks_of
    from pipelines.cli.terminal import watching

    settings = load_settings()
    tasks = tasks_of(settings, creator)
    for account, task_ids in tasks.items():
        click.echo(f"tasks      {account}: {len(task_ids):,}")
    if not yes:
        click.confirm("Erase what they hold? Backups are yours to see to.", abort=True)
    with watching():
        erase_creator(settings, creator, tasks, click.echo)


@main.group(epilog=example("task-archive alert test"))
def alert() -> None:
    """Alerts by webhook, e-mail and file."""


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
    from pipelines.alerts.notify import check, to_stderr

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
@click.option("--webhook", metavar="URL", help="Send the account's webhooks there.")
@click.option("--webhook-secret", help="Their shared secret.")
@click.option(
    "--incidents", type=click.IntRange(1, 2), default=1, show_default=True, help="2: one just before its start too."
)
def simulate(
    port: int,
    tasks: int,
    days: int,
    seed: int,
    behind_hours: float,
    webhook: str | None,
    webhook_secret: str | None,
    incidents: int,
) -> None:
    """Serve a simulated Livepeer Studio account on loopback."""
    import time

    from pipelines.simulator import Simulator

    now = time.time_ns() // 1_000_000 - round(behind_hours * 3_600_000)
    with Simulator(tasks=tasks, days=days, seed=seed, now=now, incidents=incidents).serve(port) as simulator:
        if webhook:
            simulator.add_webhook(webhook, webhook_secret)
        click.echo(f"LIVEPEER_API_URL={simulator.url}\nLIVEPEER_API_KEY={simulator.api_key}")
        sys.stdout.flush()
        while True:
            time.sleep(3600)


@main.command(epilog=example("task-archive doctor --verbose"))
@click.option("--verbose", is_flag=True, help="Print the settings too, secrets masked.")
def doctor(verbose: bool) -> None:
    """Check that the archive can work: settings, the API and what it can do, the home and its disk."""
    from pipelines.cli.doctor import examine, shown_settings

    settings, well = load_settings(), True
    for finding in examine(settings):
        click.echo(f"{'ok  ' if finding.is_well else 'FAIL'} {finding.what}: {printable(finding.says)}")
        well = well and finding.is_well
    if verbose:
        click.echo()
        for variable, value, meaning in shown_settings(settings):
            click.echo(f"{variable:40} {value:32} {meaning}")
    sys.exit(0 if well else FAILED)


@main.command(epilog=example("task-archive ui --port 3000"))
@click.option("--port", default=3000, show_default=True)
def ui(port: int) -> None:
    """Open Dagster's web page and its schedules on the archive's instance (127.0.0.1 only)."""
    from pipelines.cli.run import show_page

    settings = load_settings()
    click.echo(f"Dagster on http://127.0.0.1:{port}, home {settings.home}")
    sys.exit(show_page(settings, port))
