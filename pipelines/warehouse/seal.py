"""Sealing: the files of a published version are read-only, and a change to them afterwards is noticed.

A seal holds the size of each file and a fingerprint of its ends: DuckDB writes the number of each checkpoint into the
first 12 KiB of its file, Parquet keeps its contents list at the end. So a look takes milliseconds, whatever the size.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.home import Home
from pipelines.landing.zone import write_durably
from pipelines.warehouse.working import COMPLETE

END_BYTES = 12_288
READ_ONLY = 0o444

PUBLISH_AGAIN = "`task-archive sync` publishes it again"
MOST_LISTED = 3


def seal(folder: Path, about: dict[str, Any]) -> None:
    """Makes all files of a version read-only and writes beside them, with `about`, what they are."""
    files = {}
    for path in _files(folder):
        path.chmod(READ_ONLY)
        files[str(path.relative_to(folder))] = _fingerprint(path)
    write_durably(folder / COMPLETE, json.dumps(about | {"files": files}, indent=1).encode())
    (folder / COMPLETE).chmod(READ_ONLY)


def altered(home: Home) -> Iterator[tuple[Path, str]]:
    """The files of the published version that are not what was published: path in the version, and what happened.

    Nothing for a version that was published before versions were sealed.
    """
    if not home.is_published:
        return
    folder = (home.published / "current").resolve()
    try:
        sealed: dict[str, str] = json.loads((folder / COMPLETE).read_bytes()).get("files", {})
    except (OSError, ValueError):
        yield Path(COMPLETE), "cannot be read"
        return
    found = {str(path.relative_to(folder)): path for path in _files(folder)} if sealed else {}
    for name in sorted(sealed.keys() | found.keys()):
        if name not in found:
            yield Path(name), "is missing"
        elif name in sealed and _fingerprint(found[name]) != sealed[name]:
            yield Path(name), "was changed"
        elif name not in sealed and _is_read(Path(name)):
            yield Path(name), "was added"


def summary(files: list[str]) -> str:
    """Changed files in one line."""
    more = len(files) - MOST_LISTED
    return ", ".join(files[:MOST_LISTED]) + (f" and {more:,} more" if more > 0 else "")


def _is_read(path: Path) -> bool:
    """Whether DuckDB or a reader of the Parquet folder would read a file that lies there."""
    return path.suffix in (".parquet", ".wal")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _fingerprint(path: Path) -> str:
    """Size and a hash of both ends, as text."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        ends = file.read(END_BYTES)
        file.seek(max(0, size - END_BYTES))
        ends += file.read(END_BYTES)
    return f"{size}-{hashlib.sha256(ends).hexdigest()[:32]}"
