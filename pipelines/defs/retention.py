"""Dagster's records are kept in bounds: a run every five minutes leaves a hundred thousand a year."""

import shutil
from pathlib import Path

import dagster as dg

# The table `loads` keeps a record of these jobs' runs. Those of a backfill show which partitions are there.
PASSING = ("nightly", "observe", "refresh", "rebuild", "divided_sweep")

MOST_AT_ONCE = 20  # an archive that has many more gets there run by run


def forget_old_runs(instance: dg.DagsterInstance, keep_runs: int) -> None:
    """Deletes the oldest runs of a job, with their events, beyond so many."""
    for job in PASSING:
        runs = dg.RunsFilter(job_name=job)
        beyond = instance.get_runs_count(runs) - keep_runs
        if beyond > 0:
            for record in instance.get_run_records(runs, limit=min(beyond, MOST_AT_ONCE), ascending=True):
                if record.dagster_run.is_finished:
                    run_id = record.dagster_run.run_id
                    instance.delete_run(run_id)
                    shutil.rmtree(Path(instance.storage_directory(), run_id), ignore_errors=True)  # what it printed
