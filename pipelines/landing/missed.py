"""Events that no delivery brought. The API keeps a log of what its webhooks sent, which has the body of each request.

A delivery that was refused is never sent again, one that was redirected counts as delivered, and one that nobody takes
is given up in the end. What the log shows of them waits beside the events that were delivered.
"""

import time
from collections.abc import Iterator

from pipelines.landing.context import AccountContext
from pipelines.landing.journal import Journal, Line
from pipelines.landing.zone import write_durably
from pipelines.livepeer.client import Client, Page
from pipelines.livepeer.failures import ApiError, BrokenWalk
from pipelines.livepeer.tasks.rows import read_row
from pipelines.livepeer.webhook import Event, Refused, read_delivery
from pipelines.text import counted

LOG_DAYS = 7  # that are read where the log was not read before
ENTRIES_PER_PAGE = 500
MOST_PAGES = 10_000
READ_UNTIL = "log-read-until"  # a time of the server's, epoch ms


def fetch_missed(context: AccountContext) -> None:
    """Has the events wait that the log shows and no observation, of the webhook that comes to `listen`.

    The client of the context is open. A log that cannot be read is said, and keeps no load from being fetched.
    """
    url = context.settings.listen_url
    if url is None:
        return
    journal = Journal(context.settings.home.events, context.account)
    note = journal.folder / READ_UNTIL
    read_until = note.read_bytes() if note.exists() else b""
    read_until_ms = int(read_until) if read_until.isdigit() else 0
    overlap_ms = context.settings.overlap_seconds * 1000
    since_ms = max(read_until_ms - overlap_ms, time.time_ns() // 1_000_000 - LOG_DAYS * 86_400_000)
    found, unread, began_ms = 0, 0, None
    try:
        for webhook in context.client.list_webhooks():
            if not webhook.comes_to(f"{url}/{context.account}"):
                continue
            for page in _pages(context.client, webhook.id, since_ms):
                began_ms = began_ms or page.server_at_ms
                events = list(_events(page))
                unread += len(page.rows) - len(events)
                lines = _missed(context, [event for event in events if event.is_of_task])
                if lines:
                    journal.append(lines)
                found += len(lines)
    except ApiError as error:
        context.callbacks.say(f"the log of deliveries cannot be read, events may be missing: {error}")
        return
    if began_ms is not None:
        journal.folder.mkdir(parents=True, exist_ok=True)
        write_durably(note, str(began_ms).encode())
    if unread:
        context.callbacks.say(f"no event in {counted(unread, 'line')} of the log of deliveries")
    if found:
        context.callbacks.say(f"{counted(found, 'event')} from the log of deliveries, which nothing had shown")


def _pages(client: Client, webhook_id: str, since_ms: int) -> Iterator[Page]:
    """The log since a time. It only grows and comes oldest first, so that an offset loses nothing of it."""
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = client.list_deliveries(webhook_id, limit=ENTRIES_PER_PAGE, since_ms=since_ms, cursor=cursor)
        yield page
        if len(page.rows) < ENTRIES_PER_PAGE or page.next_cursor in (None, "undefined", cursor):
            return
        cursor = page.next_cursor
    raise BrokenWalk(f"{client.host} lists deliveries without end: {MOST_PAGES:,} pages")


def _events(page: Page) -> Iterator[Event]:
    for entry in page.rows:
        try:
            yield read_delivery(entry)
        except Refused:
            continue


def _missed(context: AccountContext, events: list[Event]) -> list[Line]:
    """Lines of the events whose task is not known to have been as they show it, each state once."""
    skew_ms = round((context.client.traffic.clock_skew_seconds or 0) * 1000)
    payloads = context.redactor.redact_all([event.snapshot for event in events])
    rows = [read_row(payload) for payload in payloads]
    observed = context.catalog.observed_updates(context.account, {row.task_id for row in rows if row.task_id})
    missed: dict[tuple[str, int | None], Line] = {}
    for row, event in zip(rows, events, strict=True):
        if row.task_id is not None and (row.task_id, row.updated_at_ms) not in observed:
            at_ms = event.created_at_ms or row.updated_at_ms or 0
            missed[row.task_id, row.updated_at_ms] = Line(at_ms + skew_ms, skew_ms, row.payload)
    return list(missed.values())
