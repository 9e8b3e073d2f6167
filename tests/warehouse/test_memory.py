"""Too little memory makes tables slower, never impossible, and never others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.making import Maker
from pipelines.warehouse.observations import Batch
from tests.conftest import change_tasks
from tests.warehouse.test_change import digests, made_elsewhere


def lack_memory(monkeypatch: pytest.MonkeyPatch, most_tasks: int) -> list[int]:
    """Memory for the rows of so many tasks at once; returns how many were tried."""
    tried: list[int] = []
    compute = Maker._compute

    def compute_some(self: Maker, models: list[Any], batch: Batch) -> None:
        tried.append(batch.tasks)
        compute(self, models, batch)  # what a query that fails leaves behind
        if batch.tasks > most_tasks:
            raise duckdb.OutOfMemoryException("Out of Memory Error: of the test")

    monkeypatch.setattr(Maker, "_compute", compute_some)
    return tried


def test_a_batch_that_is_too_large_is_made_in_halves(
    simulate: Callable[..., Simulator], archive: Callable[..., Any], tmp_path: Path
) -> None:
    simulator = simulate(tasks=700, speed=0)
    kept = archive(simulator)
    for place, task_id in enumerate(sorted(simulator.ids())[::9]):  # of each half some that drift
        status = {"updatedAt": simulator.now(), "phase": "failed"}
        task = {"type": "upload", "createdAt": 1, "status": status, "params": {"upload": {"url": 17}}}
        simulator.replace(task_id, task | {f"field{place % 3}": 1})
    kept.sync()
    change_tasks(simulator)
    kept.sync()
    with pytest.MonkeyPatch.context() as patched:
        tried = lack_memory(patched, 100)
        said: list[str] = []
        list(build.build_version(kept.settings, said.append))
    assert max(tried) > 600
    assert min(tried) <= 100
    assert said == []
    assert digests(kept.settings) == made_elsewhere(kept.settings, tmp_path / "elsewhere")


@pytest.mark.slow
def test_changes_that_are_too_large_have_all_made_anew(
    simulate: Callable[..., Simulator], archive: Callable[..., Any], tmp_path: Path
) -> None:
    simulator = simulate(tasks=300, speed=0)
    kept = archive(simulator)
    kept.sync()
    list(build.build_version(kept.settings))
    change_tasks(simulator, tasks=150)
    kept.sync()
    with pytest.MonkeyPatch.context() as patched:
        lack_memory(patched, 100)
        said: list[str] = []
        list(build.build_version(kept.settings, said.append))
    assert said == ["all tables are made anew, in batches: the memory does not hold the changes at once"]
    assert digests(kept.settings) == made_elsewhere(kept.settings, tmp_path / "elsewhere")


def test_one_task_that_is_too_large_is_said(simulate: Callable[..., Simulator], archive: Callable[..., Any]) -> None:
    kept = archive(simulate(tasks=5, speed=0))
    kept.sync()
    with pytest.MonkeyPatch.context() as patched:
        lack_memory(patched, 0)
        with pytest.raises(duckdb.OutOfMemoryException):
            list(build.build_version(kept.settings))
    list(build.build_version(kept.settings))
