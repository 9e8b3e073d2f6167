"""The report as people meet it: in a browser, on a phone, in the dark, on paper. The account's texts are hostile."""

import html
import re
import shlex
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
from axe_playwright_python.sync_playwright import Axe

from pipelines.report.charts import as_dict, drawings
from pipelines.serving.explain import explain
from pipelines.serving.published import published
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from tests.conftest import NOW_MS
from tests.report.conftest import HOSTILE, Opened, archived, extract, make_published, settings_of, written

Look = Callable[..., Opened]

OPEN_ALL = "document.querySelectorAll('details').forEach(each => each.open = true)"


def test_every_chart_is_drawn_and_nothing_is_asked_for(look: Look, report: Path) -> None:
    opened = look(report)
    assert opened.requests == []
    assert opened.complaints == []
    shown = opened.page.locator("[data-view='0'] .chart")
    drawn = shown.evaluate_all("all => all.map(e => e.dataset.spec)")
    # Two loads saw nothing of how tasks went, and no limit is set.
    assert {name for name, _ in drawings()} - {*drawn} == {"coverage-0", "concurrency-1"}
    marks = shown.evaluate_all(
        "all => all.map(e => e.querySelectorAll('.mark-rect path, .mark-line path, .mark-symbol path').length)"
    )
    assert all(marks), marks


def test_hostile_texts_stay_text(look: Look, report: Path) -> None:
    opened = look(report)
    opened.page.evaluate(OPEN_ALL)
    assert opened.page.evaluate("window.hurt") is None
    elements = opened.page.evaluate("[...new Set([...document.querySelectorAll('body *')].map(e => e.localName))]")
    assert not {"img", "iframe", "object", "embed", "base", "link", "meta"} & set(elements)
    assert opened.page.evaluate("[...document.links].every(each => each.getAttribute('href').startsWith('#'))")
    attributes = opened.page.evaluate("[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames())")
    assert not [name for name in set(attributes) if name.startswith("on")]
    shown = opened.page.locator("main").inner_text()
    for text in HOSTILE:
        name = text.replace("\u202e", "\\u202e")
        assert name in opened.page.evaluate("document.getElementById('table-yesterday').innerText"), text
    assert "\u202e" not in shown
    # Were one of them to get through all the same, the policy of the page would keep it from running.
    opened.page.evaluate(
        """() => { const made = document.createElement('div'), script = document.createElement('script');
        made.innerHTML = "<img src=x onerror='window.hurt = 1'>"; document.body.append(made);
        script.textContent = 'window.hurt = 1'; made.append(script) }"""
    )
    opened.page.wait_for_timeout(50)
    assert opened.page.evaluate("window.hurt") is None
    assert any("Content Security Policy" in said for said in opened.complaints)


def test_numbers_are_those_of_the_marts(look: Look, report: Path, settings: Settings) -> None:
    opened = look(report)
    with published(settings) as connection:

        def asked(sql: str) -> list[Any]:
            return connection.execute(sql.replace("LAST", "date '2026-11-17'")).fetchall()

        outcomes = asked(
            "select day::varchar, sum(failed_tasks), sum(failed_tasks + completed_tasks), sum(created_tasks) "
            "from daily_task_stats where day <= LAST group by day order by day desc"
        )
        quantiles = asked("select day::varchar, type, p95_turnaround_seconds, completed_tasks from daily_task_stats")
        minutes = asked(
            "select hour_at::date::varchar, sum(media_minutes), sum(completed_tasks) from hourly_throughput group by 1"
        )
        signatures = asked(
            "select template, type, sum(d.failed_tasks) from daily_failure_signatures as d "
            "join failure_signatures using (account, type, signature_id) where d.day <= LAST group by all"
        )
        attained = asked("select day::varchar, attainment from slo where type = 'upload' and day <= LAST")
    rates = opened.rows("table-failure_rate")
    assert [(row["day"], int(row["failed_tasks"]), int(row["ended_tasks"])) for row in rates] == [
        (day, failed, ended) for day, failed, ended, _ in outcomes
    ]
    assert len(rates) == 30
    for row, (_, failed, ended, _) in zip(rates, outcomes, strict=True):
        if ended >= 20:
            assert float(row["failure_rate"]) == pytest.approx(failed / ended)
            assert float(row["low_failure_rate"]) < failed / ended < float(row["high_failure_rate"])
        else:
            assert row["failure_rate"] == ""
    created = {row["day"]: int(row["created_tasks"]) for row in opened.rows("table-daily_tasks")}
    assert created == {day: tasks for day, _, _, tasks in outcomes}
    p95 = {(row["day"], row["type"]): row["p95_turnaround_seconds"] for row in opened.rows("table-durations")}
    known = {(day, type_): value for day, type_, value, _ in quantiles}
    assert all(value == ("" if known.get(key) is None else f"{known[key]:.9g}") for key, value in p95.items())
    days = [row["day"] for row in rates]
    assert list(p95) == [(day, type_) for type_ in dict.fromkeys(type_ for _, type_ in p95) for day in days]
    assert sum(value != "" for value in p95.values()) > 20
    done = {
        row["day"]: (float(row["media_minutes"]), int(row["completed_tasks"]))
        for row in opened.rows("table-throughput")
    }
    for day, of_day, tasks in minutes:
        if day in done:
            assert done[day] == (pytest.approx(of_day), tasks)
    why = {(row["template"], row["type"]): int(row["failed_tasks"]) for row in opened.rows("table-signatures")}
    assert why == {(template, type_): tasks for template, type_, tasks in signatures}
    in_time = {row["day"]: row["attainment"] for row in opened.rows("table-slo")}
    assert in_time == {day: "" if share is None else f"{share:.9g}" for day, share in attained}
    tile = opened.page.locator(".tiles li:visible", has_text="failure rate").inner_text()
    assert f"{outcomes[0][1]:,} of {outcomes[0][2]:,} ended" in tile


