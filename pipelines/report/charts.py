"""The charts, in Vega-Lite by altair. None holds data: the page draws each from the rows of the table behind it.

Colours are custom properties of the page's style sheet, so that dark mode and print change them; they are Okabe and
Ito's, which colour-blind people can tell apart. Axes of days are UTC because a day is a date, not a moment.
"""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import altair as alt

Spec = dict[str, Any]
Drawing = Any  # a chart of altair: its classes share no type that tells what they can do

BLUE, RED, GREEN, PINK, ORANGE, GREY = (f"var(--{name})" for name in ("blue", "red", "green", "pink", "orange", "grey"))
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
        "labelFontSize": 12,
        "symbolStrokeWidth": 2,
        "offset": 4,
        "columnPadding": 14,
    },
}

SECONDS_AXIS = (
    "datum.value < 60 ? format(datum.value, '~g') + ' s' : datum.value < 3600 ? format(datum.value / 60, '~g') + ' min'"
    " : datum.value < 86400 ? format(datum.value / 3600, '~g') + ' h' : format(datum.value / 86400, '~g') + ' d'"
)
SECONDS_TICKS = [0.1, 1, 10, 60, 600, 3600, 36000, 345600]


def days(title: str | None = None) -> alt.X:
    """The axis of days."""
    return alt.X(
        "day:T",
        timeUnit="utcyearmonthdate",
        title=title,
        axis=alt.Axis(format="%-d %b", labelOverlap="greedy", grid=False, tickCount={"interval": "week", "step": 1}),
    )


def tip(field: str, title: str, form: str = ",") -> alt.Tooltip:
    """A line of a tooltip."""
    if field == "day":
        return alt.Tooltip("day:T", timeUnit="utcyearmonthdate", title=title, format="%a %-d %b %Y")
    return alt.Tooltip(f"{field}:Q", title=title, format=form)


def tasks_by_phase() -> Drawing:
    """Tasks of a day, stacked by what has become of them; lighter while they are moving."""
    phases = {
        "completed_tasks": ("completed", BLUE),
        "failed_tasks": ("failed", RED),
        "open_tasks": ("open", ORANGE),
        "other_tasks": ("other", GREY),
    }
    names = "{" + ", ".join(f"'{field}': '{name}'" for field, (name, _) in phases.items()) + "}[datum.field]"
    return (
        alt.Chart()
        .transform_fold(list(phases), as_=["field", "tasks"])
        .transform_calculate(phase=names)
        .mark_bar(binSpacing=1)
        .encode(
            x=days(),
            y=alt.Y("tasks:Q", title="tasks created"),
            color=alt.Color(
                "phase:N",
                scale=alt.Scale(
                    domain=[name for name, _ in phases.values()], range=[colour for _, colour in phases.values()]
                ),
                sort=None,
            ),
            order=alt.Order("phase:N", sort="ascending"),
            opacity=alt.condition("datum.is_mature === 'yes'", alt.value(1), alt.value(0.5)),
            tooltip=[tip("day", "day"), alt.Tooltip("phase:N"), tip("tasks", "tasks"), tip("created_tasks", "of")],
        )
        .properties(height=220)
    )


def failure_rate() -> Drawing:
    """The rate of each day with its band, and that of seven days."""
    base = alt.Chart().encode(
        x=days(),
        tooltip=[
            tip("day", "day"),
            tip("failure_rate", "failure rate", ".2%"),
            tip("low_failure_rate", "95 % band, from", ".2%"),
            tip("high_failure_rate", "to", ".2%"),
            tip("failure_rate_of_7_days", "7 days up to it", ".2%"),
            tip("failed_tasks", "failed"),
            tip("ended_tasks", "of ended"),
            alt.Tooltip("is_mature:N", title="mature"),
        ],
    )
    series = alt.Color(
        "series:N",
        scale=alt.Scale(domain=["seven days", "day, with its 95 % band"], range=[RED, BLUE]),
    )
    rate = alt.Y("failure_rate:Q", title="failed / ended tasks", axis=alt.Axis(format=".1~%"))
    band = base.mark_rule(strokeWidth=2, opacity=0.35).encode(
        y=alt.Y("low_failure_rate:Q", title="failed / ended tasks", axis=alt.Axis(format=".1~%")),
        y2="high_failure_rate:Q",
        color=alt.value(BLUE),
    )
    dots = (
        base.transform_calculate(series="'day, with its 95 % band'")
        .mark_point(size=22, strokeWidth=1.5)
        .encode(
            y=rate,
            color=series,
            fill=alt.condition("datum.is_mature === 'yes'", alt.value(BLUE), alt.value(PAPER)),
        )
    )
    line = (
        base.transform_calculate(series="'seven days'")
        .mark_line(strokeWidth=2.5)
        .encode(y=alt.Y("failure_rate_of_7_days:Q"), color=series)
    )
    return alt.layer(band, dots, line).properties(height=240)


def durations() -> Drawing:
    """Quantiles of a type by day, on a logarithmic scale."""
    quantiles = {"p50_turnaround_seconds": "p50", "p95_turnaround_seconds": "p95", "p99_turnaround_seconds": "p99"}
    names = "{" + ", ".join(f"'{field}': '{name}'" for field, name in quantiles.items()) + "}[datum.field]"
    domain = list(quantiles.values())
    return (
        alt.Chart()
        .transform_fold(list(quantiles), as_=["field", "seconds"])
        .transform_calculate(quantile=names)
        .transform_filter("isValid(datum.seconds)")
        .mark_line(strokeWidth=2)
        .encode(
            x=days(),
            y=alt.Y(
                "seconds:Q",
                scale=alt.Scale(type="log", nice=False),
                title="turnaround",
                axis=alt.Axis(values=SECONDS_TICKS, labelExpr=SECONDS_AXIS),
            ),
            color=alt.Color("quantile:N", scale=alt.Scale(domain=domain, range=[BLUE, ORANGE, RED]), sort=None),
            strokeDash=alt.StrokeDash(
                "quantile:N", scale=alt.Scale(domain=domain, range=[[1, 0], [6, 2], [2, 2]]), sort=None
            ),
            tooltip=[
                tip("day", "day"),
                tip("p50_turnaround_seconds", "p50, seconds", ",.1f"),
                tip("p95_turnaround_seconds", "p95, seconds", ",.1f"),
                tip("p99_turnaround_seconds", "p99, seconds", ",.1f"),
                tip("completed_tasks", "completed tasks"),
            ],
        )
        .properties(height=180)
    )


CHARTS: dict[str, Callable[[], Drawing]] = {
    chart.__name__: chart for chart in (tasks_by_phase, failure_rate, durations)
}


@cache
def spec(name: str) -> str:
    """A chart in Vega-Lite, as JSON; its data are called `rows`. Not validated: a test does that."""
    return json.dumps(as_dict(CHARTS[name]()), separators=(",", ":"))


def as_dict(chart: Drawing, validate: bool = False) -> Spec:
    """A chart as wide as its place in the page."""
    drawn: Spec = chart.properties(
        width="container", data=alt.NamedData("rows"), autosize={"type": "fit-x", "contains": "padding"}
    ).to_dict(validate=validate)
    return drawn | {"config": CONFIG}
