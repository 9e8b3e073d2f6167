"""The charts, in Vega-Lite by altair, each of one of six kinds and described in the header of its query in sql/report.

None holds data: the page draws each from the rows of the table behind it. Colours are custom properties of the page's
style sheet, so that dark mode and print change them; they follow Okabe and Ito's, which colour-blind people can tell
apart. Axes of days are UTC because a day is a date, not a moment.
"""

import json
from collections.abc import Iterator
from typing import Any

import altair as alt

from pipelines.report.figures import sections, spec_name
from pipelines.report.formatting import is_share, label
from pipelines.warehouse.sql import ChartHeader

Spec = dict[str, Any]
Drawing = Any  # a chart of altair: its classes share no type that tells what they can do

PAPER, RULE, SOFT = "var(--paper)", "var(--rule)", "var(--soft)"
DASHES = {"": [1, 0], "dashed": [6, 2], "dotted": [2, 2]}

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
LINES = alt.Legend(symbolType="stroke", symbolStrokeWidth=3)


def drawings() -> Iterator[tuple[str, Drawing]]:
    """Every chart of the report by its name."""
    for section in sections():
        for query in section.queries:
            for number, chart in enumerate(query.header.charts):
                yield spec_name(query, number), draw(chart)


def draw(chart: ChartHeader) -> Drawing:
    """A chart of its kind, without data and width; `usermeta`: what it draws, and whether facets share their y axis."""
    return _KINDS[chart.kind](chart).properties(usermeta={"fields": list(chart.fields), "shared": bool(chart.facet)})


def as_dict(drawing: Drawing, validate: bool = False) -> Spec:
    """A chart as wide as its place in the page; its data are called `rows`.

    Validating takes longer than all else: a test does that.
    """
    drawn: Spec = drawing.properties(width="container", data=alt.NamedData("rows")).to_dict(validate=validate)
    return drawn | {"config": CONFIG}


def _bars(chart: ChartHeader) -> Drawing:
    """A bar for each day."""
    (field,) = chart.fields
    return (
        alt.Chart()
        .mark_bar(binSpacing=1, color=_colour(chart, field))
        .encode(x=_days(), y=_y(chart, field), tooltip=_tooltip(chart, "day"))
        .properties(height=chart.height)
    )


def _stacked(chart: ChartHeader) -> Drawing:
    """Bars of days, the first field at the bottom; paler while tasks of the day may still end."""
    colours = [_colour(chart, field) for field in chart.fields]
    scale = alt.Scale(domain=[_named(chart, field) for field in chart.fields], range=colours)
    opacity = alt.condition(IS_MATURE, alt.value(1), alt.value(0.5)) if "is_mature" in chart.tooltip else alt.value(1)
    return (
        _series(chart)
        .mark_bar(binSpacing=1)
        .encode(
            x=_days(),
            y=alt.Y("value:Q", title=chart.title, axis=alt.Axis(tickCount=5)),
            color=alt.Color("series:N", scale=scale),
            order="place:Q",
            opacity=opacity,
            tooltip=_tooltip(chart, "day"),
        )
        .properties(height=chart.height)
    )


def _lines(chart: ChartHeader) -> Drawing:
    """Lines of days. A day between two without a number is a dot. Facets of one chart share their scale."""
    domain = [_named(chart, field) for field in chart.fields]
    colours = [_colour(chart, field) for field in chart.fields]
    dashes = [_dash(chart, field) for field in chart.fields]
    is_of_seconds = next(iter(chart.fields)).endswith("_seconds")
    axis = alt.Axis(values=SECONDS_TICKS, labelExpr=SECONDS_LABEL) if is_of_seconds else alt.Axis(tickCount=5)
    return (
        _series(chart)
        .mark_line(strokeWidth=2, point={"size": 12})
        .encode(
            x=_days(),
            y=alt.Y("value:Q", title=chart.title or None, axis=axis, scale=alt.Scale(type=chart.scale)),
            color=alt.Color("series:N", scale=alt.Scale(domain=domain, range=colours), legend=LINES),
            strokeDash=alt.StrokeDash("series:N", scale=alt.Scale(domain=domain, range=dashes), legend=LINES),
            tooltip=_tooltip(chart, "day"),
        )
        .properties(height=chart.height)
    )


def _dots(chart: ChartHeader) -> Drawing:
    """A dot for each day, with its band, a line, and a target: hollow while tasks of the day may still end."""
    dots, line, *target = chart.fields
    named = [line, dots, *target]
    scale = alt.Scale(domain=[_named(chart, each) for each in named], range=[_colour(chart, each) for each in named])
    colour = alt.Color("series:N", scale=scale, legend=LINES)
    base = alt.Chart().encode(x=_days(), tooltip=_tooltip(chart, "day"))
    layers = []
    if chart.band:
        low, high = chart.band
        band = base.mark_rule(strokeWidth=2, opacity=0.4)
        layers.append(band.encode(y=_y(chart, low), y2=f"{high}:Q", color=alt.value(_colour(chart, dots))))
    for each in target:
        dashed = base.transform_calculate(series=_quoted(chart, each)).mark_line(strokeDash=[4, 3])
        layers.append(dashed.encode(y=_y(chart, each), color=colour))
    dot = base.transform_calculate(series=_quoted(chart, dots)).mark_point(size=20, strokeWidth=1.5, opacity=1)
    fill = alt.condition(IS_MATURE, alt.value(_colour(chart, dots)), alt.value(PAPER))
    layers.append(dot.encode(y=_y(chart, dots), color=colour, fill=fill))
    drawn = base.transform_calculate(series=_quoted(chart, line)).mark_line(strokeWidth=2.5)
    layers.append(drawn.encode(y=_y(chart, line), color=colour))
    return alt.layer(*layers).properties(height=chart.height)


