"""What has landed before, so that it is not landed again and what is missing is noticed."""

from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path

import duckdb

from pipelines.errors import LandingError
from pipelines.landing.manifest import Manifest, Window
from pipelines.landing.zone import Zone
from pipelines.livepeer.rows import Row

# The newest state of a task is that with the latest updatedAt, then the latest fetched; whether it is deleted, the
# latest fetched alone tells, since a deleted task has no new updatedAt.
_NEWEST = """
select
    coalesce(task_id, payload_sha256) as key,
    max_by(payload_sha256, row(coalesce(updated_at_ms, -1), load_id, page, position))
        filter (payload_sha256 is not null),
    max_by(is_deleted, row(load_id, page, position)),
    any_value(created_at_ms),
    bool_or(task_id is not null),
from read_parquet(?)
group by key
order by key
"""


class Known:
    """The newest landed state of each task of an account: its payload's hash, and whether it is there."""

    def __init__(self, zone: Zone, account: str, also: Manifest | None = None) -> None:
        """`also`: an open load whose parts count too."""
        manifests = zone.manifests(account) + ([also] if also else [])
        newest = _newest([path for path, _ in zone.parts(manifests)])
        self._sha256 = {key: sha256 for key, sha256, is_deleted, _, _ in newest if not is_deleted}
        self._deleted = {key: sha256 for key, sha256, is_deleted, _, _ in newest if is_deleted}
        self._created_at_ms = {key: created for key, _, is_deleted, created, _ in newest if not is_deleted}
        # What is no task has no place in the order by id, and cannot be looked up.
        self._listed = [key for key, _, is_deleted, _, is_task in newest if is_task and not is_deleted]

    def has(self, key: str) -> bool:
        """Whether the task is in the archive and not known to be deleted."""
        return key in self._sha256

    def is_deleted(self, key: str) -> bool:
        """Whether the task is in the archive and known to be deleted."""
        return key in self._deleted

    def is_unchanged(self, key: str, sha256: str, is_deleted: bool) -> bool:
        """Whether this payload is the newest landed state of the task."""
        return (self._deleted if is_deleted else self._sha256).get(key) == sha256

    def add(self, key: str, sha256: str | None, is_deleted: bool) -> None:
        """Notes a state that lands now."""
        now, before = (self._deleted, self._sha256) if is_deleted else (self._sha256, self._deleted)
        before.pop(key, None)
        now[key] = sha256

    def expected_between(self, after: str | None, last: str | None, window: Window) -> Iterable[str]:
        """Tasks known before this load with after < id <= last that the window should show; None is no bound."""
        low = bisect_right(self._listed, after) if after is not None else 0
        high = bisect_right(self._listed, last) if last is not None else len(self._listed)
        return [key for key in self._listed[low:high] if self._is_in(key, window)]

    def _is_in(self, key: str, window: Window) -> bool:
        if window.created_from_ms is None or window.created_to_ms is None:
            return True
        created = self._created_at_ms[key]
        return created is not None and window.created_from_ms <= created < window.created_to_ms


def key_of(row: Row, sha256: str) -> str:
    """What tells one task from another: its id, or for an element without one its content."""
    return row.task_id if row.task_id is not None else sha256


def _newest(paths: list[Path]) -> list[tuple[str, str | None, bool, int | None, bool]]:
    if not paths:
        return []
    try:
        with duckdb.connect() as connection:
            return connection.execute(_NEWEST, [[str(path) for path in paths]]).fetchall()
    except duckdb.Error as error:
        raise LandingError(f"landed files cannot be read: {str(error).splitlines()[0]}") from None
