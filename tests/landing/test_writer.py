"""Files of the landing zone: what a kill leaves is cleared, what has landed never changes, damage is noticed."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.landing.catalog import Catalog
from pipelines.landing.manifest import Manifest, Missing, Part, Window, decode, encode
from pipelines.landing.writer import PAGES_PER_PART, LoadWriter
from pipelines.landing.zone import MANIFEST, PROGRESS, write_durably, write_manifest
from pipelines.livepeer.redact import Redactor
from pipelines.livepeer.tasks.rows import read_row
from pipelines.simulator import Simulator
from tests.landed import LandedFiles

REDACTOR = Redactor(b"key")
NOW_MS = 1_795_000_000_000  # 2026-11-18

Simulate = Callable[..., Simulator]
Archives = Callable[..., Any]


@pytest.fixture
def zone(tmp_path: Path) -> LandedFiles:
    return LandedFiles(tmp_path / "landing")


def new_manifest(zone: LandedFiles, lane: Any = "sweep", account: str = "default", at_ms: int = NOW_MS) -> Manifest:
    return Manifest(
        load_id=zone.new_load_id(lane, at_ms),
        account=account,
        lane=lane,
        window=Window(),
        api_url="http://127.0.0.1/api",
        code_version="0",
        run_id="run",
        started_at_ms=at_ms,
    )


def new_writer(zone: LandedFiles, **arguments: Any) -> LoadWriter:
    return LoadWriter(Catalog(zone), new_manifest(zone, **arguments), REDACTOR)


def page(*ids: str, updated_at: int = 1, **fields: str) -> list[Any]:
    extra = "".join(f',"{name}":"{value}"' for name, value in fields.items())
    return [
        read_row(f'{{"id":"{i}","createdAt":1,"status":{{"updatedAt":{updated_at}}}{extra}}}'.encode()) for i in ids
    ]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ------------------------------------------------------------------------------------------------------------- writing


def test_parts_are_written_every_few_pages(zone: LandedFiles) -> None:
    writer = new_writer(zone)
    for number in range(PAGES_PER_PART * 2 + 3):
        writer.add_page(page(f"task-{number:03d}"), NOW_MS)
        writer.checkpoint("by id", f"task-{number:03d}")
    assert names(writer.folder) == ["part-00000.parquet", "part-00001.parquet", PROGRESS]
    (noted,) = zone.open_loads("default")
    assert (noted.rows_landed, noted.cursor) == (PAGES_PER_PART * 2, f"task-{PAGES_PER_PART * 2 - 1:03d}")
    assert zone.manifests() == []
    done = writer.complete()
    assert names(writer.folder) == [MANIFEST, "part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert [part.rows for part in done.parts] == [PAGES_PER_PART, PAGES_PER_PART, 3]
    assert zone.open_loads("default") == []
    assert zone.manifests() == [done]
    for path, part in zone.parts([done]):
        assert path.stat().st_size == part.bytes
        assert zone.damage_of(path, part) is None


def test_a_load_without_news_writes_no_part(zone: LandedFiles) -> None:
    first = new_writer(zone)
    first.add_page(page("a", "b"), NOW_MS)
    first.complete()
    second = new_writer(zone)
    second.add_page(page("a", "b"), NOW_MS)
    assert second.complete().parts == []
    assert names(second.folder) == [MANIFEST]
    assert second.manifest.unchanged == 2


def test_a_part_that_was_not_noted_is_removed_and_its_rows_land_again(zone: LandedFiles) -> None:
    writer = new_writer(zone)
    writer.add_page(page("a"), NOW_MS)
    writer.checkpoint("by id", "a")
    writer.flush()
    noted = names(writer.folder)
    writer.add_page(page("b", "c"), NOW_MS)
    writer._write_part()  # and here it is killed
    assert names(writer.folder) == ["part-00000.parquet", "part-00001.parquet", PROGRESS]

    (manifest,) = zone.open_loads("default")
    resumed = LoadWriter(Catalog(zone), manifest, REDACTOR)
    assert names(resumed.folder) == noted
    assert (resumed.manifest.cursor, resumed.manifest.rows_landed) == ("a", 1)
    resumed.add_page(page("a", "b", "c"), NOW_MS)
    done = resumed.complete()
    assert (done.appeared, done.unchanged, done.rows_landed) == (3, 1, 3)
    assert [part.rows for part in done.parts] == [1, 2]


def test_a_load_that_was_killed_before_its_first_note_leaves_nothing(zone: LandedFiles) -> None:
    writer = new_writer(zone)
    writer.add_page(page("a"), NOW_MS)
    writer._write_part()
    assert zone.open_loads("default") == []
    assert writer.folder.exists()  # it may be one that a run has just begun: looking removes nothing
    Catalog(zone).clear_leftovers("default")
    assert not writer.folder.exists()


def test_a_kill_between_the_manifest_and_the_end_leaves_a_complete_load(zone: LandedFiles) -> None:
    writer = new_writer(zone)
    writer.add_page(page("a"), NOW_MS)
    writer.flush()
    note = (writer.folder / PROGRESS).read_bytes()
    writer.complete()
    (writer.folder / PROGRESS).write_bytes(note)  # as if it had been killed before it removed the note
    assert zone.open_loads("default") == []
    Catalog(zone).clear_leftovers("default")
    assert [load.rows_landed for load in zone.manifests()] == [1]
    assert names(writer.folder) == [MANIFEST, "part-00000.parquet"]


def test_secrets_are_gone_before_anything_is_written(zone: LandedFiles) -> None:
    writer = new_writer(zone)
    writer.add_page(page("a", jwt="secret-of-the-user"), NOW_MS)
    writer.complete()
    assert all(b"secret-of-the-user" not in path.read_bytes() for path in writer.folder.iterdir())


@pytest.mark.parametrize("body", [b'{"id":"a","name":"\xff\xfe"}', b'{"id":"a","n":NaN}', b'{"id":"a","n":"\\ud800"}'])
def test_bytes_that_no_parser_likes_can_be_landed(zone: LandedFiles, body: bytes) -> None:
    writer = new_writer(zone)
    writer.add_page([read_row(body)], NOW_MS)
    load = writer.complete()
    assert load.rows_landed == 1
    again = new_writer(zone)
    again.add_page([read_row(body)], NOW_MS)
    assert again.complete().unchanged == 1


def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old")

    def killed(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    write_durably(path, b"new")
    assert names(tmp_path) == ["file"]
    assert path.read_bytes() == b"new"


# ------------------------------------------------------------------------------------------------------------- load ids


def test_load_ids_sort_in_the_order_they_were_made_even_when_the_clock_goes_back(zone: LandedFiles) -> None:
    ids = []
    for at_ms in (NOW_MS, NOW_MS, NOW_MS + 5, NOW_MS - 86_400_000, 0, NOW_MS + 999, NOW_MS):
        for account in ("b", "a"):
            writer = new_writer(zone, at_ms=at_ms, account=account, lane="changes" if at_ms else "sweep")
            ids.append(writer.manifest.load_id)
            writer.complete()
    assert ids == sorted(set(ids))
    assert [load.load_id for load in zone.manifests()] == ids
    assert ids[0].startswith("20261118T")


def test_a_later_load_wins_whatever_the_clock_says(zone: LandedFiles) -> None:
    for number, at_ms in enumerate((NOW_MS, NOW_MS - 86_400_000, NOW_MS)):
        writer = new_writer(zone, at_ms=at_ms)
        writer.add_page(page("a", name="odd" if number % 2 else "even"), at_ms)
        assert writer.complete().rows_landed == 1


# --------------------------------------------------------------------------------------------------------------- damage


def test_an_altered_or_missing_part_is_noticed(zone: LandedFiles) -> None:
    writer = new_writer(zone)
    writer.add_page(page("a"), NOW_MS)
    load = writer.complete()
    ((path, _),) = zone.parts([load])
    body = bytearray(path.read_bytes())

    def seen() -> list[str]:
        with Catalog(zone) as catalog:
            catalog.refresh()
            return [what for _, _, what in catalog.damaged()]

    assert seen() == []
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    assert seen() == ["was altered"]
    path.write_bytes(bytes(body)[:-1])
    assert seen() == ["was cut"]
    path.unlink()
    assert seen() == ["is missing"]


def test_a_manifest_survives_its_file(zone: LandedFiles) -> None:
    manifest = new_manifest(zone)
    manifest.parts = [Part("part-00000.parquet", 1, 2, "ab")]
    manifest.unreadable = [Missing("a", "why")]
    manifest.window = Window(updated_from_ms=5)
    assert decode(encode(manifest)) == manifest
    zone.folder("default", manifest.load_id).mkdir(parents=True)
    write_manifest(zone.folder("default", manifest.load_id), manifest)
    assert zone.manifests("default") == [manifest]
    assert zone.manifests("other") == []


# ------------------------------------------------------------------------------------------------------------ immutable


def test_what_has_landed_never_changes(simulate: Simulate, archive: Archives) -> None:
    sim = simulate(tasks=700, speed=0)
    kept = archive(sim)

    def digests() -> dict[str, str]:
        return {name: hashlib.sha256(body).hexdigest() for name, body in kept.files().items()}

    seen: dict[str, str] = {}
    for number, lane in enumerate(["sweep", "changes", "sweep", "changes", "sweep"]):
        kept.sync(lane)
        now = digests()
        assert seen.items() <= now.items()
        assert len(now) > len(seen)
        seen = now
        sim.advance(600)
        for task_id in sorted(sim.ids())[number * 20 : number * 20 + 9]:
            sim.update(task_id, phase="failed", errorMessage=str(number))
        sim.delete(max(sim.ids()))
    kept.extraction().backfill(0, sim.now())
    kept.extraction().refresh(sorted(sim.ids())[:2])
    assert seen.items() <= digests().items()
    assert not any(name.endswith((PROGRESS, ".new")) for name in seen)
    assert len(kept.manifests()) == 7
