"""Checking that an archive can work: settings, the API and what it can do, the home and its room."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import SecretStr

from pipelines.errors import ArchiveError
from pipelines.livepeer import pages, walks
from pipelines.livepeer.client import connect
from pipelines.serving.status import free_bytes
from pipelines.serving.targets import Target, names, target
from pipelines.settings import KEY_VARIABLE, WEBHOOK_VARIABLE, Settings, environment_variable
from pipelines.text import counted
from pipelines.warehouse.seal import PUBLISH_AGAIN, altered, summary

TASK_EVENTS = ("task.spawned", "task.updated", "task.completed", "task.failed")
LEAST_FREE_BYTES = 2 * 10**9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what, whether it is well, and what it is or what to do about it."""

    what: str
    is_well: bool
    says: str


def shown_settings(settings: Settings) -> list[tuple[str, str, str]]:
    """Every setting as (variable, value, meaning), secrets masked."""
    rows = list(_by_account(KEY_VARIABLE, settings.api_keys, "API key"))
    if not rows:
        rows.append((KEY_VARIABLE, "(not set)", "API key of account default"))
    rows += _by_account(WEBHOOK_VARIABLE, settings.webhook_secrets, "shared secret of the webhook")
    for name, field in Settings.model_fields.items():
        if not field.exclude:
            value = getattr(settings, name)
            shown = "" if value is None else _masked(value) if isinstance(value, SecretStr) else str(value)
            rows.append((environment_variable(name), shown, field.description or ""))
    return rows


def _by_account(variable: str, secrets: dict[str, SecretStr], meaning: str) -> Iterator[tuple[str, str, str]]:
    for account, secret in secrets.items():
        name = variable if account == "default" else f"{variable}__{account.upper()}"
        yield name, _masked(secret), f"{meaning} of account {account}"


def examine(settings: Settings) -> Iterator[Finding]:
    """Looks at the home, then at each account's API."""
    yield _home(settings)
    free = free_bytes(settings.home.path)
    yield Finding(
        "room",
        free >= LEAST_FREE_BYTES,
        f"{free / 1e9:,.1f} GB free"
        + ("" if free >= LEAST_FREE_BYTES else ": make room, a load or a publication may fail"),
    )
    if settings.home.is_published:
        yield _version(settings)
    for each in map(target, names()):
        if each.is_set(settings):
            yield _target(settings, each)
    try:
        accounts = settings.accounts()
        settings.check_origin()
    except ArchiveError as error:
        yield Finding("settings", False, str(error))
        return
    for account in accounts:
        yield from _api(settings, account)


def _home(settings: Settings) -> Finding:
    try:
        settings.home.make()
        with tempfile.NamedTemporaryFile(dir=settings.home.path):
            pass
    except OSError as error:
        return Finding(
            "home",
            False,
            f"{settings.home} cannot be written ({error.strerror}): set TASK_ARCHIVE_HOME to a folder that can",
        )
    return Finding("home", True, f"{settings.home} can be written")


def _version(settings: Settings) -> Finding:
    changed = [f"{path} {what}" for path, what in altered(settings.home)]
    if not changed:
        return Finding("published version", True, "its files are as they were published")
    return Finding("published version", False, f"{summary(changed)}: {PUBLISH_AGAIN}")


def _target(settings: Settings, of: Target) -> Finding:
    try:
        return Finding(of.title, True, of.check(settings))
    except ArchiveError as error:
        return Finding(of.title, False, str(error))


def _api(settings: Settings, account: str) -> Iterator[Finding]:
    try:
        with connect(settings.model_copy(update={"attempts": 1}), account) as client:
            capabilities, _ = walks.probe(client)
            total = pages.count(client, None) if capabilities.count else None
            may_get = walks.may_get(client)
    except ArchiveError as error:
        yield Finding(f"API of {account}", False, str(error))
        return
    counts = f", which counts {counted(total, 'task')}" if total is not None else ""
    yield Finding(f"API of {account}", True, f"{client.host} answers{counts}")
    yield Finding(
        f"rights of {account}",
        may_get,
        "tasks may be listed, and got by id"
        if may_get
        else "the key may list tasks and not get one by id (403): no deletion can be known, `refresh` gets nothing; "
        "allow its rules of access both",
    )
    skew = client.traffic.clock_skew_seconds
    yield Finding(
        f"clock against {account}",
        skew is None or abs(skew) < settings.overlap_seconds,
        "the server sends no Date" if skew is None else f"{skew:+.1f} s against the server",
    )
    for has, name, otherwise in (
        (
            capabilities.id_keyset,
            "pages by id",
            "its documented paging is walked instead, which cannot prove that nothing is missed",
        ),
        (capabilities.filters, "filters by time", "every run reads the whole list"),
        (capabilities.count, "counts", "nothing confirms the number of tasks read"),
    ):
        yield Finding(
            f"ability of {account}", has, name if has else f"it does not {name.replace('s ', ' ', 1)}: {otherwise}"
        )
    yield from _webhook(settings, account)


def _webhook(settings: Settings, account: str) -> Iterator[Finding]:
    """Whether the account's webhook comes to `task-archive listen`, where it is to."""
    if settings.listen_url is None:
        return
    expected = f"{settings.listen_url}/{account}"
    what = f"webhook of {account}"
    try:
        with connect(settings.model_copy(update={"attempts": 1}), account) as client:
            webhooks = client.list_webhooks()
    except ArchiveError as error:
        yield Finding(what, False, str(error))
        return
    ours = next((webhook for webhook in webhooks if webhook.comes_to(expected)), None)
    if ours is None:
        yield Finding(what, False, f"none of the project's {len(webhooks)} webhooks goes to {expected}: add one")
        return
    if lacking := [event for event in TASK_EVENTS if event not in ours.events]:
        yield Finding(what, False, f"it does not send {', '.join(lacking)}: add them")
        return
    secret = settings.webhook_secrets.get(account)
    if secret is None:
        yield Finding(what, settings.listen_unsigned, f"{WEBHOOK_VARIABLE} is not set: deliveries are not checked")
    elif ours.sharedSecret is not None and ours.sharedSecret != secret.get_secret_value():
        yield Finding(what, False, f"its shared secret is not that of {WEBHOOK_VARIABLE}")
    else:
        yield Finding(what, True, f"comes to {expected}")
    yield _log(settings, account, ours.id)


def _log(settings: Settings, account: str, webhook_id: str) -> Finding:
    """Whether the log of the webhook's deliveries can be read, which tells of those that nobody took."""
    what = f"log of deliveries to {account}"
    try:
        with connect(settings.model_copy(update={"attempts": 1}), account) as client:
            client.list_deliveries(webhook_id, limit=1, since_ms=0)
    except ArchiveError as error:
        return Finding(what, False, f"cannot be read, so that events may be missing: {error}")
    return Finding(what, True, "can be read: sync fetches what nobody took")


def _masked(secret: SecretStr) -> str:
    """Enough to tell one key from another, not enough to use it."""
    text = secret.get_secret_value()
    return f"…{text[-4:]} ({len(text)} characters)" if len(text) >= 16 else f"… ({len(text)} characters)"
