"""The warehouse is a function of what was landed: however it lies in files, and whenever it is built."""

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlglot
from click.testing import CliRunner, Result
from pydantic import SecretStr
from sqlglot import exp

from pipelines.audit.replay import Digest, compare_with_rebuilt, digest
from pipelines.cli.main import main
from pipelines.landing.lanes import Extraction
from pipelines.landing.manifest import Part
from pipelines.landing.zone import write_manifest
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from pipelines.warehouse import build, working
from pipelines.warehouse.database import connect
from pipelines.warehouse.models import load_models, published_models
from pipelines.warehouse.publish import publish
from pipelines.warehouse.working import Working
from tests.landed import LandedFiles
from tests.warehouse.changed_sql import changed_sql

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive, published, with a history: sweeps, changes, deletions, values that do not fit, equal times."""
    with Simulator(tasks=500, days=60, seed=6, now=1_795_000_000_000, speed=0).serve() as simulator:
        folder = tmp_path_factory.mktemp("landed") / "archive"
        keys = {"default": SecretStr(simulator.api_key), "other": SecretStr(simulator.api_keys["other-user"])}
        settings = Settings(home=folder, api_url=simulator.url, api_keys=keys, page_size=20)

        def sync(lane: Any) -> None:
            for account in keys:
                Extraction(settings, account, "run").sync(lane)

        sync("auto")
        ids = sorted(simulator.ids())
        for number, lane in enumerate(("changes", "sweep", "changes")):
            simulator.advance(3 * 3600)
            for task_id in ids[number * 30 : number * 30 + 40]:
                simulator.update(task_id, phase="failed", errorMessage="all at one moment")
            simulator.insert(scheduledAt="soon")
            simulator.delete(ids[-number - 1])
            if number < 2:
                sync(lane)
    list(build.build_version(settings))
    publish(settings)
    return folder


def built_digests(settings: Settings) -> dict[str, Digest]:
    """Of every table, built anew. Of `loads` without the size of its files, which is not of what was landed."""
    build.forget(settings)
    list(build.build_version(settings))
    with connect(Working(settings).file) as connection:
        connection.execute("alter table loads drop column landed_bytes")
        return {model.name: digest(connection, model.name) for model in published_models()}


def regrouped(landed: Path, target: Path, random: Random) -> None:
    """The same landed rows in parts of other sizes, the rows of a load in any order, its loads written in any order."""
    zone, fresh = LandedFiles(landed), LandedFiles(target)
    loads = zone.manifests()
    random.shuffle(loads)
    for load in loads:
        files = [path for path, _ in zone.parts([load])]
        folder = fresh.folder(load.account, load.load_id)
        folder.mkdir(parents=True)
        load.parts = []
        if files:
            rows = pa.concat_tables([pq.read_table(path) for path in files])
            order = list(range(rows.num_rows))
            random.shuffle(order)
            while order:
                taken = [order.pop() for _ in range(min(len(order), random.choice([1, 7, 60, 400])))]
                path = folder / f"part-{len(load.parts):05d}.parquet"
                pq.write_table(rows.take(taken), path, compression="zstd")
                load.parts = [
                    *load.parts,
                    Part(path.name, len(taken), path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()),
                ]
        write_manifest(folder, load)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "threads"), [(seed, 1 + seed % 8) for seed in range(1, 9)])
def test_digests_depend_on_what_was_landed_alone(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, threads: int
) -> None:
    settings = Settings(home=tmp_path / "as landed")
    shutil.copytree(home / "landing", settings.home.landing)
    expected = built_digests(settings)
    assert [name for name, found in expected.items() if not found.rows] == ["damaged_files"]

    @contextmanager
    def with_threads(*arguments: Any, **named: Any) -> Any:
        with connect(*arguments, **named) as connection:
            connection.execute(f"set threads = {threads}")
            yield connection

    monkeypatch.setattr(working, "connect", with_threads)
    other = Settings(home=tmp_path / "regrouped")
    regrouped(settings.home.landing, other.home.landing, Random(seed))
    found = built_digests(other)
    assert {name: found[name] for name in found if found[name] != expected[name]} == {}


def test_no_table_reads_the_clock_or_draws_lots() -> None:
    """So that another day makes the same."""
    clocks = (exp.CurrentTimestamp, exp.CurrentDate, exp.CurrentTime, exp.CurrentDatetime, exp.Rand, exp.Uuid)
    names = {"now", "today", "random", "uuid", "gen_random_uuid", "get_current_timestamp", "transaction_timestamp"}
    for model in load_models().values():
        tree = sqlglot.parse_one(model.compiled_sql, read="duckdb")
        assert [found.sql() for found in tree.find_all(*clocks)] == [], model.name
        assert {found.name.lower() for found in tree.find_all(exp.Anonymous)} & names == set(), model.name


def test_a_digest_tells_one_changed_value() -> None:
    def of(rows: str) -> Digest:
        connection.execute(f"create or replace table t as select * from (values {rows}) as v(a, b, c)")
        return digest(connection, "t")

    with connect() as connection:
        one = of("(1, 'x', 0.1::double), (2, null, null), (2, null, null)")
        assert one == of("(2, null, null), (1, 'x', 0.1::double), (2, null, null)")
        for other in (
            "(1, 'x', 0.1::double), (2, null, null)",
            "(1, 'x', 0.1::double), (2, null, null), (3, null, null)",
            "(1, 'x', nextafter(0.1::double, 1::double)), (2, null, null), (2, null, null)",
            "(1, 'null', 0.1::double), (2, null, null), (2, null, null)",
        ):
            assert one != of(other), other
        assert of("(1, 'a', 'b')") != of("(1, 'b', 'a')")


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def settings(home: Path, tmp_path: Path, clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A copy of the archive, published. There is no server, and no key."""
    mine = Settings(home=tmp_path / "archive", lock_wait_seconds=1)
    shutil.copytree(home, mine.home.path, symlinks=True)
    monkeypatch.setenv("TASK_ARCHIVE_HOME", str(mine.home))
    monkeypatch.setenv("TASK_ARCHIVE_LOCK_WAIT_SECONDS", "1")
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
    return mine


