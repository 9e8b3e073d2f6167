"""The report as people meet it: in a browser, on a phone, in the dark, on paper."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from pipelines.reading import published
from pipelines.report.charts import CHARTS, as_dict
from pipelines.settings import Settings

Look = Callable[..., Any]


@pytest.fixture(scope="module", autouse=True)
def _no_environment() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TASK_ARCHIVE_HOME", raising=False)
        yield


def test_every_chart_is_drawn_and_nothing_is_asked_for(look: Look, report: Path) -> None:
    opened = look(report)
    assert opened.requests == []
    assert opened.complaints == []
    charts = opened.page.locator(".chart")
    assert charts.count() >= len(CHARTS)
    marks = charts.evaluate_all(
        "all => all.map(e => e.querySelectorAll('.mark-rect path, .mark-line path, .mark-symbol path').length)"
    )
    assert all(marks), marks


def test_what_is_drawn_is_what_the_marts_hold(look: Look, report: Path, settings: Settings) -> None:
    opened = look(report)
    with published(settings) as connection:
        expected = connection.execute(
            "select day::varchar, sum(failed_tasks), sum(failed_tasks + completed_tasks) from daily_task_stats "
            "where day <= (select max(cast(proven_until_at as date)) - 1 from loads) group by day order by day desc"
        ).fetchall()
        quantiles = connection.execute(
            "select day::varchar, type, p95_turnaround_seconds from daily_task_stats where type = 'upload'"
        ).fetchall()
    shown = opened.rows("table-failure_rate")
    assert [(row["day"], int(row["failed_tasks"]), int(row["ended_tasks"])) for row in shown] == expected
    for row, (_, failed, ended) in zip(shown, expected, strict=True):
        if ended >= 20:
            assert float(row["failure_rate"]) == pytest.approx(failed / ended)
            assert float(row["low_failure_rate"]) < failed / ended < float(row["high_failure_rate"])
        else:
            assert row["failure_rate"] == ""
    p95 = {(row["day"], row["type"]): row["p95_turnaround_seconds"] for row in opened.rows("table-durations")}
    for day, type_, value in quantiles:
        if (day, type_) in p95:
            assert p95[day, type_] == ("" if value is None else f"{value:.9g}")
    assert len(p95) > 30


def test_tables_sort_and_filter_by_keyboard_too(look: Look, report: Path) -> None:
    opened = look(report)
    table = opened.page.locator("#table-failure_rate")
    table.locator("xpath=ancestor::details").locator("summary").first.click()
    head = table.locator("th[data-f=failure_rate]")
    head.locator("button").focus()
    opened.page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    known = [float(row["failure_rate"]) for row in opened.rows("table-failure_rate") if row["failure_rate"]]
    assert known == sorted(known)
    assert len(known) > 20
    opened.page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "descending"
    again = [row["failure_rate"] for row in opened.rows("table-failure_rate")]
    assert [float(value) for value in again if value] == sorted(known, reverse=True)
    assert "" not in again[: len(known)]
    day = opened.rows("table-failure_rate")[3]["day"]
    opened.page.locator("#filter-table-failure_rate").fill(day)
    assert table.locator("tbody tr:visible").count() == 1
    assert opened.page.locator("#table-failure_rate-shown").inner_text() == f"1 of {len(again)} rows"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(look: Look, report: Path, scheme: str) -> None:
    opened = look(report, scheme=scheme)
    # Three rows of each table stand for the rest, which would take it half a minute.
    opened.page.evaluate(
        """document.querySelectorAll('details').forEach(each => each.open = true);
        document.querySelectorAll('tbody').forEach(each => [...each.rows].slice(3).forEach(row => row.remove()))"""
    )
    found = Axe().run(opened.page, {"exclude": [[".chart > [aria-hidden]"]]}).response["violations"]
    grave = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in grave] == []


def test_a_phone_scrolls_only_down(look: Look, report: Path) -> None:
    opened = look(report, width=360)
    opened.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 360
    widths = opened.page.locator(".chart svg").evaluate_all("all => all.map(e => e.getBoundingClientRect().width)")
    assert max(widths) <= 330


def test_on_paper_everything_is_open_and_light(look: Look, report: Path, tmp_path: Path) -> None:
    opened = look(report, scheme="dark")
    opened.page.emulate_media(media="print")
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    pdf = opened.page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert pdf.startswith(b"%PDF")
    assert pdf.count(b"/Type /Page\n") > 3


def test_charts_are_valid_vega_lite() -> None:
    for chart in CHARTS.values():
        as_dict(chart(), validate=True)
