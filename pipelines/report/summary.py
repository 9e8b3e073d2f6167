"""The first screen: whether the archive is whole and fresh, and yesterday beside the same weekday before."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from markupsafe import Markup

from pipelines.report.formatting import (
    caused_by,
    change,
    command,
    counted,
    duration,
    moment,
    number,
    percent,
    sparkline,
)
from pipelines.report.queries import Row
from pipelines.text import age

TREND_DAYS = 28
LATE = timedelta(hours=26)  # a nightly run and its time to run


@dataclass(frozen=True)
class Verdict:
    """Whether an account is whole and fresh, in words."""

    headline: str
    lines: list[str]
    is_well: bool


@dataclass(frozen=True)
class Tile:
    """A number of yesterday. `judgement`: better, worse or empty; `trend`: a line of the last four weeks."""

    name: str
    number: str
    change: str
    of: str
    judgement: str = ""
    trend: Markup = field(default_factory=Markup)


def verdict(row: Row, now: datetime, zone: ZoneInfo) -> Verdict:
    """The words for a row of sql/report/freshness.sql."""
    proven, account = row["proven_until_at"], row["account"]
    is_whole = row["last_verdict"] == "whole" and not row["damaged_files"]
    is_fresh = proven is not None and now - proven < LATE
    if proven is None:
        headline = f"Not proven: no load of account {account} has shown that it holds everything."
    else:
        state = "Whole" if is_whole else "Not proven" if row["last_verdict"] == "broken" else "With a gap"
        late = "fresh" if is_fresh else f"late, by {age((now - proven).total_seconds())}"
        headline = (
            f"{state} and {late}: the archive is proven to hold every change of account {account} up to "
            f"{moment(proven, zone)} ({zone.key})."
        )
    lines = []
    if row["missing_tasks"]:
        lines.append(f"Missing: {counted(row['missing_tasks'], 'task')} that the server could not give.")
    if row["damaged_files"]:
        lines.append(f"Missing: {counted(row['damaged_files'], 'landed file')}, see `task-archive verify --landing`.")
    if row["reasons"]:
        lines.append(f"What the proof lacks: {row['reasons']}.")
    swept = row["last_whole_sweep_at"]
    abandoned = f", of which {row['abandoned_tasks']:,} are uploads that never came" if row["abandoned_tasks"] else ""
    lines.append(
        f"Last load: {row['last_lane']}, complete {moment(row['last_load_at'], zone)}, verdict {row['last_verdict']}. "
        f"Last whole sweep: {moment(swept, zone) if swept else 'never'}. "
        f"Tasks held: {row['tasks']:,}, open: {row['open_tasks']:,}{abandoned}."
    )
    return Verdict(headline, lines, is_whole and is_fresh)


def tiles(ask: Callable[[str], list[Row]], better: dict[str, str], scope: Row) -> list[Tile]:
    """Yesterday's numbers, of the rows that queries of sql/report give.

    `better` says of a metric whether lower or higher is better, or neither.
    """
    total, *types = ask("yesterday")
    main = max(types, key=lambda row: row["completed_tasks"], default=total)
    created = total["created_tasks"], total["created_tasks_before"]
    p95 = main["p95_turnaround_seconds"], main["p95_turnaround_seconds_before"]
    minutes = total["media_minutes"] or 0, total["media_minutes_before"] or 0
    found = [
        _amount("tasks created", created, number, "neither", f"{total['ended_tasks']:,} ended so far"),
        _share(
            "failure rate",
            (total["failure_rate"], total["failure_rate_before"]),
            better["failure_rate"],
            f"{total['failed_tasks']:,} of {total['ended_tasks']:,} ended",
            total["failure_rate_may_be_chance"],
        ),
        _amount(
            f"p95 turnaround, {main['type']}",
            p95,
            duration,
            better["p95_turnaround_seconds"],
            f"of {counted(main['completed_tasks'], 'completed task')}",
            main["p95_turnaround_seconds_may_be_chance"],
        ),
        _amount(
            "media minutes",
            minutes,
            lambda value: number(round(value)),
            better["media_minutes"],
            f"{counted(total['tasks_with_duration'], 'task')} with media",
        ),
    ]
    p95s = [row for row in ask("durations") if row["type"] == main["type"]]
    lines = [
        _trend(ask("daily_tasks"), "created_tasks", number),
        _trend(ask("failure_rate"), "failure_rate", percent),
        _trend(p95s, "p95_turnaround_seconds", duration),
        _trend(ask("throughput"), "media_minutes", number),
    ]
    return [*(replace(tile, trend=line) for tile, line in zip(found, lines, strict=True)), *_target(ask("slo"), scope)]


def _trend(rows: list[Row], column: str, shown: Callable[[float], str]) -> Markup:
    """A line of the last four weeks; of a table of days, the newest first."""
    values = [row[column] for row in rows[:TREND_DAYS]][::-1]
    return sparkline(values, shown) if sum(value is not None for value in values) > 1 else Markup("")


def _target(rows: list[Row], scope: Row) -> list[Tile]:
    """The type with a target of which most tasks were decided yesterday: judged by the target, not by the change."""
    of_day = [row for row in rows if row["day"] == scope["last_day"]]
    if not of_day:
        return []
    row = max(of_day, key=lambda row: row["eligible_tasks"])
    before = [each["attainment"] for each in rows if (each["type"], each["day"]) == (row["type"], scope["week_before"])]
    name = f"{row['type']} under {duration(row['target_seconds'])}"
    of = f"target {percent(row['target_share'])}, of {counted(row['eligible_tasks'], 'task')}"
    tile = _share(name, (row["attainment"], before[0] if before else None), "neither", of)
    if row["attainment"] is None:
        return [tile]
    is_met = row["attainment"] >= row["target_share"]
    said = f"{'met' if is_met else 'missed'}; {tile.change}"
    days = [each for each in rows if each["type"] == row["type"]]
    trend = _trend(days, "attainment", percent)
    return [replace(tile, change=said, judgement="better" if is_met else "worse", trend=trend)]


def _amount(
    name: str,
    values: tuple[float | None, float | None],
    shown: Callable[[float], str],
    better: str,
    of: str,
    may_be_chance: bool | None = False,
) -> Tile:
    """A number now, and by how much more or less it is than before."""
    now, then = values
    if now is None:
        return Tile(name, "too few", "", of)
    if not then:
        return Tile(name, shown(now), "nothing to compare with", of)
    said = change(now, then)
    if said == "the same":
        return Tile(name, shown(now), said, of)
    if may_be_chance:
        return Tile(name, shown(now), f"{_arrow(now, then)} {said}, may be chance", of)
    return Tile(name, shown(now), f"{_arrow(now, then)} {said}", of, _judged(now, then, better))


def _share(
    name: str, values: tuple[float | None, float | None], better: str, of: str, may_be_chance: bool | None = False
) -> Tile:
    """A share now, and what it was before."""
    now, then = values
    if now is None:
        return Tile(name, "too few", "", of)
    if then is None or now == then:
        return Tile(name, percent(now), "nothing to compare with" if then is None else "the same", of)
    moved = f"{_arrow(now, then)} from {percent(then)}"
    if may_be_chance:
        return Tile(name, percent(now), f"{moved}, may be chance", of)
    return Tile(name, percent(now), moved, of, _judged(now, then, better))


def _judged(now: float, then: float, better: str) -> str:
    return "" if better == "neither" else "better" if (now < then) == (better == "lower") else "worse"


def _arrow(now: float, then: float) -> str:
    return "\N{BLACK UP-POINTING TRIANGLE}" if now > then else "\N{BLACK DOWN-POINTING TRIANGLE}"


@dataclass(frozen=True)
class Change:
    """Something that changed: in words, free text of the API, and the command to look closer."""

    says: str
    quote: str = ""
    look: str = ""


# What is looked for, and how many of a kind are listed.
KINDS = {
    "missed_target": "missed target",
    "anomaly": "anomaly",
    "new_signature": "new kind of failure",
    "flip": "changed outcome",
    "late_end": "late end",
    "deletion": "deletion",
    "drift": "drift out of the contract",
    "stuck": "stuck task",
}
TOLD = 5


def changes(rows: list[Row], zone: ZoneInfo) -> list[Change]:
    """The words for rows of sql/report/changes.sql, incidents first; last what was looked for and not found."""
    said: list[Change] = []
    for kind, words in KINDS.items():
        of_kind = [row for row in rows if row["kind"] == kind]
        said += [_change(row, zone) for row in of_kind[:TOLD]]
        if len(of_kind) > TOLD:
            said.append(Change(f"{words.capitalize()}: and {len(of_kind) - TOLD} more."))
    absent = [f"no {words}" for kind, words in KINDS.items() if not any(row["kind"] == kind for row in rows)]
    if absent:
        said.append(Change(f"{'Otherwise ' if said else ''}{', '.join(absent)}.".capitalize()))
    return said


def _change(row: Row, zone: ZoneInfo) -> Change:
    since = moment(row["since_at"], zone) if row["since_at"] else ""
    example = command("task", row["example_task_id"] or "")
    tasks, one = counted(row["tasks"] or 0, "task"), row["tasks"] == 1
    match row["kind"]:
        case "new_signature":
            says = f"A new kind of failure, {caused_by(row['owner'])}, {tasks} since {since}:"
            return Change(says, row["what"], example)
        case "flip":
            says = f"{tasks} changed {'its' if one else 'their'} outcome after {'it' if one else 'they'} had ended"
            return Change(f"{says}: {row['what']}.", "", example)
        case "late_end":
            return Change(f"{tasks} {row['what']} late: days of before yesterday have other numbers now.", "", example)
        case "deletion":
            return Change(f"{tasks} {'was' if one else 'were'} deleted.", "", example)
        case "drift":
            times = counted(row["tasks"], "time")
            return Change(f"Outside the contract, {times} since {since}:", row["what"], command("query", "from drift"))
        case "missed_target":
            return Change(f"Target missed: {row['what']}.", "", command("query", "slo_by_day"))
        case "anomaly":
            return Change(f"Unusual: {row['what']}.")
    is_stuck = f"{tasks} {'is' if one else 'are'} stuck while {row['what']}, the oldest since {since}."
    return Change(is_stuck, "", command("query", "stuck_tasks"))
