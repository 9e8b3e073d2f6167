"""Numbers as the report writes them. A column's name says what it holds: `_seconds`, `_rate`, `_at`, `day`."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from markupsafe import Markup

from pipelines.text import counted as with_number
from pipelines.text import printable

# Endings of columns that hold shares of 1.
SHARES = (
    "rate",
    "share",
    "coverage",
    "attainment",
    "budget_left",
    "share_of_failures",
    "share_of_limit",
    "rate_of_7_days",
)
# Columns whose names are no good headings.
LABELS = {
    "low_failure_rate": "95 % band from",
    "high_failure_rate": "to",
    "failure_rate_of_7_days": "rate of 7 days",
    "failed_tasks_last_7_days": "last 7 days",
    "failed_tasks_7_days_before": "7 days before",
    "failed_tasks": "failed",
    "completed_tasks": "completed",
    "created_tasks": "created",
    "ended_tasks": "ended",
    "open_tasks": "open",
    "other_tasks": "other",
    "template": "error",
    "is_mature": "mature",
    "real_time_factor": "real-time factor",
    "p50_real_time_factor": "p50 real-time factor",
    "p95_real_time_factor": "p95 real-time factor",
}
# Columns of text whose lines are not broken, and those that want room.
WHOLE = ("day", "type", "owner", "lane", "phase", "rung", "source", "length")
LONG = ("template", "advice", "reason", "reasons", "asset_name")
NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Cell:
    """A value as it is shown, and as it is sorted and drawn (None: as shown)."""

    text: str
    value: str | None = None
    is_number: bool = False


def cell(column: str, value: Any, zone: ZoneInfo) -> Cell:
    """A value of a column, in the time zone of the report."""
    if value is None:
        return Cell(NOTHING, "", kind(column) == "n")
    if isinstance(value, list):
        return Cell(sparkline(value), str(sum(value)), True)
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, datetime):
        return Cell(f"{value.astimezone(zone):%Y-%m-%d %H:%M}", value.astimezone(ZoneInfo("UTC")).isoformat())
    if isinstance(value, date):
        return Cell(f"{value:%Y-%m-%d %a}", value.isoformat())
    if isinstance(value, int | float):
        text = measured(column, value)
        plain = f"{value:.9g}" if isinstance(value, float) else str(value)
        return Cell(text, None if text == plain else plain, True)
    return Cell(printable(str(value)))


def sparkline(values: Sequence[float | None], shown: Callable[[float], str] | None = None) -> Markup:
    """A line of so many values, the newest at the right, with its words for those who cannot see it; None is a gap."""
    width, height, shown = 120, 22, shown or number
    known = [value for value in values if value is not None]
    if not known:
        return Markup("")
    across, top = width / max(len(values) - 1, 1), max(known) or 1
    lines: list[list[str]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            lines.append([])
        else:
            lines[-1].append(f"{place * across:.1f},{height - 1 - value / top * (height - 3):.1f}")
    drawn = Markup("").join(Markup('<polyline points="{}"/>').format(" ".join(line)) for line in lines if line)
    words = f"{shown(known[0])} at first, at most {shown(max(known))}, {shown(known[-1])} at last"
    last = next(line for line in reversed(lines) if line)[-1].split(",")
    return Markup(
        '<svg class="trend" role="img" aria-label="{}" viewBox="-2 -1 {} {}">{}<circle cx="{}" cy="{}" r="2"/></svg>'
    ).format(words, width + 4, height + 2, drawn, *last)


def kind(column: str) -> str:
    """How a column is set: n for numbers, k for what must not wrap, i for ids, w for long text."""
    if is_share(column) or column.endswith(("_seconds", "_tasks", "_minutes", "_bytes", "_before")):
        return "n"
    if column.endswith("_id"):
        return "i"
    if column in WHOLE or column.endswith("_at"):
        return "k"
    return "w" if column in LONG else ""


def is_share(column: str) -> bool:
    return column.removesuffix("_before").endswith(SHARES)


def measured(column: str, value: float) -> str:
    """A number in the unit that its column's name tells."""
    name = column.removesuffix("_before")
    if is_share(name):
        return percent(value)
    if name.endswith("_seconds"):
        return duration(value)
    if name.endswith("_bytes"):
        return size(value)
    return number(value)


def number(value: float) -> str:
    """1,234 or 12.3 or 0.123: three figures, thousands set apart."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}".replace("-", MINUS)
    return f"{value:.3g}".replace("-", MINUS)


def percent(share: float) -> str:
    """4.96 %, 12.3 %, 95 %."""
    of_hundred = round(share * 100, 6)
    digits = 0 if of_hundred == int(of_hundred) else 2 if abs(of_hundred) < 10 else 1
    return f"{of_hundred:.{digits}f}\N{NO-BREAK SPACE}%".replace("-", MINUS)


def duration(seconds: float) -> str:
    """Seconds in the unit that reads best: 8.21 s, 12.4 min, 3.2 h, 5.1 d."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= 2 * length:
            return f"{number(seconds / length)} {unit}"
    return f"{number(seconds)} s"


def size(number_of_bytes: float) -> str:
    """Bytes in the unit that reads best, powers of 1,000."""
    for length, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number_of_bytes >= length:
            return f"{number(number_of_bytes / length)} {unit}"
    return f"{number(number_of_bytes)} bytes"


def moment(at: datetime, zone: ZoneInfo) -> str:
    """A moment in a time zone, to the minute, as a sentence has it: 21 Nov 2026, 04:56; it does not wrap."""
    local = at.astimezone(zone)
    return f"{local.day} {local:%b %Y, %H:%M}".replace(" ", "\N{NO-BREAK SPACE}")


def day(of: date) -> str:
    """Saturday 21 November 2026."""
    return f"{of:%A} {of.day} {of:%B %Y}"


def short_day(of: date) -> str:
    """Sat 21 Nov."""
    return f"{of:%a} {of.day} {of:%b}"


def label(column: str) -> str:
    """A column's name as a heading: without the unit that its values show."""
    if column in LABELS:
        return LABELS[column]
    if column.endswith("_before"):
        return f"{label(column.removesuffix('_before'))} before"
    for unit in ("_seconds", "_bytes", "_at"):
        column = column.removesuffix(unit)
    return column.replace("_", " ")


def command(name: str, argument: str) -> str:
    """A command to look closer, fit for a shell whatever the argument is."""
    return f"task-archive {name} {quoted(argument)}"


def quoted(argument: str) -> str:
    """An argument of a command, whatever it is."""
    return shlex.quote(printable(argument))


def caused_by(owner: str) -> str:
    """Who is to act on a failure."""
    return "of unknown owner" if owner == "unknown" else f"caused by the {owner}"


def counted(count: int, noun: str) -> str:
    """1 task, 2,345 tasks, no tasks."""
    return with_number(count, noun) if count else f"no {noun}s"


def change(now: float, before: float) -> str:
    """How a number compares with another above 0: 12 % more, 3 % less, 2.5 times as much."""
    share = now / before - 1
    if abs(share) < 0.005:
        return "the same"
    if share >= 1:
        return f"{number(now / before)} times as much"
    return f"{abs(share) * 100:.0f} % {'more' if share > 0 else 'less'}"
