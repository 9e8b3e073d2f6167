"""Parquet and Arrow as this project writes them: every table and field with its meaning."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.warehouse.models import Model

# A row group is compressed by one thread: of DuckDB's default of 122,880 rows, few accounts have enough to share out.
ROWS_PER_GROUP = 30_720

# Beside the tables' folders: what they hold, for who copies or reads them without DuckDB.
MANIFEST = "_manifest.json"


def described(schema: pa.Schema, model: Model) -> pa.Schema:
    """A table's Arrow schema, the meaning of the table and of each field in the metadata `description`."""
    fields = [field.with_metadata({"description": model.columns[field.name]}) for field in schema]
    return pa.schema(fields, {"description": model.description})


def write_parquet(schema: pa.Schema, batches: Iterable[pa.RecordBatch], file: Path | IO[bytes]) -> int:
    """Writes Parquet, a row group for each batch, and returns the number of rows."""
    rows = 0
    # Dictionaries of the many columns of ids and URLs would only cost time.
    with pq.ParquetWriter(file, schema, compression="zstd", dictionary_pagesize_limit=65_536) as writer:
        for batch in batches:
            writer.write_batch(batch.cast(schema))
            rows += batch.num_rows
    return rows


def in_manifest(model: Model, columns: list[tuple[str, str]], rows: int, folder: Path) -> dict[str, Any]:
    """What the manifest says of a table whose files are in `folder`; columns as (name, DuckDB type)."""
    files = []
    for path in sorted(folder.glob("*.parquet")):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files.append({"path": f"{folder.name}/{path.name}", "bytes": path.stat().st_size, "sha256": digest})
    return {
        "description": model.description,
        "rows": rows,
        "key": model.key,
        "refers": [{"columns": each.columns, "table": each.table, "there": each.there} for each in model.refers],
        "columns": [{"name": name, "type": kind, "description": model.columns[name]} for name, kind in columns],
        "files": files,
    }
