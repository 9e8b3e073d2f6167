"""Writing one load: pages become Parquet parts as they come, and the load can go on after a kill at any moment."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.landing.catalog import Catalog
from pipelines.landing.erasure import cut_down, erased_tasks
from pipelines.landing.known import LandedStates, key_of
from pipelines.landing.manifest import Manifest, Part
from pipelines.landing.zone import OBSERVATION, sync_folder, write_manifest, write_note
from pipelines.livepeer.redact import Redactor
from pipelines.livepeer.tasks.rows import Row

PAGES_PER_PART = 10
ROWS_PER_GROUP = 1_000  # what is read to have a task again


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
            if self.known.has(key):
                note.changed += 1
            else:
                note.appeared += 1
            self.known.add(key, sha256, row)
            taken.landed.add(key)
            self._land(position, fetched_at_ms, row, text, sha256)
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
        text, encoded = as_text(cut_down(row.payload) if row.task_id in self._erased else row.payload)
        sha256 = hashlib.sha256(encoded).hexdigest()
        key = key_of(row, sha256)
        if self.known.has(key) or self.known.is_deleted(key):
            self.manifest.changed += 1
        else:
            self.manifest.appeared += 1
        row = msgspec.structs.replace(row, is_deleted=row.is_deleted or self.known.is_deleted(key))
        self.known.add(key, sha256, row)
        self._land(len(self._held), observed_at_ms, row, text, sha256)

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
        self._pages = 0
        write_note(self.folder, self.manifest)
        if part is not None:
            self._catalog.add(self.manifest, part)
            self.known.forget_held()

    def complete(self) -> Manifest:
        """Completes the load; nothing changes it afterwards."""
        self.flush()
        write_manifest(self.folder, self.manifest)
        self._catalog.complete(self.manifest)
        return self.manifest

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
        pq.write_table(
            pa.table([*same, *own], schema=OBSERVATION), path, compression="zstd", row_group_size=ROWS_PER_GROUP
        )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        sync_folder(self.folder)
        return Part(path.name, rows, path.stat().st_size, digest)


def as_landed(redactor: Redactor, rows: Sequence[Row], erased: AbstractSet[str]) -> Iterator[tuple[str, str]]:
    """The payloads of rows as they land: redacted, those of tasks in `erased` cut down, each with its hash."""
    for row, payload in zip(rows, redactor.redact_all([row.payload for row in rows]), strict=True):
        text, encoded = as_text(cut_down(payload) if row.task_id in erased else payload)
        yield text, hashlib.sha256(encoded).hexdigest()


def as_text(payload: bytes) -> tuple[str, bytes]:
    """A payload as text, and that as UTF-8: bytes that are none become \\udcXX escapes, which every engine can read."""
    try:
        return payload.decode(), payload
    except UnicodeDecodeError:
        return as_text(payload.decode("utf-8", "surrogateescape").encode("utf-8", "backslashreplace"))


def _remove_unnoted(folder: Path, manifest: Manifest) -> None:
    """Clears what a kill left between writing a part and noting it."""
    noted = {part.file for part in manifest.parts}
    for path in folder.glob("part-*.parquet"):
        if path.name not in noted:
            path.unlink()
