"""Everything about one task, from the published tables."""

import json
from collections.abc import Callable, Iterator

import duckdb
import pytest
from click.testing import CliRunner, Result

from pipelines.cli.main import main
from pipelines.serving.published import published
from pipelines.settings import Settings


@pytest.fixture(scope="module")
def connection(published_archive: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    with published(published_archive) as connection:
        yield connection


@pytest.fixture
def run(published_archive: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("TASK_ARCHIVE_HOME", str(published_archive.home))
    return lambda *arguments: CliRunner().invoke(main, ["task", *arguments])


def one(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    return str(connection.execute(sql).fetchall()[0][0])


def test_a_task_seen_before_it_ended(run: Callable[..., Result], connection: duckdb.DuckDBPyConnection) -> None:
    task_id = one(
        connection, "select task_id from task_history group by task_id having count(*) > 1 order by 1 limit 1"
    )
    states = connection.execute(
        "select phase, load_id from task_history where task_id = ? order by position", [task_id]
    ).fetchall()
    shown = run(task_id)
    assert shown.exit_code == 0, shown.output
    told = json.loads(run(task_id, "--json").output)
    timeline = [row["event"] for row in told["Timeline, as far as it was observed (UTC)"]]
    assert timeline[0] == "created"
    assert [event for event in timeline if event not in ("created", "scheduled")] == [phase for phase, _ in states]
    assert [row["load_id"] for row in told["Loads that brought its states"]] == sorted({load for _, load in states})
    for heading in told:
        assert (heading in shown.output) == bool(told[heading]), heading


def test_what_a_failed_upload_tells(run: Callable[..., Result], connection: duckdb.DuckDBPyConnection) -> None:
    task_id = one(connection, "select task_id from fact_tasks where is_failed and type = 'upload' order by 1 limit 1")
    told = json.loads(run(task_id, "--json").output)
    (why,) = told["Why it failed"]
    assert why["signature_id"] == one(connection, f"select signature_id from fact_tasks where task_id = '{task_id}'")
    assert {"name": "phase", "value": "failed"} in told["What it is"]
    profiles = connection.execute("select count(*) from profiles where task_id = ?", [task_id]).fetchall()[0][0]
    assert len(told["profiles"]) == profiles


def test_the_beginning_of_an_id_is_enough_where_it_is_the_only_one(
    run: Callable[..., Result], connection: duckdb.DuckDBPyConnection
) -> None:
    task_id = one(connection, "select min(task_id) from tasks")
    assert task_id in run(task_id[:20]).output
    several = run(task_id[:1])
    assert (several.exit_code, several.output.count("\n")) == (2, 1)
    assert "several tasks begin with" in several.output
    unknown = run("no-such-task'; drop table tasks")
    assert (unknown.exit_code, unknown.output.count("\n")) == (2, 1)
    assert "the archive has no task" in unknown.output
