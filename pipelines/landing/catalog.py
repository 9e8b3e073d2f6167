"""What has landed, to be looked up: loads, parts, and every observation by its task, without the payloads.

Looking up a page of tasks costs the same whatever has landed.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.landing.catalog_file import CatalogFile
from pipelines.landing.manifest import Lane, Manifest, Part, decode

# Rows of one key follow each other in the order in which they were fetched.
STATES = """
select o.key, p.load_id, p.lane, o.is_task, o.created_at_ms, o.updated_at_ms, o.is_deleted, o.payload_sha256
from observed as o
inner join parts as p on o.part = p.number
where p.damage is null and p.account = :account and {which}
order by o.key, p.load_id, o.page, o.position
"""
OF_KEYS = STATES.format(which="o.key in (select value from json_each(:keys))")
BETWEEN = STATES.format(which="o.key > :after and o.key <= :last")
LAST = "\U0010ffff"  # behind every key

# What is read goes by pieces that are read whole: a reader that waits in the midst of one would keep writers out.
ROWS_AT_ONCE, MANIFESTS_AT_ONCE = 5_000, 50


class State(NamedTuple):
    """What has landed of a task: its newest payload's hash and updatedAt, and whether it is there.

    The newest payload is that with the latest updatedAt, then the latest fetched, of those since the last answer that
    is sure: that of a GET by id (the lane `refresh`), or one that repeats the answer just before it, of another load;
    an event answers nothing. sql/landing/states.sql says the same. Whether the task is deleted, the latest fetched
    alone tells, since a deleted task has no new updatedAt.

    is_last: whether the newest payload also landed last; else a stale answer came after it.
    """

    key: str
    is_task: bool
    created_at_ms: int | None
    updated_at_ms: int | None
    is_deleted: bool
    sha256: str | None
    is_last: bool = True


class Catalog(CatalogFile):
    """The catalog of a landing zone. Close it, or use it as a context."""

    def states(self, account: str, keys: Iterable[str], going_on: str | None = None) -> Iterator[State]:
        """The newest landed states of tasks, of those that have landed.

        Of the load `going_on` what it landed last counts, as it did before it was interrupted.
        """
        return self._newest(OF_KEYS, {"account": account, "keys": json.dumps(list(keys))}, going_on)

    def states_between(
        self, account: str, after: str | None, last: str | None, going_on: str | None = None
    ) -> Iterator[State]:
        """The same of all tasks with after < id <= last, in the order of their ids; None is no bound."""
        low, high = after or "", LAST if last is None else last
        some = "select max(key) from (select key from observed where key > ? and key <= ? order by key limit ?)"
        while (upto := self.connection.execute(some, (low, high, ROWS_AT_ONCE)).fetchone()[0]) is not None:
            yield from self._newest(BETWEEN, {"account": account, "after": low, "last": upto}, going_on)
            low = upto

    def observed_updates(self, account: str, keys: Iterable[str]) -> set[tuple[str, int | None]]:
        """The updatedAt that was ever observed of each of some tasks, as (key, epoch ms)."""
        return set(
            self.connection.execute(
                "select o.key, o.updated_at_ms from observed as o inner join parts as p on o.part = p.number "
                "where p.damage is null and p.account = ? and o.key in (select value from json_each(?)) "
                "and o.payload_sha256 is not null",
                (account, json.dumps(list(keys))),
            )
        )

    def last_payload(self, account: str, key: str) -> str | None:
        """The payload that landed last of a task, read from its part."""
        found = self.connection.execute(
            "select p.load_id, p.file, o.payload_sha256 from observed as o inner join parts as p on o.part = p.number "
            "where p.damage is null and p.account = ? and o.key = ? and o.payload_sha256 is not null "
            "order by p.load_id desc, o.page desc, o.position desc limit 1",
            (account, key),
        ).fetchone()
        if found is None:
            return None
        load_id, file, sha256 = found
        path = self.zone.folder(account, load_id) / file
        rows = pq.read_table(path, columns=["payload"], filters=[("payload_sha256", "=", sha256)])
        return str(rows["payload"][0].as_py()) if len(rows) else None

    def is_empty(self, account: str) -> bool:
        """Whether nothing has landed of an account."""
        found = self.connection.execute("select 1 from parts where account = ? and damage is null limit 1", (account,))
        return found.fetchone() is None

    def accounts(self) -> list[str]:
        """The accounts that have complete loads."""
        found = self.connection.execute("select distinct account from loads where is_complete order by account")
        return [account for (account,) in found]

    def last_load_id(self) -> str:
        """The last of the complete loads; empty where there is none."""
        found = self.connection.execute("select max(load_id) from loads where is_complete").fetchone()
        return found[0] or ""

    def manifests(self, account: str, lane: Lane | None = None, newest_first: bool = False) -> Iterator[Manifest]:
        """Complete loads of an account in the order in which they were made."""
        last, comes_next, order = (LAST, "<", "desc") if newest_first else ("", ">", "asc")
        while found := self.connection.execute(
            f"select load_id, manifest from loads where account = ? and load_id {comes_next} ? "
            f"and lane = coalesce(?, lane) and is_complete order by load_id {order} limit {MANIFESTS_AT_ONCE}",
            (account, last, lane),
        ).fetchall():
            yield from (decode(manifest) for _, manifest in found)
            last = found[-1][0]

    def last_proving(self, account: str) -> Manifest | None:
        """The load that proved last up to when every change has landed; None before the first proven sweep."""
        # The last, not that of the latest time: a server's clock may have stood wrong.
        found = self.connection.execute(
            """
            select manifest from loads
            where
                account = :account and proven_until_ms is not null and is_complete
                and load_id >= (
                    select load_id from loads
                    where account = :account and lane = 'sweep' and proven_until_ms is not null and is_complete
                    order by load_id limit 1
                )
            order by load_id desc limit 1
            """,
            {"account": account},
        ).fetchone()
        return None if found is None else decode(found[0])

    def proven_until_ms(self, account: str) -> int | None:
        """The server's clock up to which every change has landed; None before the first proven sweep."""
        last = self.last_proving(account)
        return None if last is None else last.proven_until_ms

    def first_created_ms(self) -> int | None:
        """When the first task of all accounts was created, as far as any landed payload says; None where none does."""
        found = self.connection.execute("select min(created_at_ms) from observed").fetchone()
        return None if found is None or found[0] is None else int(found[0])

    def of_run(self, run_id: str) -> list[Manifest]:
        """The loads that a run made, those of the ranges of its sweeps included, which others may have made."""
        found = self.connection.execute(
            """
            select manifest from loads
            where
                is_complete
                and (
                    run_id = :run_id
                    or load_id in (
                        select value from loads as l, json_each(cast(l.manifest as text), '$.ranges')
                        where l.run_id = :run_id
                    )
                )
            order by load_id
            """,
            {"run_id": run_id},
        )
        return [decode(manifest) for (manifest,) in found]

    def looked_up(self, account: str) -> dict[str, str]:
        """The last load of an account that asked for a task by id, by task."""
        return dict(self.connection.execute("select task_id, load_id from looked_up where account = ?", (account,)))

    def open_loads(self, account: str | None = None) -> list[Manifest]:
        """Loads that were begun and not completed, as far as they had got when their last part was written."""
        found = self.connection.execute(
            "select manifest from loads where account = coalesce(?, account) and not is_complete order by load_id",
            (account,),
        )
        return [decode(manifest) for (manifest,) in found]

    def damaged(self, account: str | None = None) -> list[tuple[Manifest, Part, str]]:
        """Parts that are not what was landed, each with its load and what is wrong with it."""
        found = self.connection.execute(
            "select manifest, file, rows, bytes, sha256, damage from parts inner join loads using (account, load_id) "
            "where damage is not null and account = coalesce(?, account) order by load_id, file",
            (account,),
        )
        return [(decode(manifest), Part(*part), damage) for manifest, *part, damage in found]

    def unreadable_loads(self, account: str | None = None) -> list[Path]:
        """Folders of loads that have neither a manifest nor a note that can be read."""
        known = set(self.connection.execute("select account, load_id from loads"))
        return [self.zone.folder(*load) for load in sorted(set(self.zone.names(account)) - known)]

    def files(self) -> tuple[int, int]:
        """How many files there are, manifests included, and the bytes of the parts."""
        found = self.connection.execute(
            "select count(*) + (select count(*) from loads), coalesce(sum(bytes), 0) from parts where damage is null"
        ).fetchone()
        return int(found[0]), int(found[1])

    def loads(self) -> pa.Table:
        """Complete loads: account, load_id, and the hash of the manifest."""
        return self._table(
            "select account, load_id, manifest_sha256 as sha256 from loads where is_complete",
            {"account": pa.string(), "load_id": pa.string(), "sha256": pa.string()},
        )

    def manifests_of(
        self, load_ids: Iterable[str] | None = None, of_open_loads_too: bool = False
    ) -> pa.RecordBatchReader:
        """The manifests of complete loads as JSON text, of some or of all, a batch at a time."""
        chosen = "" if load_ids is None else "and load_id in (select value from json_each(?))"
        cursor = self.connection.execute(
            f"select cast(manifest as text) from loads where (is_complete or {int(of_open_loads_too)}) {chosen} "
            "order by load_id",
            () if load_ids is None else (json.dumps(list(load_ids)),),
        )
        schema = pa.schema([("manifest", pa.string())])
        batches = (
            pa.record_batch([[text for (text,) in rows]], schema) for rows in iter(lambda: cursor.fetchmany(1000), [])
        )
        return pa.RecordBatchReader.from_batches(schema, batches)

    def parts(self, of_open_loads_too: bool = False) -> pa.Table:
        """The parts of complete loads that are there, by their number here."""
        return self._table(
            f"""
            select p.number, p.account, p.load_id, p.file, p.sha256, p.rows
            from parts as p inner join loads as l on p.account = l.account and p.load_id = l.load_id
            where p.damage is null and (l.is_complete or {int(of_open_loads_too)})
            order by p.number
            """,
            {
                "number": pa.int64(),
                "account": pa.string(),
                "load_id": pa.string(),
                "file": pa.string(),
                "sha256": pa.string(),
                "rows": pa.int64(),
            },
        )

    def _table(self, query: str, columns: dict[str, pa.DataType]) -> pa.Table:
        rows = self.connection.execute(query).fetchall()
        return pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], schema=pa.schema(columns))

    def want(self, keys: Iterable[str], parts: Collection[int]) -> int:
        """Chooses tasks: `keys`, and all that were observed in `parts`. Returns how many they are."""
        self.connection.execute("create temp table if not exists wanted (key text primary key) without rowid")
        self.connection.execute("delete from wanted")
        self.connection.executemany("insert or ignore into wanted values (?)", ((key,) for key in keys))
        if parts:
            self.connection.execute(
                "insert or ignore into wanted select key from observed where part in (select value from json_each(?))",
                (json.dumps(list(parts)),),
            )
        self.connection.commit()  # or what is read next would keep writers out
        return int(self.connection.execute("select count(*) from wanted").fetchone()[0])

    def numbers_of(self, parts: Iterable[tuple[str, str, str]]) -> list[int]:
        """The numbers of parts of which it is known what they held, by account, load_id and file."""
        query = "select number from parts where (account, load_id, file) = (?, ?, ?) and is_indexed is not null"
        return [number for part in parts for (number,) in self.connection.execute(query, part)]

    def wanted_keys(self) -> list[str]:
        """The chosen tasks."""
        return [key for (key,) in self.connection.execute("select key from wanted order by key")]

    def wanted_rows(self) -> dict[int, int]:
        """How often chosen tasks were observed, by the number of the part."""
        return dict(
            self.connection.execute(
                "select part, count(*) from observed where key in (select key from wanted) group by part"
            ).fetchall()
        )

    def parts_of(self, keys: Collection[str]) -> list[tuple[str, int]]:
        """In which parts tasks were observed, as (key, number)."""
        return self.connection.execute(
            "select distinct key, part from observed where key in (select value from json_each(?))",
            (json.dumps(list(keys)),),
        ).fetchall()

    def parts_of_wanted(self, numbers: Collection[int]) -> list[tuple[str, int]]:
        """The same of the chosen tasks that were observed in some of the parts."""
        return self.connection.execute(
            """
            select distinct key, part
            from observed
            where key in (
                select key from wanted inner join observed using (key) where part in (select value from json_each(?))
            )
            """,
            (json.dumps(list(numbers)),),
        ).fetchall()

    def _newest(self, query: str, values: dict[str, str], going_on: str | None) -> Iterator[State]:
        rows = self.connection.execute(query, values).fetchall()
        for key, found in groupby(rows, itemgetter(0)):
            state, newest = State(key, False, None, None, False, None), (False, 0, -2)
            epoch = 0  # one begins with each answer that is sure
            last: tuple[str | None, str, str] = None, "", ""  # hash, load and lane of the answer before
            for _, load_id, lane, is_task, created, updated, is_deleted, payload_sha256 in found:
                state = state._replace(is_task=bool(is_task), created_at_ms=created, is_deleted=bool(is_deleted))
                if payload_sha256 is not None:
                    is_repetition = payload_sha256 == last[0] and load_id != last[1] and "events" not in (lane, last[2])
                    epoch += lane == "refresh" or is_repetition
                    rank = (True, 0, 0) if load_id == going_on else (False, epoch, -1 if updated is None else updated)
                    if rank >= newest:
                        state, newest = state._replace(updated_at_ms=updated, sha256=payload_sha256), rank
                last = payload_sha256, load_id, lane
            yield state._replace(is_last=state.sha256 == last[0])
