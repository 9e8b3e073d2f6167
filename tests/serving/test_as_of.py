"""Asking as of an earlier time: Tuesday's report is made again on Friday, number for number."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from pipelines.cli.main import main
from pipelines.serving.published import published, published_as_of
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.models import published_models
from pipelines.warehouse.publish import publish

Lived = tuple[Any, list[tuple[datetime, dict[str, list[str]]]]]
REFUSED = {"files", "hashes", "profiles", "tracks", "superseded_tasks"}
MADE_OF_REFUSED = {"ladder": "profiles", "sources": "tracks", "task_rungs": "profiles", "task_sources": "tracks"}
ANSWERED = ["tasks", "loads", "quarantine", "thresholds"] + [
    model.name
    for model in published_models()
    if model.layer in ("history", "marts") and model.name not in REFUSED | MADE_OF_REFUSED.keys()
]


def rows_of(connection: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    """A table's rows as texts, in an order of their own."""
    return sorted(map(repr, connection.execute(f"from {table}").fetchall()))


def published_rows(settings: Settings) -> tuple[datetime, dict[str, list[str]]]:
    """Publishes what has landed; returns every table's rows, and a moment at which that version was the newest."""
    failed = [each for table in build.build_version(settings) for each in table.outcomes if not each.passed]
    assert [each for each in failed if each.check.severity == "error"] == []
    publish(settings)
    with published(settings) as connection:
        rows = {model.name: rows_of(connection, model.name) for model in published_models()}
    return datetime.now(UTC), rows


@pytest.fixture
def lived(clean_environment: None, simulate: Callable[..., Simulator], archive: Callable[..., Any]) -> Lived:
    """An archive of some simulated days, and what was published after each."""
    simulator = simulate(tasks=400, days=45, seed=6, speed=0)
    kept = archive(simulator, page_size=200)
    kept.sync()
    versions = [published_rows(kept.settings)]
    deleted = ""
    for day in range(2):
        for _ in range(3):
            simulator.advance(40)
            kept.sync()
        failed = sorted(task_id for task_id, task in simulator.tasks().items() if task["status"]["phase"] == "failed")
        simulator.retry(failed[day])
        kept.sync()
        first, *_, last = sorted(simulator.ids())
        simulator.remove(last)
        if day == 1:
            simulator.delete(first)
            deleted = first
        if day == 2:
            simulator.undelete(deleted)
        for _ in range(15):  # a rush: an anomaly of its hour
            simulator.insert()
        simulator.advance(86_400)
        kept.sync("sweep" if day else "changes")
        versions.append(published_rows(kept.settings))
    return kept, versions


@pytest.mark.slow
def test_every_table_stands_as_it_was_published(
    lived: Lived,
) -> None:
    kept, versions = lived
    for moment, then in versions:
        with published_as_of(kept.settings, moment) as connection:
            for table in ANSWERED:
                assert rows_of(connection, table) == then[table], (moment, table)
            for table in [*REFUSED, *MADE_OF_REFUSED]:
                why = f"{MADE_OF_REFUSED.get(table, table)} cannot be asked as of an earlier time"
                with pytest.raises(duckdb.Error, match=why):
                    connection.execute(f"select count(*) from {table}")
    first, last = versions[0][1], versions[-1][1]
    same = [table for table in ANSWERED if first[table] == last[table]]
    assert same == ["quarantine", "thresholds", "dim_type"]  # the others had something to undo


def test_the_command_answers_as_of_a_moment_and_says_what_it_cannot(
    simulate: Callable[..., Simulator],
    archive: Callable[..., Any],
    clean_environment: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulator = simulate(tasks=40, speed=0)
    kept = archive(simulator)
    kept.sync()
    moment, _ = published_rows(kept.settings)
    simulator.insert()
    kept.sync()
    published_rows(kept.settings)
    monkeypatch.setenv("TASK_ARCHIVE_HOME", str(kept.settings.home))

    def asked(as_of: str, sql: str = "select count(*) as n from tasks") -> tuple[int, str]:
        done = CliRunner().invoke(main, ["query", "--format", "csv", "--as-of", as_of, sql])
        return done.exit_code, done.output

    assert asked(moment.isoformat()) == (0, "n\n40\n")
    assert asked(moment.replace(tzinfo=None).isoformat(timespec="milliseconds")) == (0, "n\n40\n")  # UTC
    east = moment.astimezone(timezone(timedelta(hours=5)))
    assert asked(east.isoformat()) == (0, "n\n40\n")
    assert asked(datetime.now(UTC).isoformat()) == (0, "n\n41\n")
    status, says = asked(moment.isoformat(), "failure_rate_by_type")
    assert (status, says.splitlines()[0]) == (
        0,
        "type,failed_tasks,ended_tasks,failed_percent,platform_fault_percent,open_tasks",
    )
    for as_of, sql, status, words in (
        ("Tuesday", "from tasks", 2, "'Tuesday' is not a day such as 2026-11-20"),
        ("2020-01-01", "from tasks", 2, "the first load was complete at"),
        ((moment + timedelta(days=3000)).isoformat(), "from tasks", 2, "it is to come"),
        (moment.isoformat(), "from tracks", 1, "tracks cannot be asked as of an earlier time"),
    ):
        found, says = asked(as_of, sql)
        assert (found, words in says, says.count("\n")) == (status, True, 1), says
