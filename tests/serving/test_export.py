"""Exports: each format read back by what others read it with."""

import csv
import json
import os
import pty
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from pipelines.cli.main import main
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from pipelines.warehouse.database import quoted
from pipelines.warehouse.models import load_models
from tests.conftest import set_variables, variables_of

Export = Callable[..., Result]

FORMATS = ["csv", "xlsx", "parquet", "arrow", "ndjson"]


class Published:
    """An archive that was published twice; between the two `changed` tasks failed and `added` appeared."""

    def __init__(self, home: Path, simulator: Simulator) -> None:
        self.home, self.simulator = home, simulator
        assert self.run("sync").exit_code == 0
        self.between = datetime.now(UTC)
        self.changed = sorted(simulator.ids())[::50]
        for task_id in self.changed:
            simulator.update(task_id, phase="failed", errorMessage="=cmd|' /C calc'!A1")
        self.added = simulator.insert()
        assert self.run("sync").exit_code == 0
        self.database = home / "published" / "task_archive.duckdb"

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, catch_exceptions=False)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.database), read_only=True) as connection:
            connection.execute("set TimeZone = 'UTC'")
            return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    home = tmp_path_factory.mktemp("export") / "archive"
    with Simulator(tasks=300, days=5, seed=4, speed=0).serve() as simulator, pytest.MonkeyPatch.context() as patch:
        set_variables(patch, variables_of(simulator, home))
        yield Published(home, simulator)


@pytest.fixture
def exported(published: Published, tmp_path: Path) -> Callable[..., Path]:
    """exported(format, arguments): the file that `export` wrote."""

    def exported(form: str, *arguments: str) -> Path:
        file = tmp_path / f"exported.{form}"
        result = published.run("export", "--format", form, "--output", str(file), *arguments)
        assert result.exit_code == 0, result.output
        return file

    return exported


def sheet_of(file: Path) -> tuple[list[list[Any]], dict[str, str]]:
    """The cells of a sheet as (type, text, number format or 'quoted'), and the sheet's XML by tag."""
    space = {"s": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
    with zipfile.ZipFile(file) as book:
        sheet = ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))
        styles = ElementTree.fromstring(book.read("xl/styles.xml"))
        assert not any("sharedStrings" in name or "rels/sheet" in name for name in book.namelist())
    codes = {each.get("numFmtId"): each.get("formatCode") for each in styles.iterfind(".//s:numFmt", space)}
    looks = [
        "quoted" if each.get("quotePrefix") else codes.get(each.get("numFmtId"), "")
        for each in styles.iterfind("s:cellXfs/s:xf", space)
    ]
    rows = [
        [(cell.get("t", "n"), "".join(cell.itertext()), looks[int(cell.get("s", "0"))]) for cell in row]
        for row in sheet.iterfind(".//s:row", space)
    ]
    assert sheet.find(".//s:f", space) is None, "a formula"
    return rows, {child.tag.rpartition("}")[2]: ElementTree.tostring(child, "unicode") for child in sheet}


def test_every_format_holds_every_row_of_a_table(published: Published, exported: Callable[..., Path]) -> None:
    ids = {row[0] for row in published.ask("select task_id from tasks")}
    assert len(ids) == 301
    files = {form: exported(form, "--table", "tasks") for form in FORMATS}
    with files["csv"].open(newline="") as file:
        assert {row["task_id"] for row in csv.DictReader(file)} == ids
    assert {json.loads(line)["task_id"] for line in files["ndjson"].read_text().splitlines()} == ids
    assert {row[0][1] for row in sheet_of(files["xlsx"])[0][1:]} == ids
    whole = "from tasks order by task_id"
    for form, tables in (("parquet", pq.read_table(files["parquet"])), ("arrow", pa.ipc.open_file(files["arrow"]))):
        table = tables if form == "parquet" else tables.read_all()
        with duckdb.connect(str(published.database), read_only=True) as connection:
            connection.execute("set TimeZone = 'UTC'")
            expected = connection.sql(whole).to_arrow_table()
        assert table.sort_by("task_id").replace_schema_metadata().equals(expected), form
        field, model = table.schema.field("created_at"), load_models()["tasks"]
        assert field.metadata[b"description"].decode() == model.columns["created_at"], form
        assert table.schema.metadata[b"description"].decode() == model.description, form
        assert field.type == pa.timestamp("us", "UTC")
    assert pq.ParquetFile(files["parquet"]).metadata.row_group(0).column(0).compression == "ZSTD"