def test_commands_do_as_they_say_whatever_the_type(report: Path, settings: Settings, tmp_path: Path) -> None:
    def explained(page: Path) -> dict[str, list[str]]:
        of_all_tasks = page.read_text(encoding="utf-8").partition('<div data-view="1"')[0]
        found = re.findall("<code>(task-archive explain [^<]+)</code>", of_all_tasks)
        return {line[2].partition(".")[0]: line[2:] for line in map(shlex.split, map(html.unescape, found))}

    by_table = explained(report)
    assert {"slo", "ladder", "capacity", "daily_failure_signatures"} <= {*by_table}
    for name, *options in by_table.values():
        day = date.fromisoformat(options[1]) if options else None
        assert explain(settings, name, day).values, name

    type_ = "`reboot`; $(reboot)"
    report_filter = explained(written(settings, tmp_path / "report.html", task_type=type_, account="default"))
    assert report_filter["daily_task_stats"][1:] == ["--day", "2026-11-17", "--type", type_, "--account", "default"]


def test_several_accounts_are_summed_and_told_apart(look: Look, tmp_path: Path) -> None:
    a_month = 30 * 86_400_000
    for account, tasks, now in (("default", 500, NOW_MS), ("acme", 300, NOW_MS), ("retired", 20, NOW_MS - a_month)):
        with Simulator(tasks=tasks, days=6, seed=tasks, now=now, speed=0).serve() as simulator:
            simulator.insert(type="a b; rm")
            settings = settings_of(simulator, tmp_path, account, concurrency_limit=7)
            extract(settings)
    make_published(settings)
    with published(settings) as connection:

        def asked(sql: str) -> list[Any]:
            return connection.execute(sql).fetchall()

        outcomes = asked("select day::varchar, sum(failed_tasks), sum(ended_tasks) from daily_task_stats group by day")
        p95 = asked(
            "select created_day::varchar, quantile_cont(turnaround_seconds, 0.95) from fact_tasks "
            "where is_completed and type = 'upload' group by all having count(*) >= 20"
        )
        of_acme = asked(
            "select day::varchar, sum(created_tasks) from daily_task_stats where account = 'acme' group by 1"
        )
        rungs = asked("select rung from ladder where type = 'upload' and account = 'default'")
    opened = look(written(settings, tmp_path / "all.html", from_day=date(2026, 11, 12)))
    assert opened.complaints == []
    assert "all accounts (acme, default, retired)" in opened.page.locator(".about:visible").inner_text()
    assert opened.page.locator(".verdict:visible strong").count() == 3
    assert opened.page.locator("#yesterday").inner_text() == "Tuesday 17 November 2026"
    rates = {row["day"]: row["failure_rate"] for row in opened.rows("table-failure_rate")}
    assert rates == {day: f"{failed / ended:.9g}" for day, failed, ended in outcomes if day in rates}
    slow = {
        row["day"]: row["p95_turnaround_seconds"] for row in opened.rows("table-durations") if row["type"] == "upload"
    }
    assert {day: f"{seconds:.9g}" for day, seconds in p95 if day in slow}.items() <= slow.items()
    changes = opened.page.locator(".changes:visible").inner_text()
    assert changes.count("$.type = a b; rm") == 1
    assert "Outside the contract, 3 times" in changes
    ladder = opened.page.locator("[data-view='0'] .chart[data-spec=ladder-0]")
    assert ladder.get_attribute("aria-label") == "upload of account default: failure rate by rung"
    assert ladder.locator(".mark-symbol path").count() == len(rungs)
    assert {row["account"] for row in opened.rows("table-slowest")} == {"default", "acme"}
    assert opened.rows("table-concurrency")[0]["concurrency_limit"] == "14"
    assert "limit" in opened.page.locator("[data-view='0'] .chart[data-spec=concurrency-1] .role-legend").text_content()
    choices = opened.page.locator("#view option").all_inner_texts()
    assert choices[:4] == ["all tasks", "account default", "account acme", "upload"]
    opened.page.locator("#view").select_option("account acme")
    opened.page.wait_for_selector("html[data-drawn]")
    assert "account acme, all types" in opened.page.locator(".about:visible").inner_text()
    shown = {row["day"]: int(row["created_tasks"] or 0) for row in opened.rows("view-3-table-daily_tasks")}
    assert shown == {day: tasks for day, tasks in of_acme if day in shown}

    acme = written(settings, tmp_path / "acme.html", account="acme").read_text()
    of_days = acme.partition('id="table-daily_tasks"')[2].partition("</table>")[0]
    created = {day: int(tasks) for day, tasks in re.findall(r'data-v="(\S+)">[^<]+</th><td class="n">(\d+)<', of_days)}
    assert created == {day: tasks for day, tasks in of_acme if day in created}
    assert len(created) > 5
    assert 'data-f="account"' not in acme
    assert len(re.findall("task-archive explain [^<]+ --account acme<", acme)) > 20


