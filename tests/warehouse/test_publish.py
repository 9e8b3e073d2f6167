"""Publishing: whole versions, swapped at once, under the eyes of open readers."""

import hashlib
import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from pipelines.errors import WarehouseError
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from pipelines.warehouse import build, database, from_tables
from pipelines.warehouse.database import connect
from pipelines.warehouse.models import published_models
from pipelines.warehouse.parquet import MANIFEST
from pipelines.warehouse.publish import publish
from pipelines.warehouse.seal import altered


def make_version(settings: Settings) -> None:

    for _ in build.build_version(settings):
        pass


def count(connection: duckdb.DuckDBPyConnection) -> int:
    return int(connection.execute("select count(*) from tasks").fetchall()[0][0])


@pytest.fixture
def account(simulate: Callable[..., Simulator], archive: Callable[..., Any]) -> Any:
    synced = archive(simulate(tasks=300, speed=0))
    synced.sync()
    make_version(synced.settings)
    return synced


def test_a_reader_stays_on_its_version_while_the_next_is_published(account: Any) -> None:
    first = publish(account.settings)
    with duckdb.connect(str(first.database), read_only=True) as reader:
        assert count(reader) == 300
        account.simulator.insert()
        account.sync()
        make_version(account.settings)
        publish(account.settings)
        assert count(reader) == 300
        with duckdb.connect(str(first.database), read_only=True) as newcomer:
            assert count(newcomer) == 301
        assert count(reader) == 300
    with duckdb.connect(str(first.database), read_only=True) as again:
        assert count(again) == 301


