"""Landing what webhooks delivered: the states that no answer has shown.

An event adds history and proves nothing. It lands where no observation has its task's updatedAt: so duplicates,
redeliveries of old snapshots and the two events of a final state are no news, in whatever order they come.
"""

from pathlib import Path

import msgspec

from pipelines.landing import journal
from pipelines.landing.begin import begun
from pipelines.landing.catalog import Catalog
from pipelines.landing.context import AccountContext
from pipelines.landing.journal import Journal, Line
from pipelines.landing.known import key_of
from pipelines.landing.manifest import Manifest, Window
from pipelines.landing.writer import LoadWriter, text_and_hash
from pipelines.livepeer.redact import Redactor
from pipelines.livepeer.tasks.rows import Row, read_row, scheduled_at_ms_of
from pipelines.livepeer.webhook import in_list_order
from pipelines.text import counted

EVENTS_PER_PAGE = 1_000


def land_events(context: AccountContext) -> Manifest | None:
    """The load of the events that wait; None where there are none, or where an interrupted load is to go on first."""
    waiting = Journal(context.settings.home.events, context.account)
    if waiting.waiting_bytes == 0:
        return None
    context.catalog.refresh(context.account, files_too=False)
    if context.catalog.open_loads(context.account):
        return None
    files = waiting.claim()
    load = begun(context, "events", Window())
    events = EventLoad(context.catalog, load, context.redactor)
    events.land(files)
    load.verdict, load.stage = "whole", "done"
    events.writer.complete()
    for file in files:
        file.unlink()
    return load


def summary(load: Manifest) -> str:
    """What a load of events brought, such as `120 events of 40 tasks, 101 states that nothing had shown`."""
    events, tasks = counted(load.rows_read, "event"), counted(load.tasks_seen, "task")
    return f"{events} of {tasks}, {counted(load.rows_landed, 'state')} that nothing had shown"


class EventLoad:
    """Lands journal files as a load whose manifest is begun."""

    def __init__(self, catalog: Catalog, manifest: Manifest, redactor: Redactor) -> None:
        self.account = manifest.account
        self.catalog = catalog
        self.manifest = manifest
        self.writer = LoadWriter(catalog, manifest, redactor)
        self.seen: set[str] = set()
        self.landed: set[tuple[str, int | None]] = set()  # by this load

    def land(self, files: list[Path]) -> None:
        """Lands what has not been observed."""
        note = self.manifest
        for file in files:
            lines = [(read_row(in_list_order(line.payload)), line) for line in journal.read(file)]
            skews = [line.skew_ms for _, line in lines if line.skew_ms is not None]
            if skews and note.clock_skew_seconds is None:
                note.clock_skew_seconds = min(skews) / 1000  # the delivery that came fastest
            # In the order in which things came to pass, which is not that in which they were delivered.
            lines.sort(key=lambda each: (each[0].task_id or "", each[0].updated_at_ms or 0, each[1].observed_at_ms))
            for start in range(0, len(lines), EVENTS_PER_PAGE):
                self._land_page(lines[start : start + EVENTS_PER_PAGE])
        note.tasks_seen = len(self.seen)

    def _land_page(self, lines: list[tuple[Row, Line]]) -> None:
        keys = {row.task_id for row, _ in lines if row.task_id is not None}
        self.seen |= keys
        self.writer.known.look_up(keys)
        observed = self.catalog.observed_updates(self.account, keys)
        for row, line in lines:
            key = key_of(row, text_and_hash(row.payload)[1])
            state = key, row.updated_at_ms
            if state in self.landed or state in observed or (row.task_id is None and self.writer.known.has(key)):
                self.manifest.unchanged += 1
                continue
            self.landed.add(state)
            self.writer.add_event(self._whole(row), line.observed_at_ms)
        self.writer.end_page(len(lines))
        self.writer.checkpoint("start", None)

    def _whole(self, row: Row) -> Row:
        """The row with its scheduledAt, which the snapshot of an automatic retry lacks, though the server keeps it."""
        if row.task_id is None or b'"scheduledAt"' in row.payload or b'"retries"' not in row.payload:
            return row
        known = self.writer.last_payload(row.task_id)
        scheduled_at_ms = None if known is None else scheduled_at_ms_of(known)
        if scheduled_at_ms is None:
            return row
        payload = in_list_order(row.payload, scheduledAt=str(scheduled_at_ms).encode())
        return msgspec.structs.replace(row, payload=payload)
