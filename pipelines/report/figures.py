"""What the page says: its sections, and for each figure the finding above it and its charts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median
from typing import Any

from pipelines.report.formatting import change, command, counted, duration, mended_by, number, percent, short_day
from pipelines.report.queries import Row

Scope = dict[str, Any]

WEEKS_TO_JUDGE = 2  # see the table anomalies
SEEN_WELL = 0.9  # coverage from which the history is called seen


@dataclass(frozen=True)
class Chart:
    """A chart of a figure: its name in charts.py, what it shows, a column that it draws, and the values of columns that
    it draws only the rows of. With less than two values in the column it is left out: the table says as much."""

    spec: str
    heading: str
    draws: str
    only: Mapping[str, str] = field(default_factory=dict)

    def rows(self, rows: list[Row]) -> list[Row]:
        """Of a table's rows, those that it draws."""
        return [row for row in rows if self.only.items() <= row.items()]

    def has_points(self, rows: list[Row]) -> bool:
        return sum(row[self.draws] is not None for row in self.rows(rows)) > 1


@dataclass(frozen=True)
class Finding:
    """What is said of a query's rows: the finding, what to mind, the charts of it; and whether the rows tell anything.

    Without charts the table is shown.
    """

    finding: str
    note: str = ""
    charts: tuple[Chart, ...] = ()
    is_telling: bool = True


@dataclass(frozen=True)
class Figure:
    """A query's table with its charts and what they say. `shows`: the columns shown; none: all."""

    query: str
    caption: str
    says: Callable[[list[Row], Scope], Finding]
    shows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    id: str
    heading: str
    figures: tuple[Figure, ...]


def _by_type(rows: list[Row], scope: Scope) -> Finding:
    on, created = short_day(scope["last_day"]), rows[0]["created_tasks"]
    if not created:
        return Finding(f"No task was created on {on}.")
    types = sum(row["created_tasks"] > 0 for row in rows[1:])
    return Finding(
        f"{counted(created, 'task')} of {counted(types, 'type')} {'was' if created == 1 else 'were'} created on {on}."
    )


def _volume(rows: list[Row], scope: Scope) -> Finding:
    if not any(row["created_tasks"] for row in rows):
        return _nothing("No task was created in these days.")
    finding = _a_day(rows, "created_tasks", "tasks a day were created")
    note = "Paler: tasks of the day are still moving, their outcomes change." if not rows[0]["is_mature"] else ""
    return Finding(f"{finding}.", note, (Chart("tasks_by_phase", "Tasks by day of creation", "created_tasks"),))


def _failure_rate(rows: list[Row], scope: Scope) -> Finding:
    charts = (Chart("failure_rate", "Failure rate by day of creation", "failure_rate"),)
    now, before = rows[0], rows[7] if len(rows) >= 14 else {}
    rate, then = now["failure_rate_of_7_days"], before.get("failure_rate_of_7_days")
    if rate is None:
        return Finding("Too few tasks ended in the last 7 days to tell a failure rate.", "", charts)
    if then is None:
        finding = f"{percent(rate)} of tasks failed {_last(rows)}"
    elif _overlap(now, before):
        finding = f"{percent(rate)} of tasks failed {_last(rows)}; {percent(then)} in the 7 before is within chance"
    else:
        finding = (
            f"Failure rate {_rose(rate, then)} to {percent(rate)} {_last(rows)}, from {percent(then)} in the 7 before"
        )
    if now["failure_rate"] is not None and before.get("failure_rate") is not None:
        finding += (
            f"; {short_day(now['day'])} {percent(now['failure_rate'])}, a week before {percent(before['failure_rate'])}"
        )
    note = "A dot is a day with its 95 % confidence band; hollow while tasks of the day are still moving."
    return Finding(f"{finding}.", note, charts)


def _owners(rows: list[Row], scope: Scope) -> Finding:
    last = rows[:7]
    failed = sum(row["failed_tasks"] for row in last)
    if not failed:
        return _nothing(f"No task created {_last(rows)} has failed.")
    shares = {
        owner: sum(row[f"{owner}_fault_tasks"] for row in last) / failed for owner in ("user", "platform", "unknown")
    }
    said = f"{percent(shares['user'])} were caused by the user, {percent(shares['platform'])} by the platform"
    if shares["unknown"]:
        said += f", {percent(shares['unknown'])} of unknown owner"
    chart = Chart("failure_owners", "Failed tasks by who is to act", "failed_tasks")
    return Finding(f"Of {counted(failed, 'failure')} {_last(rows)}, {said}.", "", (chart,))


