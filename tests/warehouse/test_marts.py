"""The numbers of the marts against pandas, from the tasks table of a simulated account."""

import re
from collections.abc import Callable, Iterator

import duckdb
import pandas as pd
import pytest

from pipelines.landing.lanes import Extraction
from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.database import prepare
from pipelines.warehouse.models import load_models
from pipelines.warehouse.working import Working
from tests.conftest import NOW_MS, forget_this_machine, impatient_settings

Tables = Callable[[str], pd.DataFrame]

OPEN = ["pending", "waiting", "running"]
ZONE = "America/St_Johns"  # its days begin at half past
NOW = pd.Timestamp(NOW_MS, unit="ms", tz="UTC")
OUTAGE = pd.Timestamp("2026-11-10")  # a Tuesday
RUSH_MS = 1_794_670_000_000  # 2026-11-14 15:26:40 UTC


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tables]:
    """tables(name): a table of an archive of 75 simulated days, with an outage and a rush in the last weeks."""
    home = tmp_path_factory.mktemp("marts")
    with (
        pytest.MonkeyPatch.context() as patch,
        Simulator(tasks=6000, days=75, seed=4, now=NOW_MS, speed=0).serve() as api,
    ):
        for task_id, task in api.tasks().items():
            if local_day(pd.Series(pd.to_datetime([task["createdAt"]], unit="ms", utc=True)))[0] == OUTAGE:
                api.remove(task_id)
        for second in range(60):  # never scheduled, and yet their status was written just now
            api.insert(createdAt=RUSH_MS + 1000 * second)
        forget_this_machine(patch, home)
        settings = impatient_settings(
            api,
            home,
            page_size=1000,
            time_zone=ZONE,
            concurrency_limit=4,
            slo="upload: 90% under 10m; export: 99% under 90s",
        )
        Extraction(settings, "default", "test run").sync("auto")
        failed = [each for built in build.build_version(settings) for each in built.outcomes if not each.passed]
    assert [outcome for outcome in failed if outcome.check.severity == "error"] == []
    with duckdb.connect(Working(settings).file, read_only=True) as connection:
        connection.execute("set TimeZone = 'UTC'")
        yield lambda table: connection.sql(f"from {table}").to_arrow_table().to_pandas(date_as_object=False)


def seconds(later: pd.Series, earlier: pd.Series) -> pd.Series:
    return (later - earlier).dt.total_seconds()


def local_day(moments: pd.Series) -> pd.Series:
    return moments.dt.tz_convert(ZONE).dt.tz_localize(None).dt.floor("D")


def test_fact_tasks(tables: Tables) -> None:
    tasks = tables("tasks").set_index("task_id").sort_index()
    facts = tables("fact_tasks").set_index("task_id").sort_index()
    assert list(facts.index) == list(tasks.index)
    is_ended = tasks.phase.isin(["completed", "failed"])
    assert (facts.is_ended == is_ended).all()
    assert (facts.is_open == tasks.phase.isin(OPEN)).all()
    assert facts[~is_ended][["server_time_seconds", "turnaround_seconds", "real_time_factor"]].isna().all(axis=None)
    assert facts.under_way_until_at.isna().any()
    assert facts.under_way_until_at.dt.floor("h").equals(facts.under_way_until_hour_at)
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


def test_daily_task_stats(tables: Tables) -> None:
    tasks = tables("tasks")
    tasks["day"] = local_day(tasks.created_at)
    tasks["turnaround"] = seconds(tasks.updated_at, tasks.created_at).where(tasks.phase == "completed")
    facts = tables("fact_tasks")
    stats = tables("daily_task_stats")
    assert stats.created_tasks.sum() == len(tasks)
    for row in stats.itertuples():
        day = tasks[(tasks.day == row.day) & (tasks.type == row.type)]
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


def test_hourly_throughput(tables: Tables) -> None:
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


def test_failure_signatures(tables: Tables) -> None:
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


