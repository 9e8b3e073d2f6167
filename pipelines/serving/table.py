"""Rows as a table of text: for a terminal as many columns as fit, for a pipe all of them with one line per row."""

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from pipelines.text import counted

GAP = 2  # spaces between columns
WRAPS_FROM = 40  # text wider than this may take several lines, broken between words
MOST_SHOWN = 2_000  # characters of a value: every row is filled up to the widest; other formats have it whole


def render(names: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool], width: int | None) -> str:
    """The table as text; `width`: of the terminal, None for a pipe.

    A single row that is too wide is shown as a record, one line per column. Of several, the columns that fit are shown,
    names broken behind an underscore where that makes room; the others are listed below. Very long values are cut.
    """
    rows = [[_cut(cell) for cell in row] for row in rows]
    widest = [max(map(cell_len, cells)) for cells in zip(names, *rows, strict=True)]
    headers, narrowest, fits = list(names), widest, len(names)
    if width and sum(widest) + GAP * (len(widest) - 1) > width:
        if len(rows) == 1:
            return _record(names, rows[0], width)
        columns = list(zip(*rows, strict=True)) or [()] * len(names)
        headers = [_broken(name, cells) for name, cells in zip(names, columns, strict=True)]
        narrowest = [_narrowest(header, cells) for header, cells in zip(headers, columns, strict=True)]
        fits = _fitting(narrowest, width)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
    for place in range(fits):
        table.add_column(
            headers[place],
            justify="right" if numeric[place] else "left",
            min_width=narrowest[place],
            no_wrap=narrowest[place] == widest[place],
            overflow="fold",
        )
    for row in rows:
        table.add_row(*row[:fits])
    text = _printed(table, width or sum(widest) + GAP * len(widest))
    return text + "".join(f"{line}\n" for line in _others(names[fits:], width))


def _cut(cell: str) -> str:
    return cell if len(cell) <= MOST_SHOWN else f"{cell[: MOST_SHOWN - 1]}…"


def _printed(table: Table, width: int) -> str:
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _broken(name: str, cells: Sequence[str]) -> str:
    """A column's name on several lines, as narrow as its cells where its words let it be."""
    lines, room = [""], max([*map(cell_len, cells), 8])
    for word in re.findall("[^_]*_?", name):
        if lines[-1] and len(lines[-1]) + len(word) > room:
            lines.append("")
        lines[-1] += word
    return "\n".join(lines)


def _narrowest(header: str, cells: Sequence[str]) -> int:
    """How narrow a column may get: text without spaces stays whole, as ids and times are."""
    wide = max([*map(cell_len, header.split("\n")), *map(cell_len, cells)])
    return min(wide, max([WRAPS_FROM, *(cell_len(cell) for cell in cells if " " not in cell)]))


def _fitting(widths: list[int], width: int) -> int:
    """How many of the first columns fit; one in any case."""
    taken = -GAP
    for place, column in enumerate(widths):
        taken += column + GAP
        if taken > width:
            return max(1, place)
    return len(widths)


def _record(names: Sequence[str], row: Sequence[str], width: int) -> str:
    """A line for each column of one row that holds something."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, GAP, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    held = [(name, value) for name, value in zip(names, row, strict=True) if value]
    for name, value in held:
        table.add_row(name, value)
    empty = len(names) - len(held)
    return _printed(table, width) + (f"… {counted(empty, 'empty column')}\n" if empty else "")


def _others(names: Sequence[str], width: int | None) -> Iterator[str]:
    """A line that says which columns did not fit."""
    if not names or width is None:
        return
    begin = f"… {len(names)} more column{'' if len(names) == 1 else 's'} ("
    end = "): name those you want, or take --format csv"
    listed: list[str] = []
    for name in names:
        if cell_len(begin + ", ".join([*listed, name, "…"]) + end) > width:
            break
        listed.append(name)
    shown = ", ".join(listed + (["…"] if len(listed) < len(names) else []))
    yield f"{begin}{shown}{end}" if listed else f"{begin.removesuffix(' (')}: take --format csv"
