"""Comparing the published archive with the server as it is now. Reads only.

Counts are compared first: in windows of the time of creation, of the last update and of the id, and of each type. Only
a window whose counts differ is halved, until a page holds what is left of it, which is listed and compared by id. So
requests grow with the difference and not with the archive. Each difference that is found is mended in a copy of the
archive's ids and times: it is searched for once, and later counts show others.

What the server changed since the last proven point is no difference, since the next run fetches it: those tasks are
listed first, and they count on both sides. Rows that the server cannot serve it counts all the same: those that loads
have named are asked for by id. Their ids are known, but neither their times nor their types: as many rows too many are
let pass there.

What equal counts hide: a task too few beside one too many of the same type that lie in the same window of each kind; an
update that was missed and lies in the same window as the one before; what changed without a new time.
"""

import itertools
import json
from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import duckdb
import pyarrow as pa

from pipelines.audit.comparison import Comparison, Difference, Kind, TypeCount
from pipelines.errors import ArchiveError
from pipelines.livepeer import pages, walks
from pipelines.livepeer.client import Client, connect
from pipelines.livepeer.tasks import source
from pipelines.livepeer.tasks.rows import Row, read_row
from pipelines.serving.published import published
from pipelines.settings import Settings

# Livepeer's types, so that one of which the archive has no task is counted too.
TYPES = ("upload", "import", "clip", "transcode", "transcode-file", "export", "export-data")
SLICES = {"createdAt": 16, "updatedAt": 8, "id": 16}  # windows of about as many tasks each, counted in any case

COMPARED = pa.schema(
    [("task_id", pa.string()), ("type", pa.string()), ("created_ms", pa.int64()), ("updated_ms", pa.int64())]
)

COLUMNS = {"createdAt": "created_ms", "updatedAt": "updated_ms", "id": "task_id"}


class CannotVerify(ArchiveError):
    """The server or the archive lacks what a comparison needs."""


@dataclass(frozen=True)
class _Window:
    """Tasks with low <= `field` < high, epoch ms, or with low < id <= high; of one type or of any. None is no bound."""

    field: Literal["createdAt", "updatedAt", "id"]
    low: Any = None
    high: Any = None
    type: str | None = None

    @property
    def filters(self) -> source.Filters:
        """In the server's words, less the bounds of an id."""
        bounds = {name: bound for name, bound in (("gte", self.low), ("lt", self.high)) if bound is not None}
        within: source.Filters = [{"id": self.field, "value": bounds}] if self.field != "id" else []
        return within + ([{"id": "type", "value": self.type}] if self.type is not None else [])

    @property
    def condition(self) -> tuple[str, list[Any]]:
        """In SQL, with its parameters."""
        column = COLUMNS[self.field]
        above, below = (">", "<=") if self.field == "id" else (">=", "<")
        given = [
            (f"{name} {comparison} ?", bound)
            for name, comparison, bound in (
                (column, above, self.low),
                (column, below, self.high),
                ("type", "=", self.type),
            )
            if bound is not None
        ]
        return " and ".join([f"{column} is not null", *(sql for sql, _ in given)]), [bound for _, bound in given]

    def holds(self, task_id: str) -> bool:
        """Whether a task lies within, of which only the id is known."""
        if self.field != "id" or self.type is not None:
            return False
        return (self.low is None or task_id > self.low) and (self.high is None or task_id <= self.high)


def verify(settings: Settings, account: str) -> Comparison:
    """Raises CannotVerify where the server does not filter and count, ApiError where it does not answer."""
    with published(settings) as connection, connect(settings, account) as client:
        return _Comparing(settings, account, connection, client).run()


