"""What Dagster loads, nothing else."""

import dagster as dg

from pipelines.defs import jobs, landing, published, ranges, sensors, tables
from pipelines.defs.resources import Archive, executor

defs = dg.Definitions(
    assets=[
        landing.landed_tasks,
        landing.created_days,
        ranges.id_ranges,
        tables.tables,
        published.report,
        *published.targets(),
    ],
    jobs=[jobs.nightly, jobs.observe, jobs.backfill, jobs.refresh, jobs.rebuild, jobs.divided_sweep],
    schedules=jobs.schedules(),
    sensors=[sensors.run_failed, sensors.run_succeeded, sensors.alerts, sensors.observe_sensor()],
    asset_checks=[published.conditions],
    resources={"archive": Archive()},
    executor=executor(),
)
