"""The command as a user meets it: what it prints and how it ends."""

import csv
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result

from pipelines import __version__
from pipelines.cli.main import main
from pipelines.serving.published import named_queries
from pipelines.settings import LEAST_ADDRESS_SPACE_MB
from pipelines.simulator import Simulator
from pipelines.simulator import api as routes
from pipelines.simulator.errors import refused
from pipelines.simulator.wire import Response
from tests.conftest import set_variables, variables_of

Run = Callable[..., Result]


@pytest.fixture
def run(clean_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """run(arguments, variables): the command in this process with a home of its own."""
    base = {"TASK_ARCHIVE_HOME": str(tmp_path / "archive"), "TASK_ARCHIVE_RETRY_WAIT_SECONDS": "0.01"}
    base |= {"DAGSTER_HOME": "", "DAGSTER_DISABLE_TELEMETRY": ""}
    for name, value in base.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str, **variables: str) -> Result:
        return CliRunner().invoke(main, arguments, env=variables, catch_exceptions=False)

    return run


@pytest.fixture
def simulator(simulate: Callable[..., Simulator], monkeypatch: pytest.MonkeyPatch) -> Simulator:
    served = simulate(tasks=300, days=6, speed=0, now=None)
    monkeypatch.setenv("LIVEPEER_API_URL", served.url)
    monkeypatch.setenv("LIVEPEER_API_KEY", served.api_key)
    return served


def one_line(result: Result) -> str:
    """What a failed command says: one line, no traceback."""
    lines = [line for line in result.stderr.splitlines() if line.startswith("task-archive:")]
    assert len(lines) == 1, result.output
    assert "Traceback" not in result.output
    return lines[0]


def test_sync_then_ask(run: Run, simulator: Simulator, tmp_path: Path) -> None:
    result = run("sync")
    assert result.exit_code == 0, result.output
    assert "300 tasks read, 300 new" in result.output
    assert "proof      whole: server counts 300, 0 unreadable" in result.output

    asked = run("query", "select type, count(*) as tasks from tasks group by all order by all", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(asked.stdout)))
    assert sum(int(row["tasks"]) for row in rows) == 300

    as_json = run("query", "select task_id, created_at from tasks", "--format", "json")
    first = json.loads(as_json.stdout.splitlines()[0])
    assert first["created_at"].endswith("Z")

    file = tmp_path / "tasks.parquet"
    assert run("query", "from tasks", "--format", "parquet", "--output", str(file)).exit_code == 0
    assert duckdb.sql(f"select count(*) from '{file}'").fetchall() == [(300,)]

    simulator.insert()
    again = run("sync")
    assert again.exit_code == 0
    assert "changes    default: " in again.output
    assert "1 new" in again.output


@pytest.mark.parametrize("name", sorted(named_queries()))
def test_every_named_query_answers(published: Run, name: str) -> None:
    result = published("query", name)
    assert result.exit_code == 0, result.output
    assert len(named_queries()[name]) > 20


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """An archive that was published once, for what only reads."""
    home = tmp_path_factory.mktemp("read") / "archive"
    with Simulator(tasks=2000, days=10, seed=3, speed=0).serve() as simulator, pytest.MonkeyPatch.context() as patch:
        set_variables(patch, variables_of(simulator, home))

        def run(*arguments: str) -> Result:
            return CliRunner().invoke(main, arguments, catch_exceptions=False)

        assert run("sync").exit_code == 0
        yield run


def test_status_tells_freshness_loads_rows_and_disk(published: Run) -> None:
    text = published("status").stdout
    assert "default: 2,000 tasks" in text
    assert "whole, 2,000 tasks read" in text
    found = json.loads(published("status", "--json").stdout)
    assert found["accounts"][0]["last_load"]["verdict"] == "whole"
    assert found["rows"]["tasks"] == 2000
    assert found["bytes"]["landing"] > 10_000
    assert 0 <= found["accounts"][0]["unproven_seconds"] < 600
    assert 0 <= found["accounts"][0]["seconds_since_whole_sweep"] < 600
    assert re.search(r"whole sweep +\S+Z, \d+ (s|min) ago", text)


def test_queries_are_listed_and_a_wrong_name_is_said(published: Run) -> None:
    listed = published("query").stdout
    assert all(name in listed for name in named_queries())
    wrong = published("query", "no_such_query")
    assert (wrong.exit_code, "no query is named 'no_such_query'" in one_line(wrong)) == (2, True)
    bad = published("query", "select nonsense from tasks")
    assert bad.exit_code == 1
    assert "nonsense" in one_line(bad)
    assert "read-only" in one_line(published("query", "drop table tasks"))


