"""Home and store hold the same landing zone: what one of them lacks comes from the other.

A load's files go to the store as they are written: its parts, then the manifest that names them, so that what has a
manifest there is whole. What the home lacks is fetched when a run begins, and what the store lacks, after a run that
could not reach it, is put there.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from pipelines.landing.catalog import Catalog
from pipelines.landing.erasure import RECORD
from pipelines.landing.manifest import Manifest, decode
from pipelines.landing.store import Store
from pipelines.landing.zone import MANIFEST, PROGRESS, Zone, note_of, read_note, write_durably
from pipelines.settings import Settings
from pipelines.text import counted

LANDING = "landing"
MARK = "stored.json"  # in the folder of derived files: by account, the load up to which home and store hold the same
LATE = "late.json"  # in the store, another one after each load that came there later than a newer one

AT_ONCE = 16  # loads

Say = Callable[[str], None]
Item = TypeVar("Item")


class Copies:
    """The landing zone of a home and its copy in a store. `folder`: of derived files."""

    def __init__(self, store: Store, zone: Zone, folder: Path) -> None:
        self._store = store
        self._zone = zone
        self._mark = folder / MARK

    def put(self, path: Path) -> None:
        """Puts a file of the landing zone into the store, as it is written. Raises StoreError."""
        self._store.put(self._key(path), path)
        if path.name == MANIFEST:
            self._store.delete([self._key(path.with_name(PROGRESS))])

    def follow(self, say: Say) -> None:
        """What the home lacks is fetched, then what the store lacks is put. Raises StoreError."""
        with Catalog(self._zone) as catalog:  # what a kill left is told by being the newest: before others come
            for account in {account for account, _ in self._zone.names()}:
                catalog.clear_leftovers(account)
        ours, theirs = self._record(), self._store.get(f"{LANDING}/{RECORD}") or b""
        if len(ours) > len(theirs):  # an erasure that did not get to the store
            self.replace()
        is_erased = len(theirs) > len(ours)  # elsewhere: loads that the home has are others now
        accounts = {*self._store.folders(LANDING), *(account for account, _ in self._zone.names())}
        late = (self._store.get(LATE) or b"").decode()
        is_marked = not is_erased and late == self._marked().get("late", "")
        fetched = put = 0
        for account in sorted(accounts):
            known = self._marked().get(account) if is_marked else None
            there = self._store.sizes(f"{LANDING}/{account}", known and f"{LANDING}/{account}/{known}")
            if known and f"{LANDING}/{account}/{known}/{MANIFEST}" not in there:  # the store was emptied since
                known, there = None, self._store.sizes(f"{LANDING}/{account}")
            fetched += self._fetch(account, there)
            put_of_loads = self._put_missing(account, there, known)
            put += sum(put_of_loads.values())
            newest = max((key.split("/")[2] for key in there), default="")
            if any(load_id < newest for load_id in put_of_loads):  # others have looked beyond it already
                late = uuid.uuid4().hex
                self._store.put(LATE, late.encode())
            self._remove_leftovers(account, there)
        if is_erased:
            write_durably(self._zone.root / RECORD, theirs)
        self._note({account: self._last_complete(account) for account in accounts} | {"late": late})
        if fetched:
            say(f"{counted(fetched, 'load')} fetched from {self._store.url}")
        if put:
            say(f"{counted(put, 'file')} put into {self._store.url}")

    def replace(self) -> None:
        """After an erasure: makes the store hold of each load what the home holds, nothing else. Raises StoreError."""
        for account in sorted({account for account, _ in self._zone.names()}):
            there = self._store.sizes(f"{LANDING}/{account}")
            self._put_missing(account, there, None)
            self._remove_leftovers(account, there)
        self._store.put(f"{LANDING}/{RECORD}", self._record())

    def _fetch(self, account: str, there: dict[str, int]) -> int:
        """Loads that the home has not, or has otherwise; one that is open goes on here."""
        wanted = []
        for key in sorted(key for key in there if key.endswith((f"/{MANIFEST}", f"/{PROGRESS}"))):
            _, _, load_id, name = key.split("/")
            folder = self._zone.folder(account, load_id)
            ours = _size(folder / name)
            is_complete = (folder / MANIFEST).exists() or self._key(folder / MANIFEST) in there
            # Two machines may have completed one load, of which the one that got there counts: sizes do not tell.
            if name == MANIFEST or (ours < there[key] and not is_complete):
                wanted.append((folder, name, key))
        return sum(_at_once(lambda load: self._fetch_load(*load), wanted))

    def _fetch_load(self, folder: Path, name: str, key: str) -> bool:
        body = self._store.get(key)
        load = None if body is None else _note_of(body, folder)
        if body is None or load is None or ((folder / name).exists() and (folder / name).read_bytes() == body):
            return False
        folder.mkdir(parents=True, exist_ok=True)
        for part in load.parts:
            path = folder / part.file
            if path.exists() and self._zone.damage_of(path, part) is None:
                continue
            found = self._store.get(self._key(path))
            if found is not None and hashlib.sha256(found).hexdigest() == part.sha256:
                write_durably(path, found)  # otherwise it is missing, and the next look says so
        write_durably(folder / name, body)
        if name == MANIFEST:
            (folder / PROGRESS).unlink(missing_ok=True)
        for path in folder.glob("part-*.parquet"):
            if path.name not in {part.file for part in load.parts}:
                path.unlink()
        return True

    def _put_missing(self, account: str, there: dict[str, int], known: str | None) -> dict[str, int]:
        """Files that the store has not, of each load its parts first; how many, by load."""
        folders = [
            self._zone.folder(account, load_id)
            for _, load_id in sorted(self._zone.names(account))
            if known is None or load_id >= known
        ]

        def put(folder: Path) -> int:
            note = MANIFEST if (folder / MANIFEST).exists() else PROGRESS
            load = read_note(folder / note)
            if load is None:
                return 0
            # A file that is damaged here may be whole there.
            files = [
                path
                for path, part in ((folder / part.file, part) for part in load.parts)
                if path.exists() and there.get(self._key(path)) != part.bytes
                if self._zone.damage_of(path, part) is None
            ]
            if there.get(self._key(folder / note)) != _size(folder / note):
                files.append(folder / note)
            for path in files:
                self.put(path)
            return len(files)

        put_of_loads = zip(folders, _at_once(put, folders), strict=True)
        return {folder.name: files for folder, files in put_of_loads if files}

    def _remove_leftovers(self, account: str, there: dict[str, int]) -> None:
        """Objects that no note names: what a kill left, and what an erasure wrote anew."""
        of_loads: dict[str, set[str]] = {}
        for key in there:
            of_loads.setdefault(key.split("/")[2], set()).add(key)
        for load_id, keys in of_loads.items():
            folder = self._zone.folder(account, load_id)
            if all((folder / key.rsplit("/", 1)[1]).exists() for key in keys):
                continue
            note = note_of(folder)
            has_note = any(key.endswith((f"/{MANIFEST}", f"/{PROGRESS}")) for key in keys)
            if note is None and has_note:  # of other code, or damaged: not ours to judge
                continue
            named = {MANIFEST, PROGRESS, *(part.file for part in note.parts)} if note else set()
            self._store.delete(sorted(key for key in keys if key.rsplit("/", 1)[1] not in named))

    def _key(self, path: Path) -> str:
        return f"{LANDING}/{path.relative_to(self._zone.root).as_posix()}"

    def _record(self) -> bytes:
        path = self._zone.root / RECORD
        return path.read_bytes() if path.exists() else b""

    def _marked(self) -> dict[str, str]:
        """Up to which load home and store were seen to hold the same, by account, and LATE then; empty: not known."""
        with suppress(OSError, ValueError, AttributeError):
            return json.loads(self._mark.read_bytes()).get(self._store.url) or {}
        return {}

    def _last_complete(self, account: str) -> str:
        """The last load before which none is open."""
        last = self._marked().get(account, "")
        for _, load_id in sorted(name for name in self._zone.names(account) if name[1] > last):
            if not (self._zone.folder(account, load_id) / MANIFEST).exists():
                break
            last = load_id
        return last

    def _note(self, known: dict[str, str]) -> None:
        self._mark.parent.mkdir(parents=True, exist_ok=True)
        write_durably(self._mark, json.dumps({self._store.url: known}).encode())


def _at_once(work: Callable[[Item], int], items: list[Item]) -> list[int]:
    """What becomes of each item, some at a time: a store takes its time for each answer."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            return list(pool.map(work, items))
        finally:
            pool.shutdown(cancel_futures=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


def _note_of(body: bytes, folder: Path) -> Manifest | None:
    """The manifest that an object holds, if it is that of a load."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        load = decode(body)
        if (load.account, load.load_id) == (folder.parent.name, folder.name):
            return load
    return None


@contextmanager
def shared(settings: Settings, say: Say) -> Iterator[Copies | None]:
    """The copies of an archive whose settings name a store, once both hold the same; this process is their one writer
    while it is open. Raises Busy, SettingsError, StoreError."""
    if settings.store is None:
        yield None
        return
    store = Store(settings)
    with store.held():
        copies = Copies(store, Zone(settings.home.landing), settings.home.warehouse)
        copies.follow(say)
        yield copies
