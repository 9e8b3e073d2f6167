"""Each condition on a published file that is given the rows to tell apart what is wrong from what is not."""

import shlex
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from pipelines.alerts.conditions import ask, load_conditions
from pipelines.alerts.message import Alert
from pipelines.cli.main import main
from pipelines.settings import Settings, load_settings
from pipelines.warehouse import build
from pipelines.warehouse.database import DATABASE
from pipelines.warehouse.working import Working

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
Rows = list[dict[str, Any]]
Ask = Callable[..., list[Alert]]


def hours_ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DuckDB file with every table and no row."""
    settings = Settings(home=tmp_path_factory.mktemp("empty"))
    build.build_empty(settings)
    return Working(settings).file


@pytest.fixture
def asked(empty: Path, home: Path) -> Ask:
    """asked(table=rows, …, settings={field: value}): what is wrong with a published file of these rows, at NOW."""

    def asked(settings: dict[str, Any] | None = None, **tables: Rows) -> list[Alert]:
        database = home / "published" / DATABASE
        database.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(empty, database)
        with duckdb.connect(database) as connection:
            for table, rows in tables.items():
                for row in rows:
                    marks = ", ".join("?" * len(row))
                    connection.execute(f"insert into {table} ({', '.join(row)}) values ({marks})", list(row.values()))
        found = ask(load_settings(**(settings or {})), NOW)
        assert found.unasked == {}
        return found.alerts

    return asked


def load(number: int, **fields: Any) -> dict[str, Any]:
    """A sweep, whole, of an hour ago unless its fields say other."""
    plain = {"account": "default", "lane": "sweep", "verdict": "whole", "reasons": [], "tasks_seen": 10}
    times = {"started_at": hours_ago(1), "finished_at": hours_ago(1), "proven_until_at": hours_ago(1)}
    return {"load_id": f"{number:04d}"} | plain | times | fields


@pytest.mark.parametrize("condition", load_conditions(), ids=lambda condition: condition.name)
def test_each_condition_runs_and_its_command_to_look_closer_too(asked: Ask, condition: Any) -> None:
    assert asked() == []
    if condition.header.command != "task-archive verify":  # needs an account
        look = condition.header.command.format(account="default", day="2026-11-16", type="upload")
        program, *arguments = shlex.split(look)
        result: Result = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert (program, result.exit_code) == ("task-archive", 0), result.output


def fresh(account: str, proven_hours_ago: float | None) -> dict[str, Any]:
    proven_until_at = None if proven_hours_ago is None else hours_ago(proven_hours_ago)
    times = {"proven_until_at": proven_until_at, "last_load_at": hours_ago(37)}
    return {"account": account, "known_until_at": proven_until_at or hours_ago(37)} | times


def test_freshness_is_of_the_last_proven_point_of_accounts_with_a_key(asked: Ask) -> None:
    rows = [fresh("default", 20), fresh("retired", 400), fresh("acme", None)]
    keys = {"api_keys": {"default": "key", "acme": "key"}}
    (late,) = asked(keys, freshness=rows)
    assert (late.key, late.severity, late.score) == ("freshness_late acme", "alarm", 37)
    assert late.summary == "acme: never proven, last loaded, 37.0 hours ago; the limit is 36 hours"
    (late,) = asked(keys | {"alert_freshness_hours": 19.5}, freshness=rows[:1])
    assert late.summary == "default: proven until 2026-11-17 16:00 UTC, 20.0 hours ago; the limit is 19.5 hours"
    assert late.numbers["age_hours"] == 20
    assert [alert.subject for alert in asked({}, freshness=rows[:2])] == [
        "retired"
    ]  # no key at all: a reader's machine


def test_the_newest_sweep_and_the_newest_changes_count_for_the_proof(asked: Ask) -> None:
    broken = {"verdict": "broken", "reasons": ["the server counts 13"], "server_count_after": 13}
    loads = [
        load(1, **broken),
        load(2, lane="changes", **broken),
        load(3, lane="observe"),
        load(4, lane="refresh", **broken),
        load(5, lane="backfill", **broken),
        load(6, verdict="broken", reasons=["interrupted; what had landed is kept, a later load fetches the rest"]),
    ]
    (alert,) = asked(loads=loads)
    assert (alert.key, alert.severity, alert.score) == ("proof_broken default sweep", "alarm", 3)
    assert alert.summary == "default: sweep 0001 read 10 tasks; the server counts more, 13"
    assert alert.quote == "the server counts 13"
    assert [alert.subject for alert in asked(loads=loads[:2])] == ["default changes", "default sweep"]
    assert asked(loads=[*loads, load(7)]) == []


def test_a_gap_in_the_proof_is_a_notice(asked: Ask) -> None:
    gap = {"task_id": "a", "reason": "500"}
    limited = load(1, verdict="limited", reasons=["1 unreadable task"], missing_tasks=[gap, gap])
    (alert,) = asked(loads=[limited])
    assert (alert.key, alert.severity, alert.score) == ("proof_limited default sweep", "notice", 2)
    assert alert.quote == "1 unreadable task"


def test_drift_is_told_by_path_while_it_is_new(asked: Ask) -> None:
    seen = {"first_seen_at": hours_ago(30), "last_seen_at": hours_ago(1), "observations": 1200, "account": "default"}
    rows = [
        seen | {"kind": "unknown path", "path": "$.params.new", "is_new": True},
        seen | {"kind": "unknown type", "path": "$.type = <b>", "is_new": True},
        seen | {"kind": "unknown path", "path": "$.old", "is_new": False},
    ]
    alerts = asked(drift=rows)
    assert [alert.key for alert in alerts] == [
        "drift default unknown path $.params.new",
        "drift default unknown type $.type = <b>",
    ]
    assert alerts[0].summary == "default: drift, unknown path seen 1,200 times since 2026-11-17 06:00 UTC"
    assert (alerts[1].severity, alerts[1].quote) == ("notice", "$.type = <b>")


def day(days_ago: int, failed: int, **fields: Any) -> dict[str, Any]:
    """A mature day of uploads, of which 100 ended."""
    rate = {"failed_tasks": failed, "ended_tasks": 100, "failure_rate": failed / 100, "is_mature": True}
    faults = {"platform_fault_tasks": failed - 3, "user_fault_tasks": 2, "unknown_fault_tasks": 1}
    that_day = (NOW - timedelta(days=days_ago)).date()
    return {"account": "default", "type": "upload", "day": that_day} | rate | faults | fields


def test_the_failure_rate_of_the_newest_mature_day_with_enough_tasks(asked: Ask) -> None:
    unripe = day(0, 99, is_mature=False)
    too_few = day(1, 12, ended_tasks=12, failure_rate=None)
    (alert,) = asked(freshness=[fresh("default", 1)], daily_task_stats=[unripe, too_few, day(2, 25), day(3, 90)])
    assert (alert.key, alert.severity, alert.score) == ("failure_rate_high default upload", "alarm", 0.25)
    assert alert.summary == (
        "default: 25 of the 100 upload tasks created on 2026-11-16 failed, 25.0 %; the limit is 20 %. "
        "Faults of the platform 22, of the user 2, of unknown 1"
    )
    assert alert.command == "task-archive explain failure_rate --account default --day 2026-11-16 --type upload"
    quiet = [day(0, 0), day(1, 90), day(4, 90, type="export"), day(1, 20, type="clip"), day(1, 90, account="other")]
    assert asked(freshness=[fresh("default", 1)], daily_task_stats=[unripe, too_few, *quiet]) == []
    assert len(asked({"alert_failure_percent": 19.9}, freshness=[fresh("default", 1)], daily_task_stats=quiet)) == 1


def test_the_burn_rate_of_the_newest_mature_day_with_enough_tasks(asked: Ask) -> None:
    def burnt(days_ago: int, rate: float | None, **fields: Any) -> dict[str, Any]:
        target = {"target_share": 0.9, "target_seconds": 600, "attainment": 0.65, "eligible_tasks": 40}
        that_day = {"account": "default", "type": "upload", "day": (NOW - timedelta(days=days_ago)).date()}
        return that_day | target | {"burn_rate": rate, "is_mature": True, "error_budget_left": -0.25} | fields

    unripe, too_few = burnt(0, 9, is_mature=False), burnt(1, None)
    (alert,) = asked(freshness=[fresh("default", 1)], slo=[unripe, too_few, burnt(2, 3.5), burnt(3, 9)])
    assert (alert.key, alert.severity, alert.score) == ("slo_burn_high default upload", "alarm", 3.5)
    assert alert.summary == (
        "default: 65.0 % of the 40 upload tasks created on 2026-11-16 completed within 600 s, the target is 90 %: "
        "3.5 times the rate that just spends the error budget; the limit is 2.8. -25 % of the budget of 28 days is left"
    )
    assert alert.command == "task-archive explain burn_rate --account default --day 2026-11-16 --type upload"
    quiet = [burnt(1, 2.8), burnt(4, 9, type="export")]
    assert asked(freshness=[fresh("default", 1)], slo=[unripe, *quiet]) == []
    assert len(asked({"alert_slo_burn_rate": 2.7}, freshness=[fresh("default", 1)], slo=quiet)) == 1


def test_a_command_to_look_closer_holds_words_of_the_api_as_one_argument(asked: Ask) -> None:
    (alert,) = asked(freshness=[fresh("default", 1)], daily_task_stats=[day(1, 30, type="x'; rm -rf ~ #\x1b")])
    assert shlex.split(alert.command)[-2:] == ["--type", "x'; rm -rf ~ #\\x1b"]


def test_a_signature_is_new_where_the_account_is_not(asked: Ask) -> None:
    def signature(signature_id: str, failed_hours_ago: float, **fields: Any) -> dict[str, Any]:
        first = {"first_failed_at": hours_ago(failed_hours_ago), "last_failed_at": NOW, "failed_tasks": 3}
        names = {
            "signature_id": signature_id,
            "template": "worker <id> exploded",
            "type": "upload",
            "owner": "platform",
        }
        return {"account": "default"} | names | first | fields

    def task(account: str, days_ago: float) -> dict[str, Any]:
        return {"task_id": account, "account": account, "created_at": hours_ago(days_ago * 24)}

    rows = [
        signature("new", 47),
        signature("new", 40, type="clip", failed_tasks=1000),
        signature("unclear", 1, owner="unknown"),
        signature("user", 1, owner="user"),
        signature("old", 49),
        signature("old", 1, type="clip"),
        signature("new", 1, account="young"),
    ]
    known = [fresh("default", 1), fresh("young", 1)]
    alerts = asked(freshness=known, failure_signatures=rows, tasks=[task("default", 10), task("young", 6)])
    assert [alert.key for alert in alerts] == ["new_signature default new", "new_signature default unclear"]
    assert alerts[0].summary == (
        "default: a new failure since 2026-11-16 13:00 UTC, 1,003 tasks (clip, upload), the platform's fault"
    )
    assert (alerts[0].severity, alerts[0].quote) == ("notice", "worker <id> exploded")
    assert alerts[1].summary.endswith("3 tasks (upload), whose fault is not known")


def test_alarms_come_before_notices(asked: Ask) -> None:
    drift = {"account": "default", "kind": "no task", "path": "$", "observations": 1, "is_new": True}
    alerts = asked(freshness=[fresh("default", 99)], drift=[drift | {"first_seen_at": hours_ago(1)}])
    assert [alert.severity for alert in alerts] == ["alarm", "notice"]


def test_what_cannot_be_asked_is_said_and_stops_no_other(asked: Ask, home: Path) -> None:
    assert asked() == []
    with duckdb.connect(home / "published" / DATABASE) as connection:
        connection.execute("drop table drift")  # as in a version of before that table
        connection.execute("insert into freshness (account, proven_until_at) values (?, ?)", ["default", hours_ago(99)])
    found = ask(load_settings(), NOW)
    assert [alert.condition for alert in found.alerts] == ["freshness_late"]
    assert list(found.unasked) == ["drift"]
    assert "drift does not exist" in found.unasked["drift"]