@pytest.mark.parametrize("sql", ["", " ", ";", " ;; ", "/* nothing */", "\n-- nothing"])
def test_a_query_of_nothing_is_one_line(published: Run, sql: str) -> None:
    commands = [["query", sql, "--format", form] for form in ("table", "csv", "json", "parquet")]
    commands += [["export", "--query", sql, "--format", form, "--output", "file"] for form in ("csv", "xlsx", "arrow")]
    for command in commands:
        result = published(*command)
        assert (result.exit_code, "the query is empty" in one_line(result)) == (2, True)


def test_report_is_written_for_what_is_asked(published: Run, tmp_path: Path) -> None:
    file = tmp_path / "uploads.html"
    result = published("report", "--type", "upload", "--account", "default", "--output", str(file))
    assert (result.exit_code, result.output) == (0, f"report     {file}\n")
    assert "account default, tasks of type upload, created from" in file.read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--from", "2026-11-10", "--to", "2026-11-09"], 2, "--from must not be after --to"),
        (["--from", "soon"], 2, "Invalid value for '--from': 'soon'"),
        (["--type", "uplaod"], 2, "no type is named 'uplaod': did you mean upload?"),
        (["--account", "acme"], 2, "no account is named 'acme': known are default"),
        (["--output", "missing/report.html"], 1, "missing/report.html: No such file or directory"),
    ],
)
def test_a_report_that_cannot_be_made_is_one_line(
    published: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = published("report", *arguments)
    assert (result.exit_code, sum(says in line for line in result.stderr.splitlines())) == (status, 1), result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(main.commands))
