"""The progress of a run on a terminal: it moves, and never passes its total."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.simulator import Simulator
from tests.conftest import variables_of


@pytest.mark.usefixtures("clean_environment")
def test_the_bar_moves_and_never_passes_its_total(simulate: Callable[..., Simulator], tmp_path: Path) -> None:
    simulator = simulate(tasks=1500, days=6, now=None)
    simulator.mutate_between_pages(1, 5, 0)
    simulator.fault("slow", seconds=0.04, times=None)  # so that the bar is drawn between pages
    terminal = {"TASK_ARCHIVE_PAGE_SIZE": "100", "TERM": "xterm", "COLUMNS": "100"}
    variables = variables_of(simulator, tmp_path / "archive", **terminal)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pipelines.cli", "sync"]
    with subprocess.Popen(command, env=os.environ | variables, stdout=theirs, stderr=theirs, stdin=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65_536)
            except OSError:  # the other side is closed
                break
        assert process.wait() == 0, shown[-2000:]
    os.close(ours)
    text = shown.decode()
    seen = [
        tuple(int(number.replace(",", "")) for number in pair)
        for pair in re.findall(r"([\d,]+) of ([\d,]+) tasks", text)
    ]
    assert len({read for read, _ in seen}) > 5
    assert all(read <= total for read, total in seen)
    assert len(set(re.findall(r"tables: (\d+) of \d+", text))) > 5
    assert "proof      whole" in text