def _heat(chart: ChartHeader) -> Drawing:
    """A field of squares: the darker, the more."""
    (field,) = chart.fields
    colour = _colour(chart, field)
    # Long names of the x axis are to fit a phone.
    x_axis = alt.Axis(labelAngle=0, labelOverlap=True, labelExpr="replace(datum.label, ' to ', '\N{EN DASH}')")
    legend = alt.Legend(title=chart.title, orient="top", symbolType="square", symbolFillColor=colour)
    scale = alt.Scale(type=chart.scale, zero=chart.from_zero, range=[0.04, 1])
    return (
        alt.Chart()
        .mark_rect(color=colour)
        .encode(
            x=alt.X(f"{chart.x}:O", title=_said(chart.x), axis=x_axis, sort=chart.x_order or None),
            y=alt.Y(f"{chart.y}:O", title=None, sort=None),
            opacity=alt.Opacity(f"{field}:Q", scale=scale, legend=legend),
            tooltip=_tooltip(chart, chart.x, chart.y),
        )
        .properties(height=_height(chart))
    )


def _ranges(chart: ChartHeader) -> Drawing:
    """A dot and its band for each of some names."""
    (field,) = chart.fields
    low, high = chart.band
    base = alt.Chart().encode(y=alt.Y(f"{chart.y}:N", sort=None, title=None), tooltip=_tooltip(chart, chart.y))
    axis = alt.Axis(format=".1~%", tickCount=5) if is_share(field) else alt.Axis(tickCount=5)
    band = base.mark_rule(strokeWidth=3, opacity=0.4, color=_colour(chart, field))
    dots = base.mark_point(filled=True, size=50, color=_colour(chart, field), opacity=1).encode(x=f"{field}:Q")
    reach = band.encode(x=alt.X(f"{low}:Q", title=chart.title, axis=axis), x2=f"{high}:Q")
    return alt.layer(reach, dots).properties(height=_height(chart))


_KINDS = {"bars": _bars, "stacked": _stacked, "lines": _lines, "dots": _dots, "heat": _heat, "ranges": _ranges}


def _days() -> alt.X:
    """The axis of days."""
    axis = alt.Axis(format="%-d %b", labelOverlap="greedy", labelSeparation=6, grid=False)
    return alt.X("day:T", timeUnit="utcyearmonthdate", title=None, axis=axis)


def _y(chart: ChartHeader, field: str) -> alt.Y:
    """The axis of values."""
    share = is_share(field)
    axis = alt.Axis(format=".1~%", tickCount=5) if share else alt.Axis(tickCount=5)
    scale = alt.Undefined if chart.from_zero else alt.Scale(zero=False, domainMax=1 if share else alt.Undefined)
    return alt.Y(f"{field}:Q", title=chart.title, axis=axis, scale=scale)


def _height(chart: ChartHeader) -> Any:
    """In pixels; of few, for each row."""
    return alt.Step(chart.height) if chart.height < 50 else chart.height


def _colour(chart: ChartHeader, field: str) -> str:
    return f"var(--{chart.fields[field].partition(' ')[0]})"


def _dash(chart: ChartHeader, field: str) -> list[int]:
    return DASHES[chart.fields[field].partition(" ")[2]]


def _named(chart: ChartHeader, field: str) -> str:
    """A column as the legend says it."""
    return chart.labels.get(field) or _said(field)


def _quoted(chart: ChartHeader, field: str) -> str:
    return json.dumps(_named(chart, field))


def _said(field: str) -> str:
    """A column in words: p95_turnaround_seconds is p95, user_fault_tasks is user."""
    said = field
    for end in ("_turnaround_seconds", "_fault_tasks", "_open_tasks", "_concurrent_tasks", "_tasks"):
        said = said.removesuffix(end)
    return said.replace("_", " ")


def _series(chart: ChartHeader) -> Drawing:
    """The fields as rows: `value`, and `series` with what the legend says."""
    names = "{" + ", ".join(f"{field}: {_quoted(chart, field)}" for field in chart.fields) + "}[datum.field]"
    fields: list[Any] = list(chart.fields)
    return (
        alt.Chart()
        .transform_fold(fields, as_=["field", "value"])
        .transform_calculate(series=names, place=f"indexof({json.dumps(fields)}, datum.field)")
    )


def _tooltip(chart: ChartHeader, *places: str) -> list[alt.Tooltip]:
    """Where a mark stands, its fields and its band, and what the chart adds, in the units that their names tell."""
    columns = dict.fromkeys([*chart.fields, *chart.band, *chart.tooltip])
    return [*map(_place, places), *(_value(chart, column) for column in columns)]


def _place(column: str) -> alt.Tooltip:
    if column == "day":
        return alt.Tooltip("day:T", timeUnit="utcyearmonthdate", title="day", format="%a %-d %b %Y")
    return alt.Tooltip(f"{column}:N", title=_said(column))


def _value(chart: ChartHeader, column: str) -> alt.Tooltip:
    title = chart.labels.get(column) or label(column)
    if column.startswith("is_"):
        return alt.Tooltip(f"{column}:N", title=title)
    if is_share(column):
        form = ".2%"
    elif column.endswith("_bytes"):
        form = ".3~s"
    elif column.endswith("_seconds"):
        title, form = f"{title}, seconds", ",.4~r"
    elif column.endswith(("_minutes", "_tasks")) and not column.startswith(("mean", "median")):
        form = ",.0f"
    else:
        form = ",.3~r"
    return alt.Tooltip(f"{column}:Q", title=title, format=form)