def test_timestamps_are_iso_in_utc_and_nested_values_json(exported: Callable[..., Path]) -> None:
    sql = """
        select
            timestamptz '2026-11-17 06:00:00.25+02' as at, timestamp '2026-11-17 06:00' as naive,
            date '2026-11-17' as day, ['a', null] as list, {'x': 'nan'::double} as struct, 'nan'::double as nan,
            1.50::decimal(9, 2) as decimal
    """
    (line,) = exported("ndjson", "--query", sql).read_text().splitlines()
    times = {"at": "2026-11-17T04:00:00.250Z", "naive": "2026-11-17T06:00:00.000", "day": "2026-11-17"}
    assert json.loads(line) == times | {"list": ["a", None], "struct": {"x": None}, "nan": None, "decimal": 1.5}
    with exported("csv", "--query", sql).open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == times | {"list": '["a", null]', "struct": '{"x": null}', "nan": "nan", "decimal": "1.5"}


def test_excel_gets_its_own_types_and_no_text_becomes_a_formula_or_a_link(exported: Callable[..., Path]) -> None:
    texts = [
        "=1+1",
        "@SUM(A1)",
        "https://a.example/b",
        "007",
        "1e5",
        "a\x1bb\ufffe",
        "<r><t>x</t></r>",
        "_x0041_",
        " a\n",
    ]
    others = """
        timestamptz '2026-11-17 06:00:00+02' as seen_at, date '2026-11-17', true, 2.5, 9007199254740993,
        timestamptz '1850-01-01 00:00+00', null, 'nan'::double, repeat('é', 40000)
    """
    sql = f"select {', '.join(map(quoted, texts))}, {others}"
    (header, cells), parts = sheet_of(exported("xlsx", "--query", sql))
    as_written = {5: "a_x001B_b_xFFFE_", 6: " <r><t>x</t></r>", 7: "_x005F_x0041_"}
    assert cells[: len(texts)] == [
        ("inlineStr", as_written.get(number, text), "quoted" if number < 2 else "") for number, text in enumerate(texts)
    ]
    seen_at, *rest, long = cells[len(texts) :]
    assert ("inlineStr", "seen_at (UTC)") in [cell[:2] for cell in header]
    assert (seen_at[0], seen_at[2]) == ("n", "yyyy-mm-dd hh:mm:ss.000")
    off = datetime(1899, 12, 30) + timedelta(days=float(seen_at[1])) - datetime(2026, 11, 17, 4)
    assert abs(off) < timedelta(milliseconds=1)
    assert rest == [
        ("n", "46343", "yyyy-mm-dd"),
        ("b", "1", ""),
        ("n", "2.5", ""),
        ("inlineStr", "9007199254740993", ""),
        ("inlineStr", "1850-01-01T00:00:00.000Z", ""),
        ("inlineStr", "nan", ""),
    ]
    assert len(long[1]) == 32_767
    assert 'state="frozen"' in parts["sheetViews"]
    assert "autoFilter" in parts
    assert "hyperlinks" not in parts


def test_text_that_is_cut_is_told(published: Published, tmp_path: Path) -> None:
    sql = "select repeat('long', 10000) from range(3)"
    result = published.run("export", "--format", "xlsx", "--query", sql, "--output", str(tmp_path / "a.xlsx"))
    assert "3 texts were cut" in result.stderr


def test_more_rows_than_a_sheet_holds(published: Published, tmp_path: Path) -> None:
    file = tmp_path / "big.xlsx"
    result = published.run("export", "--format", "xlsx", "--query", "from range(1048576)", "--output", str(file))
    assert result.exit_code == 1
    assert "an Excel sheet holds 1,048,575 rows" in one_line(result)
    assert list(tmp_path.iterdir()) == []


def one_line(result: Result) -> str:
    (line,) = result.stderr.splitlines()
    return line