def test_daily_failure_signatures(tables: Tables) -> None:
    facts = tables("fact_tasks")
    failed = facts[facts.is_failed]
    days = tables("daily_failure_signatures")
    expected = failed.groupby([local_day(failed.finished_at), "type", "signature_id"]).size()
    assert days.set_index(["day", "type", "signature_id"]).failed_tasks.to_dict() == expected.to_dict()
    assert set(zip(days.signature_id, days.owner, strict=True)) == set(
        zip(failed.signature_id, failed.failure_owner, strict=True)
    )
    sums = days.groupby(["type", "signature_id"]).failed_tasks.sum()
    signatures = tables("failure_signatures").set_index(["type", "signature_id"]).failed_tasks
    assert sums.to_dict() == signatures.to_dict()


def test_slo(tables: Tables) -> None:
    facts = tables("fact_tasks")
    slo = tables("slo")
    assert set(slo.type) == {"upload", "export"}
    for name, least, limit in (("upload", 0.9, 600), ("export", 0.99, 90)):
        tasks = facts[facts.type == name]
        is_awaited = (tasks.phase == "pending") & tasks.scheduled_at.isna()
        is_overdue = tasks.is_open & ~is_awaited & (seconds(NOW, tasks.created_at) > limit)
        is_eligible = tasks.is_completed | (tasks.is_failed & (tasks.failure_owner != "user")) | is_overdue
        eligible = tasks[is_eligible].groupby("created_day").size()
        good = tasks[tasks.is_completed & (tasks.turnaround_seconds <= limit)].groupby("created_day").size()
        shown = slo[slo.type == name].set_index("day").sort_index()
        assert list(shown.index) == sorted(tasks.created_day.unique())
        assert shown.eligible_tasks.sum() == is_eligible.sum() > 200
        assert shown.overdue_tasks.sum() == is_overdue.sum()
        assert shown.other_tasks.sum() == (~is_eligible).sum() > 0
        for day, row in shown.iterrows():
            n, met = eligible.get(day, 0), good.get(day, 0)
            assert (row.eligible_tasks, row.good_tasks) == (n, met)
            assert (row.target_share, row.target_seconds) == (pytest.approx(least), limit)
            if n >= 20:
                assert row.attainment == pytest.approx(met / n)
                assert row.burn_rate == pytest.approx((1 - met / n) / (1 - least))
            else:
                assert pd.isna(row.attainment)
                assert pd.isna(row.burn_rate)
            window = slice(day - pd.Timedelta(days=27), day)
            n, met = eligible.loc[window].sum(), good.loc[window].sum()
            assert row.window_eligible_tasks == n
            if n >= 20:
                assert row.window_attainment == pytest.approx(met / n)
                assert row.error_budget_left == pytest.approx(1 - (n - met) / n / (1 - least))
    assert slo.overdue_tasks.sum() > 0
    assert slo.attainment.notna().sum() > 20
    assert slo.attainment.isna().sum() > 5
    assert (slo.error_budget_left < 0).any()
    assert set(slo.is_mature) == {True, False}


def test_capacity(tables: Tables) -> None:
    tasks = tables("tasks")
    silent_after = pd.to_timedelta(tasks.phase.map({"running": 300, "waiting": 21600}), unit="s")
    until = NOW.floor("h")
    ends = tasks.finished_at.fillna(tasks.updated_at + silent_after).clip(upper=until)
    spans = pd.DataFrame({"start": tasks.scheduled_at, "end": ends})
    spans = spans[spans.start < spans.end]
    assert len(spans) > 4000
    assert (tasks.phase == "running").any()
    capacity = tables("capacity")
    assert list(capacity.hour_at) == list(
        pd.date_range(spans.start.min().floor("h"), until, freq="h", inclusive="left", unit="us")
    )
    moments = pd.concat([spans.start, spans.end])
    steps = pd.Series([1] * len(spans) + [-1] * len(spans), index=moments).groupby(level=0).sum().sort_index()
    levels = steps.cumsum()
    for row in capacity.sample(200, random_state=1).itertuples():
        begin, end = row.hour_at, row.hour_at + pd.Timedelta(hours=1)
        before = ((spans.start <= begin) & (spans.end > begin)).sum()
        within = levels[(levels.index >= begin) & (levels.index < end)]
        assert row.peak_concurrent_tasks == max(before, within.max() if len(within) else 0)
        under_way = spans[(spans.start < end) & (spans.end > begin)]
        lasted = (under_way.end.clip(upper=end) - under_way.start.clip(lower=begin)).sum().total_seconds()
        assert row.mean_concurrent_tasks == pytest.approx(lasted / 3600, abs=1e-9)
    assert (capacity.share_of_limit == capacity.peak_concurrent_tasks / 4).all()
    assert capacity.share_of_limit.max() > 1
    assert (capacity.peak_concurrent_tasks == 0).any()