def _signatures(rows: list[Row], scope: Scope) -> Finding:
    if not rows:
        return _nothing("No task failed in these days.")
    first = rows[0]
    if not first["failed_tasks_last_7_days"]:
        return Finding(f"No task failed in the last 7 days; {counted(len(rows), 'kind')} of failure before.")
    return Finding(
        f"Most often in the last 7 days: \N{LEFT DOUBLE QUOTATION MARK}{_cut(first['template'])}"
        f"\N{RIGHT DOUBLE QUOTATION MARK} of {first['type']}, {counted(first['failed_tasks_last_7_days'], 'time')} "
        f"({number(first['failed_tasks_7_days_before'])} in the 7 before), {mended_by(first['owner'])}.",
        "What differs from task to task is taken out of the texts. Trend: failures by day, the newest at the right.",
    )


def _durations(rows: list[Row], scope: Scope) -> Finding:
    newest = {row["type"]: row for row in reversed(rows)}
    if not newest:
        return _nothing("No task completed in these days.")
    types = list(dict.fromkeys(row["type"] for row in rows))
    charts = tuple(
        Chart("durations", f"{type_}: {_p95(newest[type_])}", "p50_turnaround_seconds", {"type": type_})
        for type_ in types
    )
    compared = [said for type_ in types if (said := _slower(newest[type_]))]
    note = "Created to finished, by day of creation, on a logarithmic scale; of uploads it includes the user's upload."
    finding = (
        f"p95 turnaround of the last 7 days beside the 7 before: {'; '.join(compared)}."
        if compared
        else f"{charts[0].heading}; nothing to compare with yet."
    )
    return Finding(finding, note, charts)


def _p95(row: Row) -> str:
    p95, n = row["p95_of_7_days_seconds"], row["completed_tasks_of_7_days"] or 0
    if p95 is None:
        return "too few tasks completed in the last 7 days for a p95"
    return f"p95 of {duration(p95)} in the last 7 days, of {counted(n, 'task')}"


def _slower(row: Row) -> str:
    """Two weeks of a type beside each other; empty where one has no p95."""
    now, then = row["p95_of_7_days_seconds"], row["p95_of_7_days_seconds_before"]
    if now is None or then is None:
        return ""
    share = now / then - 1
    said = "as before" if abs(share) < 0.005 else f"{abs(share) * 100:.0f} % {'slower' if share > 0 else 'faster'}"
    if row["p95_of_7_days_may_be_chance"] and said != "as before":
        said += ", which may be chance"
    n = f"{row['completed_tasks_of_7_days']:,} and {row['completed_tasks_of_7_days_before']:,} tasks"
    return f"{row['type']} {said} ({n})"


def _slo(rows: list[Row], scope: Scope) -> Finding:
    if not rows:
        return _nothing("No target is set for these tasks: TASK_ARCHIVE_SLO sets one, such as `upload: 95% under 10m`.")
    newest = {row["type"]: row for row in reversed(rows)}
    charts = tuple(
        Chart(
            "attainment",
            f"{type_}: {percent(row['target_share'])} under {duration(row['target_seconds'])}",
            "window_attainment",
            {"type": type_},
        )
        for type_, row in sorted(newest.items())
    )
    said = []
    for type_, row in sorted(newest.items()):
        if row["window_attainment"] is None:
            said.append(f"{type_}: too few tasks in 28 days")
            continue
        left = row["error_budget_left"]
        budget = (
            f"{percent(left)} of the error budget is left"
            if left >= 0
            else f"the error budget is overspent {number(1 - left)} times"
        )
        said.append(
            f"{type_}: {percent(row['window_attainment'])} in 28 days were done under "
            f"{duration(row['target_seconds'])}, the target is {percent(row['target_share'])}; {budget}"
        )
    return Finding(f"{'; '.join(said)}.", "A failure counts against the target unless it is the user's.", charts)


