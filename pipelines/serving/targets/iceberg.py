"""Publishing to a lake of Apache Iceberg tables, for engines that read those: Spark, Trino, Snowflake, DuckDB.

The data files of a table are the Parquet files of the version, copied under names that hold their hash: by those the
next publication knows what the lake has, so that a night writes what it changed. Each table is brought up to the
version by one commit; a reader's snapshot stays. Snapshots expire after some days, and with them their files.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import ArchiveError, SettingsError
from pipelines.serving.targets import Target, TargetTable
from pipelines.settings import Settings
from pipelines.warehouse.database import current_database
from pipelines.warehouse.models import Model, published_models
from pipelines.warehouse.parquet import MANIFEST
from pipelines.warehouse.working import COMPLETE, PARQUET

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table

CATALOG = "iceberg.db"  # in the home, unless the settings name another
VERSION = "task-archive.version"  # the property of a snapshot that names the version it holds


class IcebergError(ArchiveError):
    """The catalog or the lake refused."""


def publish_to_iceberg(
    settings: Settings, told: Callable[[str], None] = lambda line: None, every_file: bool = False
) -> list[TargetTable]:
    """Makes the tables of the lake what the published version holds; `told` hears of each.

    every_file: looks after each data file that the lake should have, and writes again those that are missing or cut.

    Raises SettingsError where no lake is set or the library is missing, IcebergError with one line for what the catalog
    or the store refuses: tables that were committed before then hold the new version, the others the one before.
    """
    folder = current_database(settings).parent
    version = json.loads((folder / COMPLETE).read_bytes())["version"]
    manifest = json.loads((folder / PARQUET / MANIFEST).read_bytes())["tables"]
    carried = []
    with _refusals():
        catalog = _catalog(settings)
        catalog.create_namespace_if_not_exists(settings.iceberg_namespace)
        for model in published_models():
            table = _Lake(catalog, settings, model, folder / PARQUET, manifest[model.name])
            carried.append(table.follow(version, every_file))
            told(str(carried[-1]))
        for name in _no_longer_published(catalog, settings.iceberg_namespace):
            catalog.drop_table((settings.iceberg_namespace, name))
    return carried


class _Lake:
    """A table of the lake, and what the published version holds of it."""

    def __init__(
        self, catalog: "Catalog", settings: Settings, model: Model, parquet: Path, listed: dict[str, Any]
    ) -> None:
        files = {parquet / file["path"]: file["sha256"] for file in listed["files"]}
        self._schema = _described(pq.read_schema(next(iter(files))), model)
        self._rows: int = listed["rows"]
        self._files = files if self._rows else {}  # a table without rows is one file, which no scan would list
        self._name = model.name
        self._keep = timedelta(days=settings.iceberg_keep_days)
        self._table = _opened(catalog, (settings.iceberg_namespace, model.name), self._schema, model)

    def follow(self, version: str, every_file: bool) -> TargetTable:
        """Brings the table up to the version by one commit, or leaves it where it is that already."""
        from pyiceberg.io.pyarrow import parquet_files_to_data_files

        table = self._table
        there = {task.file.file_path: task.file for task in table.scan().plan_files()}
        wanted = {
            f"{table.location()}/data/{file.stem}-{sha256[:32]}.parquet": file for file, sha256 in self._files.items()
        }
        if every_file:
            for place in wanted.keys() & there.keys():
                if not self._is_whole(there[place]):
                    self._copy(wanted[place], place)
        gone = [there[place] for place in there.keys() - wanted.keys()]
        fresh = sorted(wanted.keys() - there.keys())
        for place in fresh:
            self._copy(wanted[place], place)
        if gone or fresh:
            files = list(parquet_files_to_data_files(table.io, table.metadata, iter(fresh)))
            with (
                table.transaction() as transaction,
                transaction.update_snapshot(snapshot_properties={VERSION: version}).overwrite() as snapshot,
            ):
                for file in gone:
                    snapshot.delete_data_file(file)
                for file in files:
                    snapshot.append_data_file(file)
            self._expire()
            return TargetTable(self._name, self._rows, _rows(files), _rows(gone), 0)
        return TargetTable(self._name, self._rows, 0, 0, 0)

    def _copy(self, file: Path, place: str) -> None:
        with file.open("rb") as source, self._table.io.new_output(place).create(overwrite=True) as target:
            shutil.copyfileobj(source, target, 1 << 20)

    def _is_whole(self, file: "DataFile") -> bool:
        try:
            return len(self._table.io.new_input(file.file_path)) == file.file_size_in_bytes
        except FileNotFoundError:
            return False

    def _expire(self) -> None:
        """Forgets snapshots that are old, and deletes the data files that only they needed."""
        before = self._all_files()
        oldest = datetime.now(UTC) - self._keep
        self._table.maintenance.expire_snapshots().older_than(oldest.replace(tzinfo=None)).commit()
        self._table.refresh()
        for place in before - self._all_files():
            self._table.io.delete(place)

    def _all_files(self) -> set[str]:
        return set(self._table.inspect.all_files()["file_path"].to_pylist())


def _opened(catalog: "Catalog", name: tuple[str, str], schema: pa.Schema, model: Model) -> "Table":
    """The table, with the columns of the version: new ones are added, ones that are gone or of another type go."""
    from pyiceberg.io.pyarrow import schema_to_pyarrow
    from pyiceberg.table import TableProperties

    if not catalog.table_exists(name):
        about = {"comment": model.description, "format-version": "2"}
        table = catalog.create_table(name, schema, properties=about)
    else:
        table = catalog.load_table(name)
        before = {field.name: field.type for field in schema_to_pyarrow(table.schema(), include_field_ids=False)}
        stays = {field.name for field in schema if _alike(before.get(field.name), field.type)}
        with table.update_schema(allow_incompatible_changes=True) as update:
            for column in before.keys() - stays:
                update.delete_column(column)
        with table.update_schema() as update:
            update.union_by_name(schema)
    # The files hold no field ids: columns are found by their names.
    names = table.schema().name_mapping.model_dump_json()
    if table.properties.get(TableProperties.DEFAULT_NAME_MAPPING) != names:
        with table.transaction() as transaction:
            transaction.set_properties({TableProperties.DEFAULT_NAME_MAPPING: names})
    return table


def _alike(before: pa.DataType | None, now: pa.DataType) -> bool:
    """Whether Iceberg has one type for both: it makes texts large, and small whole numbers 32 bits."""
    return before is not None and _plain(before) == _plain(now)


def _plain(kind: pa.DataType) -> str:
    text = str(kind).replace("large_", "").replace("element: ", "item: ").replace(" not null", "")
    for small in ("uint8", "int8", "uint16", "int16"):
        text = text.replace(small, "int32")
    return text.replace("uint32", "int64").replace("tz=+00:00", "tz=UTC").replace("Etc/UTC", "UTC")


def _described(schema: pa.Schema, model: Model) -> pa.Schema:
    """With the meaning of each column as Iceberg's documentation of it."""
    return pa.schema([field.with_metadata({"doc": model.columns[field.name]}) for field in schema])


