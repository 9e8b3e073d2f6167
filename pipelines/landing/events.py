"""Landing what webhooks delivered: the states that no answer has shown.

An event adds history and proves nothing. It lands where no observation has its task's updatedAt: so duplicates,
redeliveries of old snapshots and the two events of a final state are no news, in whatever order they come.
"""

import hashlib
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import msgspec

from pipelines import __version__
from pipelines.landing import journal
from pipelines.landing.catalog import Catalog
from pipelines.landing.context import AccountContext
from pipelines.landing.journal import Journal, Line
from pipelines.landing.known import key_of
from pipelines.landing.manifest import Manifest, Window
from pipelines.landing.writer import LoadWriter, as_text
from pipelines.livepeer.redact import Redactor
from pipelines.livepeer.tasks.rows import Row, read_row
from pipelines.livepeer.webhook import in_list_order

EVENTS_PER_PAGE = 1_000


class _Scheduled(msgspec.Struct):
    scheduledAt: msgspec.Raw = msgspec.Raw(b"")


def land_events(context: AccountContext) -> Manifest | None:
    """The load of the events that wait; None where there are none, or where an interrupted load is to go on first."""
    waiting = Journal(context.settings.home.events, context.account)
    if waiting.waiting_bytes == 0:
        return None
    context.catalog.refresh(context.account, files_too=False)
    if context.catalog.open_loads(context.account):
        return None
    files = waiting.claim()
    now_ms = time.time_ns() // 1_000_000
    load = Manifest(
        load_id=context.zone.new_load_id("events", now_ms),
        account=context.account,
        lane="events",
        window=Window(),
        api_url=context.settings.api_url,
        code_version=__version__,
        run_id=context.run_id,
        started_at_ms=now_ms,
    )
    events = EventLoad(context.catalog, load, context.redactor)
    events.land(files)
    load.finished_at_ms = max(load.started_at_ms, time.time_ns() // 1_000_000)
    load.verdict, load.stage = "whole", "done"
    events.writer.complete()
    for file in files:
        file.unlink()
    return load


def summary(load: Manifest) -> str:
    """What a load of events brought, such as `120 events of 40 tasks, 101 states that nothing had shown`."""
    return f"{load.rows_read:,} events of {load.tasks_seen:,} tasks, {load.rows_landed:,} states that nothing had shown"


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
        for task_id, events in groupby(lines, key=lambda each: each[0].task_id):
            for row, line in self._news(task_id, events, observed):
                self.writer.add_event(row, line.observed_at_ms)
        self.writer.end_page(len(lines))
        self.writer.checkpoint("start", None)

    def _news(
        self, task_id: str | None, events: Iterator[tuple[Row, Line]], observed: set[tuple[str, int | None]]
    ) -> Iterator[tuple[Row, Line]]:
        """Those of a task's events that show a state which nothing has shown."""
        for row, line in events:
            key = key_of(row, hashlib.sha256(as_text(row.payload)[1]).hexdigest())
            state = (key, row.updated_at_ms)
            if state in self.landed or state in observed or (task_id is None and self.writer.known.has(key)):
                self.manifest.unchanged += 1
                continue
            self.landed.add(state)
            yield self._whole(row), line

    def _whole(self, row: Row) -> Row:
        """The row with its scheduledAt, which the snapshot of an automatic retry lacks, though the server keeps it."""
        if row.task_id is None or b'"scheduledAt"' in row.payload or b'"retries"' not in row.payload:
            return row
        known = self.writer.last_payload(row.task_id)
        scheduled = bytes(msgspec.json.decode(known, type=_Scheduled).scheduledAt) if known is not None else b""
        if not scheduled:
            return row
        return msgspec.structs.replace(row, payload=in_list_order(row.payload, scheduledAt=scheduled))
