"""The made-up tasks: determinism, variety, rhythm, and how they move on."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from pipelines.simulator import Simulator
from pipelines.simulator.generator import BULK_LIMIT, DAY_MS

NOW = 1_795_000_000_000


@pytest.fixture(scope="module")
def month() -> Simulator:
    """Enough tasks for the rare shapes to occur. Not to be changed."""
    return Simulator(tasks=20_000, days=30, seed=3, now=NOW, speed=0)


@pytest.fixture(scope="module")
def tasks(month: Simulator) -> dict[str, dict[str, Any]]:
    return month.tasks()


def bodies(sim: Simulator) -> dict[str, bytes]:
    return {task_id: row.body for task_id in sim.ids() if (row := sim.store.get(task_id))}


def test_the_seed_decides_every_byte() -> None:
    one, same, other = (Simulator(tasks=500, seed=seed, now=NOW, speed=0) for seed in (1, 1, 2))
    assert bodies(one) == bodies(same)
    assert not bodies(one).keys() & bodies(other).keys()


def test_the_future_does_not_depend_on_the_steps_taken() -> None:
    leap, steps = (Simulator(tasks=500, days=5, seed=1, now=NOW, speed=0) for _ in range(2))
    leap.advance(8 * 3600)
    for _ in range(16):
        steps.advance(1800)
    assert bodies(leap) == bodies(steps)


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_the_number_of_tasks_is_kept(count: int) -> None:
    assert len(Simulator(tasks=count, now=NOW, speed=0).ids()) == count


def test_all_types_and_phases_occur(tasks: dict[str, dict[str, Any]]) -> None:
    types = Counter(task["type"] for task in tasks.values())
    assert types.keys() == {
        "upload", "transcode-file", "export", "export-data", "clip", "import", "transcode", "delete"
    }  # fmt: skip
    assert types["upload"] > len(tasks) / 2
    phases = Counter(task["status"]["phase"] for task in tasks.values())
    assert phases.keys() >= {"pending", "running", "completed", "failed", "cancelled"}  # waiting passes fast, see below
    newest_legacy = max(task["createdAt"] for task in tasks.values() if task["type"] in ("import", "transcode"))
    assert newest_legacy < min(task["createdAt"] for task in tasks.values() if task["type"] == "upload")


def test_times_follow_each_other(tasks: dict[str, dict[str, Any]]) -> None:
    for task in tasks.values():
        times = [task["createdAt"], task.get("scheduledAt", task["createdAt"]), task["status"]["updatedAt"], NOW]
        assert times == sorted(times)
        assert task["createdAt"] >= NOW - 30 * DAY_MS


def test_keys_come_in_the_order_of_jsonb(tasks: dict[str, dict[str, Any]]) -> None:
    def check(value: Any, path: str) -> None:
        if isinstance(value, dict) and path != "/output/export/ipfs":  # the server adds to this one
            assert list(value) == sorted(value, key=lambda name: (len(name), name)), path
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(inner, dict | list):
                check(inner, f"{path}/{name}")

    for task in tasks.values():
        check(task, "")


def test_days_weeks_and_the_incident(tasks: dict[str, dict[str, Any]]) -> None:
    created = [datetime.fromtimestamp(task["createdAt"] / 1000, UTC) for task in tasks.values()]
    hours = Counter(at.hour for at in created)
    assert hours[16] > 2 * hours[4]
    weekdays = Counter(at.weekday() for at in created)
    assert weekdays[1] > 1.4 * weekdays[6]
    failures = Counter(
        task["createdAt"] // DAY_MS
        for task in tasks.values()
        if "internal error" in task["status"].get("errorMessage", "")
    )
    (_, worst), (_, second) = failures.most_common(2)
    assert worst > 5 * second


def test_one_timestamp_fills_more_than_a_page(tasks: dict[str, dict[str, Any]]) -> None:
    ((_, most),) = Counter(task["createdAt"] for task in tasks.values()).most_common(1)
    assert most == BULK_LIMIT > 1000


def test_longer_media_take_longer(tasks: dict[str, dict[str, Any]]) -> None:
    spans: dict[bool, list[int]] = {True: [], False: []}
    for task in tasks.values():
        if task["type"] == "upload" and task["status"]["phase"] == "completed":
            duration = task["output"]["upload"]["assetSpec"]["videoSpec"]["duration"]
            spans[duration > 600].append(task["status"]["updatedAt"] - task["scheduledAt"])
    long, short = (sorted(spans[key])[len(spans[key]) // 2] for key in (True, False))
    assert long > 3 * short


def test_odd_shapes_and_secrets_occur(month: Simulator, tasks: dict[str, dict[str, Any]]) -> None:
    everything = b"\n".join(bodies(month).values())
    samples = """
        "params":null "hash":null "hash":[{ "creatorId":" "creatorId":{ "gop":"intra" "type":"audio" 1e+21
        9007199254740992 会議 raw\\u0020\\"cut\\" X-Amz-Signature= user:pa55 w3s:// s3:// gs:// "jwt":" "apiSecret":"
        "Authorization":"Bearer "webhookContext":{ "encryptedKey":" "uploadedObjectKey":"directUpload/
    """
    for sample in samples.replace("\\u0020", " ").split():
        assert sample.encode() in everything, sample
    assert everything.count(b"eyJhbGciOiJIUzI1NiJ9.PINATA.JWTSECRET") > 1  # an account's own, used again
    assert not any(row.error for task_id in tasks if (row := month.store.get(task_id)))
    upload_specs = [
        task["output"]["upload"]["assetSpec"] for task in tasks.values() if "upload" in task.get("output", {})
    ]
    of_session = [task for task in tasks.values() if "recordedSessionId" in (task["params"] or {}).get("import", {})]
    played_from = {
        (task["params"]["import"]["recordedSessionId"], task["output"]["import"]["assetSpec"]["playbackRecordingId"])
        for task in of_session
        if "output" in task
    }
    assert played_from
    assert all(session == recording for session, recording in played_from)
    assert any("bitrate" not in spec["videoSpec"] for spec in upload_specs)
    assert any(isinstance(spec["videoSpec"]["duration"], int) for spec in upload_specs)


def test_tasks_move_on_with_the_clock_and_never_past_it() -> None:
    sim = Simulator(tasks=400, days=0.25, seed=5, now=NOW, speed=0)
    before = sim.ids()
    changed: set[str] = set()
    steps: Counter[tuple[str, str]] = Counter()
    for _ in range(60):
        former = sim.tasks()
        sim.advance(30)
        for task_id, task in sim.tasks().items():
            assert task["createdAt"] <= task["status"]["updatedAt"] <= sim.now()
            if task_id in former and task != former[task_id]:
                assert task["status"]["updatedAt"] > former[task_id]["status"]["updatedAt"]
                changed.add(task_id)
                steps[former[task_id]["status"]["phase"], task["status"]["phase"]] += 1
    assert len(sim.ids()) == pytest.approx(400 * (1 + 0.5 / 6), abs=25)
    assert changed & before
    assert changed - before
    assert steps.keys() >= {
        ("pending", "waiting"),
        ("waiting", "running"),
        ("running", "running"),
        ("running", "completed"),
        ("running", "failed"),
    }


def test_what_is_overwritten_is_gone() -> None:
    sim = Simulator(tasks=600, days=0.15, seed=5, now=NOW, speed=0)
    failed = {task_id for task_id, task in sim.tasks().items() if task["status"]["phase"] == "failed"}
    tried_again: set[str] = set()  # waiting after an error of the platform
    queued_again: set[str] = set()  # that wait is over: the queue has it once more
    revived: set[str] = set()  # failed, then retried by the user
    for _ in range(50):
        sim.advance(25)
        for task_id, task in sim.tasks().items():
            status = task["status"]
            if status["phase"] == "waiting" and "errorMessage" in status:
                assert status["retries"] in (1, 2)
                tried_again.add(task_id)
            elif status["phase"] == "waiting" and status["retries"]:
                assert task["scheduledAt"] <= status["updatedAt"] - 30_000  # the user's retry alone rewrites it
                queued_again.add(task_id)
            if status["phase"] == "completed":
                assert status.keys() == {"phase", "updatedAt"}
            if task_id in failed and status["phase"] != "failed":
                assert task["scheduledAt"] > NOW
                revived.add(task_id)
    assert queued_again
    assert "completed" in {sim.tasks()[task_id]["status"]["phase"] for task_id in tried_again}
    assert revived


def test_a_retried_task_comes_back_to_life() -> None:
    sim = Simulator(tasks=500, seed=1, now=NOW, speed=0)
    failed = next(task for task in sim.tasks().values() if task["status"]["phase"] == "failed")
    sim.retry(failed["id"])
    waiting = sim.tasks()[failed["id"]]
    assert waiting["status"] == {"phase": "waiting", "retries": 0, "updatedAt": NOW}
    assert waiting["scheduledAt"] == NOW
    sim.advance(24 * 3600)
    assert sim.tasks()[failed["id"]]["status"]["phase"] in ("completed", "failed")


def test_a_task_changed_by_hand_stays_as_it_is() -> None:
    sim = Simulator(tasks=0, now=NOW, speed=0)
    left, changed = sim.insert(), sim.insert()
    sim.update(changed, phase="completed")
    sim.advance(3 * 24 * 3600)
    assert sim.tasks()[changed]["status"] == {"phase": "completed", "updatedAt": NOW}
    assert sim.tasks()[left]["status"]["updatedAt"] > NOW
