"""Two weeks beside each other: one definition, whoever shows it, and it tells a difference from chance."""

import json
import re
from functools import partial
from html import unescape
from typing import Any

import pytest
from click.testing import CliRunner

from pipelines.cli.main import main
from pipelines.report.page import make
from pipelines.report.queries import ReportFilter
from pipelines.serving.published import published
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from tests.conftest import NOW_MS
from tests.report.conftest import extract, make_published, settings_of

DAY_MS = 86_400_000
LAST = "2026-11-17"  # the last whole day at NOW_MS


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Two weeks in which the p95 of nearly each day falls, and that of the week rises.

    The week before: 40 uploads a day, 100 to 139 s. The last: the same 10 s faster, but on one day 400 of 1,000 s. Of
    exports 30 in each week, the last a bit slower, which may be chance; of uploads 2 of 40 fail, then 2 of 40 or 400.
    """
    with Simulator(tasks=50, days=40, seed=1, now=NOW_MS, speed=0).serve() as simulator:
        pattern = next(
            task
            for _, task in sorted(simulator.tasks().items())
            if task["type"] == "upload" and task["status"]["phase"] == "completed"
        )
        for task_id in list(simulator.ids()):
            simulator.remove(task_id)
        number = 0

        def add(type_: str, days_ago: int, seconds: float, phase: str = "completed") -> None:
            nonlocal number
            number += 1
            created = (NOW_MS // DAY_MS - days_ago) * DAY_MS + 3_600_000 + number
            named = {"id": f"00000000-0000-4000-8000-{number:012}", "type": type_, "createdAt": created}
            status = {"phase": phase, "updatedAt": created + round(seconds * 1000)}
            if phase == "failed":
                status["errorMessage"] = "made to fail"
            simulator.insert(pattern | named | {"scheduledAt": created + 1000, "status": status})

        for days_ago in range(1, 15):
            is_last = days_ago <= 7
            for place in range(400 if days_ago == 3 else 40):
                slow = 1000 if days_ago == 3 else (90 if is_last else 100) + place
                add("upload", days_ago, slow, "failed" if place < 2 else "completed")
            for place in range(5):
                add("export", days_ago, 50 + 7 * place + days_ago + (9 if is_last else 0))
        settings = settings_of(simulator, tmp_path_factory.mktemp("archive"))
        extract(settings)
        make_published(settings)
    return settings


def asked(settings: Settings, *arguments: str) -> Any:
    environment = {"TASK_ARCHIVE_HOME": str(settings.home)}
    result = CliRunner().invoke(main, arguments, env=environment, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_week_is_pooled_whoever_shows_it(settings: Settings, clean_environment: None) -> None:
    with published(settings) as connection:
        p95, before, n, n_before = connection.execute(
            "select quantile_cont(turnaround_seconds, 0.95) filter (created_day > date $day - 7),"
            "quantile_cont(turnaround_seconds, 0.95) filter (created_day <= date $day - 7),"
            "count(*) filter (created_day > date $day - 7), count(*) filter (created_day <= date $day - 7) "
            "from fact_tasks where is_completed and type = 'upload'".replace("$day", f"'{LAST}'")
        ).fetchall()[0]
        medians = connection.execute(
            "select median(p95_turnaround_seconds) filter (day > date $day - 7),"
            "median(p95_turnaround_seconds) filter (day <= date $day - 7) "
            "from daily_task_stats where type = 'upload'".replace("$day", f"'{LAST}'")
        ).fetchall()[0]
    assert (p95 > 5 * before, medians[0] < medians[1]) == (True, True)  # the data tells the definitions apart

    text = unescape(re.sub("<[^>]+>", " ", make(settings, ReportFilter()).html))
    assert f"upload {(p95 / before - 1) * 100:.0f} % slower ({n:,} and {n_before:,} tasks)" in text
    assert re.search(r"export \d+ % slower, which may be chance \(35 and 35 tasks\)", text)

    weeks = [json.loads(line) for line in asked(settings, "query", "last_week", "--format", "json").splitlines()]
    (upload,) = (row for row in weeks if row["type"] == "upload")
    assert (upload["p95_turnaround_seconds"], upload["p95_turnaround_seconds_before"]) == (
        pytest.approx(p95, abs=0.06),
        pytest.approx(before, abs=0.06),
    )
    assert upload["p95_turnaround_seconds_may_be_chance"] is False
    (export,) = (row for row in weeks if row["type"] == "export")
    assert export["p95_turnaround_seconds_may_be_chance"] is True
    lines = asked(settings, "query", "speed_by_week", "--format", "json").splitlines()
    by_week = [row for row in map(json.loads, lines) if row["type"] == "upload"]
    assert [(row["week_to"], row["p95_turnaround_seconds"], row["completed_tasks"]) for row in by_week] == [
        (LAST, pytest.approx(p95, abs=0.06), n),
        ("2026-11-10", pytest.approx(before, abs=0.06), n_before),
    ]


@pytest.mark.parametrize("metric", ["failure_rate", "p95_turnaround_seconds"])
def test_the_day_is_the_same_in_tile_macro_and_explain(
    settings: Settings, clean_environment: None, metric: str
) -> None:
    with published(settings) as connection:
        now, before, n, chance = connection.execute(
            f"select {metric}, {metric}_before, {'ended' if metric == 'failure_rate' else 'completed'}_tasks, "
            f"{metric}_may_be_chance from compare_periods(date '{LAST}', 1, 7, null, 'upload') where is_total"
        ).fetchall()[0]
        daily = connection.execute(
            f"select {metric} from daily_task_stats where type = 'upload' and day = date '{LAST}'"
        ).fetchall()[0][0]
    assert now == pytest.approx(daily)
    explain = partial(asked, settings, "explain", metric, "--day", LAST, "--type", "upload")
    found = json.loads(explain("--json"))
    assert found["values"] == [{"value": pytest.approx(now), "n": n, "at": None}]
    assert (found["week_before"]["value"], found["may_be_chance"]) == (pytest.approx(before), chance)
    assert "the difference may be chance" in explain()
    html = make(settings, ReportFilter(task_type="upload")).html
    name = "failure rate" if metric == "failure_rate" else "p95 turnaround, upload"
    (tile,) = re.findall(rf"<li[^>]*>(?:(?!</li>).)*{name}.*?</li>", html, re.DOTALL)
    assert ("may be chance" in tile) == chance or now == before


@pytest.mark.parametrize(
    ("failed", "ended", "failed_before", "ended_before", "may_be_chance"),
    [
        (115, 1465, 82, 1462, False),  # p = 0.016 by a test of two proportions, though the bands overlap
        (100, 1465, 82, 1462, True),  # p = 0.18
        (0, 40, 9, 40, False),
        (2, 40, 3, 40, True),
    ],
)
def test_rates_are_told_apart_as_by_a_test_of_two_proportions(
    settings: Settings, failed: int, ended: int, failed_before: int, ended_before: int, may_be_chance: bool
) -> None:
    with published(settings) as connection:
        found = connection.execute(
            "select may_be_chance(a.share, a.low, a.high, b.share, b.low, b.high) "
            "from (select wilson($1, $2) as a, wilson($3, $4) as b)",
            [failed, ended, failed_before, ended_before],
        ).fetchall()
    assert found == [(may_be_chance,)]
