"""The demo, as a newcomer runs it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines.cli.main import main


def test_the_demo_runs_again_and_leaves_other_folders_alone(
    clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "LIVEPEER_API_URL",
        "LIVEPEER_API_KEY",
        "TASK_ARCHIVE_HOME",
        "DAGSTER_HOME",
        "DAGSTER_DISABLE_TELEMETRY",
    ):
        monkeypatch.setenv(name, "")  # the demo sets them for its process: have them put back
    monkeypatch.setenv("TASK_ARCHIVE_ALERT_FILE", str(tmp_path / "alerts.jsonl"))
    home = tmp_path / "demo"
    (home / "published").mkdir(parents=True)  # as a demo before would have left it
    (home / ".task-archive-demo").touch()
    shown = CliRunner().invoke(
        main, ["demo", "--tasks", "800", "--days", "2", "--home", str(home)], catch_exceptions=False
    )
    assert shown.exit_code == 0, shown.output
    assert shown.output.count("proof      whole") >= 3
    assert "sweep      default: " in shown.output
    assert "changes    default: " in shown.output
    assert "observe    default: " in shown.output
    for heading in ("Rows by table", "How often do tasks fail?", "How long do they take?", "How much is processed?"):
        assert heading in shown.output
    assert (home / "published" / "task_archive.duckdb").exists()
    assert (home / "published" / "report.html").exists()
    assert f"Report   {home / 'published' / 'report.html'}" in shown.output
    assert f"TASK_ARCHIVE_HOME={home}" in shown.output
    assert not (tmp_path / "alerts.jsonl").exists()  # nobody is to hear of what a simulator made up

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("not a demo's")
    refused = CliRunner().invoke(main, ["demo", "--home", str(mine)])
    assert refused.exit_code == 2
    assert (mine / "notes.txt").exists()