def test_too_little_address_space_is_one_line(clean_environment: None, tmp_path: Path, command: str) -> None:
    arguments = {
        "alert": ["check"],
        "backfill": ["--from", "2026-11-17", "--to", "2026-11-17"],
        "export": ["--format", "csv", "--table", "tasks"],
        "publish": ["postgres"],
        "refresh": ["some-task"],
        "task": ["some-task"],
    }.get(command, [])
    limited = ["sh", "-c", 'ulimit -v 1000000; exec "$@"', "sh", sys.executable, "-m", "pipelines.cli"]
    done = subprocess.run(
        [*limited, command, *arguments], env=os.environ | {"LIVEPEER_API_KEY": "key"}, capture_output=True, text=True
    )
    line = r"task-archive: ulimit -v leaves 1,024 MB of address space: [\d,]+ are needed\n"
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(line, done.stderr), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_enough_address_space_is_enough(run: Run, simulator: Simulator, tmp_path: Path) -> None:
    """Vega's JavaScript alone would take 67 GB: without, the run has no pictures."""
    limited = f'ulimit -v {LEAST_ADDRESS_SPACE_MB * 1300}; exec "$@"'
    command = ["sh", "-c", limited, "sh", sys.executable, "-m", "pipelines.cli", "sync"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "archive" / "published" / "report.html").exists()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "there is not enough memory"),
        (RuntimeError("can't start new thread"), "there is not enough memory"),
        (duckdb.OutOfMemoryException("Out of Memory Error: no room\nSee also"), "Out of Memory Error: no room"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_lack_of_memory_is_one_line(
    run: Run, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def crowded(*_: object) -> None:
        raise error

    for command, place in (
        ("status", "pipelines.serving.status.status"),
        ("sync", "pipelines.warehouse.build.build_version"),
        ("sync", "pipelines.livepeer.walks.probe"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, crowded)
            result = run(command)
        assert (result.exit_code, one_line(result)) == (1, f"task-archive: {says}")


def test_before_anything_is_published(run: Run) -> None:
    assert "nothing is published" in one_line(run("query", "from tasks"))
    result = run("report")
    assert (result.exit_code, "nothing is published" in one_line(result)) == (1, True)
    assert not Path("report.html").exists()
    status = run("status")
    assert status.exit_code == 0
    assert "nothing yet" in status.stdout


def test_settings_that_are_missing_or_wrong(run: Run) -> None:
    result = run("sync")
    assert (result.exit_code, "LIVEPEER_API_KEY is not set" in one_line(result)) == (2, True)
    result = run("sync", LIVEPEER_API_KEY="key", TASK_ARCHIVE_PAGE_SIZE="5000")
    assert (result.exit_code, "TASK_ARCHIVE_PAGE_SIZE" in one_line(result)) == (2, True)
    result = run("sync", LIVEPEER_API_KEY="key", LIVEPEER_API_URL="livepeer.studio")
    assert (result.exit_code, "LIVEPEER_API_URL" in one_line(result)) == (2, True)
    result = run("sync", LIVEPEER_API_KEY="key", LIVEPEER_API_URL="http://livepeer.studio/api")
    assert (result.exit_code, "travel unencrypted" in one_line(result)) == (2, True)
    result = run("sync", "--account", "acme", LIVEPEER_API_KEY="key")
    assert (result.exit_code, "LIVEPEER_API_KEY__ACME" in one_line(result)) == (2, True)
    result = run("backfill", "--from", "2026-02-02", "--to", "2026-02-01", LIVEPEER_API_KEY="key")
    assert result.exit_code == 2
    assert run("sync", "--lane", "sideways").exit_code == 2


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TASK_ARCHIVE_REQUEST_TIMEOUT_SECONDS", "1e300"),
        ("TASK_ARCHIVE_REQUEST_TIMEOUT_SECONDS", "inf"),
        ("TASK_ARCHIVE_RETRY_WAIT_SECONDS", "1e300"),
        ("TASK_ARCHIVE_REQUESTS_PER_SECOND", "1e-300"),
        ("TASK_ARCHIVE_LOCK_WAIT_SECONDS", "1e300"),
        ("TASK_ARCHIVE_OVERLAP_SECONDS", "-1"),
        ("TASK_ARCHIVE_OVERLAP_SECONDS", "2592001"),
        ("TASK_ARCHIVE_OVERLAP_SECONDS", "99999999999999999999"),
    ],
)
def test_a_time_out_of_range_is_refused_before_anything_is_written(run: Run, variable: str, value: str) -> None:
    result = run("sync", **{"LIVEPEER_API_KEY": "key", variable: value})
    assert (result.exit_code, variable in one_line(result)) == (2, True)
    assert not Path("archive").exists()


@pytest.mark.parametrize("name", ["100% a%20b %3F #1 [x] 'y' $HOME* \u00fc"])
def test_a_home_of_any_name(run: Run, simulator: Simulator, tmp_path: Path, name: str) -> None:
    home = {"TASK_ARCHIVE_HOME": str(tmp_path / name / "archive")}
    assert run("sync", **home).exit_code == 0
    assert "300" in run("query", "select count(*) from tasks", **home).stdout
    assert [path.name for path in tmp_path.iterdir()] == [name]
    databases = {str(path.relative_to(tmp_path / name)) for path in tmp_path.rglob("*.db")}
    assert {f"archive/dagster/{known}.db" for known in ("history/runs", "schedules/schedules")} < databases


@pytest.mark.parametrize("name", ["what?", "a?mode=ro", "a\\b"])
@pytest.mark.parametrize("command", [["sync"], ["doctor"], ["query", "from tasks"], ["ui"], ["observe"]])
def test_a_home_that_duckdb_cannot_write_is_refused_before_anything_is_written(
    run: Run, simulator: Simulator, tmp_path: Path, name: str, command: list[str]
) -> None:
    result = run(*command, TASK_ARCHIVE_HOME=str(tmp_path / name))
    assert (result.exit_code, "DuckDB cannot write below" in one_line(result)) == (2, True)
    result = run("demo", "--home", str(tmp_path / name))
    assert (result.exit_code, "DuckDB cannot write below" in one_line(result)) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_read_from_variables_of_other_programs(run: Run, tmp_path: Path) -> None:
    others = {"HOME": str(tmp_path / "me"), "SCHEDULE": "never", "TIME_ZONE": "Mars", "ATTEMPTS": "0", "API_KEYS": "x"}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TASK_ARCHIVE_HOME")
        result = run("doctor", "--verbose", **others)
    assert re.search(rf"TASK_ARCHIVE_HOME +{re.escape(str(tmp_path / 'archive'))} ", result.output), result.output


def test_a_wrong_key_is_one_line_without_the_key(run: Run, simulator: Simulator) -> None:
    result = run("sync", LIVEPEER_API_KEY="a-key-that-is-wrong")
    assert result.exit_code == 1
    assert "does not accept the API key" in one_line(result)
    assert "a-key-that-is-wrong" not in result.output


def test_a_host_that_does_not_answer(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    result = run("sync", LIVEPEER_API_KEY="key", LIVEPEER_API_URL=f"http://127.0.0.1:{port}/api")
    assert result.exit_code == 1
    assert f"cannot reach 127.0.0.1:{port}" in one_line(result)


def test_a_wrong_path_and_a_page_that_is_no_api(run: Run, simulator: Simulator) -> None:
    result = run("sync", LIVEPEER_API_URL=simulator.url.replace("/api", "/v2"))
    assert (result.exit_code, "is LIVEPEER_API_URL right?" in one_line(result)) == (1, True)

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>welcome</html>")

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        result = run("sync", LIVEPEER_API_URL=f"http://127.0.0.1:{server.server_port}/api")
        assert (result.exit_code, "an HTML page instead of JSON" in one_line(result)) == (1, True)
    finally:
        server.shutdown()
        server.server_close()


def test_an_empty_account_is_whole_and_published(run: Run, simulate: Callable[..., Simulator]) -> None:
    empty = simulate(tasks=0, speed=0)
    result = run("sync", LIVEPEER_API_URL=empty.url, LIVEPEER_API_KEY=empty.api_key)
    assert result.exit_code == 0, result.output
    assert "0 tasks read" in result.output
    assert run("query", "failure_rate_by_type").exit_code == 0
    again = run("sync", LIVEPEER_API_URL=empty.url, LIVEPEER_API_KEY=empty.api_key)
    assert again.exit_code == 0


def test_an_answer_beyond_its_limit_names_the_setting(run: Run, simulator: Simulator) -> None:
    simulator.update(min(simulator.ids()), phase="failed", errorMessage="x" * 1_000_000)
    result = run("sync", TASK_ARCHIVE_ANSWER_MB="1")
    assert (result.exit_code, "more than 1 MB (TASK_ARCHIVE_ANSWER_MB)" in one_line(result)) == (1, True)
    assert run("sync", TASK_ARCHIVE_ANSWER_MB="10").exit_code == 0


def test_a_gap_in_the_proof_is_published_printed_and_told_by_the_exit_status(run: Run, simulator: Simulator) -> None:
    poisoned = simulator.poison()
    result = run("sync")
    assert result.exit_code == 3, result.output
    assert f"gap      1 unreadable task, first {poisoned}" in result.output
    assert "299" in run("query", "select count(*) from tasks").stdout


def test_backfill_and_refresh(run: Run, simulator: Simulator) -> None:
    from datetime import UTC, datetime

    day = datetime.fromtimestamp(simulator.now() / 1000 - 86400, UTC).strftime("%Y-%m-%d")
    result = run("backfill", "--from", day, "--to", day)
    assert result.exit_code == 0, result.output
    assert "backfill   default: " in result.output
    some = sorted(simulator.ids())[0]
    unknown = "00000000-0000-4000-8000-000000000000"
    result = run("refresh", some, unknown)
    assert result.exit_code == 3
    assert "1 unreadable task" in result.output
    assert some in run("query", "select task_id from tasks", "--format", "csv").stdout


def test_doctor_says_what_it_found_and_masks_the_key(run: Run, simulator: Simulator) -> None:
    result = run("doctor", "--verbose")
    assert result.exit_code == 0, result.output
    assert simulator.api_key not in result.output
    for line in ("ok   home", "ok   room", "ok   API of default", "pages by id", "filters by time", "counts 300 tasks"):
        assert line in result.output
    broken = run("doctor", LIVEPEER_API_KEY="wrong-key-of-some-length")
    assert broken.exit_code == 1
    assert "FAIL API of default" in broken.output


def refuse(*_: object) -> Response:
    raise refused(403, "credential has insufficient privileges")


@pytest.mark.parametrize("tasks", [300, 0])
def test_doctor_tries_to_list_and_to_get(
    run: Run, simulate: Callable[..., Simulator], monkeypatch: pytest.MonkeyPatch, tasks: int
) -> None:
    served = simulate(tasks=tasks, speed=0, now=None)
    account = {"LIVEPEER_API_URL": served.url, "LIVEPEER_API_KEY": served.api_key}
    result = run("doctor", **account)
    assert (result.exit_code, "ok   rights of default: tasks may be listed, and got by id" in result.output) == (
        0,
        True,
    )
    with monkeypatch.context() as patch:
        patch.setattr(routes, "_get_task", refuse)
        result = run("doctor", **account)
    assert result.exit_code == 1, result.output
    assert "ok   API of default" in result.output
    assert "FAIL rights of default: the key may list tasks and not get one by id (403)" in result.output
    monkeypatch.setattr(routes, "_list_tasks", refuse)
    result = run("doctor", **account)
    assert result.exit_code == 1, result.output
    said = next(line for line in result.output.splitlines() if line.startswith("FAIL API of default"))
    assert "credential has insufficient privileges. The key's rules of access leave tasks out" in said
    assert "CORS" not in said


@pytest.mark.parametrize("command", sorted(main.commands))
def test_each_command_has_help_with_an_example(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert re.search(rf"Example:\s+task-archive {command}", result.output)


def test_version_and_help(run: Run) -> None:
    assert __version__ in run("--version").output
    assert "Archive the task history" in run("--help").output


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["query", "why_task_fail"], 2, "no query is named 'why_task_fail': did you mean why_tasks_fail"),
        (["explain", "failure_rat"], 2, "no metric is named 'failure_rat': did you mean failure_rate"),
        (["explain", "failure_rate", "--type", "uplaod"], 2, "no type is named 'uplaod': did you mean upload?"),
        (["explain", "failure_rate", "--account", "acme"], 2, "no account is named 'acme': known are default"),
        (["export", "--format", "csv", "--table", "task"], 2, "no table is named 'task': did you mean tasks"),
        (["report", "--type", "uplaod"], 2, "no type is named 'uplaod': did you mean upload?"),
        (["explain", "failure_rate", "--day", "tomorow"], 2, "'tomorow' is not a day such as 2026-11-20"),
    ],
)
def test_an_unknown_name_gets_the_nearest(published: Run, arguments: list[str], status: int, says: str) -> None:
    result = published(*arguments)
    assert result.exit_code == status
    assert says in result.stderr


