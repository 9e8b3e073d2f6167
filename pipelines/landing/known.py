"""What has landed before, so that it is not landed again and what is missing is noticed."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import duckdb

from pipelines.errors import LandingError
from pipelines.landing.manifest import Manifest, Window
from pipelines.landing.zone import Zone
from pipelines.livepeer.rows import Row

# The newest state of a task is that with the latest updatedAt, then the latest fetched; whether it is deleted, the
# latest fetched alone tells, since a deleted task has no new updatedAt. Of a load that goes on, what it landed last
# counts, as it did before the interruption.
_NEWEST = """
with landed as (
    select
        *,
        coalesce(task_id, payload_sha256) as key,
        load_id = $going_on as is_own,
        row(is_own, case when is_own then 0 else coalesce(updated_at_ms, -1) end, load_id, page, position) as rank
    from read_parquet($paths)
    where $keys is null or key in (select unnest($keys))
)
select
    key,
    max_by(payload_sha256, rank) filter (payload_sha256 is not null),
    max_by(updated_at_ms, rank) filter (payload_sha256 is not null),
    max_by(is_deleted, row(load_id, page, position)),
    any_value(created_at_ms),
    bool_or(task_id is not null)
from landed
group by key
order by key
"""


class Known:
    """The newest landed state of each task of an account: its payload's hash, and whether it is there."""

    def __init__(self, zone: Zone, account: str, also: Manifest | None = None) -> None:
        """`also`: an open load whose parts count too."""
        self._sha256: dict[str, str | None] = {}
        self._deleted: dict[str, str | None] = {}
        self._created_at_ms: dict[str, int | None] = {}
        self._updated_at_ms: dict[str, int | None] = {}
        # What is no task has no place in the order by id, and cannot be looked up.
        self._listed: list[str] = []
        loads = zone.manifests(account) + ([also] if also else [])
        for state in _newest(zone, loads, also.load_id if also else None):
            (self._deleted if state.is_deleted else self._sha256)[state.key] = state.sha256
            self._created_at_ms[state.key] = state.created_at_ms
            self._updated_at_ms[state.key] = state.updated_at_ms
            if state.is_task and not state.is_deleted:
                self._listed.append(state.key)

    def has(self, key: str) -> bool:
        """Whether the task is in the archive and not known to be deleted."""
        return key in self._sha256

    def is_deleted(self, key: str) -> bool:
        """Whether the task is in the archive and known to be deleted."""
        return key in self._deleted

    def is_unchanged(self, key: str, sha256: str, is_deleted: bool) -> bool:
        """Whether this payload is the newest landed state of the task."""
        return (self._deleted if is_deleted else self._sha256).get(key) == sha256

    def updated_at_ms(self, key: str) -> int | None:
        """When the newest landed state of the task, or the one that this load met last, was updated."""
        return self._updated_at_ms.get(key)

    def add(self, key: str, sha256: str, row: Row) -> None:
        """Notes a state that lands now."""
        now, before = (self._deleted, self._sha256) if row.is_deleted else (self._sha256, self._deleted)
        before.pop(key, None)
        now[key] = sha256
        self._updated_at_ms[key] = row.updated_at_ms

    def add_gone(self, key: str) -> None:
        """Notes that the task is there no more."""
        self._deleted[key] = self._sha256.pop(key, None)

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


def differing(zone: Zone, loads: list[Manifest], states: dict[str, tuple[str, bool]]) -> dict[str, tuple[str, bool]]:
    """Those of `states`, (payload's hash, whether deleted) by key, that are not the newest landed in `loads`."""
    newest = {state.key: (state.sha256, state.is_deleted) for state in _newest(zone, loads, keys=list(states))}
    return {key: state for key, state in states.items() if newest.get(key) != state}


def key_of(row: Row, sha256: str) -> str:
    """What tells one task from another: its id, or for an element without one its content."""
    return row.task_id if row.task_id is not None else sha256


class _State(NamedTuple):
    key: str
    sha256: str | None
    updated_at_ms: int | None
    is_deleted: bool
    created_at_ms: int | None
    is_task: bool


def _newest(
    zone: Zone, loads: list[Manifest], going_on: str | None = None, keys: list[str] | None = None
) -> Iterator[_State]:
    paths = [str(path) for path, _ in zone.parts(loads)]
    if not paths:
        return
    try:
        with duckdb.connect() as connection:
            values = {"paths": paths, "going_on": going_on, "keys": keys}
            cursor = connection.execute(_NEWEST, values)
            while rows := cursor.fetchmany(10_000):
                yield from map(_State._make, rows)
    except duckdb.Error as error:
        raise LandingError(f"landed files cannot be read: {str(error).splitlines()[0]}") from None
