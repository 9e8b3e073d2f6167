"""What the API sends does nothing to who looks at it."""

import csv
import io
import json
import re

import pytest

from pipelines.text import markdown_cell, printable, printable_json, spreadsheet_cell

CONTROLS = "a\x1b[31mred\x07\x00\x7f\x9b1m\r\n\t\u2028\u202eevil\ud800"


def test_nothing_that_a_terminal_obeys_is_left() -> None:
    shown = printable(CONTROLS)
    assert shown.isprintable()
    assert shown.encode()
    assert "\\x1b[31mred\\x07\\x00\\x7f\\x9b1m\\r\\n\\t\\u2028\\u202eevil\\ud800" in shown
    assert printable("é 👍🏽 日本 'quoted'") == "é 👍🏽 日本 'quoted'"


def test_json_says_the_same_without_raw_controls() -> None:
    text = json.dumps({"note": "\x7f\x9b1m\x1b[31m\u202e é"}, ensure_ascii=False)
    assert json.loads(printable_json(text)) == json.loads(text)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", printable_json(text))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_no_text_is_a_formula(start: str) -> None:
    file = io.StringIO()
    csv.writer(file).writerow(
        [spreadsheet_cell(f"{start}HYPERLINK(1)"), spreadsheet_cell(-1.5), spreadsheet_cell("a=1")]
    )
    assert next(csv.reader(io.StringIO(file.getvalue(), newline=""))) == [f"'{start}HYPERLINK(1)", "-1.5", "a=1"]


def test_text_stays_in_its_cell_of_a_markdown_table() -> None:
    cell = markdown_cell("<img src=x onerror=alert(1)> | [x](javascript:1) `code`\n| row | # `")
    assert not set(cell) & set("<>|[]()`\n")