def test_freshness(tables: Tables) -> None:
    loads, (fresh,) = tables("loads"), tables("freshness").itertuples()
    assert (fresh.account, fresh.proven_until_at) == ("default", loads.proven_until_at.max())
    assert abs(fresh.proven_until_at - NOW) < pd.Timedelta(seconds=1)
    assert fresh.last_load_at == fresh.last_whole_sweep_at == loads.finished_at.max()
    assert (fresh.last_verdict, fresh.proven_loads) == ("whole", 1)
    assert fresh.known_until_at == fresh.proven_until_at


@pytest.mark.parametrize(
    ("loads", "proven_until_day", "known_until_day"),
    [
        ([("backfill", 3, None), ("sweep", 5, None)], None, 5),
        ([("sweep", 3, 2), ("backfill", 9, None)], 2, 2),
        ([("sweep", 3, 8), ("changes", 4, 4)], 4, 4),  # the server's clock had stood wrong
        ([("changes", 3, 2), ("sweep", 5, None)], None, 5),
    ],
)
def test_an_account_is_known_until_the_last_point_proven_or_the_end_of_its_last_load(
    loads: list[tuple[str, int, int | None]], proven_until_day: int | None, known_until_day: int
) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            "create table loads (account varchar, load_id varchar, lane varchar, verdict varchar, "
            "started_at integer, finished_at integer, proven_until_at integer)"
        )
        for load_id, (lane, finished_day, proven_day) in enumerate(loads):
            connection.execute(
                "insert into loads values ('a', ?, ?, 'whole', ?, ?, ?)",
                [load_id, lane, finished_day, finished_day, proven_day],
            )
        found = connection.execute(
            f"select proven_until_at, known_until_at from ({load_models()['freshness'].compiled_sql})"
        ).fetchall()
    assert found == [(proven_until_day, known_until_day)]


def test_ladder(tables: Tables) -> None:
    facts, profiles, ladder = tables("fact_tasks"), tables("profiles"), tables("ladder")
    profiles["rung"] = profiles.height.astype(str) + "p" + profiles.fps.map(lambda fps: f"{fps:.0f}" if fps > 0 else "")
    asked = facts.merge(profiles[["task_id", "rung"]].drop_duplicates(), on="task_id")
    others = facts[facts.type.isin(["upload", "transcode-file"]) & ~facts.task_id.isin(profiles.task_id)]
    tasks = pd.concat([asked, others.assign(rung="default")])
    assert set(ladder.rung) == {"1080p", "720p30", "480p", "360p", "default"}
    assert len(ladder) == len(tasks.groupby(["type", "rung"])) == 14
    for row in ladder.itertuples():
        of_rung = tasks[(tasks.type == row.type) & (tasks.rung == row.rung)]
        completed = of_rung[of_rung.is_completed]
        assert (row.tasks, row.ended_tasks, row.failed_tasks) == (
            len(of_rung), of_rung.is_ended.sum(), of_rung.is_failed.sum(),
        )  # fmt: skip
        if row.ended_tasks < 20:
            assert pd.isna(row.failure_rate)
            continue
        assert row.failure_rate == pytest.approx(row.failed_tasks / row.ended_tasks)
        assert row.platform_fault_rate == pytest.approx((of_rung.failure_owner == "platform").sum() / row.ended_tasks)
        p95, p50 = completed.server_time_seconds.quantile(0.95), completed.real_time_factor.quantile(0.5)
        assert row.p95_server_time_seconds == pytest.approx(p95, nan_ok=True)  # old tasks tell no time of scheduling
        assert row.p50_real_time_factor == pytest.approx(p50, nan_ok=True)
    assert set(ladder[ladder.ended_tasks < 20].type) == {"transcode"}


