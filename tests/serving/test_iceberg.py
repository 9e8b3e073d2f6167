"""The lake: every table as published, written where it changed; snapshots of readers, columns, expiry, what fails."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pytest
from click.testing import CliRunner
from pyiceberg.catalog import load_catalog
from pyiceberg.table import Table
from pyiceberg.types import StringType

from pipelines.cli.main import main
from pipelines.defs import published as published_assets
from pipelines.defs.resources import Archive
from pipelines.landing.lanes import Extraction
from pipelines.serving.targets import TargetTable
from pipelines.serving.targets.iceberg import CATALOG, IcebergError, publish_to_iceberg
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.models import load_models, published_models
from pipelines.warehouse.publish import publish
from tests.conftest import NOW_MS, impatient_settings


class Lake:
    """An archive with a lake, of which versions can be made."""

    def __init__(self, home: Path, **fields: Any) -> None:
        self.simulator = Simulator(tasks=300, days=20, seed=1, now=NOW_MS, speed=0).serve()
        self.folder = home / "lake"
        self.settings = impatient_settings(
            self.simulator, home / "archive", iceberg_warehouse=str(self.folder), **fields
        )

    def version(self) -> None:
        Extraction(self.settings, "default", "test run").sync()
        list(build.build_version(self.settings))
        publish(self.settings)

    def carry(self, settings: Settings | None = None, every_file: bool = False) -> dict[str, TargetTable]:
        carried = publish_to_iceberg(settings or self.settings, every_file=every_file)
        return {each.table: each for each in carried}

    def table(self, name: str) -> Table:
        """As another program finds it: by the catalog alone."""
        uri = f"sqlite:///{self.settings.home.path.absolute() / CATALOG}"
        return load_catalog("task-archive", type="sql", uri=uri).load_table(("task_archive", name))

    def assert_same(self) -> None:
        """Every table of the lake holds the rows of the published version, and its columns in their types."""
        with duckdb.connect(str(self.settings.home.published / "task_archive.duckdb"), read_only=True) as connection:
            connection.execute("set TimeZone = 'UTC'")
            for model in published_models():
                connection.register("carried", self.table(model.name).scan().to_arrow())
                columns = ", ".join(f'"{name}"' for name in model.columns)
                for one, other in ((model.name, "carried"), ("carried", model.name)):
                    found = f"select {columns} from {one} except all select {columns} from {other}"
                    assert connection.execute(found).fetchall() == [], model.name


@pytest.fixture
def lake(tmp_path: Path, clean_environment: None) -> Any:
    lake = Lake(tmp_path)
    lake.version()
    yield lake
    lake.simulator.close()


def test_every_table_holds_the_same_rows_and_meanings(lake: Lake) -> None:
    carried = lake.carry()
    assert carried.keys() == {model.name for model in published_models()}
    assert (carried["tasks"].inserted, carried["tasks"].deleted) == (300, 0)
    lake.assert_same()
    tasks = lake.table("tasks")
    meanings = {field.name: field.doc for field in tasks.schema().fields}
    assert meanings == load_models()["tasks"].columns
    assert tasks.properties["comment"] == load_models()["tasks"].description


def test_a_night_writes_what_it_changed_and_a_reader_stays_on_its_snapshot(lake: Lake) -> None:
    lake.carry()
    before, owners = lake.table("tasks"), lake.table("signature_owners").current_snapshot()
    files = {path: path.stat().st_ino for path in lake.folder.rglob("*.parquet")}
    lake.simulator.advance(3600)
    new = lake.simulator.insert(name="new")
    lake.version()
    carried = lake.carry()
    lake.assert_same()
    assert {path: path.stat().st_ino for path in files} == files
    assert 0 < carried["tasks"].inserted - carried["tasks"].deleted < 100
    assert carried["tasks"].inserted < 300  # of four weeks one
    assert lake.table("signature_owners").current_snapshot() == owners
    assert carried["signature_owners"].inserted == 0
    assert new not in before.scan(selected_fields=("task_id",)).to_arrow()["task_id"].to_pylist()
    snapshot = lake.table("tasks").current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.additional_properties["task-archive.version"] > "2026"
    committed = {model.name: lake.table(model.name).metadata_location for model in published_models()}
    assert {each.inserted for each in lake.carry().values()} == {0}
    assert {name: lake.table(name).metadata_location for name in committed} == committed


@pytest.mark.slow
def test_columns_follow_the_version(lake: Lake) -> None:
    lake.carry()
    with lake.table("tasks").update_schema(allow_incompatible_changes=True) as update:
        update.delete_column("phase")
        update.delete_column("retries")
        update.add_column("retries", StringType())
        update.add_column("of_another_version", StringType())
    lake.carry()
    assert {field.name for field in lake.table("tasks").schema().fields} == {*load_models()["tasks"].columns}
    lake.assert_same()


@pytest.mark.slow
def test_a_table_that_is_no_longer_published_goes_and_one_of_others_stays(lake: Lake) -> None:
    lake.carry()
    catalog = load_catalog("task-archive", type="sql", uri=f"sqlite:///{lake.settings.home.path.absolute() / CATALOG}")
    catalog.rename_table("task_archive.hashes", "task_archive.of_an_older_version")
    catalog.create_table("task_archive.mine", pa.schema([("n", pa.int64())]), location=str(lake.folder / "mine"))
    lake.carry()
    names = {name for _, name in catalog.list_tables("task_archive")}
    assert names == {model.name for model in published_models()} | {"mine"}
    lake.assert_same()


@pytest.mark.slow
def test_snapshots_expire_and_with_them_the_files_that_only_they_needed(lake: Lake) -> None:
    lake.carry()
    files = {*(lake.folder / "task_archive" / "tasks" / "data").iterdir()}
    settings = lake.settings.model_copy(update={"iceberg_keep_days": 0})
    lake.simulator.advance(60)
    lake.simulator.insert()
    lake.version()
    lake.carry(settings)
    assert len(lake.table("tasks").snapshots()) == 1
    left = {*(lake.folder / "task_archive" / "tasks" / "data").iterdir()}
    assert files - left
    listed = lake.table("tasks").inspect.files()["file_path"].to_pylist()
    assert {str(path) for path in left} == {path.removeprefix("file://") for path in listed}
    lake.assert_same()


@pytest.mark.slow
def test_what_a_run_that_was_killed_left_is_written_again_and_so_is_what_was_cut(lake: Lake) -> None:
    lake.carry()
    (file, *_) = (lake.folder / "task_archive" / "tasks" / "data").iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    lake.carry()
    with pytest.raises(Exception, match=r"."):
        lake.assert_same()
    lake.carry(every_file=True)
    lake.assert_same()
    file.unlink()
    lake.carry(every_file=True)
    lake.assert_same()


def test_the_command_and_the_asset(lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TASK_ARCHIVE_HOME", str(lake.settings.home))
    unset = CliRunner().invoke(main, ["publish", "iceberg"])
    assert (unset.exit_code, "TASK_ARCHIVE_ICEBERG_WAREHOUSE is not set" in unset.stderr) == (2, True)
    monkeypatch.setenv("TASK_ARCHIVE_ICEBERG_WAREHOUSE", str(lake.folder))
    done = CliRunner().invoke(main, ["publish", "iceberg"])
    assert done.exit_code == 0, done.output
    assert re.search(r"tasks +300 rows; 300 inserted, 0 deleted\n", done.stdout)
    assert f"published  namespace task_archive of {lake.folder}" in done.stdout
    assert "ok   Iceberg: the catalog answers" in CliRunner().invoke(main, ["doctor"]).stdout
    carried = dg.materialize(published_assets.targets(), resources={"archive": Archive()})
    (materialized,) = carried.asset_materializations_for_node("published__iceberg")
    assert materialized.metadata["dagster/row_count"].value == 300
    lake.assert_same()

    monkeypatch.setenv("TASK_ARCHIVE_ICEBERG_CATALOG", "nowhere")
    refused = CliRunner().invoke(main, ["publish", "iceberg"])
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (1, 1), refused.output
    assert "the lake refused: " in refused.stderr
    monkeypatch.delenv("TASK_ARCHIVE_ICEBERG_CATALOG")
    monkeypatch.setitem(sys.modules, "pyiceberg.catalog", None)
    missing = CliRunner().invoke(main, ["publish", "iceberg"])
    assert (missing.exit_code, "pip install 'livepeer-task-archive[iceberg]'" in missing.stderr) == (2, True)


@pytest.mark.parametrize("wrong", ["lake", "s3://key:secret@bucket", "s3://bucket?x=1"])
def test_a_lake_is_a_full_path_or_a_url_without_keys(
    wrong: str, clean_environment: None, archive_settings: Callable[..., Settings], lake: Lake
) -> None:
    with pytest.raises(Exception, match="ICEBERG_WAREHOUSE"):
        archive_settings(lake.simulator, iceberg_warehouse=wrong)


def test_a_lake_that_cannot_be_written_is_one_line(lake: Lake) -> None:
    lake.folder.write_text("a file where the folder should be")
    with pytest.raises(IcebergError, match="the lake refused: ") as refused:
        lake.carry()
    assert "\n" not in str(refused.value)
