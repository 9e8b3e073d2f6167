"""Erasing what tasks say of somebody: their payloads keep id, type, times and phase, and nothing else.

So counts, durations and proofs stay true. The record, `landing/erasures.jsonl`, names the tasks: what later loads are
answered of them is cut down the same way. It has the creator's fingerprint, not the creator.
"""

import hashlib
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.landing import journal
from pipelines.landing.journal import Journal, Line
from pipelines.landing.manifest import Manifest, Part
from pipelines.landing.zone import (
    MANIFEST,
    PROGRESS,
    Zone,
    read_note,
    write_durably,
    write_manifest,
    write_note,
    write_part,
)
from pipelines.livepeer.tasks.rows import read_row

KEPT = ("id", "type", "userId", "projectId", "createdAt", "scheduledAt", "deleted")
KEPT_OF_STATUS = ("phase", "updatedAt", "progress", "retries")
RECORD = "erasures.jsonl"


class Erasure(msgspec.Struct, frozen=True):
    """One request: when, whose (a fingerprint), and the tasks by account."""

    erased_at: str
    creator: str
    tasks: dict[str, list[str]]


@dataclass
class Erased:
    """What was cut down in the landing zone, and files set aside that could not be read and were deleted."""

    observations: int = 0
    files: int = 0
    deleted_files: int = 0


def erasures(zone: Zone) -> list[Erasure]:
    """Every request so far, the oldest first."""
    path = zone.root / RECORD
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [msgspec.json.decode(line, type=Erasure) for line in lines]


def erased_tasks(zone: Zone, account: str) -> frozenset[str]:
    """The tasks of an account whose payloads are cut down."""
    return frozenset(task_id for erasure in erasures(zone) for task_id in erasure.tasks.get(account, ()))


def note(zone: Zone, creator: str, tasks: dict[str, list[str]]) -> None:
    """Writes a request down, before anything is erased: a kill in the midst is made good by the same request again."""
    erasure = Erasure(datetime.now(UTC).isoformat(timespec="seconds"), creator, tasks)
    zone.root.mkdir(parents=True, exist_ok=True)
    every = [msgspec.json.encode(each) + b"\n" for each in (*erasures(zone), erasure)]
    write_durably(zone.root / RECORD, b"".join(every))


def cut_down(payload: bytes) -> bytes:
    """What is kept of a task's payload, its bytes as they were; of one that cannot be read, nothing."""
    try:
        task = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
        status = msgspec.json.decode(task.get("status", b"null"), type=dict[str, msgspec.Raw] | None)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b"{}"
    kept: dict[str, Any] = {name: value for name, value in task.items() if name in (*KEPT, "status")}
    if status is not None:
        kept["status"] = {name: value for name, value in status.items() if name in KEPT_OF_STATUS}
    return msgspec.json.encode(kept)


def erase(zone: Zone, events: Path) -> Erased:
    """Cuts down every landed payload of the tasks in the record, waiting events included. Can be repeated."""
    done = Erased()
    for account in sorted({account for erasure in erasures(zone) for account in erasure.tasks}):
        tasks = erased_tasks(zone, account)
        for _, load_id in sorted(zone.names(account)):
            _erase_load(zone.folder(account, load_id), tasks, done)
        for folder in sorted(zone.damaged.glob(f"{account}/*/")):
            _erase_damaged(folder, tasks, done)
        for file in Journal(events, account).claim():
            _erase_events(file, tasks, done)
    return done


def _erase_load(folder: Path, tasks: AbstractSet[str], done: Erased) -> None:
    """New parts first, then the manifest that names them, then the old ones go: a kill leaves one or the other."""
    is_complete = (folder / MANIFEST).exists()
    load = read_note(folder / (MANIFEST if is_complete else PROGRESS))
    if load is None:  # nobody can use its parts, but they are there
        _erase_damaged(folder, tasks, done)
        return
    parts = [_erased_part(folder, part, tasks, done) for part in load.parts]
    if parts != load.parts:
        load.parts = parts
        (write_manifest if is_complete else write_note)(folder, load)
    _remove_others(folder, load)


def _erased_part(folder: Path, part: Part, tasks: AbstractSet[str], done: Erased) -> Part:
    path = folder / part.file
    rows = _with_cut_payloads(path, tasks, done) if path.exists() else None
    if rows is None:
        return part
    stem, _, times = path.stem.partition("~")
    fresh = path.with_name(f"{stem}~{int(times or 0) + 1}.parquet")
    return write_part(rows, fresh)


def _erase_damaged(folder: Path, tasks: AbstractSet[str], done: Erased) -> None:
    """Of files that were set aside: one that cannot be read goes, since nobody knows what it holds."""
    for path in sorted(folder.glob("part-*")):
        try:
            rows = _with_cut_payloads(path, tasks, done)
        except (OSError, pa.ArrowException):
            path.unlink()
            done.deleted_files += 1
            continue
        if rows is not None:
            fresh = path.with_name(f".{path.name}.new")
            write_part(rows, fresh)
            fresh.replace(path)


def _erase_events(file: Path, tasks: AbstractSet[str], done: Erased) -> None:
    lines = list(journal.read(file))
    cut = [_cut_line(line) if read_row(line.payload).task_id in tasks else line for line in lines]
    if cut != lines:
        write_durably(file, b"".join(map(journal.encoded, cut)))
        done.observations += sum(line != before for line, before in zip(cut, lines, strict=True))
        done.files += 1


def _cut_line(line: Line) -> Line:
    return msgspec.structs.replace(line, payload=cut_down(line.payload))


def _with_cut_payloads(path: Path, tasks: AbstractSet[str], done: Erased) -> pa.Table | None:
    """The rows of a part with the tasks' payloads cut down; None where it has none of them, or all are already."""
    ids = pq.read_table(path, columns=["task_id"])["task_id"]
    if not pc.any(pc.is_in(ids, pa.array(tasks, pa.string()))).as_py():
        return None
    rows = pq.read_table(path)
    before = rows["payload"].to_pylist()
    after = list(_cut(zip(rows["task_id"].to_pylist(), before, strict=True), tasks))
    changed = sum(one != other for one, other in zip(before, after, strict=True))
    if not changed:
        return None
    done.observations += changed
    done.files += 1
    hashes = [None if text is None else hashlib.sha256(text.encode()).hexdigest() for text in after]
    rows = rows.set_column(rows.schema.get_field_index("payload"), "payload", pa.array(after, pa.string()))
    place = rows.schema.get_field_index("payload_sha256")
    return rows.set_column(place, "payload_sha256", pa.array(hashes, pa.string()))


def _cut(rows: Iterable[tuple[str | None, str | None]], tasks: AbstractSet[str]) -> Iterator[str | None]:
    for task_id, payload in rows:
        yield cut_down(payload.encode()).decode() if payload is not None and task_id in tasks else payload


def _remove_others(folder: Path, load: Manifest) -> None:
    """Removes parts that the manifest does not name: those that were erased, and what a kill left."""
    named = {part.file for part in load.parts}
    for path in folder.glob("part-*.parquet"):
        if path.name not in named:
            path.unlink()