@pytest.mark.parametrize(
    ("width", "height", "fps", "fps_den", "encoder", "rung"),
    [
        (1920, 1080, 0, None, None, "1080p"),
        (1080, 1920, 30, None, "H.264", "1080p30"),
        (3840, 2160, 60, None, "HEVC", "2160p60 HEVC"),
        (1280, 720, 30000, 1001, None, "720p30"),
        (None, 480, None, None, None, "480p"),
        (0, 0, 30, None, "VP9", "source VP9"),
        (854, 480, 0, None, "h264", "480p"),
        (854, 480, 0, None, "hevc", "480p HEVC"),
    ],
)
def test_rungs_have_the_names_of_the_trade(
    width: int | None, height: int, fps: float | None, fps_den: int | None, encoder: str | None, rung: str
) -> None:
    with duckdb.connect() as connection:
        prepare(connection)
        connection.execute(
            "create table profiles as select 't' as task_id, ?::bigint as width, ?::bigint as height, "
            "?::double as fps, ?::bigint as fps_den, ?::varchar as encoder from range(2)",  # twice the same rung
            [width, height, fps, fps_den, encoder],
        )
        connection.execute(
            "create table fact_tasks as select 't' as task_id, 'a' as account, 'upload' as type, true as is_ended, "
            "true as is_completed, false as is_failed, null as failure_owner, 1.5 as server_time_seconds, "
            "0.5 as real_time_factor"
        )
        found = connection.execute(f"select rung from ({load_models()['task_rungs'].compiled_sql})").fetchall()
    assert found == [(rung,)]


def test_sources(tables: Tables) -> None:
    facts, tracks, sources = tables("fact_tasks"), tables("tracks"), tables("sources")
    tracks["is_audio"] = tracks.type == "audio"
    first = tracks.sort_values(["is_audio", "position"]).groupby("task_id").first()
    probed = facts[facts.is_completed & (facts.type != "transcode")]
    completed = probed.join(first[["codec", "width", "height"]], on="task_id", how="inner")
    short, long = completed[["width", "height"]].min(axis=1), completed[["width", "height"]].max(axis=1)
    usual = [240, 360, 480, 720, 1080, 1440, 2160, 4320]
    lines = pd.concat([short, long * 9 / 16], axis=1).max(axis=1)
    completed["class_height"] = [min(usual, key=lambda each: abs(each - of)) if of > 0 else 0 for of in lines]
    assert set(completed.class_height) == {0, 360, 480, 720, 1080, 2160}
    edges = [0, 60, 300, 900, 3600, 10800]
    completed["duration_from"] = completed.media_duration_seconds.map(
        lambda length: max(e for e in edges if e <= length)
    )
    keys = ["type", "codec", "class_height", "duration_from"]
    groups = dict(list(completed.groupby(keys)))
    assert len(groups) == len(sources) > 100
    for row in sources.fillna({"class_height": 0}).itertuples():
        group = groups[row.type, row.codec, row.class_height, row.duration_from_seconds]
        assert row.completed_tasks == len(group)
        assert row.height_class == (f"{row.class_height:.0f}p" if row.class_height else "audio")
        assert row.media_minutes == pytest.approx(group.media_duration_seconds.sum() / 60)
        factors = group.real_time_factor.dropna()
        for share, least, shown in ((0.5, 5, row.p50_real_time_factor), (0.95, 20, row.p95_real_time_factor)):
            assert pd.isna(shown) if len(factors) < least else shown == pytest.approx(factors.quantile(share))
    assert sources.p95_real_time_factor.notna().any()


