"""The charts, in Vega-Lite by altair. None holds data: the page draws each from the rows of the table behind it.

Colours are custom properties of the page's style sheet, so that dark mode and print change them; they follow Okabe and
Ito's, which colour-blind people can tell apart. Axes of days are UTC because a day is a date, not a moment.
"""

import json
from collections.abc import Callable
from typing import Any

import altair as alt

Spec = dict[str, Any]
Drawing = Any  # a chart of altair: its classes share no type that tells what they can do

BLUE, RED, GREEN, ORANGE, GREY = (f"var(--{name})" for name in ("blue", "red", "green", "orange", "grey"))
PAPER, RULE, SOFT = "var(--paper)", "var(--rule)", "var(--soft)"

CONFIG: Spec = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "domainColor": RULE,
        "gridColor": RULE,
        "tickColor": RULE,
        "labelColor": SOFT,
        "titleColor": SOFT,
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 11,
    },
    "legend": {
        "orient": "top",
        "title": None,
        "labelColor": SOFT,
        "titleColor": SOFT,
        "labelFontSize": 12,
        "offset": 4,
        "columnPadding": 14,
        "titleLimit": 400,
    },
}

SECONDS_TICKS = [0.1, 1, 10, 60, 600, 3600, 36000, 345600]
SECONDS_LABEL = (
    "datum.value < 60 ? format(datum.value, '~g') + ' s' : datum.value < 3600 ? format(datum.value / 60, '~g') + ' min'"
    " : datum.value < 86400 ? format(datum.value / 3600, '~g') + ' h' : format(datum.value / 86400, '~g') + ' d'"
)
IS_MATURE = "datum.is_mature === 'yes'"


def tasks_by_phase() -> Drawing:
    """Tasks of a day, stacked by what has become of them; paler while they are moving."""
    phases = {"completed_tasks": BLUE, "failed_tasks": RED, "open_tasks": ORANGE, "other_tasks": GREY}
    return _stacked(phases, "tasks created").encode(
        opacity=alt.condition(IS_MATURE, alt.value(1), alt.value(0.5)),
        tooltip=[_day(), *(_number(field, _said(field)) for field in phases), _number("created_tasks", "created")],
    )


def failure_rate() -> Drawing:
    """The rate of each day with its band, and that of seven days."""
    domain = ["7 days up to the day", "day, 95 % band"]
    colour = alt.Color("series:N", scale=alt.Scale(domain=domain, range=[RED, BLUE]), legend=_LINES)
    base = alt.Chart().encode(
        x=_days(),
        tooltip=[
            _day(),
            _number("failure_rate", "failure rate", ".2%"),
            _number("low_failure_rate", "95 % band from", ".2%"),
            _number("high_failure_rate", "to", ".2%"),
            _number("failure_rate_of_7_days", "of 7 days", ".2%"),
            _number("failed_tasks", "failed"),
            _number("ended_tasks", "of ended"),
            alt.Tooltip("is_mature:N", title="mature"),
        ],
    )
    band = base.mark_rule(strokeWidth=2, opacity=0.4).encode(
        y=_share("low_failure_rate", "failed / ended tasks"), y2="high_failure_rate:Q", color=alt.value(BLUE)
    )
    dots = (
        base.transform_calculate(series=f"'{domain[1]}'")
        .mark_point(size=20, strokeWidth=1.5, opacity=1)
        .encode(
            y=_share("failure_rate", "failed / ended tasks"),
            color=colour,
            fill=alt.condition(IS_MATURE, alt.value(BLUE), alt.value(PAPER)),
        )
    )
    line = (
        base.transform_calculate(series=f"'{domain[0]}'")
        .mark_line(strokeWidth=2.5)
        .encode(y="failure_rate_of_7_days:Q", color=colour)
    )
    return alt.layer(band, dots, line).properties(height=220)


def failure_owners() -> Drawing:
    """Failed tasks of a day, stacked by who is to act."""
    owners = {"user_fault_tasks": BLUE, "platform_fault_tasks": RED, "unknown_fault_tasks": GREY}
    return _stacked(owners, "failed tasks").encode(
        tooltip=[_day(), *(_number(field, _said(field)) for field in owners), _number("failed_tasks", "failed")]
    )


