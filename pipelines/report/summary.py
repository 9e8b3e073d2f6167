"""The first screen: whether the archive is whole and fresh, and yesterday beside the same weekday before."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pipelines.reading import age
from pipelines.report.words import change, counted, duration, moment, number, percent, short_day

LATE = timedelta(hours=26)  # a nightly run and its time to run

Row = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """Whether an account is whole and fresh, in words."""

    headline: str
    lines: list[str]
    is_well: bool


@dataclass(frozen=True)
class Tile:
    """A number of yesterday. `judgement` is better, worse or empty."""

    name: str
    number: str
    change: str
    of: str
    judgement: str = ""


def verdict(row: Row, now: datetime, zone: ZoneInfo) -> Verdict:
    """The words for a row of sql/report/freshness.sql."""
    proven = row["proven_until_at"]
    behind = None if proven is None else now.astimezone(UTC) - proven
    is_whole, is_fresh = row["verdict"] == "whole", behind is not None and behind < LATE
    if behind is None:
        headline = f"{row['account']}: nothing is proven yet"
    else:
        state = {"whole": "whole", "limited": "whole but for what is said below"}.get(row["verdict"], "not proven")
        late = "fresh" if is_fresh else f"late by {age(behind.total_seconds())}"
        headline = f"{row['account']}: {state}, and {late}: holds every change until {moment(proven, zone)}"
    lines = [
        f"Last load: {row['last_lane']}, complete {moment(row['last_load_at'], zone)}, verdict {row['verdict']}. "
        + (
            f"Last whole sweep: {moment(row['last_whole_sweep_at'], zone)}."
            if row["last_whole_sweep_at"]
            else "Never swept whole."
        )
    ]
    if row["missing_tasks"]:
        lines.append(f"{counted(row['missing_tasks'], 'task')} could not be had from the server.")
    if row["reasons"]:
        lines.append(f"What the proof lacks: {row['reasons']}.")
    lines.append(f"{counted(row['tasks'], 'task')}, {row['open_tasks']:,} of them open.")
    return Verdict(headline, lines, is_whole and is_fresh)


def tiles(rows: list[Row], scope: Row) -> list[Tile]:
    """Yesterday's numbers of rows of sql/report/yesterday.sql."""
    every = next((row for row in rows if row["type"] is None), None)
    if every is None:
        return []
    before = short_day(scope["week_before"])
    main = max((row for row in rows if row["type"] is not None), key=lambda row: row["completed_tasks"], default=every)
    return [
        _tile(
            "tasks created",
            number(every["created_tasks"]),
            every["created_tasks"],
            every["created_tasks_before"],
            before,
            "neither",
            f"{counted(every['ended_tasks'], 'task')} ended so far",
        ),
        _rate_tile(every, before),
        _p95_tile(main, before),
        _tile(
            "media minutes",
            number(round(every["media_minutes"] or 0)),
            every["media_minutes"] or 0,
            every["media_minutes_before"] or 0,
            before,
            "neither",
            f"{counted(every['tasks_with_duration'], 'task')} with media",
        ),
    ]


def _tile(name: str, shown: str, now: float, then: float, before: str, better: str, of: str) -> Tile:
    said = change(now, then)
    arrow = (
        "\N{BLACK UP-POINTING TRIANGLE} " if now > then else "\N{BLACK DOWN-POINTING TRIANGLE} " if now < then else ""
    )
    than = f"{arrow}{said}" if not then else f"{arrow}{said} {'as' if said == 'the same' else 'than'} {before}"
    judgement = (
        ""
        if better == "neither" or now == then or not then
        else "better"
        if (now < then) == (better == "lower")
        else "worse"
    )
    return Tile(name, shown, than, of, judgement)


def _rate_tile(row: Row, before: str) -> Tile:
    now, then = row["failure_rate"], row["failure_rate_before"]
    of = f"{row['failed_tasks']:,} of {row['ended_tasks']:,} ended"
    if now is None:
        return Tile("failure rate", "too few", "", of)
    if then is None:
        return Tile("failure rate", percent(now), "", of)
    arrow = (
        "\N{BLACK UP-POINTING TRIANGLE} from"
        if now > then
        else "\N{BLACK DOWN-POINTING TRIANGLE} from"
        if now < then
        else "as"
    )
    return Tile(
        "failure rate",
        percent(now),
        f"{arrow} {percent(then)} {before}",
        of,
        "" if now == then else "better" if now < then else "worse",
    )


def _p95_tile(row: Row, before: str) -> Tile:
    name = f"p95 turnaround, {row['type']}" if row["type"] else "p95 turnaround"
    now, then = row["p95_turnaround_seconds"], row["p95_turnaround_seconds_before"]
    of = f"of {counted(row['completed_tasks'], 'completed task')}"
    if now is None:
        return Tile(name, "too few", "", of)
    return _tile(name, duration(now), now, then or 0, before, "lower", of)
