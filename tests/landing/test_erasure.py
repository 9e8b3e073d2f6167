"""A creator's data goes from everything that the archive holds, and does not come back; counts stay."""

import json
from collections.abc import Callable
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.audit.server import verify
from pipelines.cli.erase import erase_creator, tasks_of
from pipelines.errors import SettingsError
from pipelines.landing import erasure
from pipelines.landing.erasure import cut_down, erasures
from pipelines.landing.journal import Journal, Line
from pipelines.landing.zone import Zone
from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.publish import publish
from tests.conftest import change_tasks

Simulate = Callable[..., Simulator]
Archives = Callable[..., Any]
CREATOR = "the-creator-zqmarkzq"


def task_of_creator(name: str) -> dict[str, Any]:
    spec = {"name": f"{name}-zqmarkzq.mp4", "creatorId": {"type": "unverified", "value": CREATOR}}
    return {
        "type": "upload",
        "params": {"upload": {"url": "https://example.com/the-creator-zqmarkzq.mp4"}},
        "output": {"upload": {"assetSpec": spec}},
    }


@pytest.fixture
def kept(simulate: Simulate, archive: Archives, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An archive of two versions in which three tasks are the creator's; one of them says so no more."""
    sim = simulate(tasks=120)
    kept = archive(sim)
    kept.ids = [sim.insert(task_of_creator(f"name-{number}")) for number in range(3)]
    monkeypatch.setenv("TASK_ARCHIVE_HOME", str(kept.settings.home))
    monkeypatch.setenv("TASK_ARCHIVE_FINGERPRINT_KEY", kept.settings.fingerprint_key.get_secret_value())
    monkeypatch.setenv("LIVEPEER_API_URL", sim.url)
    monkeypatch.setenv("LIVEPEER_API_KEY", sim.api_key)
    kept.sync()
    change_tasks(sim, 20)
    sim.replace(kept.ids[2], {"id": kept.ids[2], "type": "clip", "createdAt": 1, "status": {"updatedAt": sim.now()}})
    publish_what_landed(kept)
    kept.sync()
    publish_what_landed(kept)
    return kept


def publish_what_landed(kept: Any) -> None:
    list(build.build_version(kept.settings))
    publish(kept.settings)


def everything(kept: Any) -> str:
    """All that the files of the home hold, unpacked."""
    home = kept.settings.home.path
    said = [
        path.read_text("utf-8", "replace") for path in home.rglob("*") if path.suffix in (".json", ".jsonl", ".log")
    ]
    said += [str(pq.read_table(path).to_pylist()) for path in home.rglob("*.parquet")]
    for path in home.rglob("task_archive.duckdb"):
        if not path.is_symlink():
            with duckdb.connect(str(path), read_only=True) as connection:
                for (table,) in connection.execute(
                    "select schema_name || '.' || table_name from duckdb_tables()"
                ).fetchall():
                    said.append(str(connection.execute(f"from {table}").fetchall()))
    said += [path.read_text("utf-8", "replace") for path in home.rglob("*.html")]
    return "\n".join(said)


def count(kept: Any) -> Any:
    with duckdb.connect(str(kept.settings.home.published / "task_archive.duckdb"), read_only=True) as connection:
        query = "select type, phase, count(*), min(created_at), max(updated_at) from tasks group by all order by all"
        return connection.execute(query).fetchall()


def test_nothing_of_a_creator_is_left_and_counts_stay(kept: Any) -> None:
    assert "zqmarkzq" in everything(kept)
    before = count(kept)
    waiting = Journal(kept.settings.home.events, "default")
    event = {"id": kept.ids[0], "status": {"phase": "failed", "updatedAt": 9, "errorMessage": CREATOR}}
    waiting.append([Line(1, None, json.dumps(event).encode())])
    said: list[str] = []
    tasks = tasks_of(kept.settings, CREATOR)
    assert tasks == {"default": sorted(kept.ids)}
    erased = erase_creator(kept.settings, CREATOR, tasks, said.append)
    assert erased.observations >= 4
    assert "zqmarkzq" not in everything(kept)
    assert count(kept) == before
    assert len(list((kept.settings.home.published / "versions").iterdir())) == 1
    (record,) = erasures(Zone(kept.settings.home.landing))
    assert record.tasks == tasks
    assert record.creator.startswith("redacted-")


def test_what_is_erased_does_not_come_back(kept: Any) -> None:
    erase_creator(kept.settings, CREATOR, tasks_of(kept.settings, CREATOR), print)
    load = kept.sync("sweep")
    assert (load.rows_landed, load.verdict) == (0, "whole")
    kept.simulator.update(kept.ids[0], phase="failed", errorMessage=CREATOR)
    assert kept.sync().rows_landed == 1
    assert kept.extraction().refresh(kept.ids).rows_landed == 0
    Journal(kept.settings.home.events, "default").append(
        [
            Line(
                1,
                None,
                json.dumps({"id": kept.ids[0], "name": CREATOR, "status": {"updatedAt": 9}}).encode(),
            )
        ]
    )
    assert kept.extraction().land_events().rows_landed == 1
    publish_what_landed(kept)
    assert "zqmarkzq" not in everything(kept)
    assert verify(kept.settings, "default").is_equal


@pytest.mark.slow
def test_a_kill_in_the_midst_is_made_good_by_the_same_request(kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = count(kept)
    with monkeypatch.context() as patched:
        patched.setattr(erasure, "write_manifest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            erase_creator(kept.settings, CREATOR, tasks_of(kept.settings, CREATOR), print)
    kept.sync("sweep")
    publish_what_landed(kept)
    assert count(kept) == before
    erase_creator(kept.settings, CREATOR, tasks_of(kept.settings, CREATOR), print)
    assert "zqmarkzq" not in everything(kept)
    assert count(kept) == before


@pytest.mark.slow
def test_files_that_were_set_aside_are_erased_too(kept: Any) -> None:
    zone = kept.zone
    parts = [path for path, _ in zone.parts(kept.manifests())]
    zone.set_aside(parts[0])
    unreadable = zone.damaged / "default" / "20200101T000000000Z-sweep" / "part-00000.parquet"
    unreadable.parent.mkdir(parents=True)
    unreadable.write_bytes(b"zqmarkzq and no Parquet")
    erased = erase_creator(kept.settings, CREATOR, tasks_of(kept.settings, CREATOR), print)
    assert erased.deleted_files == 1
    assert not unreadable.exists()
    assert "zqmarkzq" not in everything(kept)


def test_a_creator_that_nobody_knows_is_said(kept: Any) -> None:
    with pytest.raises(SettingsError, match="no task of a creator 'nobody'"):
        tasks_of(kept.settings, "nobody")


def test_what_is_kept_has_its_bytes() -> None:
    payload = b'{"id":"a","name":"x","status":{"phase":"failed","errorMessage":"x","updatedAt":1},"createdAt":1.0}'
    assert cut_down(payload) == b'{"id":"a","status":{"phase":"failed","updatedAt":1},"createdAt":1.0}'
    assert cut_down(cut_down(payload)) == cut_down(payload)


@given(
    st.binary() | st.builds(lambda value: json.dumps(value).encode(), st.dictionaries(st.text(), st.text() | st.none()))
)
def test_whatever_it_is_it_is_cut_down(payload: bytes) -> None:
    once = cut_down(payload)
    assert cut_down(once) == once
