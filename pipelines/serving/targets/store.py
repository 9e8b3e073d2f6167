"""Publishing to the object store that keeps the landing zone: Parquet of each version, in a folder of its own.

`published/versions/<version>/parquet/` holds a version. What has not changed is copied within the store, the rest put;
`published/current.json` names the newest once it is whole. Older ones go, as in the home.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from pipelines.errors import SettingsError
from pipelines.landing.store import Store
from pipelines.serving.targets import Target, TargetTable
from pipelines.settings import Settings
from pipelines.warehouse.database import current_database
from pipelines.warehouse.models import published_models
from pipelines.warehouse.parquet import MANIFEST
from pipelines.warehouse.working import COMPLETE, PARQUET

VERSIONS, CURRENT = "published/versions", "published/current.json"


def publish_to_store(
    settings: Settings, told: Callable[[str], None] = lambda line: None, every_file: bool = False
) -> list[TargetTable]:
    """Makes the store hold the published version; `told` hears of each table. every_file: puts all files, whatever the
    store has. Raises SettingsError where no store is set, StoreError with one line for what it refuses."""
    folder = current_database(settings).parent
    store = _store(settings)
    before = json.loads(store.get(CURRENT) or b"{}")
    known = {} if every_file else before.get("files", {})
    manifest = json.loads((folder / PARQUET / MANIFEST).read_bytes())["tables"]
    place = f"{VERSIONS}/{folder.name}"
    there = {} if every_file else store.sizes(place)
    carried, files = [], {}
    for model in published_models():
        inserted = 0
        for file in manifest[model.name]["files"]:
            path = folder / PARQUET / file["path"]
            key = f"{place}/{PARQUET}/{file['path']}"
            files[file["path"]] = file["sha256"]
            if there.get(key) == file["bytes"] and before.get("version") != folder.name:
                continue  # put before this was cut short
            if known.get(file["path"]) == file["sha256"]:
                if before["version"] != folder.name:
                    store.copy(f"{VERSIONS}/{before['version']}/{PARQUET}/{file['path']}", key)
                continue
            store.put(key, path)
            inserted += pq.read_metadata(path).num_rows
        carried.append(TargetTable(model.name, manifest[model.name]["rows"], inserted, 0, 0))
        told(str(carried[-1]))
    for path in (folder / PARQUET / MANIFEST, folder / COMPLETE):
        store.put(f"{place}/{path.relative_to(folder).as_posix()}", path)
    store.put(CURRENT, json.dumps({"version": folder.name, "files": files}, indent=1).encode())
    for old in store.folders(VERSIONS)[: -settings.keep_versions]:
        store.delete(sorted(store.sizes(f"{VERSIONS}/{old}")))
    return carried


def put_page(settings: Settings, page: Path) -> None:
    """Puts a page of the published version beside the tables. Raises StoreError."""
    _store(settings).put(f"published/{page.name}", page.resolve())


def _store(settings: Settings) -> Store:
    if settings.store is None:
        raise SettingsError("no store is set: TASK_ARCHIVE_STORE, such as s3://bucket/path")
    return Store(settings)


def _check(settings: Settings) -> str:
    """Doctor's line. Raises StoreError."""
    store = _store(settings)
    accounts = store.folders("landing")
    version = json.loads(store.get(CURRENT) or b"{}").get("version", "none yet")
    return f"{store.url} answers: landing zone of {', '.join(accounts) or 'no account yet'}, version {version}"


TARGET = Target(
    name="store",
    title="the object store",
    help="""Make the object store hold the Parquet of the published version.

    The store is TASK_ARCHIVE_STORE, which keeps the landing zone too. Once that is set, the nightly job does the same.
    published/current.json names the version's folder. Only the files that changed are sent.
    """,
    is_set=lambda settings: settings.store is not None,
    place=lambda settings: f"{settings.store}/published",
    publish=publish_to_store,
    check=_check,
)
