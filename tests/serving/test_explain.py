"""A number is the same wherever it is shown, and the rows behind it are those that it was made from."""

import json
from collections.abc import Iterator
from datetime import date

import duckdb
import pytest
from click.testing import CliRunner

from pipelines.cli.main import main
from pipelines.errors import SettingsError
from pipelines.serving.explain import explain, glossary, metrics_named
from pipelines.serving.published import published
from pipelines.settings import Settings
from pipelines.warehouse.models import published_models

DAY = date(2026, 11, 12)


@pytest.fixture
def settings(published_archive: Settings) -> Settings:
    return published_archive


@pytest.fixture(scope="module")
def connection(published_archive: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    with published(published_archive) as connection:
        yield connection


# Numbers of tasks by day and type, each of its own day alone.
DAILY = [
    f"{model.name}.{metric.metric}"
    for model in published_models()
    for metric in model.metrics
    if set(model.key) == {"account", "day", "type"}
    and not metric.non_additive_dimension
    and not metric.metric.startswith("window_")
    and metric.metric != "error_budget_left"
]


@pytest.mark.parametrize("name", DAILY)
def test_a_number_is_that_of_its_table(name: str, settings: Settings, connection: duckdb.DuckDBPyConnection) -> None:
    table, metric = name.split(".")
    (definition,) = metrics_named(name)
    rows = connection.execute(
        f"select day, type, {metric}, {definition.n} from {table} order by {definition.n} desc limit 3"
    ).fetchall()
    assert rows
    for day, task_type, shown, n in rows:
        found = explain(settings, name, day, task_type)
        (value,) = found.values
        assert (value.value, value.n) == (None if shown is None else pytest.approx(float(shown)), n)


@pytest.mark.parametrize("name", DAILY)
def test_the_rows_behind_a_number_are_as_many_as_it_says(
    name: str, settings: Settings, connection: duckdb.DuckDBPyConnection
) -> None:
    for asked in ({}, {"day": DAY}, {"task_type": "upload"}, {"day": DAY, "task_type": "upload"}):
        found = explain(settings, name, **asked)
        rows = connection.execute(f"select count(*) from ({found.rows_sql})").fetchall()[0][0]
        assert rows == sum(value.n for value in found.values)


def test_what_is_left_out_and_what_counts_are_all(settings: Settings, connection: duckdb.DuckDBPyConnection) -> None:
    found = explain(settings, "failure_rate", DAY)
    from_utc = f"timestamptz '{DAY} 00:00:00 {settings.time_zone}'"
    whole, failed, ended = connection.execute(
        "select count(*), count(*) filter (where phase = 'failed'), "
        "count(*) filter (where phase in ('failed', 'completed')) "
        f"from tasks where created_at >= {from_utc} and created_at < {from_utc} + interval 24 hour"
    ).fetchall()[0]
    assert found.values[0].n + sum(found.left_out.values()) == whole
    assert (found.values[0].value, found.values[0].n) == (pytest.approx(failed / ended), ended)
    assert found.time_zone == settings.time_zone


def test_a_number_of_few_rows_is_not_shown(settings: Settings) -> None:
    found = explain(settings, "p99_server_time_seconds", DAY, "clip")
    assert 0 < found.values[0].n < 100
    assert found.values[0].value is None
    assert "below 100" in "\n".join(found.lines())


def test_a_day_without_rows_has_no_number(settings: Settings) -> None:
    found = explain(settings, "failure_rate", date(2019, 1, 1))
    assert (found.values, found.left_out, found.is_mature) == ([], {}, None)
    assert "number     none" in "\n".join(found.lines())


def test_a_level_is_shown_by_the_hour(settings: Settings, connection: duckdb.DuckDBPyConnection) -> None:
    found = explain(settings, "open_tasks", None, "upload")
    shown = [value.value for value in found.values]
    expected = connection.execute(
        "select open_tasks from hourly_backlog where type = 'upload' order by hour_at desc limit 24"
    ).fetchall()
    assert shown == [value for (value,) in expected]


def test_every_metric_can_be_explained(settings: Settings, connection: duckdb.DuckDBPyConnection) -> None:
    for name in glossary():
        found = explain(settings, name)
        connection.execute(f"from ({found.rows_sql}) limit 1")
        rows = connection.execute(f"select count(*) from {found.metric.table_name}").fetchall()[0][0]
        assert bool(found.values) == bool(rows)


def test_a_metric_that_is_none_is_refused(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="no metric is named 'happiness': `task-archive explain` lists them all"):
        explain(settings, "happiness")
    with pytest.raises(SettingsError, match="failure_signatures does not tell by day"):
        explain(settings, "failure_signatures.failed_tasks", DAY)


def test_the_command(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASK_ARCHIVE_HOME", str(settings.home))
    arguments = ["explain", "failure_rate", "--day", str(DAY), "--type", "upload"]
    said = CliRunner().invoke(main, arguments)
    assert said.exit_code == 0, said.output
    assert "failed tasks / (failed + completed tasks)" in said.output
    assert "select *\nfrom fact_tasks" in said.output
    found = json.loads(CliRunner().invoke(main, [*arguments, "--json"]).output)
    assert f"n = {found['values'][0]['n']:,} ended_tasks" in said.output
    listed = CliRunner().invoke(main, ["explain"]).output.splitlines()
    assert len(listed) == len(glossary())
