"""The catalog's file: one of SQLite, which takes in what lands.

It is derived: deleted, damaged or of another version, it is made again from the landing zone. Anybody may bring it up
to date: what has landed never changes, so two who do so at once write the same.
"""

import hashlib
import os
import shutil
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow.parquet as pq

from pipelines.errors import LandingError
from pipelines.landing.manifest import Manifest, Part, encode
from pipelines.landing.zone import MANIFEST, PROGRESS, Zone, read_note

TABLES = """
create table if not exists loads (
    account text, load_id text, lane text, run_id text, proven_until_ms integer, is_complete integer, manifest blob,
    manifest_sha256 text, modified_at_ns integer,
    primary key (account, load_id)
) without rowid;
create table if not exists parts (
    number integer primary key, account text, load_id text, lane text, file text, rows integer, bytes integer,
    sha256 text, modified_at_ns integer, is_indexed integer, damage text,
    unique (account, load_id, file)
);
create table if not exists observed (
    key text, part integer, page integer, position integer, is_task integer, created_at_ms integer,
    updated_at_ms integer, is_deleted integer, payload_sha256 text,
    primary key (key, part, page, position)
) without rowid;
create table if not exists looked_up (
    account text, task_id text, load_id text,
    primary key (account, task_id)
) without rowid;
"""
VERSION = zlib.crc32(TABLES.encode()) & 0x7FFFFFFF  # a file of another one is made anew

OBSERVED = ["task_id", "payload_sha256", "page", "position", "created_at_ms", "updated_at_ms", "is_deleted"]

MISSING = "is missing"


