"""What a run changes comes to the same as what making all anew gives: every table, every column."""

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from pipelines.settings import Settings
from pipelines.warehouse import build
from pipelines.warehouse.models import published_models
from pipelines.warehouse.rebuild import Digest, digest
from pipelines.warehouse.working import Working
from tests.warehouse.schedules import Schedule, land, schedules


def digests(home: Path) -> dict[str, Digest]:
    with Working(Settings(home=home)).opened(Working(Settings(home=home)).file) as connection:
        return {model.name: digest(connection, model.name) for model in published_models()}


def made_anew(home: Path, elsewhere: Path) -> dict[str, Digest]:
    """What the same landing zone gives from nothing."""
    shutil.rmtree(elsewhere, ignore_errors=True)
    shutil.copytree(home / "landing", elsewhere / "landing")
    list(build.build_version(Settings(home=elsewhere)))
    return digests(elsewhere)


@settings(max_examples=10, suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink])
@given(schedule=schedules())
def test_each_load_changes_what_making_all_anew_would(
    schedule: Schedule, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home")
    said: list[str] = []

    def follow() -> None:
        list(build.build_version(Settings(home=home), said.append))
        assert digests(home) == made_anew(home, home.with_name(f"{home.name}-anew"))

    land(schedule, home, follow)
    assert said == []