def test_parquet_and_database_hold_the_same(account: Any) -> None:
    published = publish(account.settings)
    with duckdb.connect(str(published.database), read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        for model in published_models():
            files = f"from read_parquet('{published.parquet}/{model.name}/**/*.parquet', hive_partitioning=true)"
            for one, other in ((f"from {model.name}", files), (files, f"from {model.name}")):
                assert connection.execute(f"{one} except all {other}").fetchall() == [], model.name


def test_the_manifest_tells_what_the_parquet_files_hold(account: Any) -> None:
    published = publish(account.settings)
    manifest = json.loads((published.parquet / MANIFEST).read_bytes())
    assert manifest["version"] == published.version
    files = {each["path"] for table in manifest["tables"].values() for each in table["files"]}
    assert files == {str(path.relative_to(published.parquet)) for path in published.parquet.rglob("*.parquet")}
    assert set(manifest["tables"]) == {model.name for model in published_models()}
    for name, table in manifest["tables"].items():
        rows = 0
        for file in table["files"]:
            content = (published.parquet / file["path"]).read_bytes()
            assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
            assert file["since_version"] == published.version
            parquet = pq.ParquetFile(published.parquet / file["path"])
            rows += parquet.metadata.num_rows
            assert [(column["name"], column["description"]) for column in table["columns"]] == [
                (field.name, field.metadata[b"description"].decode()) for field in parquet.schema_arrow
            ]
        assert table["rows"] == rows == published.rows[name]
    facts = manifest["tables"]["fact_tasks"]
    assert facts["key"] == ["task_id"]
    assert {"columns": ["created_day"], "table": "dim_date", "there": ["day"]} in facts["refers"]
    assert {"name": "created_at", "type": "TIMESTAMP WITH TIME ZONE"}.items() <= facts["columns"][7].items()


def test_facts_are_in_order_and_groups_of_them_tell_their_range(account: Any) -> None:
    """So that a reader of some days skips the rest, in the file and in the database."""
    published = publish(account.settings)
    weeks = sorted((published.parquet / "fact_tasks").glob("*.parquet"))
    assert len(weeks) > 1
    for week in weeks:
        parquet = pq.ParquetFile(week)
        created = parquet.read(["created_at"]).column(0).to_pylist()
        assert created == sorted(created)
        assert (created[0].date() - date.fromisoformat(week.stem)).days >= 0
        assert (created[-1].date() - date.fromisoformat(week.stem)).days < 7
        place = parquet.schema_arrow.get_field_index("created_at")
        told = parquet.metadata.row_group(0).column(place)
        assert told.compression == "ZSTD"
        assert (told.statistics.min, told.statistics.max) == (created[0], created[-1])


def test_links_lead_to_one_complete_version_and_old_ones_go(account: Any) -> None:
    settings = account.settings.model_copy(update={"keep_versions": 2})
    versions = []
    for _ in range(4):
        make_version(settings)
        versions.append(publish(settings).version)
    root: Path = settings.home.published
    assert sorted(path.name for path in (root / "versions").iterdir()) == versions[-2:]
    assert (root / "task_archive.duckdb").resolve().parent.name == versions[-1]
    assert (root / "parquet").resolve().parent.name == versions[-1]
    about = json.loads((root / "current" / "version.json").read_text())
    assert about["version"] == versions[-1]
    assert about["rows"]["tasks"] == 300


def test_what_a_kill_left_half_done_is_cleared_and_was_never_seen(account: Any) -> None:
    publish(account.settings)
    versions = account.settings.home.published / "versions"
    half = versions / ".20990101T000000000000Z"
    half.mkdir()
    (half / "task_archive.duckdb").write_bytes(b"half")
    make_version(account.settings)
    published = publish(account.settings)
    assert not half.exists()
    with duckdb.connect(str(published.database), read_only=True) as connection:
        assert count(connection) == 300


def test_nothing_built_is_said(archive_settings: Any, simulate: Callable[..., Simulator]) -> None:
    with pytest.raises(WarehouseError, match="no version was built"):
        publish(archive_settings(simulate(tasks=20)))


def test_comments_reach_the_published_file(account: Any) -> None:
    published = publish(account.settings)
    with duckdb.connect(str(published.database), read_only=True) as connection:
        tables = dict(connection.execute("select table_name, comment from duckdb_tables()").fetchall())
        columns = connection.execute("select table_name, column_name, comment from duckdb_columns()").fetchall()
    assert set(tables) == {model.name for model in published_models()}
    assert all(tables.values())
    assert all(comment for table, _, comment in columns if table in tables)


def test_a_table_that_lacked_memory_for_its_comments_is_finished_alone(
    account: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session that failed in the midst of a transaction goes on with other tables."""
    asked = []

    def quoted(text: str) -> str:
        asked.append(text)
        too_much = "; select list(range) from range(100000000)" if len(asked) == 3 else ""
        return database.quoted(text) + too_much

    monkeypatch.setattr(from_tables, "quoted", quoted)
    list(build.build_version(account.settings))
    publish(account.settings)
    with connect(account.settings.home.published / "task_archive.duckdb", read_only=True) as connection:
        commented = connection.execute("select count(*) from duckdb_tables() where comment is not null").fetchall()
    assert commented == [(len(published_models()),)]


def test_older_duckdb_can_open_the_file(account: Any) -> None:
    """The storage version is that of DuckDB 1.4; a file of DuckDB 2's own version says 'v2'."""
    published = publish(account.settings)
    with connect(published.database, read_only=True) as connection:
        tags = connection.execute("select tags from duckdb_databases() where not internal").fetchall()
    assert "v1.4" in str(tags)


def test_published_files_are_read_only(account: Any) -> None:
    publish(account.settings)
    published = account.settings.home.published.resolve()
    files = [path for path in published.rglob("*") if path.is_file()]
    assert len(files) > 30
    assert {path.stat().st_mode & 0o777 for path in files} == {0o444}
    assert list(altered(account.settings.home)) == []


@pytest.mark.parametrize(
    "statement",
    ["delete from fact_tasks where task_id = (select min(task_id) from tasks)", "create table mine (id int)"],
)
def test_a_write_to_the_published_database_is_noticed_and_the_next_version_is_whole(
    account: Any, statement: str
) -> None:
    first = publish(account.settings)
    first.database.resolve().chmod(0o644)
    with duckdb.connect(str(first.database)) as careless:
        careless.execute("select count(*) from tasks")
    assert list(altered(account.settings.home)) == []  # to open it for writing and only read changes nothing
    with duckdb.connect(str(first.database)) as careless:
        careless.execute(statement)
    assert list(altered(account.settings.home)) == [(Path("task_archive.duckdb"), "was changed")]
    make_version(account.settings)
    publish(account.settings)
    assert list(altered(account.settings.home)) == []
    with duckdb.connect(str(first.database), read_only=True) as connection:
        counts = connection.execute("select (select count(*) from tasks), (select count(*) from fact_tasks)").fetchall()
        assert counts == [(300, 300)]
        assert connection.execute("from duckdb_tables() where table_name = 'mine'").fetchall() == []


def test_a_changed_parquet_file_is_noticed_and_written_again(account: Any) -> None:
    first = publish(account.settings)
    hashes, tasks = sorted((first.parquet / "hashes").iterdir())[0], sorted((first.parquet / "tasks").iterdir())[0]
    kept = {path: path.read_bytes() for path in (hashes, tasks)}
    hashes.chmod(0o644)
    hashes.write_bytes(kept[hashes][:-100])
    tasks.unlink()
    (first.parquet / "tasks" / "mine.parquet").write_bytes(kept[hashes])
    found = {str(path): what for path, what in altered(account.settings.home)}
    assert found == {
        f"parquet/hashes/{hashes.name}": "was changed",
        f"parquet/tasks/{tasks.name}": "is missing",
        "parquet/tasks/mine.parquet": "was added",
    }
    said: list[str] = []
    list(build.build_version(account.settings, said.append))
    assert [line for line in said if line.startswith("all Parquet is written anew: parquet/hashes/")] == said
    publish(account.settings)
    assert list(altered(account.settings.home)) == []
    assert {path: path.read_bytes() for path in kept} == kept
