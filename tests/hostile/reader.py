"""Reads the published versions of all homes below a folder, again and again, until standard input closes.

Each look must find one whole version: tables and Parquet with the rows that the version says it has, each child row
with its parent. In homes named `full-...` there must always be one. Prints what it found as a line of JSON.
"""

import json
import os
import select
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

CHILDREN = ("profiles", "tracks", "hashes", "files", "task_history", "task_intervals", "task_attempts")


def look(home: Path) -> str | None:
    """The version that is seen; None before there is one. Raises where it is not whole."""
    link = home / "published" / "task_archive.duckdb"
    if not home.name.startswith("full-") and not link.is_symlink():
        return None
    database = link.resolve(strict=True)
    about: dict[str, Any] = json.loads(database.with_name("version.json").read_text())
    rows: dict[str, int] = about["rows"]
    with duckdb.connect(str(database), read_only=True, config={"threads": 1}) as connection:
        counts = " union all ".join(f"select '{table}', count(*) from {table}" for table in rows)
        found = dict(connection.execute(counts).fetchall())
        orphans = " + ".join(
            f"(select count(*) from {table} where task_id not in (select task_id from tasks))" for table in CHILDREN
        )
        (alone,) = connection.execute(f"select {orphans}").fetchone() or (None,)
    in_parquet = {
        table: sum(pq.read_metadata(file).num_rows for file in (database.parent / "parquet" / table).glob("*.parquet"))
        for table in rows
    }
    if not rows == found == in_parquet or alone:
        raise ValueError(f"{about['version']} has {rows}, DuckDB {found}, Parquet {in_parquet}, {alone} without parent")
    parquet = (home / "published" / "parquet").resolve(strict=home.name.startswith("full-"))
    if parquet.exists():
        json.loads((parquet.parent / "version.json").read_text())
    return str(about["version"])


def main(root: Path) -> None:
    os.nice(5)
    looks = 0
    versions: set[tuple[str, str]] = set()
    half: list[str] = []
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        for home in root.iterdir():
            try:
                version = look(home)
            except Exception as error:  # noqa: BLE001 - whatever a reader meets is what we are after
                if home.exists():  # else it was taken away meanwhile
                    half.append(f"{home.name}: {type(error).__name__}: {error}")
                continue
            if version:
                looks += 1
                versions.add((home.name, version))
    print(json.dumps({"looks": looks, "versions": len(versions), "half": half}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
