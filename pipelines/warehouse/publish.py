"""Publishing: a complete version replaces the one before at once; a reader that is open stays on its own.

`published/versions/<version>/` holds a version's DuckDB file and Parquet; `published/current` points at the newest, and
`published/task_archive.duckdb` and `published/parquet` lead through it. Moving that one link is the publication.
"""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipelines import __version__
from pipelines.errors import WarehouseError
from pipelines.landing.zone import sync_folder, write_durably
from pipelines.settings import Settings
from pipelines.warehouse.build import building_path
from pipelines.warehouse.database import connect, quoted
from pipelines.warehouse.models import published_models

DATABASE = "task_archive.duckdb"

# Without the limit DuckDB tries a dictionary on each of the many columns of ids and URLs: three times the work.
PARQUET = "format parquet, compression zstd, dictionary_size_limit 1000"


@dataclass(frozen=True)
class Published:
    """A published version: its name, DuckDB file, Parquet folder, rows by table and size."""

    version: str
    database: Path
    parquet: Path
    rows: dict[str, int]
    bytes: int


def publish(settings: Settings) -> Published:
    """Publishes the version that was built. Raises WarehouseError where there is none."""
    built = building_path(settings)
    if not built.exists():
        raise WarehouseError("no version was built: run the tables first")
    root = settings.published
    versions = root / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    for leftover in versions.glob(".*"):  # of a run that was killed
        shutil.rmtree(leftover)
    version = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    folder = versions / f".{version}"
    folder.mkdir()
    rows = _export_parquet(built, folder / "parquet", settings.memory_mb)
    shutil.move(built, folder / DATABASE)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    about = {"version": version, "code_version": __version__, "rows": rows, "bytes": size}
    write_durably(folder / "version.json", json.dumps(about, indent=1).encode())
    folder.rename(versions / version)
    sync_folder(versions)
    _point(root / "current", Path("versions") / version)
    _point(root / DATABASE, Path("current") / DATABASE)
    _point(root / "parquet", Path("current") / "parquet")
    for old in sorted(path for path in versions.iterdir() if path.is_dir())[: -settings.keep_versions]:
        shutil.rmtree(old)
    return Published(version, root / DATABASE, root / "parquet", rows, size)


def _export_parquet(built: Path, folder: Path, memory_mb: int) -> dict[str, int]:
    """Writes each table's Parquet, one beside the widest; returns rows by table."""
    with connect(built, memory_mb=memory_mb) as connection:

        def export(table: str) -> tuple[str, int]:
            (folder / table).mkdir(parents=True)
            file = folder / table / f"{table}.parquet"
            with connection.cursor() as cursor:
                found = cursor.execute(f"copy {table} to {quoted(str(file))} ({PARQUET})").fetchall()
            return table, int(found[0][0])

        with ThreadPoolExecutor(2) as threads:
            rows = dict(threads.map(export, (model.name for model in published_models())))
        connection.execute("checkpoint")
    return rows


def _point(link: Path, target: Path) -> None:
    """Makes `link` lead to `target` in one step."""
    if link.is_symlink() and link.readlink() == target:
        return
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)
    sync_folder(link.parent)


def current_database(settings: Settings) -> Path:
    """The published DuckDB file. Raises WarehouseError before the first publication."""
    path = settings.published / DATABASE
    if not path.exists():
        raise WarehouseError(f"nothing is published under {settings.published} yet: run `task-archive sync` first")
    return path.resolve()
