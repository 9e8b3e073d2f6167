"""Parquet and Arrow as this project writes them: every table and field with its meaning.

A table by task is a file for each week in which its tasks were created, so that a change touches few of them; any other
is one file. A file that has not changed is the same file in the next version.
"""

import hashlib
import json
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import IO, Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.warehouse.grain import grains
from pipelines.warehouse.models import Model

# A row group is compressed by one thread: of DuckDB's default of 122,880 rows, few accounts have enough to share out.
ROWS_PER_GROUP = 30_720

# Beside the tables' folders: what they hold, for who copies or reads them without DuckDB.
MANIFEST = "_manifest.json"

# The file of a task in SQL: the Monday of the week in which it was created, UTC; one for all whose clock was astray.
WEEK = """
case
    when created_at between timestamptz '2015-01-01 00:00:00+00' and timestamptz '2099-12-31 00:00:00+00'
        then cast(date_trunc('week', created_at) as date)
    else date '1970-01-01'
end
"""


def described(schema: pa.Schema, model: Model) -> pa.Schema:
    """A table's Arrow schema, the meaning of the table and of each field in the metadata `description`."""
    fields = [field.with_metadata({"description": model.columns[field.name]}) for field in schema]
    return pa.schema(fields, {"description": model.description})


def write_parquet(schema: pa.Schema, batches: Iterable[pa.RecordBatch], file: Path | IO[bytes]) -> int:
    """Writes Parquet, a row group for each batch, and returns the number of rows."""
    rows = 0
    with _writer(schema, file) as writer:
        for batch in batches:
            writer.write_batch(batch.cast(schema))
            rows += batch.num_rows
    return rows


def export(session: duckdb.DuckDBPyConnection, model: Model, root: Path, weeks: Collection[date] | None) -> set[str]:
    """Brings a table's Parquet files up to date and returns the names of those that were written.

    `weeks`: those of a table by task that may have changed, None: all.
    """
    folder = root / model.name
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".*"):  # of a run that was killed
        leftover.unlink()
    if grains()[model.name].kind == "task":
        written = _write_weeks(session, model, folder, weeks)
    else:
        batches = session.sql(f"from {model.name}").to_arrow_reader(ROWS_PER_GROUP)
        write_parquet(described(batches.schema, model), batches, folder / f".{model.name}.parquet")
        written, weeks = {f"{model.name}.parquet"}, None
    for path in folder.glob("[!.]*.parquet"):
        if path.name not in written and (weeks is None or date.fromisoformat(path.stem) in weeks):
            path.unlink()
    for name in written:
        _take_place(folder / f".{name}", folder / name)
    return written


def _write_weeks(
    session: duckdb.DuckDBPyConnection, model: Model, folder: Path, weeks: Collection[date] | None
) -> set[str]:
    """Writes a file for each week, under a name of its own; returns the names that they are to have."""
    order = "order by created_at, task_id" if weeks is not None and "created_at" in model.columns else ""
    listed = ", ".join(f"date '{week}'" for week in weeks or ()) or "null"
    chosen = "" if weeks is None else f"where week in ({listed})"
    reader = session.sql(
        f"from (select *, {WEEK} as week from {model.name}) {chosen} {order}"
        if "created_at" in model.columns
        else f"select t.*, w.week from {model.name} as t inner join "
        f"(from (select task_id, {WEEK} as week from tasks) {chosen}) as w on t.task_id = w.task_id"
    ).to_arrow_reader(ROWS_PER_GROUP)
    schema = described(pa.schema([field for field in reader.schema if field.name != "week"]), model)
    held: dict[date, list[pa.RecordBatch]] = {}
    writers: dict[date, pq.ParquetWriter] = {}

    def rows_held(week: date) -> int:
        return sum(part.num_rows for part in held[week])

    with ExitStack() as stack:

        def write(week: date) -> None:
            if week not in writers:
                writers[week] = stack.enter_context(_writer(schema, folder / f".{week}.parquet"))
            writers[week].write_table(pa.Table.from_batches(held.pop(week), schema), row_group_size=ROWS_PER_GROUP)

        for batch in reader:
            week_of, rows = batch.column("week"), batch.drop_columns(["week"]).cast(schema)
            for week in pc.unique(week_of).to_pylist():
                held.setdefault(week, []).append(rows.filter(pc.equal(week_of, week)))
            while sum(map(rows_held, held)) > 2 * ROWS_PER_GROUP:
                write(max(held, key=rows_held))
        for week in list(held):
            write(week)
        if not writers and weeks is None:  # readers find the columns of a table without rows too
            held[date(1970, 1, 1)] = []
            write(date(1970, 1, 1))
    return {f"{week}.parquet" for week in writers}


def _writer(schema: pa.Schema, file: Path | IO[bytes]) -> pq.ParquetWriter:
    # Dictionaries of the many columns of ids and URLs would only cost time.
    return pq.ParquetWriter(file, schema, compression="zstd", dictionary_pagesize_limit=65_536)


def _take_place(fresh: Path, path: Path) -> None:
    """Puts a file in the place of the one before, unless that holds the same."""
    if path.exists() and path.stat().st_size == fresh.stat().st_size and _sha256(path) == _sha256(fresh):
        fresh.unlink()
    else:
        fresh.replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class InManifest(NamedTuple):
    """A table for the manifest: its rows, its columns as (name, DuckDB type), and the files that were written now."""

    model: Model
    rows: int
    columns: list[tuple[str, str]]
    written: set[str]


def manifest_of(root: Path, about: dict[str, Any], tables: Iterable[InManifest]) -> bytes:
    """What the folders under `root` hold, as JSON. Each file tells the version since which it is there as it is."""
    before: dict[str, dict[str, Any]] = {}
    if (root / MANIFEST).exists():
        known = json.loads((root / MANIFEST).read_bytes())
        before = {file["path"]: file for table in known["tables"].values() for file in table["files"]}
    listed = {table.model.name: _listed(root, table, about["version"], before) for table in tables}
    return json.dumps(about | {"tables": listed}, indent=1).encode()


def _listed(root: Path, table: InManifest, version: str, before: dict[str, dict[str, Any]]) -> dict[str, Any]:
    model, files = table.model, []
    for path in sorted((root / model.name).glob("[!.]*.parquet")):
        name = f"{model.name}/{path.name}"
        file = before.get(name)
        if file is None or path.name in table.written:
            digest = _sha256(path)
            since = file["since_version"] if file is not None and file["sha256"] == digest else version
            file = {"path": name, "bytes": path.stat().st_size, "sha256": digest, "since_version": since}
        files.append(file)
    return {
        "description": model.description,
        "rows": table.rows,
        "key": model.key,
        "refers": [{"columns": each.columns, "table": each.table, "there": each.there} for each in model.refers],
        "columns": [{"name": name, "type": kind, "description": model.columns[name]} for name, kind in table.columns],
        "files": files,
    }
