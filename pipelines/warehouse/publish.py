"""Publishing: a complete version replaces the one before at once; a reader that is open stays on its own.

`published/versions/<version>/` holds a version's DuckDB file and Parquet; `published/current` points at the newest, and
`published/task_archive.duckdb` and `published/parquet` lead through it. Moving that one link is the publication. A
version's report is made of it and follows: `published/report.html` leads to the newest that there is.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import WarehouseError
from pipelines.landing.zone import sync_folder, write_durably
from pipelines.settings import Settings
from pipelines.warehouse.database import DATABASE, connect, current_database
from pipelines.warehouse.seal import READ_ONLY, seal
from pipelines.warehouse.working import COMPLETE, INTERNAL, PARQUET, TABLES, Working, attach

PAGES = "report.html", "catalogue.html"  # made of a version, beside it


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
    built, working = settings.home.warehouse / COMPLETE, Working(settings)
    if not built.exists():
        raise WarehouseError("no version was built: run the tables first")
    about = json.loads(built.read_bytes())
    root = settings.home.published
    versions = root / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    for leftover in versions.glob(".*"):  # of a run that was killed
        shutil.rmtree(leftover)
    for leftover in versions.glob("*/.*"):
        leftover.unlink()
    folder = versions / about["version"]
    if not folder.exists():
        arriving = folder.with_name(f".{folder.name}")
        arriving.mkdir()
        _copy_database(working.file, arriving / DATABASE)
        _link_folder(working.parquet, arriving / PARQUET)
        seal(arriving, about)
        sync_folder(arriving)
        arriving.rename(folder)
        sync_folder(versions)
    _point(root / "current", Path("versions") / folder.name)
    _point(root / DATABASE, Path("current") / DATABASE)
    _point(root / PARQUET, Path("current") / PARQUET)
    for old in sorted(path for path in versions.iterdir() if path.is_dir())[: -settings.keep_versions]:
        shutil.rmtree(old)
    for page in PAGES:
        if not (root / page).exists():  # its version has gone
            (root / page).unlink(missing_ok=True)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Published(folder.name, root / DATABASE, root / PARQUET, about["rows"], size)


def _copy_database(working: Path, target: Path) -> None:
    """The published tables of the working file."""
    shutil.copyfile(working, target)  # where the file system can, without copying a byte
    with connect() as connection:
        attach(connection, target)
        connection.execute(f"drop schema {TABLES}.{INTERNAL} cascade")
        connection.execute(f"checkpoint {TABLES}")
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _link_folder(source: Path, target: Path) -> None:
    """The same files in another folder; copies where it is on another disk."""
    for path in sorted(source.rglob("[!.]*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, place)
        except OSError:
            shutil.copyfile(path, place)


def publish_page(settings: Settings, name: str, html: str) -> Path:
    """Puts a page of the published version, one of PAGES, beside it; returns where it is found."""
    folder = current_database(settings).parent
    write_durably(folder / name, html.encode())
    (folder / name).chmod(READ_ONLY)
    _point(settings.home.published / name, Path("versions") / folder.name / name)
    return settings.home.published / name


def _point(link: Path, target: Path) -> None:
    """Makes `link` lead to `target` in one step."""
    if link.is_symlink() and link.readlink() == target:
        return
    fresh = link.with_name(f".{link.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)
    sync_folder(link.parent)