def _rows(files: list["DataFile"]) -> int:
    return sum(file.record_count for file in files)


def _no_longer_published(catalog: "Catalog", namespace: str) -> Iterator[str]:
    """Tables that an earlier version published."""
    names = {model.name for model in published_models()}
    for _, name in catalog.list_tables(namespace):
        if name not in names and VERSION in _properties(catalog, (namespace, name)):
            yield name


def _properties(catalog: "Catalog", name: tuple[str, str]) -> dict[str, str]:
    snapshot = catalog.load_table(name).current_snapshot()
    return snapshot.summary.additional_properties if snapshot is not None and snapshot.summary is not None else {}


def _catalog(settings: Settings) -> "Catalog":
    """Raises SettingsError where no lake is set or the library is missing."""
    if settings.iceberg_warehouse is None:
        raise SettingsError("TASK_ARCHIVE_ICEBERG_WAREHOUSE is not set: the lake's folder, or the URL of its store")
    try:
        from pyiceberg.catalog import load_catalog
    except ImportError:
        raise SettingsError(
            "the library for Iceberg is missing: pip install 'livepeer-task-archive[iceberg]'"
        ) from None
    warehouse = {"warehouse": settings.iceberg_warehouse}
    if settings.iceberg_catalog is not None:
        return load_catalog(settings.iceberg_catalog, **warehouse)
    home = settings.home.path.absolute()
    home.mkdir(parents=True, exist_ok=True)
    return load_catalog("task-archive", type="sql", uri=f"sqlite:///{home / CATALOG}", **warehouse)


@contextmanager
def _refusals() -> Iterator[None]:
    """What the library raises, as one line."""
    try:
        yield
    except ArchiveError:
        raise
    except Exception as error:  # noqa: BLE001 (catalogs and stores share no type)
        said = " ".join(str(error).split())[:300]
        raise IcebergError(f"the lake refused: {type(error).__name__}: {said}") from None


def _check(settings: Settings) -> str:
    with _refusals():
        held = _catalog(settings).list_namespaces()
    return "the catalog answers" if held else "the catalog answers and is empty"


TARGET = Target(
    name="iceberg",
    title="Iceberg",
    help="""Make the tables of an Apache Iceberg lake what the published version holds, a commit each.

    The lake is TASK_ARCHIVE_ICEBERG_WAREHOUSE. Once that is set, the nightly job does the same. Only the files that
    changed since what was published there before are written.
    """,
    is_set=lambda settings: settings.iceberg_warehouse is not None,
    place=lambda settings: f"namespace {settings.iceberg_namespace} of {settings.iceberg_warehouse}",
    publish=publish_to_iceberg,
    check=_check,
)
