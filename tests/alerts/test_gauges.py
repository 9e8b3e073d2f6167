"""Gauges in Prometheus' text format: the numbers of the version, and text of the API that breaks no line."""

import re
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from pipelines.alerts.gauges import _gauge, gauges
from pipelines.cli.main import main
from pipelines.settings import Settings
from pipelines.warehouse.sql import names_in

SAMPLE = re.compile(r'task_archive_\w+(\{(\w+="(?:[^"\\\n]|\\[\\n"])*",?)*\})? -?[\d.e+-]+')


def test_every_gauge_is_there_in_the_format(published_archive: Settings) -> None:
    lines = list(gauges(published_archive))
    samples = [line for line in lines if not line.startswith("#")]
    assert [line for line in samples if not SAMPLE.fullmatch(line)] == []
    told = {line.split()[2].removeprefix("task_archive_") for line in lines if line.startswith("# TYPE")}
    assert told == {*names_in("gauges"), "active_alerts"}
    assert lines.count("# TYPE task_archive_tasks gauge") == 1


def test_numbers_are_those_of_the_version(published_archive: Settings) -> None:
    samples = dict(line.rsplit(" ", 1) for line in gauges(published_archive) if not line.startswith("#"))
    with duckdb.connect(published_archive.home.published / "task_archive.duckdb", read_only=True) as connection:
        found = "select count(*) from tasks where type = 'upload' and phase = 'completed' and deleted_at is null"
        (tasks,) = connection.execute(found).fetchall()[0]
        (proven,) = connection.execute("select epoch(proven_until_at) from freshness").fetchall()[0]
    assert float(samples['task_archive_tasks{account="default",type="upload",phase="completed"}']) == tasks > 100
    assert float(samples['task_archive_proven_until_timestamp_seconds{account="default"}']) == proven
    assert samples['task_archive_last_load_is_whole{account="default"}'] == "1"
    assert samples['task_archive_active_alerts{condition="freshness_late",severity="alarm"}'] == "1"


def test_text_of_the_api_breaks_no_line() -> None:
    lines = list(_gauge("tasks", "one\ntwo", [{"type": 'a"b\\c\nd', "phase": None, "value": 3}]))
    assert lines[0] == "# HELP task_archive_tasks one\\ntwo"
    assert lines[2] == 'task_archive_tasks{type="a\\"b\\\\c\\nd",phase=""} 3'
    assert SAMPLE.fullmatch(lines[2])


def test_the_command_writes_a_file_whole(
    published_archive: Settings, clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASK_ARCHIVE_HOME", str(published_archive.home))
    file = tmp_path / "task_archive.prom"
    done = CliRunner().invoke(main, ["prometheus", "--output", str(file)])
    assert (done.exit_code, done.output) == (0, "")
    printed = CliRunner().invoke(main, ["prometheus"])
    assert file.read_text() == printed.stdout
    monkeypatch.setenv("TASK_ARCHIVE_HOME", str(tmp_path / "nothing"))
    refused = CliRunner().invoke(main, ["prometheus"])
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (1, 1)
