"""The figures of the hostile tests: collected as they are measured, shown at the end, written into a document."""

import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
ROW = re.compile(r"\| (?P<what>.*?) \| (?P<number>.*?) \| (?P<remark>.*?) \| `(?P<test>.*?)` \|")

Tell = Callable[..., None]


@dataclass
class Figure:
    """Something that was counted: by which test file, what, how many, and what came of it."""

    test: str
    what: str
    number: int | float
    remark: str

    @property
    def counted(self) -> str:
        return f"{self.number:,}" if isinstance(self.number, int) else f"{self.number:,.1f}"

    def __str__(self) -> str:
        return f"| {self.what} | {self.counted} | {self.remark} | `{self.test}` |"


FIGURES = pytest.StashKey[list[Figure]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", type=Path, metavar="FILE", help="write the figures into this document's table")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Tell:
    """figure(what, number, remark): notes a figure; what several tests of a file tell under one name adds up."""
    figures = request.config.stash.setdefault(FIGURES, [])
    test = request.path.name

    def tell(what: str, number: int | float, remark: str = "") -> None:
        for known in figures:
            if (known.test, known.what) == (test, what):
                known.number, known.remark = known.number + number, remark or known.remark
                return
        figures.append(Figure(test, what, number, remark))

    return tell


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    figures = config.stash.get(FIGURES, [])
    if not figures:
        return
    terminalreporter.section("figures")
    for each in figures:
        terminalreporter.write_line(f"{each.counted:>12}  {each.what}{f': {each.remark}' if each.remark else ''}")
    file: Path | None = config.getoption("figures", default=None)
    if file is None:
        return
    if exitstatus:
        terminalreporter.write_line(f"{file} stays as it was: not all tests passed")
        return
    file.write_text(with_figures(file.read_text(), figures))


def with_figures(document: str, figures: list[Figure]) -> str:
    """The document with the figures in its table. Those of test files that did not run stay."""
    before, rest = document.split(BEGIN)
    table, after = rest.split(END)
    ran = {each.test for each in figures}
    rows = [row[0] for row in ROW.finditer(table) if row["test"] not in ran] + [str(each) for each in figures]
    rows.sort(key=lambda row: row.split(" | ")[-1])  # by test file, and within it as they were told
    made = (
        f"Made by `make reliability` on {datetime.now(UTC):%Y-%m-%d}: Python {platform.python_version()}, "
        f"DuckDB {duckdb.__version__}, {os.cpu_count()} cores."
    )
    lines = [made, "", "| tried | figure | what came of it | test |", "| --- | --- | --- | --- |", *rows]
    return "\n".join([before + BEGIN, *lines, END + after])