def _week(rows: list[Row], scope: Scope) -> Finding:
    if len(rows) < 7 * 24:
        return _nothing("The hours of the week can be told apart after a week.")
    if not any(row["created_tasks"] for row in rows):
        return _nothing("No task was created in these days.")
    chart = Chart("week_hours", "Tasks created by weekday and hour", "created_tasks")
    note = f"Mean tasks created in each hour of the week, in {scope['time_zone']}."
    most, least = (pick(rows, key=lambda row: row["median_tasks"]) for pick in (max, min))
    if not most["median_tasks"]:
        return Finding("No hour of the week usually has a task.", note, (chart,))
    said = (
        f"Usually most tasks come {most['weekday']} at {most['hour']:02}:00, {number(most['median_tasks'])} an hour; "
        f"fewest {least['weekday']} at {least['hour']:02}:00, {number(least['median_tasks'])} (medians)"
    )
    return Finding(f"{said}.", note, (chart,))


def _throughput(rows: list[Row], scope: Scope) -> Finding:
    if not any(row["completed_tasks"] for row in rows):
        return _nothing("No task completed in these days.")
    finding = _a_day(rows, "media_minutes", "media minutes a day were processed")
    peak = max(rows, key=lambda row: row["busiest_hour_tasks"])
    note = f"Most tasks completed in an hour: {number(peak['busiest_hour_tasks'])}, on {short_day(peak['day'])}."
    return Finding(
        f"{finding}.",
        note,
        (
            Chart("media_minutes", "Media minutes by day of the end", "media_minutes"),
            Chart("busiest_hour", "Busiest hour of the day", "busiest_hour_tasks"),
        ),
    )


def _backlog(rows: list[Row], scope: Scope) -> Finding:
    if not any(row["peak_open_tasks"] for row in rows):
        return _nothing("No task was open at a full hour of these days.")
    peak = max(rows[:7], key=lambda row: row["peak_open_tasks"])
    usual = median(row["peak_open_tasks"] for row in rows)
    finding = (
        f"At most {counted(peak['peak_open_tasks'], 'task')} were open at a full hour {_last(rows)}, on "
        f"{short_day(peak['day'])}; {number(usual)} on a usual day of the report"
    )
    note = "Uploads that never came are left out once they are abandoned."
    return Finding(f"{finding}.", note, (Chart("open_tasks", "Open tasks at the full hours", "peak_open_tasks"),))


def _concurrency(rows: list[Row], scope: Scope) -> Finding:
    if scope["type"]:
        return _nothing("Concurrency is of all types together: make the report without --type.")
    if not rows:
        return _nothing("No task was under way in these days.")
    peak = max(rows[:7], key=lambda row: row["peak_concurrent_tasks"])
    finding = (
        f"At most {counted(peak['peak_concurrent_tasks'], 'task')} were under way at once {_last(rows)}, on "
        f"{short_day(peak['day'])}"
    )
    limit = peak["concurrency_limit"]
    finding += f": {percent(peak['share_of_limit'])} of the limit of {number(limit)}" if limit else ""
    note = "Scheduled to finished: tasks that wait in the queue count as under way, stuck ones until they were stuck."
    note += "" if limit else " No limit is set: TASK_ARCHIVE_CONCURRENCY_LIMIT."
    spec = "concurrent_tasks_and_limit" if limit else "concurrent_tasks"
    return Finding(f"{finding}.", note, (Chart(spec, "Tasks under way at once", "peak_concurrent_tasks"),))


def _ladder(rows: list[Row], scope: Scope) -> Finding:
    if not rows:
        return _nothing("No task asked for renditions.")
    only, of_account = _first(rows, scope)
    name = f"{rows[0]['type']}{of_account}"
    rated = [row for row in rows if only.items() <= row.items() and row["failure_rate"] is not None]
    charts = (
        Chart("rung_failures", f"{name}: failure rate by rung", "failure_rate", only),
        Chart("rung_speed", f"{name}: real-time factor by rung", "p50_real_time_factor", only),
    )
    note = "Of the whole archive. A task counts in each of its rungs: what is asked together fails together."
    if not rated:
        return Finding(f"Too few tasks of {name} ended to tell the rungs apart.", note)
    worst, best = (pick(rated, key=lambda row: row["failure_rate"]) for pick in (max, min))
    finding = (
        f"{name}: of the rungs, {worst['rung']} fails most, {percent(worst['failure_rate'])}, and {best['rung']} "
        f"least, {percent(best['failure_rate'])}"
    )
    if worst["low_failure_rate"] <= best["high_failure_rate"]:
        finding = f"{name}: the rungs fail alike, {percent(best['failure_rate'])} to {percent(worst['failure_rate'])}"
    return Finding(f"{finding}.", note, charts)


