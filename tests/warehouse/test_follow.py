"""Parsing beside the fetching: what is parsed early is what would have been parsed afterwards."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from pipelines.landing.manifest import Part
from pipelines.landing.writer import PAGES_PER_PART
from pipelines.simulator import Simulator
from pipelines.warehouse import follow
from pipelines.warehouse.flatten import Observations
from pipelines.warehouse.follow import Follower, Landed


@pytest.fixture
def landed(simulate: Callable[..., Simulator], archive: Callable[..., Any]) -> tuple[Any, list[tuple[Path, Part]]]:
    """An archive of three landed parts."""
    kept = archive(simulate(tasks=50 * PAGES_PER_PART * 5 // 2, speed=0), page_size=50)
    kept.sync()
    parts = list(kept.zone.parts(kept.zone.manifests()))
    assert len(parts) == 3
    return kept, parts


def typed(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("*/*/*/*.typed.parquet") if not path.name.startswith("."))


def test_parts_are_parsed_while_they_land(landed: tuple[Any, list[tuple[Path, Part]]], tmp_path: Path) -> None:
    kept, parts = landed
    early, late = tmp_path / "early", tmp_path / "late"
    with Follower(kept.zone.root, early) as follower:
        for part in parts:
            follower.take(*part)
    Observations(late).flatten(kept.zone)
    assert len(typed(early)) == 3
    assert [path.relative_to(early) for path in typed(early)] == [path.relative_to(late) for path in typed(late)]
    for one, other in zip(typed(early), typed(late), strict=True):
        assert pq.read_table(one).equals(pq.read_table(other))
    assert Observations(early).flatten(kept.zone).parts == 0


def test_a_load_of_one_part_starts_no_process(landed: tuple[Any, list[tuple[Path, Part]]], tmp_path: Path) -> None:
    kept, parts = landed
    with Follower(kept.zone.root, tmp_path / "early") as follower:
        follower.take(*parts[0])
    assert not (tmp_path / "early").exists()
    assert Observations(tmp_path / "early").flatten(kept.zone).parts == 3


def test_what_a_killed_follower_left_is_parsed_afterwards(
    landed: tuple[Any, list[tuple[Path, Part]]], tmp_path: Path
) -> None:
    kept, parts = landed
    follower = Follower(kept.zone.root, tmp_path / "early")
    for part in parts:
        follower.take(*part)
    follower.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    Observations(tmp_path / "early").flatten(kept.zone)
    assert len(typed(tmp_path / "early")) == 3
    assert not list((tmp_path / "early").glob("*/*/*/.*"))


def test_it_ends_with_its_input(landed: tuple[Any, list[tuple[Path, Part]]], tmp_path: Path) -> None:
    kept, parts = landed
    command = [sys.executable, "-m", follow.__name__, str(kept.zone.root), str(tmp_path / "early")]
    line = msgspec.json.encode(Landed(str(parts[0][0]), parts[0][1])) + b"\n"
    done = subprocess.run(command, input=line, capture_output=True, timeout=60, check=True)
    assert done.stderr == b""
    assert len(typed(tmp_path / "early")) == 1
