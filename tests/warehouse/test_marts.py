"""The numbers of the marts against pandas, from the tasks table of a simulated account."""

from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import pandas as pd
import pytest

from pipelines.landing.zone import Zone
from pipelines.simulator import Simulator
from pipelines.warehouse import build

OPEN = ["pending", "waiting", "running"]


@pytest.fixture
def tables(simulate: Callable[..., Simulator], archive: Callable[..., Any]) -> Iterator[Callable[[str], pd.DataFrame]]:
    synced = archive(simulate(tasks=3000, days=12, seed=4, speed=0), page_size=1000)
    synced.sync()
    settings = synced.settings
    build.observations(settings).flatten(Zone(settings.landing))
    outcomes = [
        outcome
        for built in build.build_version(settings)
        for outcome in built.outcomes
        if not outcome.passed and outcome.check.severity == "error"
    ]
    assert outcomes == []
    with duckdb.connect(build.building_folder(settings) / build.DATABASE, read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        yield lambda table: connection.sql(f"from {table}").df()


def seconds(later: pd.Series, earlier: pd.Series) -> pd.Series:
    return (later - earlier).dt.total_seconds()


def test_fact_tasks(tables: Callable[[str], pd.DataFrame]) -> None:
    tasks = tables("tasks").set_index("task_id").sort_index()
    facts = tables("fact_tasks").set_index("task_id").sort_index()
    assert list(facts.index) == list(tasks.index)
    is_ended = tasks.phase.isin(["completed", "failed"])
    assert (facts.is_ended == is_ended).all()
    assert (facts.is_open == tasks.phase.isin(OPEN)).all()
    assert facts[~is_ended][["server_time_seconds", "turnaround_seconds", "real_time_factor"]].isna().all(axis=None)
    ended, durations = tasks[is_ended], facts[is_ended]
    expected = {
        "ingest_wait_seconds": seconds(ended.scheduled_at, ended.created_at),
        "server_time_seconds": seconds(ended.updated_at, ended.scheduled_at),
        "turnaround_seconds": seconds(ended.updated_at, ended.created_at),
    }
    for column, values in expected.items():
        pd.testing.assert_series_equal(durations[column], values, check_names=False, check_dtype=False)
    plausible = ended.media_duration_seconds.where(
        ended.media_duration_seconds.between(0, 30 * 86400, inclusive="right")
    )
    factor = expected["server_time_seconds"] / plausible
    pd.testing.assert_series_equal(durations.real_time_factor, factor, check_names=False, check_dtype=False)
    assert factor.notna().sum() > 500


def test_daily_task_stats(tables: Callable[[str], pd.DataFrame]) -> None:
    tasks = tables("tasks")
    tasks["day"] = tasks.created_at.dt.floor("D").dt.tz_localize(None)
    tasks["turnaround"] = seconds(tasks.updated_at, tasks.created_at).where(tasks.phase == "completed")
    facts = tables("fact_tasks")
    stats = tables("daily_task_stats")
    assert stats.created_tasks.sum() == len(tasks)
    for row in stats.itertuples():
        day = tasks[(tasks.day == pd.Timestamp(row.day)) & (tasks.type == row.type)]
        completed, failed = (day.phase == "completed").sum(), (day.phase == "failed").sum()
        assert (row.created_tasks, row.completed_tasks, row.failed_tasks) == (len(day), completed, failed)
        assert row.open_tasks == day.phase.isin(OPEN).sum()
        if completed + failed >= 20:
            assert row.failure_rate == pytest.approx(failed / (completed + failed))
        else:
            assert pd.isna(row.failure_rate)
        for share, least, shown in ((0.5, 5, row.p50_turnaround_seconds), (0.95, 20, row.p95_turnaround_seconds)):
            assert pd.isna(shown) if completed < least else shown == pytest.approx(day.turnaround.quantile(share))
        moving = facts[(facts.created_day == row.day) & (facts.type == row.type) & facts.is_moving]
        assert row.is_mature == (len(moving) == 0)
        assert row.abandoned_tasks <= (day.phase == "pending").sum()
    assert stats.p95_turnaround_seconds.notna().sum() > 5
    assert stats.p95_turnaround_seconds.isna().sum() > 5
    assert stats.platform_fault_tasks.sum() > 0
    assert stats.abandoned_tasks.sum() > 0
    assert (~stats.is_mature).sum() > 0


def test_hourly_throughput(tables: Callable[[str], pd.DataFrame]) -> None:
    tasks = tables("tasks")
    completed = tasks[tasks.phase == "completed"]
    throughput = tables("hourly_throughput")
    assert throughput.completed_tasks.sum() == len(completed)
    media = completed.media_duration_seconds[completed.media_duration_seconds <= 30 * 86400].sum() / 60
    assert throughput.media_minutes.sum() == pytest.approx(media)
    sizes = completed.asset_size_bytes[completed.asset_size_bytes <= 10**13].sum()
    assert throughput.source_bytes.sum() == sizes
    hours = completed.updated_at.dt.floor("h").value_counts()
    shown = throughput.groupby("hour_at").completed_tasks.sum()
    assert shown.max() == hours.max()
    assert len(shown) == len(hours)


def test_failure_signatures(tables: Callable[[str], pd.DataFrame]) -> None:
    tasks = tables("tasks")
    failed = tasks[tasks.phase == "failed"]
    signatures = tables("failure_signatures")
    assert signatures.failed_tasks.sum() == len(failed)
    assert signatures.share_of_failures.sum() == pytest.approx(1)
    assert {"user", "platform"} <= set(signatures.owner)
    lost = signatures[signatures.template == "catalyst task lost (last update <duration> ago)"]
    assert lost.failed_tasks.sum() == failed.error_message.str.startswith("catalyst task lost").sum() > 1
    for row in signatures.itertuples():
        same = failed[failed.task_id.isin(row.example_task_ids.split(", "))]
        assert len(same) == min(3, row.failed_tasks)
        assert set(same.type) == {row.type}
        assert row.last_failed_at == same.updated_at.max()