def robust(values: pd.Series, floor: Callable[[float, pd.Timestamp], float]) -> dict[pd.Timestamp, tuple[float, ...]]:
    """Of values by local time, those that are anomalies: value, usual, spread and z."""
    weekly = values.dropna().groupby(level=0).agg(list)
    found = {}
    for at, value in values.dropna().items():
        weeks = [at - pd.Timedelta(weeks=week) for week in range(1, 9)]
        before = pd.Series([each for week in weeks if week in weekly.index for each in weekly[week]], dtype=float)
        usual = before.median()
        spread = max((before - usual).abs().median(), floor(usual, at))
        if len(before) >= 2 and abs(0.6745 * (value - usual) / spread) > 3.5 * max(1, 4 / len(before)):
            found[at] = (value, usual, spread, 0.6745 * (value - usual) / spread)
    return found


def test_anomalies(tables: Tables) -> None:
    facts, anomalies = tables("fact_tasks"), tables("anomalies")
    today = NOW.tz_convert(ZONE).tz_localize(None).floor("D")
    days = pd.date_range(facts.created_day.min(), today, inclusive="left")
    expected = {}
    for name, tasks in [("all", facts), *facts.groupby("type")]:
        by_day = tasks.groupby("created_day")
        created = by_day.size().reindex(days, fill_value=0)
        ended = by_day.is_ended.sum()
        mature = by_day.is_moving.sum() == 0
        rates = (by_day.is_failed.sum() / ended)[mature & (ended >= 20)].reindex(days)
        timed = tasks[tasks.is_completed & tasks.server_time_seconds.notna()].groupby("created_day").server_time_seconds
        timed_tasks = timed.size()
        p95 = timed.quantile(0.95)[(timed_tasks >= 20) & mature.reindex(timed_tasks.index)].reindex(days)
        expected["day", name, "created_tasks"] = robust(created, lambda usual, _: (usual + 1) ** 0.5)
        expected["day", name, "failure_rate"] = {
            day: told
            for day, told in robust(
                rates, lambda usual, day, n=ended: (max(usual, 0.01) * (1 - max(usual, 0.01)) / n[day]) ** 0.5
            ).items()
            if abs(told[0] - told[1]) >= 0.02
        }
        expected["day", name, "p95_server_time_seconds"] = robust(
            p95, lambda usual, day, n=timed_tasks: usual * max(0.1, 2 / n[day] ** 0.5)
        )
    hours = pd.date_range(facts.created_at.min().floor("h"), NOW.floor("h"), freq="h", inclusive="left")
    for measure, moments in (
        ("created_tasks", facts.created_at),
        ("failed_tasks", facts[facts.is_failed].finished_at),
    ):
        counts = moments.dt.floor("h").value_counts().reindex(hours, fill_value=0)
        counts.index = counts.index.tz_convert(ZONE).tz_localize(None)
        assert counts.index.has_duplicates  # the clocks were set back
        expected["hour", "all", measure] = robust(counts, lambda usual, _: (usual + 1) ** 0.5)
    local = anomalies.started_at.dt.tz_convert(ZONE).dt.tz_localize(None)
    shown = {
        (row.grain, row.type, row.measure, at): (row.value, row.usual, row.spread, row.robust_z)
        for row, at in zip(anomalies.itertuples(), local, strict=True)
    }
    listed = {(*kind, at): told for kind, found in expected.items() for at, told in found.items()}
    assert shown.keys() == listed.keys()
    for which, told in listed.items():
        assert shown[which] == pytest.approx(told), which
    reasons = set(anomalies.reason)
    usual = expected["day", "all", "created_tasks"][OUTAGE][1]
    assert f"0 tasks created on Tuesday 2026-11-10; usual for a Tuesday are {usual:.0f}" in reasons
    (rush,) = [reason for reason in reasons if "created on Saturday 2026-11-14 from 11:30 to 12:30" in reason]
    assert re.fullmatch(r"6\d tasks created on .+ America/St_Johns; usual for that hour of a Saturday are \d", rush)


