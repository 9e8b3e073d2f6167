"""The report's key charts as pictures, for Dagster's page of the run: SVG, in the colours of the light page."""

import base64
import json
import re
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

from pipelines.report.cache import specs
from pipelines.report.queries import Row
from pipelines.settings import address_space_mb
from pipelines.text import markdown_cell


@dataclass(frozen=True)
class RenderedChart:
    """A chart of a page: the name of its drawing, its heading, and the rows it draws."""

    name: str
    heading: str
    rows: list[Row]


# The charts that are shown, of each the first of the page: starting vl-convert takes longer than drawing them.
SHOWN = ("daily_tasks-0", "failure_rate-0", "durations-0")
WIDTH = 640  # pixels
JAVASCRIPT_ADDRESS_SPACE_MB = 100_000


def as_markdown(drawn: list[RenderedChart]) -> str:
    """The key charts of a page as images in Markdown, each under its heading; some 150 kB for 90 days.

    None where the address space is limited: vl-convert's JavaScript takes 67 GB of it, and ends the process without.
    """
    if address_space_mb() < JAVASCRIPT_ADDRESS_SPACE_MB:
        return ""
    first = {chart.name: chart for chart in reversed(drawn)}
    return "\n\n".join(
        f"#### {markdown_cell(first[name].heading)}\n\n{_image(first[name])}" for name in SHOWN if name in first
    )


def _image(chart: RenderedChart) -> str:
    svg = base64.b64encode(as_svg(chart).encode()).decode()
    return f"![{markdown_cell(chart.heading)}](data:image/svg+xml;base64,{svg})"


def as_svg(chart: RenderedChart) -> str:
    """A chart as SVG."""
    import vl_convert

    spec = specs()[chart.name]
    for colour, value in _colours().items():
        spec = spec.replace(f"var(--{colour})", value)
    drawn = json.loads(spec) | {"width": WIDTH, "data": {"values": [_values(row) for row in chart.rows]}}
    drawn["config"] |= {"background": _colours()["paper"], "aria": False}
    return vl_convert.vegalite_to_svg(drawn)


def _values(row: Row) -> Row:
    """A row as the page's script reads it from a table."""
    return {
        name: ("yes" if value else "no")
        if isinstance(value, bool)
        else value.isoformat()
        if isinstance(value, date)
        else value
        for name, value in row.items()
    }


@cache
def _colours() -> dict[str, str]:
    """The colours of the style sheet, the light ones: they come first."""
    style = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    return dict(re.findall(r"--(\w+): (#\w+)", style.partition("}")[0]))
