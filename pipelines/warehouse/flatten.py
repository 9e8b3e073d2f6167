"""From landed payloads to typed observations: each payload is parsed once, by DuckDB, after the type gate.

`warehouse/observations.duckdb` holds them. It is derived: deleted, it comes back from the landing zone; after a change of
the contract it is made anew by itself.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.landing.manifest import Manifest
from pipelines.landing.zone import Zone
from pipelines.warehouse import gate
from pipelines.warehouse.database import connect, quoted

TASK_TYPE = json.dumps(gate.duckdb_type())
# What the observations were parsed with: another contract or another gate means parsing anew.
CONTRACT = hashlib.sha256(TASK_TYPE.encode() + Path(gate.__file__).read_bytes()).hexdigest()

SCHEMA = f"""
create table contract as select {quoted(CONTRACT)} as sha256;
create table flattened (account varchar, load_id varchar, primary key (account, load_id));
create table observations as
    select
        null::varchar as account, null::varchar as lane, null::varchar as load_id, null::integer as page,
        null::integer as position, null::timestamptz as fetched_at, null::varchar as task_id,
        null::bigint as updated_at_ms, null::boolean as is_deleted, null::varchar as payload_sha256,
        from_json(payload, {quoted(TASK_TYPE)}) as task
    from (select null::varchar as payload)
    limit 0;
create table problems (
    account varchar, load_id varchar, page integer, row_position integer, number integer, task_id varchar,
    fetched_at timestamptz, path varchar, value varchar, reason varchar
);
"""

INSERT = f"""
insert into observations
select
    account, lane, load_id, page, position, fetched_at, task_id, updated_at_ms, is_deleted, payload_sha256,
    from_json(payload, {quoted(TASK_TYPE)}) as task
from batch
"""

PROBLEM = pa.schema(
    [
        ("account", pa.string()),
        ("load_id", pa.string()),
        ("page", pa.int32()),
        ("row_position", pa.int32()),
        ("number", pa.int32()),
        ("task_id", pa.string()),
        ("fetched_at", pa.timestamp("ms", tz="UTC")),
        ("path", pa.string()),
        ("value", pa.string()),
        ("reason", pa.string()),
    ]
)


class Flattened(NamedTuple):
    """What a run of flatten did."""

    loads: int
    observations: int
    problems: int


def flatten(zone: Zone, path: Path, say: Callable[[str], None] = lambda line: None) -> Flattened:
    """Parses the loads that `path` does not hold yet; each load goes in whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done = Flattened(0, 0, 0)
    with connect(path) as connection:
        if not _is_of_this_contract(connection):
            _start_anew(connection)
        known = set(connection.execute("select account, load_id from flattened").fetchall())
        for manifest in zone.manifests():
            if (manifest.account, manifest.load_id) not in known:
                counts = _flatten_load(connection, zone, manifest)
                done = Flattened(done.loads + 1, done.observations + counts[0], done.problems + counts[1])
                say(f"flattened {manifest.load_id}: {counts[0]:,} observations")
    return done


def _is_of_this_contract(connection: duckdb.DuckDBPyConnection) -> bool:
    tables = {row[0] for row in connection.execute("select table_name from duckdb_tables()").fetchall()}
    return "contract" in tables and connection.execute("select sha256 from contract").fetchall() == [(CONTRACT,)]


def _start_anew(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("begin")
    for table in ("contract", "flattened", "observations", "problems"):
        connection.execute(f"drop table if exists {table}")
    connection.execute(SCHEMA)
    connection.execute("commit")


def _flatten_load(connection: duckdb.DuckDBPyConnection, zone: Zone, manifest: Manifest) -> tuple[int, int]:
    observations = problems = 0
    connection.execute("begin")
    for path, part in zone.parts([manifest]):
        zone.verify(path, part)
        table = pq.read_table(path)
        batch, found = _gated(table)
        connection.register("batch", batch)
        connection.execute(INSERT)
        connection.unregister("batch")
        if found.num_rows:
            connection.register("found", found)
            connection.execute("insert into problems by name select * from found")
            connection.unregister("found")
        observations += batch.num_rows
        problems += found.num_rows
    connection.execute("insert into flattened values (?, ?)", [manifest.account, manifest.load_id])
    connection.execute("commit")
    return observations, problems


def _gated(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The batch with payloads that DuckDB may parse, and the problems of the others."""
    payloads: list[str | None] = table.column("payload").to_pylist()
    rows: list[int] = []
    found: list[gate.Problem] = []
    numbers: list[int] = []
    for index, payload in enumerate(payloads):
        if payload is None:
            continue
        gated = gate.gate(payload)
        payloads[index] = gated.payload
        for number, problem in enumerate(gated.problems):
            rows.append(index)
            found.append(problem)
            numbers.append(number)
    changed = table.set_column(table.schema.get_field_index("payload"), "payload", pa.array(payloads, pa.string()))
    where = table.select(["account", "load_id", "page", "position", "task_id", "fetched_at"]).take(pa.array(rows, pa.int64()))
    problems = pa.table(
        {
            "account": where["account"],
            "load_id": where["load_id"],
            "page": where["page"],
            "row_position": where["position"],
            "number": pa.array(numbers, pa.int32()),
            "task_id": where["task_id"],
            "fetched_at": where["fetched_at"],
            "path": pa.array([problem.path for problem in found], pa.string()),
            "value": pa.array([problem.value for problem in found], pa.string()),
            "reason": pa.array([problem.reason for problem in found], pa.string()),
        },
        schema=PROBLEM,
    )
    return changed, problems