def _sources(rows: list[Row], scope: Scope) -> Finding:
    if not rows:
        return _nothing("No completed task has a probed source.")
    (only, of_account), most = _first(rows, scope), rows[0]
    timed = [row for row in rows if row["account"] == most["account"] and row["p50_real_time_factor"] is not None]
    share = f"{percent(most['share'])} of completed tasks{of_account}"
    finding = f"Most often {most['source']} of {most['length']} comes in, {share}"
    charts: tuple[Chart, ...] = ()
    if timed:
        slow = max(timed, key=lambda row: row["p50_real_time_factor"])
        factor = number(slow["p50_real_time_factor"])
        finding += f"; slowest for its length is {slow['source']} of {slow['length']}, {factor} s a second of media"
        charts = (Chart("source_speed", f"{most['type']}{of_account}: speed by source", "p50_real_time_factor", only),)
    return Finding(f"{finding}.", "Of the whole archive. Failed tasks have no probe: they do not show here.", charts)


def _anomalies(rows: list[Row], scope: Scope) -> Finding:
    judged_from = scope["first_day"] + WEEKS_TO_JUDGE * timedelta(weeks=1)
    if judged_from > scope["last_day"]:
        return _nothing(
            f"What is unusual cannot be judged yet: the first day with {WEEKS_TO_JUDGE} weeks before it is "
            f"{short_day(judged_from)}."
        )
    since = f" Days before {short_day(judged_from)} have too little before them to be judged."
    unjudged = since if judged_from > scope["from_day"] else ""
    if not rows:
        return _nothing(f"Nothing was far from its weekday's usual in these days.{unjudged}")
    last = sum((scope["last_day"] - row["day"]).days < 7 for row in rows)
    finding = "1 anomaly" if last == 1 else f"{last or 'No'} anomalies"
    return Finding(
        f"{finding} in the last 7 days.",
        f"Days and hours far from the median of the same weekday in the 8 weeks before.{unjudged}",
    )


def _slowest(rows: list[Row], scope: Scope) -> Finding:
    if not rows:
        return _nothing("No task completed in the last 7 days.")
    first = rows[0]
    return Finding(
        f"The slowest of the last 7 days took the server {duration(first['server_time_seconds'])}.",
        f"`{command('task', first['task_id'])}` tells all that is known of a task.",
    )


def _stuck(rows: list[Row], scope: Scope) -> Finding:
    if not rows:
        return _nothing("No task is stuck.")
    of_tasks, first = rows[0]["of_tasks"], rows[0]
    are = "is" if of_tasks == 1 else "are"
    shown = f" The {len(rows)} longest silent are shown." if of_tasks > len(rows) else ""
    return Finding(
        f"{counted(of_tasks, 'task')} {are} stuck, silent for up to {duration(first['silent_seconds'])}.",
        f"`{command('refresh', first['task_id'])}` asks the API for one of them again.{shown}",
    )


def _coverage(rows: list[Row], scope: Scope) -> Finding:
    last = rows[:7]
    ended, seen = (sum(row[name] for row in last) for name in ("ended_tasks", "seen_open_tasks"))
    if not ended:
        return _nothing(f"No task ended {_last(rows)}.")
    finding = f"The archive saw {percent(seen / ended)} of tasks before they ended {_last(rows)}"
    note = (
        "Of the others it knows how they ended, not how long they waited and which attempts failed: "
        "`task-archive observe --every 5m` sees more."
    )
    chart = Chart("coverage", "Tasks seen before they ended", "coverage")
    charts = (chart,) if any(row["coverage"] for row in rows) else ()
    return Finding(f"{finding}.", "" if seen / ended >= SEEN_WELL else note, charts)


def _loads(rows: list[Row], scope: Scope) -> Finding:
    whole = sum(row["verdict"] == "whole" for row in rows)
    if whole == len(rows):
        return Finding(
            f"Each of the last {counted(len(rows), 'load')} was proven whole."
            if len(rows) > 1
            else "The only load was proven whole."
        )
    return Finding(f"{len(rows) - whole} of the last {counted(len(rows), 'load')} had a gap in the proof.")


