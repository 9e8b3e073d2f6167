"""Drift: whatever leaves the contract is counted by path and kept; an extended contract takes it in."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.working import Working


def put(sim: Simulator, changes: dict[str, Any], task_id: str | None = None) -> str:
    """A task on the server as it would be sent, with changes by path such as `params.upload.x`; returns its id."""
    task_id = task_id or sim.insert()
    payload: dict[str, Any] = {
        "id": task_id,
        "type": "upload",
        "userId": "user",
        "createdAt": sim.now() - 1000,
        "params": {"upload": {"url": "https://origin.example.com/v.mp4"}},
        "status": {"phase": "completed", "updatedAt": sim.now() - 500},
    }
    for path, value in changes.items():
        *above, name = path.split(".")
        place = payload
        for key in above:
            place = place[key]
        if value is None:
            place.pop(name)
        else:
            place[name] = value
    sim.put_raw(task_id, json.dumps(payload).encode())
    return task_id


def tables(settings: Any, *names: str) -> dict[str, list[dict[str, Any]]]:

    outcomes = {built.model.name: built.outcomes for built in build.build_version(settings)}
    with duckdb.connect(Working(settings).file, read_only=True) as connection:
        found = {}
        for name in names:
            cursor = connection.execute(f"from {name}")
            columns = [column[0] for column in cursor.description or []]
            found[name] = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    found["drift checks"] = [{"passed": each.passed} for each in outcomes["drift"] if each.check.severity == "warn"]
    return found


@pytest.fixture
def kept(simulate: Callable[..., Simulator], archive: Callable[..., Any]) -> Any:
    sim = simulate(tasks=0, speed=0)
    for _ in range(3):
        put(sim, {})
    return archive(sim)


def test_an_account_as_it_is_documented_has_no_drift(
    simulate: Callable[..., Simulator], archive: Callable[..., Any]
) -> None:
    kept = archive(simulate(tasks=2000, days=3, speed=0))
    kept.sync()
    found = tables(kept.settings, "drift")
    # What the simulator makes odd on purpose.
    assert {row["kind"] for row in found["drift"]} <= {"unknown type", "missing path", "other type"}


def test_each_kind_of_drift_is_counted_with_an_example(kept: Any) -> None:
    sim = kept.simulator
    put(sim, {"params.upload.turbo": {"level": 3}, "status.phase": "paused"})
    put(sim, {"params.upload.turbo": {"level": 4}, "type": "remix"})
    put(sim, {"params.upload.profiles": [{"name": "a"}, {"hue": 1}]})
    put(sim, {"status.updatedAt": "yesterday"})
    put(sim, {"createdAt": None})
    put(sim, {"params.upload.token": "s3cr3t-of-theirs"})
    kept.sync()
    found = tables(kept.settings, "drift", "tasks", "quarantine")
    drift = {(row["kind"], row["path"]): row for row in found["drift"]}
    assert set(drift) == {
        ("unknown path", "$.params.upload.turbo"),
        ("unknown path", "$.params.upload.profiles[].hue"),
        ("unknown path", "$.params.upload.token"),
        ("unknown phase", "$.status.phase = paused"),
        ("unknown type", "$.type = remix"),
        ("other type", "$.status.updatedAt"),
        ("missing path", "$.status.updatedAt"),
        ("missing path", "$.createdAt"),
    }
    turbo = drift["unknown path", "$.params.upload.turbo"]
    assert turbo["observations"] == 2
    assert turbo["example"] in ('{"level":3}', '{"level":4}')
    assert turbo["first_seen_at"] <= turbo["last_seen_at"]
    assert all(row["is_new"] for row in found["drift"])
    assert drift["other type", "$.status.updatedAt"]["example"] == '"yesterday"'
    assert drift["unknown path", "$.params.upload.token"]["example"].startswith('"redacted-')
    assert [row["path"] for row in found["quarantine"]] == ["$.status.updatedAt"]
    assert len(found["tasks"]) == 9
    assert found["drift checks"] == [{"passed": False}]


def test_a_changed_state_counts_again_and_later(kept: Any) -> None:
    name = put(kept.simulator, {"params.upload.turbo": 1})
    kept.sync()
    put(kept.simulator, {"params.upload.turbo": 2}, name)
    kept.sync("sweep")
    [turbo] = tables(kept.settings, "drift")["drift"]
    assert turbo["observations"] == 2
    assert turbo["example"] == "2"
    assert turbo["first_seen_at"] < turbo["last_seen_at"]


def test_an_extended_contract_takes_in_what_was_drift(kept: Any) -> None:
    sim = kept.simulator
    put(sim, {"params.upload.turbo": "fast", "status.step": 7})
    kept.sync()
    before = tables(kept.settings, "drift", "quarantine")
    assert {row["path"] for row in before["drift"]} == {"$.params.upload.turbo", "$.status.step"}
    assert [row["path"] for row in before["quarantine"]] == ["$.status.step"]
    extended = """
from pipelines.livepeer.tasks import contract
contract.TASK["params"]["upload"]["turbo"] = contract.TEXT
contract.TASK["status"]["step"] = contract.JSON
from pipelines.settings import load_settings
from pipelines.landing.zone import Zone
from pipelines.warehouse import build
from pipelines.warehouse.working import Working
import duckdb
settings = load_settings()
list(build.build_version(settings))
with duckdb.connect(Working(settings).file) as connection:
    print([connection.execute(f"select count(*) from {table}").fetchall()[0][0] for table in ("drift", "quarantine")])
"""
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"TASK_ARCHIVE_HOME": str(kept.settings.home), "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", extended], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""
    assert done.stdout.strip() == "[0, 0]"


def test_status_tells_of_drift(kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from pipelines.cli.main import main
    from pipelines.warehouse.publish import publish

    put(kept.simulator, {"params.upload.turbo": 1})
    kept.sync()
    tables(kept.settings)
    publish(kept.settings)
    monkeypatch.setenv("TASK_ARCHIVE_HOME", str(kept.settings.home))
    said = CliRunner().invoke(main, ["status"]).output
    assert "default: unknown path $.params.upload.turbo (new, 1 times since 20" in said
    found = json.loads(CliRunner().invoke(main, ["status", "--json"]).output)
    assert [row["path"] for row in found["drift"]] == ["$.params.upload.turbo"]
