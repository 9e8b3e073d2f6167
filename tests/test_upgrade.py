"""A home that version 0.1.0 made is gone on with: nothing of it is fetched again, and its tables tell the same."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

from pipelines.serving.status import status
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.publish import publish

HOME = Path(__file__).parent / "fixtures" / "home-0.1.0.tar.gz"

# Columns that tell more now, or no longer move from load to load.
CHANGED = {"tasks": {"last_seen_at"}, "task_history": {"last_observed_at", "stood_until_at"}}


# Of these types the contract was wrong, and so was the simulator.
MISREAD = "task_id in (select task_id from tasks where type in ('transcode', 'import'))"


def rows_of(database: Path, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
    but = f"where not {MISREAD}" if '"task_id"' in columns else ""
    with duckdb.connect(database, read_only=True) as connection:
        return sorted(connection.execute(f"select {', '.join(columns)} from {table} {but}").fetchall(), key=repr)


def test_a_home_of_version_0_1_0_opens(
    simulate: Callable[..., Simulator], archive: Callable[..., Any], tmp_path: Path
) -> None:
    kept = archive(simulate(tasks=60, days=4, seed=3, now=1_795_000_000_000, speed=0))
    home = kept.settings.home.path
    with tarfile.open(HOME) as packed:
        packed.extractall(home, filter="data")
    before = (home / "published" / "task_archive.duckdb").resolve()
    assert status(kept.settings).accounts[0].tasks == 66

    list(build.build_version(kept.settings))
    published = publish(kept.settings)
    assert published.version > before.parent.name
    for table in ("tasks", "task_history", "profiles", "tracks", "loads"):
        with duckdb.connect(before, read_only=True) as connection:
            columns = [row[0] for row in connection.execute(f"describe {table}").fetchall()]
        same = [f'"{name}"' for name in columns if name not in CHANGED.get(table, ())]
        assert rows_of(published.database, table, same) == rows_of(before, table, same), table
    assert not (home / "warehouse" / "observations").exists()

    again = kept.sync("sweep")  # of the account as it stood at first
    assert again.unchanged >= 50
    assert again.rows_landed < 20


def test_what_version_0_1_0_published_can_still_be_read(tmp_path: Path) -> None:
    with tarfile.open(HOME) as packed:
        packed.extractall(tmp_path, filter="data")
    assert status(Settings(home=tmp_path)).rows["tasks"] == 66