@dataclass
class _Comparing:
    settings: Settings
    account: str
    connection: duckdb.DuckDBPyConnection
    client: Client
    since_ms: int = 0
    listed: dict[str, Row] = field(default_factory=dict)  # met in a window where the archive has them not
    unlisted: set[str] = field(default_factory=set)  # not met in a window where the archive has them
    unserved: list[str] = field(default_factory=list)  # rows that the server lists and cannot serve, ascending
    beyond: dict[tuple[str | None, str | None], int | None] = field(default_factory=dict)  # of a type and id, counted

    def run(self) -> Comparison:
        capabilities, first = walks.probe(self.client)
        if not (capabilities.id_keyset and capabilities.filters and capabilities.count):
            raise CannotVerify(
                f"{self.client.host} does not filter, count and page by id, which a comparison needs: "
                "`task-archive sync --lane sweep` reads the whole list instead"
            )
        now_ms = first.server_at_ms or round(datetime.now(UTC).timestamp() * 1000)
        self.since_ms = self._next_window_from_ms(now_ms)
        self._ask_for_unserved()
        self._take_what_changed(self.since_ms)
        changed = self._ask("select count(*) from changed")
        new = self._ask("select count(*) from changed where task_id not in (select task_id from archived)")

        for slices in self._slices("createdAt"), self._slices("updatedAt", self.since_ms), self._slices("id"):
            self._compare(slices)
        types = self._types()
        self._compare(_Window("id", type=type) for type in types)
        self._take_what_changed(now_ms)  # while we looked
        return Comparison(
            account=self.account,
            server=self._beyond(None, None) or 0,
            archive=self._ask("select count(*) from archived where deleted_ms is null"),
            since_at=_shown(self.since_ms) or "",
            changed_since=changed,
            new_since=new,
            unserved=len(self.unserved),
            types=[count for count in map(self._type_count, types) if count.server or count.archive],
            differences=sorted(self._differences(), key=lambda found: (found.created_at or "", found.task_id)),
            requests=self.client.traffic.requests,
        )

    def _next_window_from_ms(self, now_ms: int) -> int:
        """Where the next run's window begins; also copies what the archive holds of the account.

        An account that was never proven has no such point: nothing of it is left out.
        """
        times = "epoch_ms(created_at) as created_ms, epoch_ms(updated_at) as updated_ms"
        self.connection.execute(
            f"create temp table archived as select task_id, type, {times}, epoch_ms(deleted_at) as deleted_ms "
            "from tasks where account = ?",
            [self.account],
        )
        self.connection.execute(
            "create temp table mended as select task_id, type, created_ms, updated_ms from archived "
            "where deleted_ms is null"
        )
        self.connection.execute("create temp table changed as from mended limit 0")
        last = "max_by(proven_until_at, load_id) filter (proven_until_at is not null)"
        proven_ms = self._ask(f"select epoch_ms({last}) from loads where account = ?", [self.account])
        return now_ms if proven_ms is None else proven_ms - self.settings.overlap_seconds * 1000

    def _ask_for_unserved(self) -> None:
        """Asks for the rows that the server could not serve in the last sweep or since."""
        found = self.connection.execute(
            """
            select distinct missing.task_id
            from (select load_id, unnest(missing_tasks) as missing from loads where account = $account)
            where
                contains(missing.reason, '500')
                and load_id >= coalesce((
                    select max(load_id) from loads
                    where account = $account and lane = 'sweep' and verdict != 'broken'
                ), '')
            order by all
            """,
            {"account": self.account},
        ).fetchall()
        for (task_id,) in found:
            if self.client.get_task(task_id, expect_row_fault=True).status in (403, 500):
                self._note_unserved(task_id)

    def _note_unserved(self, task_id: str) -> None:
        """Leaves a row that cannot be served out of the comparison."""
        if task_id not in self.unserved:
            insort(self.unserved, task_id)
            self._forget([task_id])

    @property
    def _hints(self) -> pages.Hints:
        return pages.Hints(self.unserved, self._archived_between)

    def _archived_between(self, after: str, last: str) -> list[str]:
        found = self.connection.execute(
            "select task_id from archived where task_id > ? and task_id <= ?", [after, last]
        )
        return [row[0] for row in found.fetchall()]

    def _take_what_changed(self, since_ms: int) -> None:
        """Leaves what the server changed since then out of the comparison."""
        changed: dict[str, Row] = {}
        for step in walks.by_update(self.client, self.settings.page_size, since_ms, self._hints):
            if isinstance(step, pages.Unreadable):
                self._note_unserved(step.task_id)
            else:
                changed |= {row.task_id: row for row in step.rows if row.task_id is not None}
        self._forget(changed)
        self._insert("changed", changed.values())
        for found in (self.listed, self.unlisted):
            for task_id in changed.keys() & found:
                found.pop(task_id) if isinstance(found, dict) else found.discard(task_id)

    def _types(self) -> list[str]:
        archived = self.connection.execute("select distinct type from archived where type is not null").fetchall()
        return sorted({*TYPES, *(row[0] for row in archived)})

    def _type_count(self, type: str) -> TypeCount:
        archived = "select count(*) from archived where deleted_ms is null and type = ?"
        return TypeCount(type, self._beyond(type, None) or 0, self._ask(archived, [type]))

    def _slices(self, name: Literal["createdAt", "updatedAt", "id"], high: int | None = None) -> Iterator[_Window]:
        """Everything below `high` in windows that hold about as many of the archive's tasks each."""
        column, slices = COLUMNS[name], SLICES[name]
        within, parameters = _Window(name, high=high).condition
        bounds = self.connection.execute(
            f"select min({column}) from (select {column}, ntile({slices}) over (order by {column}) as slice "
            f"from mended where {within}) group by slice order by all",
            parameters,
        ).fetchall()
        lowest = None if name == "id" else 0
        for low, following in itertools.pairwise([lowest, *dict.fromkeys(bound for (bound,) in bounds), high]):
            yield _Window(name, low, following)

    def _compare(self, windows: Iterable[_Window]) -> None:
        """Compares the counts of windows, and finds what differs within them."""
        counts = [(window, self._count(window), self._ours(window)) for window in windows]
        surplus = [None if server is None else server - ours for _, server, ours in counts if server != ours]
        if all(rows is not None and rows > 0 for rows in surplus) and sum(filter(None, surplus)) <= len(self.unserved):
            return
        for window, server, _ in counts:
            self._find(window, server)

    def _find(self, window: _Window, server: int | None) -> None:
        """Finds what differs within a window, of which the server counts so many."""
        if server == self._ours(window):
            return
        middle = self._middle(window) if server is not None and server > self.settings.page_size else None
        if server is None or middle is None:
            self._compare_by_id(window)
            return
        below, above = replace(window, high=middle), replace(window, low=middle)
        in_below = self._count(below)
        self._find(below, in_below)
        self._find(above, None if in_below is None else server - in_below)

    def _count(self, window: _Window) -> int | None:
        """On the server; None where a row that it cannot serve keeps it from counting."""
        if window.field != "id":
            return pages.count(self.client, window.filters)
        above_low = self._beyond(window.type, window.low)
        above_high = 0 if window.high is None else self._beyond(window.type, window.high)
        return None if above_low is None or above_high is None else above_low - above_high

    def _beyond(self, type: str | None, after: str | None) -> int | None:
        if (type, after) not in self.beyond:
            self.beyond[type, after] = pages.count(self.client, _Window("id", type=type).filters, after)
        return self.beyond[type, after]

    def _ours(self, window: _Window) -> int:
        """In the archive as far as it was mended, with what changed since."""
        within, parameters = window.condition
        counted = (f"(select count(*) from {table} where {within})" for table in ("mended", "changed"))
        found: int = self._ask(f"select {' + '.join(counted)}", parameters * 2)
        return found + sum(map(window.holds, self.unserved))

    def _middle(self, window: _Window) -> Any:
        """A bound within the window; None where it has none."""
        if window.field != "id":
            high = source.FAR_FUTURE_MS if window.high is None else window.high
            return (window.low + high) // 2 if high - window.low > 1 else None
        within, parameters = window.condition
        middle = self._ask(f"select quantile_disc(task_id, 0.5) from mended where {within}", parameters)
        return middle if middle != window.high else None

    def _compare_by_id(self, window: _Window) -> None:
        met: dict[str, Row] = {}
        unreadable = set()
        low, high = (window.low, window.high) if window.field == "id" else (None, None)
        for step in walks.by_id(self.client, self.settings.page_size, window.filters, low, self._hints):
            if isinstance(step, pages.Unreadable):
                unreadable.add(step.task_id)
                last = step.task_id
            else:
                met |= {row.task_id: row for row in step.rows if row.task_id is not None}
                last = max(met, default="")
            if high is not None and last > high:
                met = {task_id: row for task_id, row in met.items() if task_id <= high}
                unreadable = {task_id for task_id in unreadable if task_id <= high}
                break
        ours = self._ids("mended", window)
        listed = {task_id: met[task_id] for task_id in met.keys() - ours - self._ids("changed", window)}
        gone = ours - met.keys() - unreadable
        self.listed |= listed
        self.unlisted |= gone
        self._forget([*listed, *gone])
        for task_id in unreadable:
            self._note_unserved(task_id)
        self._insert("mended", listed.values())

    def _differences(self) -> Iterator[Difference]:
        """What was found, looked at by id: much of it may be explained."""
        for task_id, row in self.listed.items():
            held = self._held(task_id)
            if held is None or held != (*_what_is_compared(row), None):
                yield Difference(task_id, "outdated" if held else "missing", _type_of(row), _shown(row.created_at_ms))
        for task_id in self.unlisted - self.listed.keys():
            held = self._held(task_id)
            kind = self._why_unlisted(task_id, held)
            if held is not None and kind is not None:
                yield Difference(task_id, kind, held[0], _shown(held[1]))
        for task_id in self.unserved:
            if self._held(task_id) is None:
                yield Difference(task_id, "unreadable", None, None)

    def _why_unlisted(self, task_id: str, held: tuple[Any, ...] | None) -> Kind | None:
        """Why a window does not show an archived task; None where that is explained."""
        answer = self.client.get_task(task_id, expect_row_fault=True)
        row = read_row(answer.payload) if answer.payload is not None else None
        if answer.status == 404 or (row is not None and row.is_deleted):
            return "deleted"
        if answer.status == 403:
            return "forbidden"
        if row is not None and held == (*_what_is_compared(row), None):
            return "unlisted"
        if row is None or (row.updated_at_ms or 0) >= self.since_ms:
            return None  # it cannot be served, or it changed while we looked
        return "outdated"

    def _held(self, task_id: str) -> tuple[Any, ...] | None:
        """What the archive holds of a task, under whichever account: type, times, when it was deleted."""
        times = "epoch_ms(created_at), epoch_ms(updated_at), epoch_ms(deleted_at)"
        held: tuple[Any, ...] | None = self.connection.execute(
            f"select type, {times} from tasks where task_id = ?", [task_id]
        ).fetchone()
        return held

    def _ids(self, table: str, window: _Window) -> set[str]:
        within, parameters = window.condition
        found = self.connection.execute(f"select task_id from {table} where {within}", parameters)
        return {row[0] for row in found.fetchall()}

    def _forget(self, task_ids: Iterable[str]) -> None:
        ids = list(task_ids)
        for table in ("mended", "changed"):
            self.connection.execute(f"delete from {table} where task_id in (select unnest(?::varchar[]))", [ids])

    def _insert(self, table: str, rows: Iterable[Row]) -> None:
        values = [dict(zip(COMPARED.names, (row.task_id, *_what_is_compared(row)), strict=True)) for row in rows]
        self.connection.register("fresh", pa.Table.from_pylist(values, schema=COMPARED))
        self.connection.execute(f"insert into {table} from fresh")

    def _ask(self, sql: str, parameters: list[Any] | None = None) -> Any:
        return self.connection.execute(sql, parameters or []).fetchall()[0][0]


def _what_is_compared(row: Row) -> tuple[str | None, int | None, int | None]:
    return _type_of(row), row.created_at_ms, row.updated_at_ms


def _type_of(row: Row) -> str | None:
    try:
        found = json.loads(row.payload).get("type")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def _shown(millis: int | None) -> str | None:
    if millis is None:
        return None
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
