"""Every fault at every request of a sweep and of a change load: once, and for ever. What had landed is kept, the next
run goes on from there, and nothing lands twice."""

import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipelines.landing.manifest import Manifest
from pipelines.livepeer.failures import ApiError
from pipelines.simulator import Simulator
from pipelines.simulator.faults import KINDS

pytestmark = pytest.mark.slow

PAGE = 10
TASKS = 70
TIMEOUT_SECONDS = 0.3
OPTIONS: dict[str, dict[str, Any]] = {
    "429": {"retry_after": 0},
    "slow": {"seconds": TIMEOUT_SECONDS * 1.5},
    "redirect": {"location": "http://127.0.0.2:9/api/task"},
}
# Faults that are never tried again: the run ends at once.
FINAL = {"redirect"}
LANES = ("sweep", "changes")

Simulate = Callable[..., Simulator]
Archives = Callable[..., Any]


class Scene:
    """An account as it stands before a load, and an archive of it that each attempt copies."""

    def __init__(self, simulate: Simulate, archive: Archives, root: Path, lane: str, slow: bool) -> None:
        self.sim = simulate(tasks=TASKS, speed=0)
        self.lane = lane
        self.root = root
        # Impatient only where slowness is the fault: a busy machine must not look like one.
        self.settings = {
            "page_size": PAGE,
            "retry_wait_seconds": 0,
            "attempts": 3,
            "request_timeout_seconds": TIMEOUT_SECONDS if slow else 30,
        }
        self.archive = archive
        self.numbers = 0
        self.base = archive(self.sim, home="base", **self.settings)
        if lane == "changes":
            self.base.sync("sweep")
            self.sim.advance(3600)
            for number, task_id in enumerate(sorted(self.sim.ids())[:45]):
                if number % 3:
                    self.sim.advance(0.01)  # some are ties
                self.sim.update(task_id, phase="failed", errorMessage="changed")
            for _ in range(5):
                self.sim.insert(name="new")
        self.requests = self.count_requests()

    def fresh(self) -> Any:
        self.numbers += 1
        home = self.root / f"attempt-{self.numbers}"
        if self.base.settings.home.path.exists():
            shutil.copytree(self.base.settings.home.path, home)
        return self.archive(self.sim, home=home.name, **self.settings)

    def count_requests(self) -> int:
        before = len(self.sim.requests)
        self.fresh().sync(self.lane)
        return len(self.sim.requests) - before

    def check_whole(self, kept: Any, load: Manifest) -> None:
        assert load.verdict == "whole", load.reasons
        assert kept.landed() == kept.expected()
        twice = Counter((row["task_id"], row["payload_sha256"]) for row in kept.rows())
        assert max(twice.values()) == 1
        for path, part in kept.zone.parts(kept.manifests()):
            assert kept.zone.damage_of(path, part) is None
        shutil.rmtree(kept.settings.home.path)


def kept_files(kept: Any) -> dict[str, bytes]:
    """Landed parts, which nothing may change or remove."""
    return {name: body for name, body in kept.files().items() if name.endswith(".parquet")}


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_fault_at_each_request(
    simulate: Simulate, archive: Archives, tmp_path: Path, figure: Callable[..., None], kind: str, lane: str
) -> None:
    scene = Scene(simulate, archive, tmp_path, lane, slow=kind == "slow")
    options = OPTIONS.get(kind, {})
    sim, ended = scene.sim, 0
    for position in range(1, scene.requests + 1):
        kept = scene.fresh()
        sim.fault(kind, at=len(sim.requests) + position, **options)
        if kind in FINAL:
            with pytest.raises(ApiError) as raised:
                kept.sync(lane)
            assert "\n" not in str(raised.value)
            ended += 1
        load = kept.sync(lane)
        sim.clear_faults()
        scene.check_whole(kept, load)
    figure("faults at each request in turn", scene.requests, f"{len(KINDS)} kinds, two lanes: each load whole")

    for position in range(1, scene.requests + 1):
        kept = scene.fresh()
        landed_before = kept_files(kept)
        sim.fault(kind, at=len(sim.requests) + position, times=None, **options)
        said = None
        try:
            load = kept.sync(lane)
        except ApiError as error:
            said = str(error)
        if said is not None:
            assert "\n" not in said
            assert sim.api_key not in said
            assert kept.manifests() == scene.base.manifests()  # nothing that looks complete
        else:  # all had come but the counts, which a malformed row may be in the way of as well
            assert kind == "500"
            assert load.verdict == "limited"
            assert all("count" in reason for reason in load.reasons)
        sim.clear_faults()
        landed = kept_files(kept)
        assert landed_before.items() <= landed.items()
        load = kept.sync(lane)
        assert landed.items() <= kept_files(kept).items()
        scene.check_whole(kept, load)
        ended += 1
    figure("servers that never recover, from each request on", ended, "one line, what had landed kept, then whole")


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
@pytest.mark.parametrize("kind", ["429"])
def test_a_pause_that_the_server_asks_for_is_kept(
    simulate: Simulate,
    archive: Archives,
    figure: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    as_date: bool,
) -> None:
    sim = simulate(tasks=TASKS, speed=0)
    kept = archive(sim, page_size=PAGE, retry_wait_seconds=0)
    asked = formatdate(sim.now() // 1000 + 1, usegmt=True) if as_date else 1
    times: list[float] = []
    respond = sim.respond

    def noting(request: Any, body: bytes) -> Any:
        times.append(time.monotonic())
        return respond(request, body)

    monkeypatch.setattr(sim, "respond", noting)
    places = (1, 4, 9)
    for place in places:
        sim.fault(kind, at=place, retry_after=asked)
    assert kept.sync().verdict == "whole"
    pauses = [after - before for before, after in pairwise(times)]
    for place in places:
        assert 0.99 <= pauses[place - 1] < 3
    assert kept.landed() == kept.expected()
    figure("pauses asked for by Retry-After", len(places), "as seconds and as a date: kept")


@pytest.mark.parametrize("kind", ["503", "drop", "redirect"])
def test_the_command_ends_with_one_line(
    simulate: Simulate,
    archive: Archives,
    tmp_path: Path,
    figure: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    sim = simulate(tasks=TASKS, speed=0, now=None)
    home = tmp_path / "home"
    for name, value in {
        "LIVEPEER_API_URL": sim.url,
        "LIVEPEER_API_KEY": sim.api_key,
        "TASK_ARCHIVE_HOME": str(home),
        "TASK_ARCHIVE_PAGE_SIZE": "2",
        "TASK_ARCHIVE_ATTEMPTS": "2",
        "TASK_ARCHIVE_RETRY_WAIT_SECONDS": "0",
    }.items():
        monkeypatch.setenv(name, value)

    def sync() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pipelines.cli", "sync"]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    sim.fault(kind, at=30, times=None, **OPTIONS.get(kind, {}))  # two parts of ten pages have landed by then
    done = sync()
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "Traceback" not in said
    assert len([line for line in done.stderr.splitlines() if line.startswith("task-archive: ")]) == 1
    kept = archive(sim, home="home", page_size=2)
    landed = kept_files(kept)
    assert landed
    assert kept.manifests() == []
    sim.clear_faults()
    asked = len(sim.requests)
    done = sync()
    assert done.returncode == 0, done.stdout + done.stderr
    assert landed.items() <= kept_files(kept).items()
    assert len(sim.requests) - asked < TASKS // 2  # it went on from there
    assert len(kept.rows()) == TASKS
    figure("commands against a dead server", 1, "exit status 1, one line, no traceback; the next one goes on")
