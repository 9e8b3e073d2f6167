"""What a run changes comes to the same as what making all anew gives: every table, every column, whatever happened."""

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipelines.audit.replay import Digest, digest
from pipelines.home import Home
from pipelines.landing.catalog import Catalog
from pipelines.landing.zone import Zone
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from pipelines.warehouse import build, groups, making
from pipelines.warehouse.change import ahead
from pipelines.warehouse.given import given_by
from pipelines.warehouse.making import Maker
from pipelines.warehouse.models import load_models, published_models
from pipelines.warehouse.observations import LandedPart, batches
from pipelines.warehouse.publish import publish
from pipelines.warehouse.working import COMPLETE, Working
from tests.warehouse.changed_sql import changed_sql, other_sql
from tests.warehouse.schedules import FIRST_LOAD_MS, Answer, Load, Schedule, land, land_one, schedules

EXAMPLES, MANY_EXAMPLES = 2, 300


class Lived:
    """A home in which things happen between loads, and the lines that its runs said."""

    def __init__(self, home: Path, random: Random, lives: tuple[tuple[dict[str, Any], ...], ...]) -> None:
        self.settings = Settings(home=home)
        self.said: list[str] = []
        self._random = random
        self._lives = lives
        self._runs = 0
        self._aside = home.with_name(f"{home.name}-aside")

    def follow(self) -> None:
        """A run, and its tables held against those of a home that knows nothing but what landed."""
        self._runs += 1
        outcomes = [each for built in build.build_version(self.settings, self.said.append) for each in built.outcomes]
        assert [each for each in outcomes if each.blocks] == []
        assert digests(self.settings) == self._made_anew()

    def happen(self, event: str) -> None:
        getattr(self, event)()

    def _made_anew(self) -> dict[str, Digest]:
        home = self.settings.home.path.with_name(f"{self.settings.home.path.name}-anew")
        shutil.rmtree(home, ignore_errors=True)
        for name in ("landing", "landing-damaged"):
            if (self.settings.home.path / name).exists():
                shutil.copytree(self.settings.home.path / name, home / name)
        elsewhere = self.settings.model_copy(update={"home": Home(home)})
        list(build.build_version(elsewhere))
        return digests(elsewhere)

    def nothing(self) -> None:
        pass

    def a_task_is_set_back(self) -> None:
        """A GET by id answers the state that it was in first."""
        task = self._random.randrange(len(self._lives))
        answered = Load("refresh", (Answer(task, 0),), account=self._random.choice(["default", "default", "other"]))
        now = FIRST_LOAD_MS + self._runs * 3_600_000 + 1_800_000  # midway between two loads of the schedule
        land_one(answered, self._lives, self.settings.home.path, now)

    def a_part_is_lost(self) -> None:
        for part in self._a_part():
            part.unlink()

    def a_part_is_cut(self) -> None:
        for part in self._a_part():
            part.write_bytes(part.read_bytes()[:-9])

    def _a_part(self) -> list[Path]:
        """A part that has landed, if there is one; a copy of it is kept aside."""
        parts = sorted(self.settings.home.landing.glob("*/*/part-*.parquet"))
        chosen = self._random.sample(parts, min(1, len(parts)))
        for part in chosen:
            target = self._aside / part.relative_to(self.settings.home.landing)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(part, target)
        return chosen

    def what_was_lost_is_put_back(self) -> None:
        for file in self._aside.rglob("*.*"):
            shutil.copy(file, self.settings.home.landing / file.relative_to(self._aside))

    def a_load_is_lost(self) -> None:
        if loads := sorted(self.settings.home.landing.glob("*/*")):
            shutil.rmtree(self._random.choice(loads))

    def a_setting_changes(self) -> None:
        change = self._random.choice(
            [
                {"time_zone": self._random.choice(["UTC", "Asia/Tokyo", "America/Los_Angeles"])},
                {"stuck_running_seconds": self._random.choice([1, 300, 90_000])},
                {"slo": self._random.choice(["upload: 95% under 10m", "upload: 50% under 1s"])},
                {"concurrency_limit": self._random.choice([None, 3])},
            ]
        )
        self.settings = self.settings.model_copy(update=change)

    def the_working_file_is_lost(self) -> None:
        Working(self.settings).file.unlink(missing_ok=True)

    def the_working_file_is_spoilt(self) -> None:
        file = Working(self.settings).file
        if file.exists():
            body = bytearray(file.read_bytes())
            place = self._random.choice([0, 4096, 8192, len(body) // 2])
            body[place : place + 512] = self._random.randbytes(512)
            file.write_bytes(body[: self._random.choice([len(body), len(body) // 2])])

    def other_code_made_the_tables(self) -> None:
        self._in_working_file("update internal.made_with set digest = 'other' where what like 'sql/marts/l%'")

    def the_catalog_is_lost(self) -> None:
        Catalog.remove(Zone(self.settings.home.landing))

    def the_catalog_is_spoilt(self) -> None:
        (self.settings.home.warehouse / "landing.sqlite").write_bytes(b"no database at all" * 100)

    def a_run_ends_before_its_tables_are_whole(self) -> None:
        for number, _ in enumerate(build.build_version(self.settings, self.said.append)):
            if number == self._random.choice([0, 3, 20]):
                break

    def a_check_fails(self) -> None:
        """The rows of tasks come twice, and nothing of that stays."""
        tasks = load_models()["tasks"]
        before = tasks.compiled_sql
        object.__setattr__(tasks, "compiled_sql", f"from ({before}) union all from ({before})")
        try:
            list(build.build_version(self.settings, self.said.append))
        finally:
            object.__setattr__(tasks, "compiled_sql", before)

    def it_is_made_ahead(self) -> None:
        """All but what is left, and with it, when the last of the loads was complete."""
        working = Working(self.settings)
        working.remove()
        given = given_by(self.settings, [])
        with (
            Catalog(Zone(self.settings.home.landing)) as catalog,
            working.opened_fresh(given.fingerprint) as connection,
        ):
            catalog.refresh()
            for _ in range(self._random.choice([0, 1, 2, 9])):
                change = ahead(connection, catalog, 1)
                if any(part.is_new for part in change.parts):
                    Maker(connection, catalog, change, given.tables, 100).make_ahead()
                    last = [max(part.load_id for part in change.parts)]
                    for table in ("tasks", "task_history"):
                        connection.execute(f"update {table} set known_at = null where load_id = ?", last)
            connection.execute("checkpoint task_archive")

    def a_version_is_published(self) -> None:
        if (self.settings.home.warehouse / COMPLETE).exists():
            publish(self.settings)

    def _in_working_file(self, statement: str) -> None:
        if Working(self.settings).file.exists():
            with Working(self.settings).opened(Working(self.settings).file) as connection:
                connection.execute(statement.replace("internal.", "task_archive.internal."))


EVENTS = sorted(name for name in vars(Lived) if not name.startswith("_") and name not in ("follow", "happen"))


def digests(archive: Settings) -> dict[str, Digest]:
    with Working(archive).opened(Working(archive).file) as connection:
        return {model.name: digest(connection, model.name) for model in published_models()}


def made_elsewhere(settings: Settings, folder: Path) -> dict[str, Any]:
    """The digests of tables made anew elsewhere, of the same landing zone."""
    elsewhere = settings.model_copy(update={"home": Home(folder)})
    elsewhere.home.make()
    elsewhere.home.landing.symlink_to(settings.home.landing)
    list(build.build_version(elsewhere))
    return digests(elsewhere)


def live(schedule: Schedule, events: list[str], seed: int, home: Path) -> Lived:
    lived = Lived(home, Random(seed), schedule.lives)
    following = iter(events)

    def landed() -> None:
        lived.happen(next(following, "nothing"))
        lived.follow()

    land(schedule, home, landed)
    return lived


ANY = {
    "schedule": schedules(accounts=("default", "default", "other")),
    "events": st.lists(st.sampled_from(EVENTS), max_size=7),
    "seed": st.integers(0, 999),
}


@settings(max_examples=1, suppress_health_check=list(HealthCheck), phases=[Phase.reuse, Phase.generate])
@given(schedule=schedules(accounts=("default", "default", "other")))
def test_loads_alone_never_make_all_anew(schedule: Schedule, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert live(schedule, [], 0, tmp_path_factory.mktemp("home") / "archive").said == []


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), phases=[Phase.reuse, Phase.generate])
@given(**ANY)
def test_whatever_happens_the_tables_are_those_of_what_landed(
    schedule: Schedule, events: list[str], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    live(schedule, events, seed, tmp_path_factory.mktemp("home") / "archive")


def edit(name: str, place: str, text: str) -> Callable[[Path], object]:
    """A change of a file: `text` in front of `place`."""
    return lambda sql: (sql / name).write_text((sql / name).read_text("utf-8").replace(place, text + place), "utf-8")


def add(name: str, text: str) -> Callable[[Path], object]:
    return lambda sql: (sql / name).write_text(text, "utf-8")


NEW_MART = """/*
description: Tasks by the hour of their creation.
key: [hour]
*/

select
    date_trunc('hour', created_at) as hour, -- hour, UTC
    count(*) as tasks                       -- tasks created in it
from tasks
group by date_trunc('hour', created_at)
"""


MADE_AGAIN = [
    (edit("marts/task_sources.sql", "where f.is_completed and f.type", "-- a comment\n"), "task_sources"),
    (edit("marts/fact_tasks.sql", "select", "-- a comment\n"), "fact_tasks"),
    (edit("marts/hourly_throughput.sql", "select", "-- a comment\n"), "hourly_throughput"),
    (edit("marts/capacity.sql", "select", "-- a comment\n"), "capacity"),
    (edit("macros/wilson.sql", "select", "-- a comment\n"), ""),
    (edit("seeds/signature_owners.csv", "invalid video", "no such text%,user,Nothing\n"), "signature_owners"),
]


@pytest.mark.parametrize(
    ("change", "made"),
    [
        *(pytest.param(*each, marks=pytest.mark.slow) for each in MADE_AGAIN),
        (add("marts/tasks_by_hour.sql", NEW_MART), "tasks_by_hour"),
    ],
)
def test_a_changed_file_makes_its_table_again_and_what_follows_from_it(
    archive: Callable[..., Any],
    simulate: Callable[..., Simulator],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], object],
    made: str,
) -> None:
    """Nothing that landed is parsed for it, and what is made is what making all anew makes, on the way back too."""
    kept = archive(simulate(tasks=150))
    kept.sync()
    list(build.build_version(kept.settings))
    before = digests(kept.settings)
    make_batch = making.Maker._make_batch
    monkeypatch.setattr(making.Maker, "_make_batch", lambda *_: pytest.fail("what landed is parsed again"))

    def follow() -> list[str]:
        said: list[str] = []
        built = list(build.build_version(kept.settings, said.append))
        assert [outcome for each in built for outcome in each.outcomes if outcome.blocks] == []
        assert {each.model.name for each in built} == {model.name for model in published_models()}
        return said

    with other_sql(tmp_path / "sql", change):
        (said,) = follow()
        assert "changed: tables made again from others: " in said
        assert (kept.settings.home.warehouse / "parquet" / (made or "tasks")).exists()
        elsewhere = kept.settings.model_copy(update={"home": Home(tmp_path / "elsewhere")})
        elsewhere.home.make()
        elsewhere.home.landing.symlink_to(kept.settings.home.landing)
        assert follow() == []
        now = digests(kept.settings)
        with pytest.MonkeyPatch.context() as allowed:
            allowed.setattr(making.Maker, "_make_batch", make_batch)
            list(build.build_version(elsewhere))
        assert now == digests(elsewhere)
    (said,) = follow()
    assert "changed: tables made again from others: " in said
    assert digests(kept.settings) == before


def test_a_changed_file_that_a_check_fails_is_made_again_until_it_holds(
    archive: Callable[..., Any], simulate: Callable[..., Simulator], tmp_path: Path
) -> None:
    kept = archive(simulate(tasks=400))
    kept.sync()
    list(build.build_version(kept.settings))
    twice = "cross join (values (1), (2)) as twice (number)\n"
    with changed_sql(tmp_path / "sql", "marts/task_sources.sql", "where f.is_completed and f.type", twice):
        for _ in range(2):
            said: list[str] = []
            built = {each.model.name: each for each in build.build_version(kept.settings, said.append)}
            assert [outcome.check.name for outcome in built["task_sources"].outcomes if outcome.blocks]
            assert said == ["sql/marts/task_sources.sql changed: tables made again from others: 2"]
            assert not (kept.settings.home.warehouse / COMPLETE).exists()
    said = []
    built = {each.model.name: each for each in build.build_version(kept.settings, said.append)}
    assert not [outcome for outcome in built["task_sources"].outcomes if outcome.blocks]
    assert (kept.settings.home.warehouse / COMPLETE).exists()


def test_a_changed_file_that_reads_what_landed_makes_all_anew(
    archive: Callable[..., Any], simulate: Callable[..., Simulator], tmp_path: Path
) -> None:
    kept = archive(simulate(tasks=20))
    kept.sync()
    list(build.build_version(kept.settings))
    said: list[str] = []
    with other_sql(tmp_path / "sql", edit("core/tasks.sql", "select", "-- a comment\n")):
        list(build.build_version(kept.settings, said.append))
    assert said == ["all tables are made anew: sql/core/tasks.sql changed"]


def test_groups_are_the_same_whether_made_at_once_or_in_pieces(
    archive: Callable[..., Any], simulate: Callable[..., Simulator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = archive(simulate(tasks=400))
    kept.sync()
    list(build.build_version(kept.settings))
    elsewhere = kept.settings.model_copy(update={"home": Home(tmp_path / "elsewhere")})
    elsewhere.home.make()
    elsewhere.home.landing.symlink_to(kept.settings.home.landing)
    monkeypatch.setattr(groups, "MOST_COUNTED", 50)
    list(build.build_version(elsewhere))
    assert digests(elsewhere) == digests(kept.settings)


def test_a_table_made_from_tables_is_checked_by_task_when_all_is_made(
    archive: Callable[..., Any], simulate: Callable[..., Simulator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = archive(simulate(tasks=400))
    kept.sync()
    monkeypatch.setattr(making, "MOST_CHECKED", 50)
    twice = "cross join (values (1), (2)) as twice (number)\n"
    with changed_sql(tmp_path / "sql", "marts/task_sources.sql", "where f.is_completed and f.type", twice):
        built = {each.model.name: each for each in build.build_version(kept.settings)}
    broken = {outcome.check.name: outcome for outcome in built["task_sources"].outcomes if outcome.blocks}
    assert broken.keys() == {"key_is_unique"}
    assert broken["key_is_unique"].failing_rows * 2 == built["task_sources"].rows > 100
    assert not (kept.settings.home.warehouse / COMPLETE).exists()


def test_tasks_strewn_over_many_parts_are_made_at_once(
    archive: Callable[..., Any], simulate: Callable[..., Simulator]
) -> None:
    simulator = simulate(tasks=50)
    kept = archive(simulator)
    kept.sync()
    chosen = []
    for _ in range(4):
        simulator.advance(60)
        chosen.append([simulator.insert() for _ in range(50)][-1])
        kept.sync("changes")
    with Catalog(Zone(kept.settings.home.landing)) as catalog:
        catalog.refresh()
        catalog.want(chosen, ())
        parts = [LandedPart(**row, is_new=False) for row in catalog.parts().to_pylist()]
        (batch,) = batches(catalog, parts, set(), False, 40)
    assert len(parts) == 5
    assert batch.tasks == 4


def test_payloads_too_large_to_be_parsed_together_come_in_batches_of_their_own(
    archive: Callable[..., Any], simulate: Callable[..., Simulator]
) -> None:
    simulator = simulate(tasks=60)
    large = {simulator.insert(name="large " + "x" * 200_000) for _ in range(3)}
    kept = archive(simulator)
    kept.sync()
    with Catalog(Zone(kept.settings.home.landing)) as catalog:
        catalog.refresh()
        parts = [LandedPart(**row, is_new=True) for row in catalog.parts().to_pylist()]
        found = [batch.observations["task_id"].to_pylist() for batch in batches(catalog, parts, set(), True, 100)]
    assert max(len(large & {*tasks}) for tasks in found) == 1
    assert sorted(key for tasks in found for key in tasks) == sorted(simulator.ids())


@pytest.mark.slow
@settings(max_examples=MANY_EXAMPLES, suppress_health_check=list(HealthCheck), phases=[Phase.reuse, Phase.generate])
@given(**ANY)
def test_whatever_happens_often(
    schedule: Schedule, events: list[str], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    live(schedule, events, seed, tmp_path_factory.mktemp("home") / "archive")