def test_since_gives_what_the_archive_learned_of_a_task(published: Published, exported: Callable[..., Path]) -> None:
    since = ("--since", published.between.isoformat())
    news = {*published.changed, published.added}
    assert len(news) == 7
    for table in ("tasks", "profiles", "task_history", "task_intervals"):
        rows = pq.read_table(exported("parquet", "--table", table, *since)).column("task_id").to_pylist()
        listed = ", ".join(f"'{task_id}'" for task_id in sorted(news))
        assert sorted(rows) == [
            row[0] for row in published.ask(f"select task_id from {table} where task_id in ({listed}) order by all")
        ], table
        assert rows
    tomorrow = exported("ndjson", "--table", "tasks", "--since", "2999-01-01")
    assert tomorrow.read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--table", "loads", "--since", "2026-01-01"), "no row of loads is one task's: export it whole"),
        (("--table", "nothing"), "no table is named 'nothing': known are "),
        (("--table", "tasks", "--since", "soon"), "'soon' is not a day such as 2026-11-20"),
        (("--query", "from tasks", "--since", "2026-01-01"), "--since goes with --table"),
        (("--table", "tasks", "--query", "from tasks"), "either a --table or a --query"),
        ((), "either a --table or a --query"),
        (("--query", "no_such_query"), "no query is named"),
        (("--table", "tasks", "--output", "missing/a.csv"), "missing is no folder"),
    ],
)
def test_wrong_arguments_are_one_line(published: Published, arguments: tuple[str, ...], says: str) -> None:
    result = published.run("export", "--format", "csv", *arguments)
    assert (result.exit_code, says in one_line(result)) == (2, True), result.output


@pytest.mark.parametrize("form", FORMATS)
def test_what_fails_half_way_leaves_the_file_that_was_there(published: Published, tmp_path: Path, form: str) -> None:
    file = tmp_path / "kept"
    file.write_bytes(b"as it was")
    file.chmod(0o600)
    sql = "select case when range = 49999 then error('boom') else range end as n from range(50000)"
    result = published.run("export", "--format", form, "--query", sql, "--output", str(file))
    assert result.exit_code == 1
    assert "boom" in one_line(result)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("kept", b"as it was")]
    assert published.run("export", "--format", form, "--query", "select 1", "--output", str(file)).exit_code == 0
    assert file.read_bytes() != b"as it was"
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_type_that_parquet_lacks_is_one_line(published: Published, tmp_path: Path) -> None:
    sql = "select interval 1 day as d"
    result = published.run("export", "--format", "parquet", "--query", sql, "--output", str(tmp_path / "a"))
    assert (result.exit_code, "cast it to text" in one_line(result)) == (1, True)


COMMAND = [sys.executable, "-m", "pipelines.cli", "export"]


def test_binary_goes_into_a_pipe_and_to_no_terminal(published: Published) -> None:
    terminal, its_end = pty.openpty()
    command = [*COMMAND, "--format", "arrow", "--table", "tasks"]
    refused = subprocess.run(command, stdout=its_end, stderr=subprocess.PIPE, text=True)
    os.close(its_end), os.close(terminal)
    assert refused.returncode == 2
    assert "arrow is no text: name a file with --output FILE" in refused.stderr
    piped = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    assert pa.ipc.open_stream(piped.stdout).read_all().num_rows == 301


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose published file has a table of 300,000 rows of 2 kB, which no compression makes smaller."""
    settings = Settings(home=tmp_path_factory.mktemp("wide"))
    settings.home.published.mkdir()
    hashes = (" || ".join(f"sha256('{column} {part} ' || i)" for part in range(8)) for column in range(4))
    columns = ", ".join(f"{text} as c{column}" for column, text in enumerate(hashes))
    with duckdb.connect(str(settings.home.published / "task_archive.duckdb")) as connection:
        connection.execute(f"create table wide as select i, {columns} from range(300000) t(i)")
    return settings.home.path


# In a small process of its own: a child's peak counts what its parent held when it was forked.
PEAK = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL); "
PEAK += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_memory_does_not_grow_with_the_rows(wide: Path, tmp_path: Path, form: str) -> None:
    peaks = []
    environment = os.environ | {"TASK_ARCHIVE_HOME": str(wide), "TASK_ARCHIVE_MEMORY_MB": "100"}
    few, many = (60_000, 120_000) if form == "xlsx" else (100_000, 300_000)  # all beyond what DuckDB keeps of the file
    for rows in (few, many):
        sql, output = f"from wide where i < {rows}", str(tmp_path / "out")
        command = [sys.executable, "-c", PEAK, *COMMAND, "--format", form, "--query", sql, "--output", output]
        peaks.append(float(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout))
    assert peaks[1] - peaks[0] < (many - few) * 0.002 / 4, peaks  # MB: a quarter of what is more
