"""Spark makes the tables that DuckDB makes, on a cluster of two workers: every table, every column, every row."""

import importlib.util
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from pipelines.errors import SettingsError, WarehouseError
from pipelines.home import Home
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.models import published_models
from pipelines.warehouse.working import Working, made_with
from tests.conftest import change_tasks, needs
from tests.warehouse.changed_sql import changed_sql
from tests.warehouse.schedules import Schedule, land, schedules

CLUSTER_SECONDS = 60


class Node(NamedTuple):
    """A process of the cluster and where it can be reached."""

    process: subprocess.Popen[bytes]
    url: str


def started(kind: str, *arguments: str, log: Path) -> Node:
    """A master or worker on loopback, once its log says where it is."""
    import pyspark

    home = Path(pyspark.__file__).parent
    command = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{kind.lower()}.{kind}"]
    environment = {
        **os.environ,
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_NO_DAEMONIZE": "1",
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join(
            filter(None, (str(Path(build.__file__).parents[2]), os.environ.get("PYTHONPATH")))
        ),
    }
    options = ["--host", "127.0.0.1", "--port", "0", "--webui-port", "0"]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, *options, *arguments], env=environment, stdout=output, stderr=output)
    until = time.monotonic() + CLUSTER_SECONDS
    while time.monotonic() < until and process.poll() is None:
        for line in log.read_text("utf-8").splitlines():
            if f"Starting Spark {kind.lower()} at " in line and kind == "Master":
                return Node(process, line.split()[-1])
            if "Successfully registered with master" in line:
                return Node(process, "")
        time.sleep(0.2)
    process.kill()
    raise AssertionError(f"{kind} did not come up: {log.read_text('utf-8')[-2_000:]}")


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a cluster of two workers with a core each."""
    needs("pyspark", importlib.util.find_spec("pyspark") and "pyspark")
    folder = tmp_path_factory.mktemp("spark")
    nodes = [started("Master", log=folder / "master.log")]
    try:
        for number in range(2):
            about = ["--cores", "1", "--memory", "1g", "--work-dir", str(folder / f"work-{number}"), nodes[0].url]
            nodes.append(started("Worker", *about, log=folder / f"worker-{number}.log"))
        yield nodes[0].url
    finally:
        for node in reversed(nodes):
            node.process.terminate()
            node.process.wait()


def made(archive: Settings, folder: Path, master: str | None) -> tuple[Settings, list[str]]:
    """The tables of what landed in an archive, made by DuckDB or by Spark in a home of their own, and the checks that
    found something."""
    home = Home(folder)
    home.make()
    home.landing.symlink_to(archive.home.landing)
    other = {"home": home} | ({"engine": "spark", "spark_master": master} if master else {})
    elsewhere = archive.model_copy(update=other)
    outcomes = [each for built in build.build_version(elsewhere) for each in built.outcomes]
    return elsewhere, [f"{each.check.name}: {each.failing_rows}" for each in outcomes if not each.passed]


def differences(ours: Settings, theirs: Settings) -> list[str]:
    """In what the tables of two working files differ. Quantiles lie between two values: Spark computes that place in
    another order than DuckDB, so that fractions may differ from the 13th digit on."""
    found = []
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        for name, archive in (("ours", ours), ("theirs", theirs)):
            connection.execute(f"attach '{Working(archive).file}' as {name} (read_only)")
        for model in published_models():
            described = [
                connection.execute(f"describe {name}.main.{model.name}").fetchall() for name in ("ours", "theirs")
            ]
            if described[0] != described[1]:
                found.append(f"{model.name}: other columns")
            rows = [
                connection.execute(f"from {name}.main.{model.name} order by all").fetchall()
                for name in ("ours", "theirs")
            ]
            if len(rows[0]) != len(rows[1]):
                found.append(f"{model.name}: {len(rows[0])} rows and {len(rows[1])}")
            for one, other in zip(*rows, strict=False):
                if not is_same(one, other):
                    found.append(f"{model.name}: {one} and {other}")
                    break
    return found


def is_same(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> bool:
    return all(
        math.isclose(one, other, rel_tol=1e-12) if isinstance(one, float) and isinstance(other, float) else one == other
        for one, other in zip(ours, theirs, strict=True)
    )


def held_against_each_other(archive: Settings, folder: Path, master: str) -> Settings:
    """Both engines make the tables of an archive; returns what Spark made."""
    by_duckdb, found = made(archive, folder / "duckdb", None)
    by_spark, found_by_spark = made(archive, folder / "spark", master)
    assert differences(by_duckdb, by_spark) == []
    assert found == found_by_spark
    return by_spark


@pytest.mark.slow
def test_an_archive_and_the_night_that_follows(
    archive: Callable[..., Any], simulate: Callable[..., Simulator], tmp_path: Path, master: str
) -> None:
    """Several weeks with an incident, tasks observed while under way and a time zone far from UTC; DuckDB goes on from
    what Spark made."""
    simulator = simulate(tasks=2_000, days=40, seed=4)
    kept = archive(simulator, time_zone="America/Los_Angeles", memory_mb=100)  # partitions of 8,400 observations
    for _ in range(3):
        kept.sync()
        simulator.advance(7_200)
    by_spark = held_against_each_other(kept.settings, tmp_path, master)
    change_tasks(simulator)
    kept.sync()
    said: list[str] = []
    list(build.build_version(by_spark, said.append))
    assert said == []
    anew, _ = made(kept.settings, tmp_path / "anew", None)
    assert differences(by_spark, anew) == []


@pytest.mark.slow
def test_payloads_that_do_not_fit(
    archive: Callable[..., Any], simulate: Callable[..., Simulator], tmp_path: Path, master: str
) -> None:
    """What goes to quarantine and drift, rows without an id, and checks that warn."""
    simulator = simulate(tasks=300, speed=0)
    task_ids = sorted(simulator.ids())
    simulator.put_raw(task_ids[0], b'{"id":"%s","type":"upload","createdAt":"now"}' % task_ids[0].encode())
    simulator.put_raw(task_ids[1], b'{"id":"%s","type":"upload","status":7,"new":{"field":1}}' % task_ids[1].encode())
    simulator.put_raw(task_ids[2], b'{"type":"upload"}')
    simulator.put_raw(task_ids[3], b"5")
    kept = archive(simulator)
    kept.sync()
    by_spark = held_against_each_other(kept.settings, tmp_path, master)
    with duckdb.connect(Working(by_spark).file, read_only=True) as connection:
        assert connection.execute("select count(*) from quarantine where task_id is null").fetchall() == [(2,)]
        assert connection.execute("select count(*) from drift").fetchall()[0][0] >= 3


@pytest.mark.slow
def test_an_archive_without_tasks(tmp_path: Path, master: str) -> None:
    empty = Settings(home=Home(tmp_path / "empty"))
    empty.home.landing.mkdir(parents=True)
    held_against_each_other(empty, tmp_path, master)


@pytest.mark.slow
def test_any_history(tmp_path_factory: pytest.TempPathFactory, master: str) -> None:
    @settings(max_examples=4, suppress_health_check=list(HealthCheck), phases=[Phase.reuse, Phase.generate])
    @given(schedule=schedules(accounts=("default", "default", "other")))
    def compare(schedule: Schedule) -> None:
        home = tmp_path_factory.mktemp("random")
        land(schedule, home / "archive")
        held_against_each_other(Settings(home=Home(home / "archive")), home, master)

    compare()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "place", "text", "says"),
    [
        (
            "marts/task_sources.sql",
            "where f.is_completed",
            "inner join (select [1] as one) as k on true\n",
            "sql/marts/task_sources.sql failed in Spark: ",
        ),
        ("core/tasks.sql", "select", "-- a comment\n", "a worker has other code or SQL of task-archive"),
    ],
)
def test_what_fails_is_told_in_one_line(
    file: str,
    place: str,
    text: str,
    says: str,
    archive: Callable[..., Any],
    simulate: Callable[..., Simulator],
    tmp_path: Path,
    master: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = archive(simulate(tasks=20))
    kept.sync()
    if file.startswith("marts/"):  # the workers' files are those of the checkout
        monkeypatch.setattr("pipelines.warehouse.spark.code_of_workers", lambda: working_code)
    working_code = made_with("")
    with changed_sql(tmp_path / "sql", file, place, text), pytest.raises(WarehouseError) as raised:
        made(kept.settings, tmp_path / "spark", master)
    assert says in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.slow
def test_no_cluster_is_told_in_one_line(tmp_path: Path, master: str) -> None:
    with pytest.raises(SettingsError, match=r"no Spark session at spark://127\.0\.0\.1:1: ") as raised:
        made(Settings(home=Home(tmp_path / "empty")), tmp_path / "spark", "spark://127.0.0.1:1")
    assert len(str(raised.value).splitlines()) == 1


def test_without_pyspark_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    monkeypatch.setitem(sys.modules, "pyspark.errors", None)
    with pytest.raises(SettingsError, match=r"pip install 'livepeer-task-archive\[spark\]'"):
        list(build.build_version(Settings(home=Home(tmp_path), engine="spark")))
