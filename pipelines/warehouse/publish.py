"""Publishing: a complete version replaces the one before at once; a reader that is open stays on its own.

`published/versions/<version>/` holds a version's DuckDB file, Parquet and report; `published/current` points at the
newest, and `published/task_archive.duckdb`, `published/parquet` and `published/report.html` lead through it. Moving
that one link is the publication.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import WarehouseError
from pipelines.landing.zone import sync_folder
from pipelines.settings import Settings
from pipelines.warehouse.build import COMPLETE, DATABASE, PARQUET, REPORT, building_folder


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
    built = building_folder(settings)
    if not (built / COMPLETE).exists():
        raise WarehouseError("no version was built: run the tables first")
    about = json.loads((built / COMPLETE).read_bytes())
    root = settings.published
    versions = root / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    for leftover in versions.glob(".*"):  # of a run that was killed
        shutil.rmtree(leftover)
    folder = versions / about["version"]
    arriving = folder.with_name(f".{folder.name}")  # published/ may be on another disk
    shutil.move(built, arriving)
    arriving.rename(folder)
    sync_folder(versions)
    _point(root / "current", Path("versions") / folder.name)
    _point(root / DATABASE, Path("current") / DATABASE)
    _point(root / PARQUET, Path("current") / PARQUET)
    if (folder / REPORT).exists():
        _point(root / REPORT, Path("current") / REPORT)
    else:  # it could not be made
        (root / REPORT).unlink(missing_ok=True)
    for old in sorted(path for path in versions.iterdir() if path.is_dir())[: -settings.keep_versions]:
        shutil.rmtree(old)
    return Published(folder.name, root / DATABASE, root / PARQUET, about["rows"], about["bytes"])


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
