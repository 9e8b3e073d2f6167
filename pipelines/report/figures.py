"""What the page says: its sections, and for each figure the sentence above it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from pipelines.report.queries import Answer
from pipelines.report.words import change, duration, number, percent, short_day

Row = dict[str, Any]
Scope = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """A chart of a figure: its name in charts.py, and of which type's rows it is (None: of all rows)."""

    spec: str
    label: str
    heading: str = ""
    only: str | None = None


@dataclass(frozen=True)
class Said:
    """What is said of an answer: the finding, what to mind, the charts."""

    finding: str
    note: str = ""
    charts: list[Chart] = field(default_factory=list)


@dataclass(frozen=True)
class Figure:
    """A query's table with its charts and what they say."""

    query: str
    caption: str
    says: Callable[[list[Row], Scope], Said]


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    id: str
    heading: str
    figures: tuple[Figure, ...]


def _volume(rows: list[Row], scope: Scope) -> Said:
    last, before = _two_weeks(rows)
    if not any(row["created_tasks"] for row in rows):
        return Said("No tasks were created in these days.")
    now = sum(row["created_tasks"] for row in last) / len(last)
    finding = f"{number(round(now))} tasks a day were created {_in(last)}"
    if before:
        finding += f", {_than(now, sum(row['created_tasks'] for row in before) / len(before))}"
    immature = sum(not row["is_mature"] for row in rows)
    note = "Paler bars are of days whose tasks are still moving: their outcomes change." if immature else ""
    return Said(f"{finding}.", note, _one("tasks_by_phase", finding))


def _failure_rate(rows: list[Row], scope: Scope) -> Said:
    now, before = rows[0], rows[7] if len(rows) > 7 else None
    rate = now["failure_rate_of_7_days"]
    if rate is None:
        return Said("Too few tasks ended in the last seven days to tell a failure rate.")
    if before is None or before["failure_rate_of_7_days"] is None:
        finding = f"{percent(rate)} of tasks failed {_in(rows[:7])}"
    else:
        then = before["failure_rate_of_7_days"]
        is_chance = (
            before["low_failure_rate_of_7_days"] <= now["high_failure_rate_of_7_days"]
            and now["low_failure_rate_of_7_days"] <= before["high_failure_rate_of_7_days"]
        )
        if is_chance:
            finding = (
                f"Failure rate stayed near {percent(rate)} {_in(rows[:7])}: "
                f"{percent(then)} in the 7 before is within chance"
            )
        else:
            moved = "rose" if rate > then else "fell"
            finding = f"Failure rate {moved} to {percent(rate)} {_in(rows[:7])}, from {percent(then)} in the 7 before"
    note = "A dot is a day with its 95 % confidence band (Wilson); hollow while tasks of the day are still moving."
    return Said(f"{finding}.", note, _one("failure_rate", finding))


def _durations(rows: list[Row], scope: Scope) -> Said:
    by_type: dict[str, list[Row]] = {}
    for row in rows:
        by_type.setdefault(row["type"], []).append(row)
    charts, findings = [], []
    for type_, of_type in by_type.items():
        charts.append(Chart("durations", said := _slower(type_, of_type, scope), said, type_))
        findings.append(said)
    if not findings:
        return Said("No task completed in these days.")
    return Said(
        f"{findings[0]}.", "Created to finished, by day of creation; of uploads it includes the user's upload.", charts
    )


def _slower(type_: str, rows: list[Row], scope: Scope) -> str:
    last = [row for row in rows if (scope["last_day"] - row["day"]).days < 7 and row["p95_turnaround_seconds"]]
    before = [row for row in rows if 7 <= (scope["last_day"] - row["day"]).days < 14 and row["p95_turnaround_seconds"]]
    if not last:
        return f"{type_}: too few tasks completed in the last seven days for a p95"
    now = median(row["p95_turnaround_seconds"] for row in last)
    said = f"{type_}: on a usual day of the last 7, 95 % were done in {duration(now)}"
    if not before:
        return said
    then = median(row["p95_turnaround_seconds"] for row in before)
    share = now / then - 1
    if abs(share) < 0.005:
        return f"{said}, as in the 7 before"
    return f"{said}, {abs(share) * 100:.0f} % {'slower' if share > 0 else 'faster'} than in the 7 before"


SECTIONS = (
    Section("volume", "Volume", (Figure("daily_tasks", "Tasks by day of creation and what became of them", _volume),)),
    Section("failures", "Failure rate", (Figure("failure_rate", "Failure rate by day of creation", _failure_rate),)),
    Section("durations", "Durations", (Figure("durations", "Turnaround by day of creation and type", _durations),)),
)


def _one(spec: str, label: str) -> list[Chart]:
    return [Chart(spec, label)]


def _two_weeks(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """The last seven days of a table of days, newest first, and the seven before where they are all there."""
    return rows[:7], rows[7:14] if len(rows) >= 14 else []


def _in(last: list[Row]) -> str:
    if len(last) == 1:
        return f"on {short_day(last[0]['day'])}"
    return f"in the last {len(last)} days"


def _than(now: float, before: float) -> str:
    said = change(now, before)
    return f"{said} as in the 7 before" if said == "the same" else f"{said} than in the 7 before"


def figures() -> Iterator[Figure]:
    """All figures of the page."""
    for section in SECTIONS:
        yield from section.figures


def answered(figure: Figure, answer: Answer, scope: Scope) -> Said:
    return figure.says(answer.rows, scope)