def durations() -> Drawing:
    """Quantiles of a type by day, on a logarithmic scale."""
    quantiles = {
        "p50_turnaround_seconds": (BLUE, [1, 0]),
        "p95_turnaround_seconds": (ORANGE, [6, 2]),
        "p99_turnaround_seconds": (RED, [2, 2]),
    }
    axis = alt.Axis(values=SECONDS_TICKS, labelExpr=SECONDS_LABEL)
    lines = _lines(quantiles, alt.Y("value:Q", scale=alt.Scale(type="log"), title=None, axis=axis)).encode(
        tooltip=[
            _day(),
            *(_number(field, f"{_said(field)}, seconds", ",.4~r") for field in quantiles),
            _number("completed_tasks", "completed tasks"),
            alt.Tooltip("is_mature:N", title="mature"),
        ]
    )
    return lines.properties(usermeta={"shared": {"scale": "y", "fields": list(quantiles)}})


def attainment() -> Drawing:
    """The share that was done in time, of a day and of 28 days, beside the target."""
    domain = ["28 days up to the day", "day", "target"]
    colour = alt.Color("series:N", scale=alt.Scale(domain=domain, range=[RED, BLUE, GREY]), legend=_LINES)
    base = alt.Chart().encode(
        x=_days(),
        tooltip=[
            _day(),
            _number("attainment", "done in time", ".2%"),
            _number("good_tasks", "tasks"),
            _number("eligible_tasks", "of"),
            _number("window_attainment", "of 28 days", ".2%"),
            _number("error_budget_left", "error budget left", ".1%"),
            _number("burn_rate", "burn rate", ".3~r"),
        ],
    )
    target = (
        base.transform_calculate(series="'target'")
        .mark_line(strokeDash=[4, 3])
        .encode(y=_share("target_share", "done in time", alt.Scale(zero=False, domainMax=1)), color=colour)
    )
    dots = (
        base.transform_calculate(series="'day'")
        .mark_point(size=16, strokeWidth=1.5, opacity=1)
        .encode(
            y=_share("attainment", "done in time", alt.Scale(zero=False, domainMax=1)),
            color=colour,
            fill=alt.condition(IS_MATURE, alt.value(BLUE), alt.value(PAPER)),
        )
    )
    line = (
        base.transform_calculate(series="'28 days up to the day'")
        .mark_line(strokeWidth=2.5)
        .encode(y=_share("window_attainment", "done in time", alt.Scale(zero=False, domainMax=1)), color=colour)
    )
    return alt.layer(target, dots, line).properties(height=200)


