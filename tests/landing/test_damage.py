"""Landed files that are cut, altered or missing: found, named, set aside; the rest is used, and what can be had again
is fetched again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.landing import damage
from pipelines.landing.catalog import Catalog
from pipelines.landing.context import ProgressCallbacks
from pipelines.landing.writer import PAGES_PER_PART
from pipelines.landing.zone import MANIFEST, PROGRESS
from pipelines.livepeer.failures import ApiError
from pipelines.simulator import Simulator

PAGE = 10
TASKS = 450
HARM: dict[str, Callable[[Path], Any]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "emptied": lambda path: path.write_bytes(b""),
    "altered": lambda path: path.write_bytes(flipped(path.read_bytes())),
    "altered in its footer": lambda path: path.write_bytes(path.read_bytes()[:-6] + b"\0\0\0\0\0\0"),
    "missing": lambda path: path.unlink(),
}

Simulate = Callable[..., Simulator]
Archives = Callable[..., Any]


def flipped(body: bytes) -> bytes:
    """One bit is another: in the middle, where the payloads lie."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


@pytest.fixture
def sim(simulate: Simulate) -> Simulator:
    return simulate(tasks=TASKS, speed=0)


@pytest.fixture
def kept(sim: Simulator, archive: Archives) -> Any:
    """Swept whole, in parts of PAGES_PER_PART pages."""
    swept = archive(sim, page_size=PAGE)
    assert len(swept.sync().parts) == TASKS // PAGE // PAGES_PER_PART + 1
    return swept


def sync(kept: Any, lane: str = "auto") -> tuple[Any, list[str]]:
    """The load, and what was said meanwhile."""
    said: list[str] = []
    return kept.extraction(ProgressCallbacks(say=said.append)).sync(lane), said


def lost(kept: Any) -> list[damage.Damage]:
    """What a run would find that the archive goes without."""
    with Catalog(kept.zone) as catalog:
        catalog.refresh()
        return damage.lost(catalog)


def part_of(kept: Any, number: int, load: int = 0) -> Path:
    folder: Path = kept.zone.folder("default", kept.manifests()[load].load_id)
    return folder / f"part-{number:05d}.parquet"


