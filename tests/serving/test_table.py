"""Tables of text: what fits a terminal, and that nothing that must stay whole is broken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from pipelines.serving.table import render

ID = "0002d589-9184-40da-ab03-34f78f8b7fdb"
AT = "2026-11-10T23:36:35.492Z"
TEXT = "invalid video file codec or container, check your input file against the input codec support matrix"
NAMES = ["task_id", "error_message", "p95_server_time_seconds", "created_at", "last_failed_at"]
ROWS = [[ID, TEXT, "1.5", AT, AT], [ID, "", "27,000", AT, AT]]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_as_many_columns_as_fit_and_a_line_for_the_others(width: int) -> None:
    lines = render(NAMES, ROWS, [False, False, True, False, False], width).splitlines()
    assert max(map(cell_len, lines)) <= width
    text = "\n".join(lines)
    shown = sum(name.split("_")[0] in text.split("…")[0] for name in ("task_id", "error_message"))
    assert shown == 2
    assert text.count(ID) == 2
    assert text.count(AT) in (0, 2, 4)
    assert " ".join(TEXT.split()[:3]) in text
    hidden = 5 - len([name for name in NAMES if name.replace("_", "") in text.split("…")[0].replace("_", "")])
    assert ("more column" in lines[-1]) == (text.count(AT) < 4), hidden
    assert not any(line.endswith(" ") for line in lines)


def test_a_pipe_gets_all_columns_one_line_a_row() -> None:
    lines = render(NAMES, ROWS, [False] * 5, None).splitlines()
    assert len(lines) == 3
    assert all(name in lines[0] for name in NAMES)
    assert TEXT in lines[1]
    assert lines[1].count(AT) == 2


def test_one_wide_row_is_a_record_of_what_it_holds() -> None:
    lines = render([*NAMES, "empty"], [[*ROWS[0], ""]], [False] * 6, 80).splitlines()
    assert lines[0].split() == ["task_id", ID]
    assert lines[-1] == "… 1 empty column"
    assert [line.split()[0] for line in lines if not line.startswith(" ")][:2] == ["task_id", "error_message"]


CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp", "Mn", "Me"]), max_size=60)


@given(
    table=st.integers(1, 6).flatmap(
        lambda n: st.tuples(
            st.lists(st.from_regex("[a-z]{1,9}(_[a-z0-9]{1,9}){0,3}", fullmatch=True), min_size=n, max_size=n),
            st.lists(st.lists(CELLS.map(lambda text: " ".join(text.split())), min_size=n, max_size=n), max_size=4),
        )
    ),
    width=st.sampled_from([40, 80, 120]),
)
def test_no_line_is_wider_than_the_terminal_but_for_one_column(
    table: tuple[list[str], list[list[str]]], width: int
) -> None:
    names, rows = table
    lines = render(names, rows, [False] * len(names), width).splitlines()
    assert max(map(cell_len, lines), default=0) <= max(width, 80)


def test_a_value_of_any_length_is_cut_and_fills_no_memory() -> None:
    rows = [["id", "x" * 10_000_000], *([str(number), "short"] for number in range(300))]
    for width in (None, 100):
        text = render(["name", "value"], rows, [False, False], width)
        assert len(text) < 1_000_000
        assert "…" in text
        assert "299" in text
