"""Dagster's records stay in bounds, those of backfills apart."""

from pathlib import Path

import dagster as dg

from pipelines.cli.run import DAGSTER_YAML, prepare_instance
from pipelines.defs.retention import forget_old_runs
from pipelines.settings import Settings


def test_the_oldest_runs_of_a_job_go_with_their_events(clean_environment: None, tmp_path: Path) -> None:
    prepare_instance(Settings(home=tmp_path))

    @dg.op
    def step() -> None:
        pass

    made: dict[str, list[str]] = {"observe": [], "backfill": []}
    with dg.DagsterInstance.get() as instance:
        for name, runs in made.items():
            job = dg.JobDefinition(name=name, graph_def=dg.GraphDefinition(name=name, node_defs=[step]))
            runs += [job.execute_in_process(instance=instance).run_id for _ in range(5)]
        forget_old_runs(instance, keep_runs=2)
        left = {record.dagster_run.run_id for record in instance.get_run_records()}
        assert left == {*made["observe"][-2:], *made["backfill"]}
        assert not list((tmp_path / "dagster").rglob(f"*{made['observe'][0]}*"))
        forget_old_runs(instance, keep_runs=2)
        assert len(instance.get_run_records()) == len(left)


def test_ticks_are_purged() -> None:
    assert b"purge_after_days" in DAGSTER_YAML