def every_file(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_part_is_named_and_set_aside_and_its_tasks_land_again(sim: Simulator, kept: Any, harm: str) -> None:
    path = part_of(kept, 2)
    good = path.read_bytes()
    HARM[harm](path)
    bad = path.read_bytes() if path.exists() else None
    load, said = sync(kept)

    assert (load.lane, load.verdict, load.appeared) == ("sweep", "whole", PAGES_PER_PART * PAGE)
    assert kept.landed() == kept.expected()
    name = f"{path.parent.name}/{path.name}"
    assert load.lost_files == [name]
    assert [line for line in said if name in line] == said[: 1 if bad is not None else 0]
    assert not path.exists()
    aside = kept.settings.home.path / "landing-damaged" / "default" / name
    assert (aside.read_bytes() if aside.exists() else None) == bad
    (found,) = lost(kept)
    assert found.part is not None
    assert (found.name, found.part.rows) == (name, PAGES_PER_PART * PAGE)

    # Once a sweep has made up for it, changes are enough again; put back, it is used again.
    assert sync(kept)[0].lane == "changes"
    path.write_bytes(good)
    assert lost(kept) == []
    again, said = sync(kept, "sweep")
    assert (again.rows_landed, again.lost_files, said) == (0, [], [])


def test_a_change_that_only_the_lost_part_held_is_fetched_again(sim: Simulator, kept: Any) -> None:
    """Its task is known in an older state, and nothing changes any more that a change run would meet."""
    task_id = min(sim.ids())
    sim.advance(3600)
    sim.update(task_id, phase="failed", errorMessage="the change")
    load, _ = sync(kept)
    assert load.lane == "changes"
    sim.advance(2 * 86_400)
    sync(kept)
    part_of(kept, 0, load=1).unlink()
    assert b"the change" not in kept.landed()[task_id]
    assert sync(kept)[0].lane == "sweep"
    assert b"the change" in kept.landed()[task_id]


def test_every_lane_goes_on_without_what_is_damaged(sim: Simulator, kept: Any) -> None:
    for number, run in enumerate(
        (
            lambda: kept.sync("changes"),
            lambda: kept.extraction().backfill(0, sim.now()),
            lambda: kept.extraction().refresh(sorted(sim.ids())[:2]),
        )
    ):
        HARM["cut"](part_of(kept, number))
        assert run().verdict == "whole"
    assert len(lost(kept)) == 3
    assert sync(kept)[0].lane == "sweep"  # none of them has read everything
    assert kept.landed() == kept.expected()


def test_what_is_damaged_twice_is_kept_twice(kept: Any) -> None:
    path = part_of(kept, 1)
    good = path.read_bytes()
    for harm in ("cut", "altered"):
        path.write_bytes(good)
        HARM[harm](path)
        sync(kept)
    aside = kept.zone.damaged / "default" / path.parent.name
    assert {file.read_bytes() for file in aside.iterdir()} == {good[:-20], flipped(good)}


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b'{"load_id":1}', b"\xff\xfe", b'{"load_id":"a"}', None])
def test_a_load_whose_manifest_is_damaged_is_set_aside_whole(kept: Any, garbage: bytes | None) -> None:
    (load,) = kept.manifests()
    folder = kept.zone.folder("default", load.load_id)
    before = every_file(folder)
    if garbage is None:
        (folder / MANIFEST).unlink()
    else:
        (folder / MANIFEST).write_bytes(garbage)
    left = every_file(folder)
    again, said = sync(kept)
    assert (again.lane, again.verdict, again.appeared) == ("sweep", "whole", TASKS)
    assert kept.landed() == kept.expected()
    assert not folder.exists()
    assert every_file(kept.zone.damaged / "default" / load.load_id) == left
    assert len(said) == 1
    assert load.load_id in said[0]
    assert [found.name for found in lost(kept)] == [f"{load.load_id}/{MANIFEST}"] == again.lost_files
    assert sync(kept)[0].lane == "changes"

    folder.mkdir()
    for name, body in before.items():
        (folder / name).write_bytes(body)
    assert lost(kept) == []
    assert kept.manifests()[0] == load


def test_a_manifest_of_another_load_does_not_count(kept: Any) -> None:
    (load,) = kept.manifests()
    kept.sync("changes")
    first, second = (kept.zone.folder("default", found.load_id) for found in kept.manifests())
    shutil.copy(first / MANIFEST, second / MANIFEST)
    assert kept.manifests() == [load]
    assert [found.load_id for found in lost(kept)] == [second.name]


@pytest.mark.parametrize("harm", ["part", "note"])
def test_an_interrupted_load_with_damage_does_not_prove_what_it_lost(sim: Simulator, kept: Any, harm: str) -> None:
    """It goes on behind the part it lost, so that it cannot make up for it: the next one does."""
    shutil.rmtree(kept.settings.home.landing)
    sim.fault("503", at=len(sim.requests) + 30, times=None)
    with pytest.raises(ApiError):
        kept.sync()
    sim.clear_faults()
    (noted,) = kept.zone.open_loads("default")
    folder = kept.zone.folder("default", noted.load_id)
    HARM["cut"](folder / ("part-00000.parquet" if harm == "part" else PROGRESS))
    load, said = sync(kept)
    assert any(noted.load_id in line for line in said)
    assert load.verdict == "whole"
    if harm == "part":
        assert load.load_id == noted.load_id
        assert len(kept.landed()) < TASKS
        assert sync(kept)[0].lane == "sweep"
    assert kept.landed() == kept.expected()
    assert sync(kept)[0].lane == "changes"


def test_looking_changes_nothing(kept: Any) -> None:
    HARM["cut"](part_of(kept, 0))
    part_of(kept, 1).unlink()
    before = every_file(kept.settings.home.landing)
    found = lost(kept)
    assert [(each.file, each.what) for each in found] == [
        ("part-00000.parquet", "was cut"),
        ("part-00001.parquet", "is missing"),
    ]
    assert every_file(kept.settings.home.landing) == before
    assert json.loads(json.dumps([str(each) for each in found]))[0].endswith("by a sweep load")