def test_a_day_may_be_relative(published: Run) -> None:
    for day in ("-7d", "yesterday", "today"):
        assert published("explain", "failure_rate", "--day", day).exit_code == 0
    rows = [
        published("export", "--format", "ndjson", "--table", "tasks", "--since", since).stdout.count("\n")
        for since in ("-4000d", "today")
    ]
    assert rows[0] == 2000


def test_an_error_in_sql_shows_its_place(published: Run) -> None:
    result = published("query", "select type, cont(*) from tasks")
    first, line, caret, *_ = result.stderr.splitlines()
    assert first.startswith("task-archive: Catalog Error")
    assert line.startswith("LINE 1: select type, cont(*)")
    assert caret.strip("^ ") == ""
    assert line[caret.index("^") :].startswith("cont")


@pytest.mark.parametrize("harm", ["drop table tasks", pytest.param("cut", marks=pytest.mark.slow)])
def test_a_changed_publication_is_reported_and_the_next_look_publishes_it_again(
    run: Run, simulator: Simulator, tmp_path: Path, harm: str
) -> None:
    assert run("sync").exit_code == 0
    database = (tmp_path / "archive" / "published" / "task_archive.duckdb").resolve()
    database.chmod(0o644)
    if harm == "cut":
        database.write_bytes(database.read_bytes()[:100_000])
    else:
        with duckdb.connect(str(database)) as careless:
            careless.execute(harm)
    said = "task_archive.duckdb was changed"
    result = run("status")
    assert result.exit_code == 0
    assert re.search(rf"altered +{said}: `task-archive sync` publishes it again", result.stdout)
    assert json.loads(run("status", "--json").stdout)["altered_files"] == [said]
    assert f"FAIL published version: {said}: `task-archive sync` publishes it again" in run("doctor").stdout
    verified = run("verify")
    assert (verified.exit_code, f"altered    {said}: nothing was compared" in verified.stdout) == (3, True)
    assert run("observe").exit_code == 0
    assert "altered" not in run("status").stdout
    assert run("verify").exit_code == 0
    counted = run("query", "select count(*) from fact_tasks", "--format", "csv")
    assert counted.stdout.split()[-1] == "300"


def test_interrupted_runs_are_told_by_status(run: Run, simulator: Simulator) -> None:
    simulator.fault("503", at=6, times=None)
    result = run("sync", TASK_ARCHIVE_PAGE_SIZE="100", TASK_ARCHIVE_ATTEMPTS="2")
    assert result.exit_code == 1
    assert "failed with 503" in one_line(result)
    assert "interrupted  " in run("status").stdout
    simulator.clear_faults()
    resumed = run("sync")
    assert resumed.exit_code == 0
    assert "300 tasks read" in resumed.output
    assert "interrupted  " not in run("status").stdout