SECTIONS = (
    Section(
        "types",
        "By type",
        (
            Figure(
                "yesterday",
                "The last day and the same weekday before, by type",
                _by_type,
                shows=(
                    "type",
                    "created_tasks",
                    "created_tasks_before",
                    "ended_tasks",
                    "failure_rate",
                    "failure_rate_before",
                    "completed_tasks",
                    "p95_turnaround_seconds",
                    "p95_turnaround_seconds_before",
                    "media_minutes",
                    "media_minutes_before",
                ),
            ),
        ),
    ),
    Section("volume", "Volume", (Figure("daily_tasks", "Tasks by day of creation and what became of them", _volume),)),
    Section(
        "failures",
        "Failures",
        (
            Figure(
                "failure_rate",
                "Failure rate by day of creation, with its 95 % confidence band",
                _failure_rate,
                shows=(
                    "day",
                    "failed_tasks",
                    "ended_tasks",
                    "failure_rate",
                    "low_failure_rate",
                    "high_failure_rate",
                    "failure_rate_of_7_days",
                    "platform_fault_rate",
                    "is_mature",
                ),
            ),
            Figure("failure_owners", "Failed tasks by day of creation and by who is to act", _owners),
            Figure("signatures", "Failures by error signature", _signatures),
        ),
    ),
    Section(
        "durations",
        "Durations",
        (
            Figure(
                "durations",
                "Durations by day of creation and type",
                _durations,
                shows=(
                    "day",
                    "type",
                    "completed_tasks",
                    "p50_turnaround_seconds",
                    "p95_turnaround_seconds",
                    "p99_turnaround_seconds",
                    "p95_server_time_seconds",
                    "is_mature",
                ),
            ),
        ),
    ),
    Section("slo", "Targets", (Figure("slo", "Tasks done in time by day of creation and type", _slo),)),
    Section(
        "load",
        "Load",
        (
            Figure("throughput", "Completed tasks by day of the end", _throughput),
            Figure("week_hours", "Tasks created by weekday and hour", _week),
            Figure("backlog", "Open tasks at the full hours, by day", _backlog),
            Figure("concurrency", "Tasks under way at once, by day", _concurrency),
            Figure(
                "anomalies",
                "Anomalies",
                _anomalies,
                shows=("started_at", "account", "grain", "type", "reason", "robust_z"),
            ),
        ),
    ),
    Section(
        "media",
        "Media",
        (
            Figure("ladder", "Tasks by the rungs of the ladder that they asked for", _ladder),
            Figure("sources", "Completed tasks by their source", _sources),
        ),
    ),
    Section(
        "tasks",
        "Slow and stuck tasks",
        (
            Figure("slowest", "The slowest completed tasks of the last 7 days", _slowest),
            Figure("stuck", "Tasks that are stuck", _stuck),
        ),
    ),
    Section(
        "archive",
        "The archive",
        (
            Figure("coverage", "Tasks that the archive saw before they ended, by day of the end", _coverage),
            Figure("last_loads", "The last loads and their proofs", _loads),
        ),
    ),
)


def _nothing(finding: str) -> Finding:
    """A sentence that says it all."""
    return Finding(finding, is_telling=False)


def _first(rows: list[Row], scope: Scope) -> tuple[dict[str, str], str]:
    """Of rows by type and account, a filter for those like the first; and whose they are, in words."""
    only, account = {"type": rows[0]["type"]}, rows[0]["account"]
    return (only | {"account": account}, f" of account {account}") if len(scope["accounts"]) > 1 else (only, "")


def _last(rows: list[Row]) -> str:
    """The days that findings speak of: the last seven of a table of days, newest first."""
    last = rows[:7]
    return f"on {short_day(last[0]['day'])}" if len(last) == 1 else f"in the last {len(last)} days"


def _a_day(rows: list[Row], column: str, what: str) -> str:
    """The daily mean of the last days beside that of the days before."""
    last, before = rows[:7], rows[7:14]
    now = sum(row[column] for row in last) / len(last)
    a_day = what if len(last) > 1 else what.replace(" a day", "")
    said = f"{number(now if now < 10 else round(now))} {a_day} {_last(rows)}"
    then = sum(row[column] for row in before) / 7
    if len(before) < 7 or not then:
        return said
    than = change(now, then)
    return f"{said}, {than} {'as in' if 'same' in than or 'times' in than else 'than in'} the 7 before"


def _overlap(one: Row, other: Row) -> bool:
    """Whether two rates of seven days lie in each other's confidence bands: the difference may be chance."""
    return bool(
        one["low_failure_rate_of_7_days"] <= other["high_failure_rate_of_7_days"]
        and other["low_failure_rate_of_7_days"] <= one["high_failure_rate_of_7_days"]
    )


def _rose(now: float, then: float) -> str:
    return "rose" if now > then else "fell"


def _cut(text: str, length: int = 90) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}\N{HORIZONTAL ELLIPSIS}"
