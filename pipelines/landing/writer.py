"""Writing one load: pages become Parquet parts as they come, and the load can go on after a kill at any moment."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from pipelines.landing.catalog import Catalog
from pipelines.landing.erasure import cut_down, erased_tasks
from pipelines.landing.known import LandedStates, key_of
from pipelines.landing.manifest import Manifest, Part
from pipelines.landing.zone import MANIFEST, OBSERVATION, PROGRESS, write_manifest, write_note, write_part
from pipelines.livepeer.redact import Redactor
from pipelines.livepeer.tasks.rows import Row

PAGES_PER_PART = 10


class PageResult(NamedTuple):
    """What was on a page: the keys of its tasks, and of those whose state was new and lands."""

    keys: set[str]
    landed: set[str]


class LoadWriter:
    """Redacts, recognises what has landed before, and writes the rest."""

    def __init__(self, catalog: Catalog, manifest: Manifest, redactor: Redactor) -> None:
        self.manifest = manifest
        self.folder = catalog.zone.folder(manifest.account, manifest.load_id)
        self.folder.mkdir(parents=True, exist_ok=True)
        _remove_unnoted(self.folder, manifest)
        self.known = LandedStates(catalog, manifest.account, manifest.load_id)
        self._catalog = catalog
        self._redactor = redactor
        self._erased = erased_tasks(catalog.zone, manifest.account)
        self._held: list[tuple[Any, ...]] = []
        self._pages = 0

    def add_page(self, rows: Sequence[Row], fetched_at_ms: int) -> PageResult:
        """Takes a page in."""
        note = self.manifest
        landing = [
            (row, key_of(row, sha256), text, sha256)
            for row, (text, sha256) in zip(rows, as_landed(self._redactor, rows, self._erased), strict=True)
        ]
        taken = PageResult({key for _, key, _, _ in landing}, set())
        self.known.look_up(taken.keys)
        for position, (row, key, text, sha256) in enumerate(landing):
            if self.known.is_unchanged(key, sha256, row.is_deleted):
                note.unchanged += 1
                continue
            taken.landed.add(key)
            self._add(position, fetched_at_ms, row, key, text, sha256, is_known=self.known.has(key))
        self.end_page(len(rows))
        return taken

    def end_page(self, rows: int) -> None:
        """Counts a page that was read."""
        self.manifest.pages += 1
        self.manifest.rows_read += rows
        self._pages += 1

    def add_gone(self, task_id: str, fetched_at_ms: int) -> None:
        """Takes in that the API knows a task no more."""
        self.known.add_gone(task_id)
        self._land(0, fetched_at_ms, Row(b"", task_id, None, None, True), None, None)
        self.manifest.pages += 1

    def add_event(self, row: Row, observed_at_ms: int) -> None:
        """Takes in a state that an event showed, redacted already; of a task known to be deleted it tells no more."""
        text, sha256 = text_and_hash(cut_down(row.payload) if row.task_id in self._erased else row.payload)
        key = key_of(row, sha256)
        is_deleted = self.known.is_deleted(key)
        row = msgspec.structs.replace(row, is_deleted=row.is_deleted or is_deleted)
        is_known = is_deleted or self.known.has(key)
        self._add(len(self._held), observed_at_ms, row, key, text, sha256, is_known)

    def last_payload(self, task_id: str) -> bytes | None:
        """The payload that landed last of a task, this load's own included; None where there is none."""
        held = (text for _, _, _, held_id, _, _, _, text, _ in reversed(self._held) if held_id == task_id and text)
        text = next(held, None) or self._catalog.last_payload(self.manifest.account, task_id)
        return None if text is None else text.encode()

    def checkpoint(self, stage: str, cursor: str | None) -> None:
        """Call between pages with the place to go on from; writes a part when enough has come in."""
        self.manifest.stage, self.manifest.cursor = stage, cursor
        if self._pages >= PAGES_PER_PART:
            self.flush()

    def flush(self) -> None:
        """Writes what is held, then notes it: a part that is not noted does not exist."""
        part = self._write_part() if self._held else None
        if part is not None:
            self.manifest.parts = [*self.manifest.parts, part]
            self._held = []
            self._catalog.zone.kept(self.folder / part.file)
        self._pages = 0
        write_note(self.folder, self.manifest)
        self._catalog.zone.kept(self.folder / PROGRESS)
        if part is not None:
            self._catalog.add(self.manifest, part)
            self.known.forget_held()

    def complete(self) -> Manifest:
        """Completes the load; nothing changes it afterwards."""
        note = self.manifest
        if note.finished_at_ms is None:  # our clock may have been set back
            note.finished_at_ms = max(note.started_at_ms, time.time_ns() // 1_000_000)
        self.flush()
        write_manifest(self.folder, self.manifest)
        self._catalog.zone.kept(self.folder / MANIFEST)
        self._catalog.complete(self.manifest)
        return self.manifest

    def _add(
        self, position: int, fetched_at_ms: int, row: Row, key: str, text: str, sha256: str, is_known: bool
    ) -> None:
        """Counts a state in and lands it."""
        self.manifest.changed += is_known
        self.manifest.appeared += not is_known
        self.known.add(key, sha256, row)
        self._land(position, fetched_at_ms, row, text, sha256)

    def _land(self, position: int, fetched_at_ms: int, row: Row, text: str | None, sha256: str | None) -> None:
        times = (row.created_at_ms, row.updated_at_ms)
        self._held.append(
            (self.manifest.pages, position, fetched_at_ms, row.task_id, *times, row.is_deleted, text, sha256)
        )
        self.manifest.rows_landed += 1

    def _write_part(self) -> Part:
        note, rows = self.manifest, len(self._held)
        same = [pa.repeat(pa.scalar(value, pa.string()), rows) for value in (note.account, note.lane, note.load_id)]
        columns = zip(*self._held, strict=True)
        own = [pa.array(column, field.type) for column, field in zip(columns, list(OBSERVATION)[3:], strict=True)]
        path = self.folder / f"part-{len(self.manifest.parts):05d}.parquet"
        return write_part(pa.table([*same, *own], schema=OBSERVATION), path)


def as_landed(redactor: Redactor, rows: Sequence[Row], erased: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    """The payloads of rows as they land: redacted, those of tasks in `erased` cut down, each with its hash."""
    for row, payload in zip(rows, redactor.redact_all([row.payload for row in rows]), strict=True):
        yield text_and_hash(cut_down(payload) if row.task_id in erased else payload)


def text_and_hash(payload: bytes) -> tuple[str, str]:
    """A payload as it lands."""
    text, encoded = _as_text(payload)
    return text, hashlib.sha256(encoded).hexdigest()


def _as_text(payload: bytes) -> tuple[str, bytes]:
    """A payload as text, and that as UTF-8: bytes that are none become \\udcXX escapes, which every engine can read."""
    try:
        return payload.decode(), payload
    except UnicodeDecodeError:
        return _as_text(payload.decode("utf-8", "surrogateescape").encode("utf-8", "backslashreplace"))


def _remove_unnoted(folder: Path, manifest: Manifest) -> None:
    """Clears what a kill left between writing a part and noting it."""
    noted = {part.file for part in manifest.parts}
    for path in folder.glob("part-*.parquet"):
        if path.name not in noted:
            path.unlink()