def week_hours() -> Drawing:
    """Tasks created by hour and weekday: the darker, the more."""
    return (
        alt.Chart()
        .mark_rect(color=BLUE)
        .encode(
            x=alt.X("hour:O", title="hour of the day", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("weekday:O", title=None, sort=["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]),
            opacity=alt.Opacity(
                "mean_tasks:Q",
                scale=alt.Scale(zero=True, range=[0.04, 1]),
                legend=alt.Legend(title="tasks an hour", orient="top", symbolType="square", symbolFillColor=BLUE),
            ),
            tooltip=[
                alt.Tooltip("weekday:N"),
                alt.Tooltip("hour:O"),
                _number("mean_tasks", "tasks an hour", ",.3~r"),
                _number("created_tasks", "tasks"),
                _number("days", "in days"),
            ],
        )
        .properties(height=190)
    )


def media_minutes() -> Drawing:
    """Media minutes of a day."""
    return _bars("media_minutes", "media minutes").encode(
        tooltip=[
            _day(),
            _number("media_minutes", "media minutes", ",.0f"),
            _number("completed_tasks", "completed tasks"),
            _number("source_bytes", "source bytes", ".3~s"),
        ]
    )


def busiest_hour() -> Drawing:
    """Tasks completed in the busiest hour of a day."""
    return _bars("busiest_hour_tasks", "tasks an hour").encode(
        tooltip=[_day(), _number("busiest_hour_tasks", "busiest hour"), _number("completed_tasks", "all day")]
    )


def open_tasks() -> Drawing:
    """Open tasks of a day: the most and the mean."""
    fields = {"peak_open_tasks": (RED, [1, 0]), "mean_open_tasks": (BLUE, [4, 2])}
    return _lines(fields, alt.Y("value:Q", title="open tasks")).encode(
        tooltip=[_day(), *(_number(field, _said(field), ",.4~r") for field in fields)]
    )


def concurrent_tasks() -> Drawing:
    """Tasks under way at once: the most and the mean of a day."""
    return _concurrent({})


def concurrent_tasks_and_limit() -> Drawing:
    """The same beside the limit, where one is set."""
    return _concurrent({"concurrency_limit": (GREY, [2, 2])})


def _concurrent(limit: dict[str, tuple[str, list[int]]]) -> Drawing:
    fields = {"peak_concurrent_tasks": (RED, [1, 0]), "mean_concurrent_tasks": (BLUE, [4, 2])} | limit
    return _lines(fields, alt.Y("value:Q", title="tasks under way")).encode(
        tooltip=[_day(), *(_number(field, _said(field), ",.4~r") for field in fields)]
    )


def rung_failures() -> Drawing:
    """The failure rate of each rung with its band."""
    base = alt.Chart().encode(
        y=alt.Y("rung:N", sort=None, title=None),
        tooltip=[
            alt.Tooltip("rung:N"),
            _number("failure_rate", "failure rate", ".2%"),
            _number("low_failure_rate", "95 % band from", ".2%"),
            _number("high_failure_rate", "to", ".2%"),
            _number("ended_tasks", "of ended"),
        ],
    )
    axis = alt.Axis(format=".1~%", tickCount=5)
    band = base.mark_rule(strokeWidth=3, opacity=0.4, color=BLUE).encode(
        x=alt.X("low_failure_rate:Q", title="failed / ended tasks", axis=axis), x2="high_failure_rate:Q"
    )
    dots = base.mark_point(filled=True, size=50, color=BLUE, opacity=1).encode(x="failure_rate:Q")
    return alt.layer(band, dots).properties(height=alt.Step(26))


def rung_speed() -> Drawing:
    """The real-time factor of each rung, p50 to p95."""
    base = alt.Chart().encode(
        y=alt.Y("rung:N", sort=None, title=None),
        tooltip=[
            alt.Tooltip("rung:N"),
            _number("p50_real_time_factor", "p50", ".3~r"),
            _number("p95_real_time_factor", "p95", ".3~r"),
            _number("tasks_with_real_time_factor", "tasks"),
        ],
    )
    reach = base.mark_rule(strokeWidth=3, opacity=0.4, color=BLUE).encode(
        x=alt.X("p50_real_time_factor:Q", title="server time / media duration, p50 to p95", axis=alt.Axis(tickCount=5)),
        x2="p95_real_time_factor:Q",
    )
    middle = base.mark_point(filled=True, size=50, color=BLUE, opacity=1).encode(x="p50_real_time_factor:Q")
    return alt.layer(reach, middle).properties(height=alt.Step(26))


def source_speed() -> Drawing:
    """The median real-time factor by kind and length of the source: the darker, the slower."""
    lengths = ["under 1 min", "1 to 5 min", "5 to 15 min", "15 to 60 min", "1 to 3 h", "3 h and more"]
    lengths_axis = alt.Axis(labelAngle=0, labelExpr="replace(datum.label, ' to ', '\N{EN DASH}')")  # fit for a phone
    return (
        alt.Chart()
        .mark_rect(color=RED)
        .encode(
            x=alt.X("length:O", sort=lengths, title="length of the source", axis=lengths_axis),
            y=alt.Y("source:N", sort=None, title=None),
            opacity=alt.Opacity(
                "p50_real_time_factor:Q",
                scale=alt.Scale(type="sqrt", range=[0.04, 1]),
                legend=alt.Legend(title="server time / media duration, p50", symbolType="square", symbolFillColor=RED),
            ),
            tooltip=[
                alt.Tooltip("source:N"),
                alt.Tooltip("length:N"),
                _number("p50_real_time_factor", "p50", ".3~r"),
                _number("p95_real_time_factor", "p95", ".3~r"),
                _number("completed_tasks", "tasks"),
            ],
        )
        .properties(height=alt.Step(20))
    )


def coverage() -> Drawing:
    """The share of a day's ended tasks that the archive saw before they ended."""
    bars = _bars("coverage", "seen before the end").encode(
        y=alt.Y("coverage:Q", title="seen before the end", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="~%")),
        tooltip=[
            _day(),
            _number("coverage", "seen before the end", ".1%"),
            _number("seen_open_tasks", "tasks"),
            _number("ended_tasks", "of ended"),
            _number("rescued_tasks", "rescued by a retry"),
        ],
    )
    return bars.properties(height=130)


CHARTS: dict[str, Callable[[], Drawing]] = {
    chart.__name__: chart
    for chart in (
        tasks_by_phase,
        failure_rate,
        failure_owners,
        durations,
        attainment,
        week_hours,
        media_minutes,
        busiest_hour,
        open_tasks,
        concurrent_tasks,
        concurrent_tasks_and_limit,
        rung_failures,
        rung_speed,
        source_speed,
        coverage,
    )
}


def as_dict(chart: Drawing, validate: bool = False) -> Spec:
    """A chart as wide as its place in the page; its data are called `rows`.

    Validating takes longer than all else: a test does that.
    """
    drawn: Spec = chart.properties(width="container", data=alt.NamedData("rows")).to_dict(validate=validate)
    return drawn | {"config": CONFIG}


_LINES = alt.Legend(symbolType="stroke", symbolStrokeWidth=3)


def _days() -> alt.X:
    """The axis of days."""
    axis = alt.Axis(format="%-d %b", labelOverlap="greedy", labelSeparation=6, grid=False)
    return alt.X("day:T", timeUnit="utcyearmonthdate", title=None, axis=axis)


def _day() -> alt.Tooltip:
    return alt.Tooltip("day:T", timeUnit="utcyearmonthdate", title="day", format="%a %-d %b %Y")


def _number(field: str, title: str, form: str = ",") -> alt.Tooltip:
    return alt.Tooltip(f"{field}:Q", title=title, format=form)


def _said(field: str) -> str:
    """A column as a legend says it: p95_turnaround_seconds is p95, user_fault_tasks is user."""
    said = field
    for end in ("_turnaround_seconds", "_fault_tasks", "_open_tasks", "_concurrent_tasks", "_tasks"):
        said = said.removesuffix(end)
    return said.replace("_", " ")


def _share(field: str, title: str, scale: alt.Scale | None = None) -> alt.Y:
    return alt.Y(f"{field}:Q", title=title, axis=alt.Axis(format=".1~%", tickCount=5), scale=scale or alt.Undefined)


def _series(chart: Drawing, fields: list[str]) -> Drawing:
    """The fields as rows: `value`, and `series` with what the legend says."""
    names = "{" + ", ".join(f"{field}: '{_said(field)}'" for field in fields) + "}[datum.field]"
    return chart.transform_fold(fields, as_=["field", "value"]).transform_calculate(
        series=names, place=f"indexof({json.dumps(fields)}, datum.field)"
    )


def _stacked(colours: dict[str, str], title: str) -> Drawing:
    """Bars of days, the first field at the bottom."""
    scale = alt.Scale(domain=[_said(field) for field in colours], range=list(colours.values()))
    return (
        _series(alt.Chart(), list(colours))
        .mark_bar(binSpacing=1)
        .encode(
            x=_days(),
            y=alt.Y("value:Q", title=title, axis=alt.Axis(tickCount=5)),
            color=alt.Color("series:N", scale=scale),
            order="place:Q",
        )
        .properties(height=200)
    )


def _lines(fields: dict[str, tuple[str, list[int]]], y: alt.Y) -> Drawing:
    """Lines of days, told apart by colour and by dashes."""
    domain = [_said(field) for field in fields]
    colours, dashes = [colour for colour, _ in fields.values()], [dash for _, dash in fields.values()]
    return (
        _series(alt.Chart(), list(fields))
        .mark_line(strokeWidth=2, point={"size": 12})  # a day between two without a number is a dot
        .encode(
            x=_days(),
            y=y,
            color=alt.Color("series:N", scale=alt.Scale(domain=domain, range=colours), legend=_LINES),
            strokeDash=alt.StrokeDash("series:N", scale=alt.Scale(domain=domain, range=dashes), legend=_LINES),
        )
        .properties(height=170)
    )


def _bars(field: str, title: str) -> Drawing:
    return (
        alt.Chart()
        .mark_bar(binSpacing=1, color=BLUE)
        .encode(x=_days(), y=alt.Y(f"{field}:Q", title=title, axis=alt.Axis(tickCount=5)))
        .properties(height=150)
    )
