"""Parquet and Arrow as this project writes them: every table and field with its meaning.

A table by task is a file for each week in which its tasks were created, so that a change touches few of them; any other
is one file. A file that has not changed is the same file in the next version.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.warehouse.grain import grains
from pipelines.warehouse.models import Model

# A row group is held while it is written: of the widest table, 20 MB.
ROWS_PER_GROUP = 10_240

ROWS_PER_READ = 8_192

# Beside the tables' folders: what they hold, for who copies or reads them without DuckDB.
MANIFEST = "_manifest.json"

# The file of a task in SQL: the Monday of the week in which it was created, UTC; one for all whose clock was astray.
UNDATED = "1970-01-01"
WEEK = f"""
case
    when created_at between timestamptz '2015-01-01 00:00:00+00' and timestamptz '2099-12-31 00:00:00+00'
        then cast(date_trunc('week', created_at) as date)
    else date '{UNDATED}'
end
"""


def tasks_of_weeks(model: Model, weeks: Iterable[str]) -> str:
    """SQL of the tasks whose rows of a table by task are in the files of some weeks."""
    table = model.name if "created_at" in model.columns else "tasks"
    listed = ", ".join(f"date '{week}'" for week in sorted(weeks))
    return f"select distinct task_id from {table} where {WEEK} in ({listed})"


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
        with _own_errors():
            batches = session.sql(f"from {model.name}").to_arrow_reader(ROWS_PER_GROUP)
            write_parquet(described(batches.schema, model), batches, folder / f".{model.name}.parquet")
        written, weeks = {f"{model.name}.parquet"}, None
    for path in folder.glob("[!.]*.parquet"):
        if path.name not in written and (weeks is None or date.fromisoformat(path.stem) in weeks):
            path.unlink()
    for name in written:
        _take_place(folder / f".{name}", folder / name)
    return written


@contextmanager
def _own_errors() -> Iterator[None]:
    """Gives DuckDB's errors back their type, which they lose on the way through Arrow."""
    try:
        yield
    except OSError as error:
        if "Out of Memory" in str(error):
            raise duckdb.OutOfMemoryException(str(error).splitlines()[0]) from None
        raise


def _write_weeks(
    session: duckdb.DuckDBPyConnection, model: Model, folder: Path, weeks: Collection[date] | None
) -> set[str]:
    """Writes a file for each week, under a name of its own; returns the names that they are to have.

    What cannot be put in order at once, for lack of memory, is done in halves.
    """
    if weeks is not None and not weeks:
        return set()
    with suppress(duckdb.OutOfMemoryException), _own_errors():  # what its query held goes with the error
        return _write_in_order(session, model, folder, weeks)
    found = session.execute(f"select distinct {WEEK} from tasks").fetchall() if weeks is None else ()
    each = sorted(weeks or (week for (week,) in found))
    if len(each) < 2:
        with _own_errors():
            return _write_in_order(session, model, folder, weeks)
    halves = each[: len(each) // 2], each[len(each) // 2 :]
    return {name for half in halves for name in _write_weeks(session, model, folder, half)}


def _write_in_order(
    session: duckdb.DuckDBPyConnection, model: Model, folder: Path, weeks: Collection[date] | None
) -> set[str]:
    chosen = "" if weeks is None else f"where {_created_in(weeks)} and week in ({', '.join(map(_literal, weeks))})"
    if "created_at" in model.columns:
        rows = f"from (select *, {WEEK} as week from {model.name}) {chosen} order by week, created_at, task_id"
    else:
        weeks_of_tasks = f"from (select task_id, created_at, {WEEK} as week from tasks) {chosen}"
        rows = f"select t.*, w.week from {model.name} as t inner join ({weeks_of_tasks}) as w using (task_id)"
        rows += " order by week"
    reader = session.sql(rows).to_arrow_reader(ROWS_PER_READ)
    schema = described(pa.schema([field for field in reader.schema if field.name != "week"]), model)
    written: set[str] = set()
    for week, batches in groupby(_by_week(reader), itemgetter(0)):
        written.add(f"{week}.parquet")
        write_parquet(schema, _together(schema, (batch for _, batch in batches)), folder / f".{week}.parquet")
    if not written and weeks is None:  # readers find the columns of a table without rows too
        written.add(f"{UNDATED}.parquet")
        write_parquet(schema, [], folder / f".{UNDATED}.parquet")
    return written


def _created_in(weeks: Collection[date]) -> str:
    """The condition on created_at that weeks come to, but for times that were astray: it is quicker than WEEK."""
    if date.fromisoformat(UNDATED) in weeks:
        return "true"
    ends = ((week, week + timedelta(days=7)) for week in weeks)
    each = (f"created_at >= '{begin} 00:00:00+00' and created_at < '{end} 00:00:00+00'" for begin, end in ends)
    return f"({' or '.join(each)})"


def _literal(week: date) -> str:
    return f"date '{week}'"


def _by_week(reader: pa.RecordBatchReader) -> Iterator[tuple[date, pa.RecordBatch]]:
    """Rows that are in order of their week, cut where the week changes."""
    for batch in reader:
        weeks, rows = pc.run_end_encode(batch.column("week")), batch.drop_columns(["week"])
        begin = 0
        for week, end in zip(weeks.values.to_pylist(), weeks.run_ends.to_pylist(), strict=True):
            yield week, rows.slice(begin, end - begin)
            begin = end


def _together(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches as large as a row group is to be."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch.cast(schema))
        if sum(each.num_rows for each in held) >= ROWS_PER_GROUP:
            yield pa.concat_batches(held)
            held = []
    if held:
        yield pa.concat_batches(held)


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
        "refers": [
            {"columns": each.columns, "table": each.table, "there": each.there or each.columns}
            for each in model.relationships
        ],
        "columns": [{"name": name, "type": kind, "description": model.columns[name]} for name, kind in table.columns],
        "files": files,
    }