@pytest.fixture
def run() -> Run:
    return partial(CliRunner().invoke, main, catch_exceptions=False)


def published(settings: Settings) -> dict[str, Digest]:
    with connect(settings.home.published / "task_archive.duckdb", read_only=True) as connection:
        return {model.name: digest(connection, model.name) for model in published_models()}


def every_file(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_rebuild_publishes_the_same_and_fills_a_new_column_for_all_history(
    settings: Settings, run: Run, tmp_path: Path
) -> None:
    before, version = published(settings), (settings.home.published / "current").readlink()
    with duckdb.connect(Working(settings).file) as connection:
        connection.execute("update tasks set phase = 'spoilt'")  # what is derived is not trusted
    (LandedFiles(settings.home.landing).damaged / "default" / "20200101T000000000Z-sweep").mkdir(parents=True)
    new = "    task.status.phase || ' ' || task.id as phase_and_id, -- made for the test\n"
    with changed_sql(tmp_path / "sql", "core/tasks.sql", "    payload_sha256 ", new):
        result = run(["rebuild"])
    assert result.exit_code == 0, result.output
    assert (settings.home.published / "current").readlink() != version
    assert "damaged    landed file default/20200101T000000000Z-sweep/manifest.json" in result.stdout
    counted = "select count(*), count(*) filter (phase_and_id = phase || ' ' || task_id) from "
    for table in ("tasks", "superseded_tasks"):
        ((total, filled),) = with_published(settings, counted + table)
        assert total == filled == before[table].rows > 0
    told = run(["rebuild", "--verify"])
    assert told.exit_code == 3
    assert "columns only published: phase_and_id" in told.stdout
    for table in ("tasks", "superseded_tasks"):
        with_published(settings, f"alter table {table} drop column phase_and_id")
    with_published(settings, "delete from damaged_files")
    assert published(settings) == before


def test_verify_is_equal_and_leaves_everything_as_it_is(settings: Settings, run: Run) -> None:
    before = every_file(settings.home.path)
    result = run(["rebuild", "--verify", "--json"])
    assert result.exit_code == 0, result.output
    after = every_file(settings.home.path)
    assert {name for name in after.keys() ^ before.keys() if not name.endswith(".lock")} == set()
    assert all(after[name] == body for name, body in before.items())
    tables = json.loads(result.stdout)["tables"]
    assert {table["table"]: Digest(**table["published"]) for table in tables} == published(settings)


def test_verify_tells_the_rows_and_columns_that_differ(settings: Settings, run: Run) -> None:
    (gone,), (one,), (other,) = with_published(settings, "select task_id from tasks order by all limit 3")
    with_published(settings, f"delete from tasks where task_id = '{gone}'")
    with_published(settings, f"update tasks set step = 'another' where task_id in ('{one}', '{other}')")
    with_published(settings, "insert into tasks by name select 'made up' as task_id, 'x' as account")
    with_published(settings, "drop table hashes")
    result = run(["rebuild", "--verify"])
    assert result.exit_code == 3
    lines = result.stdout.splitlines()
    assert sum(line.startswith("equal  ") for line in lines) == len(published_models()) - 2
    at = next(number for number, line in enumerate(lines) if line.startswith("differs    tasks"))
    assert lines[at].endswith("1 only published, 1 only rebuilt")
    assert lines[at + 1].startswith(f"  step: 2 rows, such as task_id {one}: published another, rebuilt ")
    assert any(line.startswith("differs    hashes: not in the published version") for line in lines)
    assert [line for line in lines if line.startswith("differs")] == [line for line in lines if "differs" in line]
    assert len([line for line in lines if line.startswith("differs")]) == 2


def with_published(settings: Settings, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str((settings.home.published / "task_archive.duckdb").resolve())) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.slow
def test_the_tables_do_without_a_damaged_file_and_tell_of_it(settings: Settings, run: Run) -> None:
    whole = published(settings)
    zone = LandedFiles(settings.home.landing)
    path, part = next(iter(zone.parts(zone.manifests())))
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    without = {table.table: table for table in compare_with_rebuilt(settings, print)}
    assert 0 < without["tasks"].rows_only_published <= part.rows
    assert without["damaged_files"].rebuilt.rows == 1
    assert f"landed file default/{path.parent.name}/{path.name} was damaged" in run(["status"]).stdout
    path.write_bytes(good)
    assert {table.table: table.rebuilt for table in compare_with_rebuilt(settings, print)} == whole


def test_verify_before_anything_is_published(settings: Settings, run: Run) -> None:
    shutil.rmtree(settings.home.published)
    result = run(["rebuild", "--verify"])
    assert result.exit_code == 1
    assert "nothing is published" in result.stderr