def test_the_first_screen_tells_what_changed(look: Look, report: Path) -> None:
    opened = look(report)
    verdict = opened.page.locator(".verdict").first.inner_text()
    assert re.match(r"Whole and late, by [\d.]+ d: .* account default up to 18\sNov\s2026,\s12:06 \(UTC\)\.", verdict)
    assert opened.page.locator("#yesterday").inner_text() == "Tuesday 17 November 2026"
    changes = opened.page.locator(".changes:visible").inner_text()
    assert "3 tasks since 18" in changes
    assert "4 tasks changed their outcome after they had ended: failed → completed." in changes
    assert "2 tasks were deleted." in changes
    assert "New kind of failure: and 5 more." in changes


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


def test_days_narrow_charts_and_tables(look: Look, report: Path) -> None:
    opened = look(report)
    opened.page.evaluate(OPEN_ALL)
    bars = opened.page.locator(".chart[data-spec=daily_tasks-0] .mark-rect path")
    all_bars = bars.count()
    opened.page.get_by_role("button", name="the last 7 days").click()
    opened.page.wait_for_selector("html[data-drawn]")
    assert opened.page.locator("#table-daily_tasks tbody tr:visible").count() == 7
    assert opened.page.locator("#table-daily_tasks-shown").inner_text() == "7 of 30 rows"
    assert 0 < bars.count() < all_bars / 3
    slowest = opened.page.locator("#table-slowest tbody tr")
    assert slowest.count() == opened.page.locator("#table-slowest tbody tr:visible").count() > 5
    opened.page.get_by_role("button", name="all 30 days").click()
    opened.page.wait_for_selector("html[data-drawn]")
    assert bars.count() == all_bars
    assert opened.complaints == []


def test_a_type_narrows_all_that_the_page_says(look: Look, report: Path, settings: Settings) -> None:
    opened = look(report)
    choice = opened.page.locator("#view")
    assert choice.locator("option").all_inner_texts()[:2] == ["all tasks", "upload"]
    of_all = opened.page.locator(".about:visible").inner_text()
    charts = opened.page.locator(".chart svg:visible").count()
    choice.select_option("upload")
    opened.page.wait_for_selector("html[data-drawn]")
    of_uploads = opened.page.locator(".about:visible").inner_text()
    assert "all types" in of_all
    assert "of type upload" in of_uploads
    assert 0 < opened.page.locator(".chart svg:visible").count() <= charts
    with duckdb.connect(settings.home.published / "task_archive.duckdb", read_only=True) as connection:
        found = (
            "select day::varchar, sum(created_tasks)::varchar from daily_task_stats where type = 'upload' group by 1"
        )
        expected = dict(connection.execute(found).fetchall())
    rows = opened.rows("view-2-table-daily_tasks")
    assert expected.pop("2026-11-18")  # which is not over
    assert {row["day"]: row["created_tasks"] for row in rows} == expected
    opened.page.get_by_role("button", name="the last 7 days").click()
    opened.page.wait_for_selector("html[data-drawn]")
    opened.page.evaluate(OPEN_ALL)
    assert opened.page.locator("#view-2-table-daily_tasks tbody tr:visible").count() == 7
    links = opened.page.locator("nav a:visible")
    assert links.count() > 5
    for link in links.all():
        assert opened.page.locator(link.get_attribute("href") or "").is_visible()
    assert opened.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(look: Look, report: Path, scheme: str) -> None:
    opened = look(report, scheme=scheme)
    # Three rows of each table stand for the rest, which would take it half a minute.
    opened.page.evaluate(
        f"{OPEN_ALL}; "
        "document.querySelectorAll('tbody').forEach(each => [...each.rows].slice(3).forEach(row => row.remove()))"
    )
    found = Axe().run(opened.page, {"exclude": [[".chart > [aria-hidden]"]]}).response["violations"]
    grave = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in grave] == []