class CatalogFile:
    """The file of a landing zone's catalog, and what keeps it up to what has landed."""

    def __init__(self, zone: Zone) -> None:
        """Raises LandingError where its file can neither be opened nor be made anew."""
        self.zone = zone
        self.file = _file_of(zone)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.connection = self._opened()
        except sqlite3.OperationalError as error:  # locked, or the disk is full
            raise LandingError(f"cannot open {self.file}: {error}") from None
        except sqlite3.DatabaseError:  # damaged, or of another version
            self.remove(zone)
            self.connection = self._opened()

    @staticmethod
    def remove(zone: Zone) -> None:
        """Deletes the catalog of a landing zone: the next one is made again."""
        for name in ("", "-journal"):
            _file_of(zone).with_name(f"{_file_of(zone).name}{name}").unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file."""
        self.connection.close()

    def refresh(self, account: str | None = None, files_too: bool = True, every_byte: bool = False) -> None:
        """Takes in the loads that are new, and forgets those that are gone.

        files_too: looks after the size and time of each file, and reads again those that differ; every_byte: reads all.
        """
        rows = self.connection.execute(
            "select account, load_id, is_complete, modified_at_ns from loads where account = coalesce(?, account)",
            (account,),
        ).fetchall()
        complete = {(of, load_id): at for of, load_id, is_complete, at in rows if is_complete}
        found = set(self.zone.names(account))
        with self._changing():
            for of, load_id, _, _ in rows:
                if (of, load_id) not in found:
                    self._forget(of, load_id)
            for load in sorted(found - complete.keys()):
                self._take_in(*load)
            if files_too:
                for load in complete.keys() & found:
                    path = f"{self.zone.root}/{load[0]}/{load[1]}/{MANIFEST}"
                    if _modified_at_ns(path) != complete[load]:
                        self._take_in(*load)
                self._look_after_parts(account, every_byte)

    def clear_leftovers(self, account: str) -> None:
        """Removes what kills left that is no load. Only for the run that holds the archive: another's may be new."""
        complete = "select account, load_id from loads where account = ? and is_complete order by load_id"
        cleared = self.connection.execute(complete, (account,)).fetchall()[:-1]  # the last may have its note beside it
        for load in set(self.zone.names(account)) - set(cleared):
            folder = self.zone.folder(*load)
            if (folder / MANIFEST).exists():
                (folder / PROGRESS).unlink(missing_ok=True)
            elif self.zone.is_leftover(folder):
                shutil.rmtree(folder)

    def add(self, load: Manifest, part: Part) -> None:
        """Takes in a part that was noted just now."""
        with self._changing():
            self._add_load(load, is_complete=False)
            number, path = self._add_part(load, part), self.zone.folder(load.account, load.load_id) / part.file
            self.connection.execute(
                "update parts set modified_at_ns = ?, damage = null where number = ?", (path.stat().st_mtime_ns, number)
            )
            self._index(number, path)

    def complete(self, load: Manifest) -> None:
        """Takes in that a load is complete."""
        with self._changing():
            self._add_load(load, is_complete=True)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """What is done inside stands whole or not at all. Raises LandingError where the file cannot be written."""
        try:
            with self.connection:
                yield
        except sqlite3.Error as error:
            raise LandingError(f"cannot write {self.file}: {error}") from None

    def _opened(self) -> sqlite3.Connection:
        """Raises sqlite3.DatabaseError where the file is none, or one of another version."""
        connection = sqlite3.connect(self.file, timeout=60, check_same_thread=False)
        try:
            (version,) = connection.execute("pragma user_version").fetchone()
            if version not in (0, VERSION):
                raise sqlite3.DatabaseError(f"version {version}")
            connection.execute("pragma synchronous = normal")
            if version == 0:
                connection.executescript(f"begin immediate; {TABLES} pragma user_version = {VERSION}; commit")
            connection.execute("select count(*) from loads").fetchone()
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _take_in(self, account: str, load_id: str) -> None:
        """A load that is complete, or as far as it has got."""
        folder = self.zone.folder(account, load_id)
        note = read_note(folder / MANIFEST)
        load = note or (None if (folder / MANIFEST).exists() else read_note(folder / PROGRESS))
        if load is None:
            self._forget(account, load_id)
            return
        self._add_load(load, is_complete=note is not None)
        self._drop_unnamed(load)
        for part in load.parts:
            self._look_after(self._add_part(load, part), self.zone.folder(account, load_id) / part.file, part)

    def _drop_unnamed(self, load: Manifest) -> None:
        """Parts that the load had here before another machine went on with it: there are no such parts."""
        rows = self.connection.execute(
            "select number, file from parts where account = ? and load_id = ?", (load.account, load.load_id)
        ).fetchall()
        named = {part.file for part in load.parts}
        for number in (number for number, file in rows if file not in named):
            self.connection.execute("delete from observed where part = ?", (number,))
            self.connection.execute("delete from parts where number = ?", (number,))

    def _forget(self, account: str, load_id: str) -> None:
        """What its parts held stays known, for who asks which tasks it concerned."""
        self.connection.execute("delete from loads where account = ? and load_id = ?", (account, load_id))
        self.connection.execute(
            "update parts set damage = ? where account = ? and load_id = ?", (MISSING, account, load_id)
        )

    def _add_load(self, load: Manifest, is_complete: bool) -> None:
        path, manifest = self.zone.folder(load.account, load.load_id) / MANIFEST, encode(load)
        self.connection.execute(
            "insert or replace into loads values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                load.account,
                load.load_id,
                load.lane,
                load.run_id,
                load.proven_until_ms,
                is_complete,
                manifest,
                hashlib.sha256(manifest).hexdigest(),
                _modified_at_ns(path),
            ),
        )
        self.connection.executemany(
            "insert into looked_up values (?, ?, ?) on conflict do update set load_id = max(load_id, excluded.load_id)",
            ((load.account, task_id, load.load_id) for task_id in load.looked_up),
        )

    def _add_part(self, load: Manifest, part: Part) -> int:
        """The number of a part, which may be known."""
        names = (load.account, load.load_id, part.file)
        self.connection.execute(
            "insert into parts (account, load_id, file, lane, rows, bytes, sha256) values (?, ?, ?, ?, ?, ?, ?) "
            "on conflict do update set rows = excluded.rows, bytes = excluded.bytes, sha256 = excluded.sha256, "
            "lane = excluded.lane, is_indexed = is_indexed and sha256 = excluded.sha256",
            (*names, load.lane, part.rows, part.bytes, part.sha256),
        )
        found = self.connection.execute(
            "select number from parts where account = ? and load_id = ? and file = ?", names
        ).fetchone()
        return int(found[0])

    def _look_after(self, number: int, path: Path, part: Part) -> None:
        """Reads every byte of a part: notes what it holds, or what is wrong with it."""
        found: tuple[int | None, str | None]
        try:
            found = path.stat().st_mtime_ns, self.zone.damage_of(path, part)
        except FileNotFoundError:
            found = None, MISSING
        known = self.connection.execute("select modified_at_ns, damage from parts where number = ?", (number,))
        if known.fetchone() != found:
            self.connection.execute(
                "update parts set modified_at_ns = ?, damage = ? where number = ?", (*found, number)
            )
        if found[1] is None:
            self._index(number, path)

    def _index(self, number: int, path: Path) -> None:
        """Takes in what a part holds, once."""
        if self.connection.execute("select is_indexed from parts where number = ?", (number,)).fetchone()[0]:
            return
        table = pq.read_table(path, columns=OBSERVED)
        ids, hashes, *others = (table[name].to_pylist() for name in OBSERVED)
        self.connection.executemany(
            f"insert or replace into observed values (?, {number}, ?, ?, ?, ?, ?, ?, ?)",
            (
                (sha256 if task_id is None else task_id, page, position, task_id is not None, *times, sha256)
                for task_id, sha256, page, position, *times in zip(ids, hashes, *others, strict=True)
            ),
        )
        self.connection.execute("update parts set is_indexed = true where number = ?", (number,))

    def _look_after_parts(self, account: str | None, every_byte: bool) -> None:
        """Looks for parts that are not as they were, by size and time or by every byte."""
        rows = self.connection.execute(
            "select number, account, load_id, file, rows, bytes, sha256, p.modified_at_ns, damage "
            "from parts as p inner join loads using (account, load_id) where account = coalesce(?, account)",
            (account,),
        ).fetchall()
        for number, of, load_id, file, count, size, sha256, modified_at_ns, damage in rows:
            path = f"{self.zone.root}/{of}/{load_id}/{file}"
            with suppress(FileNotFoundError):
                found = os.stat(path)  # noqa: PTH116
                if not every_byte and damage is None and (found.st_size, found.st_mtime_ns) == (size, modified_at_ns):
                    continue
            self._look_after(number, Path(path), Part(file, count, size, sha256))


def _file_of(zone: Zone) -> Path:
    return zone.root.with_name("warehouse") / "landing.sqlite"


def _modified_at_ns(path: Path | str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116
    except FileNotFoundError:
        return None