def test_dim_date(tables: Tables) -> None:
    facts, dates = tables("fact_tasks"), tables("dim_date")
    first, last = (
        min(facts.created_day.min(), facts.finished_day.min()),
        NOW.tz_convert(ZONE).tz_localize(None).floor("D"),
    )
    days = pd.Series(pd.date_range(first, last))
    assert len(days) > 70
    week = days.dt.isocalendar()
    expected = {
        "day": days,
        "year": days.dt.year,
        "quarter": days.dt.quarter,
        "month": days.dt.month,
        "month_name": days.dt.month_name(),
        "day_of_month": days.dt.day,
        "iso_year": week.year,
        "iso_week": week.week,
        "iso_weekday": week.day,
        "weekday_name": days.dt.day_name(),
        "is_weekend": days.dt.day_of_week >= 5,
        "first_day_of_week": days.dt.to_period("W").dt.start_time,
        "first_day_of_month": days.dt.to_period("M").dt.start_time,
        "first_day_of_quarter": days.dt.to_period("Q").dt.start_time,
    }
    assert list(dates.columns) == list(expected)
    for name, values in expected.items():
        assert list(dates[name]) == list(values), name


def test_dim_date_is_not_led_astray() -> None:
    """A year and a half without a task is filled; centuries between clocks that stood wrong are not."""
    with duckdb.connect() as connection:
        prepare(connection)
        connection.execute("create table thresholds as select 'UTC' as time_zone")
        connection.execute(
            "create table freshness as select 'a' as account, timestamptz '2026-11-18 12:00:00+00' as known_until_at"
        )
        connection.execute("create table fact_tasks(created_day date, finished_day date)")
        for created, finished in (("0001-01-01", None), ("2025-05-01", "2025-05-02"), (None, "9999-12-31")):
            connection.execute("insert into fact_tasks values (?, ?)", [created, finished])
        connection.execute(f"create table dim_date as {load_models()['dim_date'].compiled_sql}")
        counted = connection.execute("select year, count(*) from dim_date group by year order by year").fetchall()
    years = {2025: 245, 2026: 365, 2027: 365, 2028: 366, 2036: 322, 9999: 1}
    assert {year: days for year, days in counted if year in years} == years
    assert [year for year, _ in counted] == [*range(1, 12), *range(2025, 2037), 9999]


def test_dim_type(tables: Tables) -> None:
    facts, types = tables("fact_tasks"), tables("dim_type").set_index("type")
    assert set(types.index) == set(facts.type) | {
        "upload", "import", "transcode-file", "transcode", "clip", "export", "export-data",
    }  # fmt: skip
    assert "delete" in types.index  # a type that no schema names
    assert types.loc["delete", ["label", "type_group", "is_known"]].to_list() == ["delete", "other", False]
    assert set(types[types.type_group == "export"].index) == {"export", "export-data"}
    with_media = facts[facts.media_duration_seconds.notna()].groupby("type").size()
    assert set(with_media.index) == set(types[types.has_media.fillna(False).astype(bool)].index)


def test_the_last_7_days_of_signatures_are_those_of_the_daily_numbers(tables: Callable[[str], pd.DataFrame]) -> None:
    zone = tables("thresholds").time_zone[0]
    today = tables("loads").proven_until_at.max().tz_convert(zone).tz_localize(None).normalize()
    daily, signatures = tables("daily_failure_signatures"), tables("failure_signatures")
    ago = (today - pd.to_datetime(daily.day)).dt.days
    assert signatures.failed_tasks_last_7_days.sum() == daily.failed_tasks[ago.between(1, 7)].sum() > 0
    assert signatures.failed_tasks_7_days_before.sum() == daily.failed_tasks[ago.between(8, 14)].sum() > 0