def test_colours_of_charts_follow_the_scheme(look: Look, report: Path) -> None:
    bar = "getComputedStyle(document.querySelector('.chart .mark-rect path')).fill"
    assert look(report).page.evaluate(bar) == "rgb(0, 114, 178)"
    assert look(report, scheme="dark").page.evaluate(bar) == "rgb(86, 180, 233)"


def test_a_phone_scrolls_only_down(look: Look, report: Path) -> None:
    opened = look(report, width=360)
    opened.page.evaluate(OPEN_ALL)
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 360
    widths = opened.page.locator(".chart svg").evaluate_all("all => all.map(e => e.getBoundingClientRect().width)")
    assert 200 < min(widths) <= max(widths) <= 330
    clipped = """[...document.querySelectorAll('.chart svg text, caption')].filter(e =>
        e.getBoundingClientRect().right > 361).map(e => e.textContent)"""
    assert opened.page.evaluate(clipped) == []


def test_paper_is_light_and_leaves_out_queries_and_long_tables(look: Look, report: Path) -> None:
    opened = look(report, width=718, scheme="dark")  # A4 with margins of a centimetre
    closed = opened.page.locator("details:not([open])")
    before = closed.count()
    pdf = opened.page.pdf(format="A4")
    assert 6 < len(re.findall(rb"/Type /Page\b", pdf)) <= 15
    assert closed.count() == before
    opened.page.evaluate("document.getElementById('table-daily_tasks').closest('details').open = true")
    opened.page.emulate_media(media="print", color_scheme="dark")
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    shown = opened.page.locator("main").inner_text()
    for what in ("were created on Tue 17 Nov.", "tasks that are open, cancelled", "On paper at most 12 of 30 rows"):
        assert what in shown
    assert "select" not in shown
    tables = opened.page.locator("table:visible").evaluate_all("all => all.map(e => e.id.replace('table-', ''))")
    assert tables == [
        "yesterday",
        "daily_tasks",
        "signatures",
        "anomalies",
        "slowest",
        "stuck",
        "coverage",
        "last_loads",
    ]
    assert opened.page.locator("#table-daily_tasks tbody tr:visible").count() == 12
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 718


def test_an_empty_archive_says_so(look: Look, tmp_path: Path) -> None:
    opened = look(written(archived(tmp_path, tasks=0), tmp_path / "report.html"))
    assert opened.complaints == []
    assert "The archive is empty: the account has no task yet." in opened.page.locator("main").inner_text()
    assert opened.page.locator("section, .chart, table, .tiles").count() == 0


def test_one_day_is_told_in_sentences_and_tables(look: Look, tmp_path: Path) -> None:
    opened = look(written(archived(tmp_path, tasks=150, days=1.2), tmp_path / "report.html"))
    assert opened.complaints == []
    assert "were created on Tue 17 Nov." in opened.page.locator("#volume").inner_text()
    assert opened.page.locator("#table-daily_tasks tbody tr").count() == 1
    assert opened.page.locator("#table-daily_tasks").is_visible()
    assert opened.page.locator("#volume .chart").count() == 0
    drawn = opened.page.locator(".chart svg").evaluate_all("all => all.map(e => e.getBoundingClientRect().height)")
    assert all(height > 50 for height in drawn)


@pytest.mark.slow
def test_a_year_stays_under_three_megabytes(tmp_path: Path) -> None:
    settings = archived(tmp_path, tasks=4000, days=366)
    file = written(settings, tmp_path / "report.html", from_day=date(2025, 11, 18))
    page = file.read_text()
    assert page.count('data-v="2026-01-15"') > 5
    assert file.stat().st_size < 3_000_000


def test_charts_are_valid_vega_lite() -> None:
    for _, drawing in drawings():
        as_dict(drawing, validate=True)
