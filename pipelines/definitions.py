"""What Dagster loads, nothing else."""

import dagster as dg

from pipelines.defs import jobs, landing, published, sensors, tables
from pipelines.defs.resources import Archive, settings_or_defaults

defs = dg.Definitions(
    assets=[
        landing.landed_tasks,
        landing.created_days,
        tables.tables,
        published.report,
        *published.targets(),
    ],
    jobs=[jobs.nightly, jobs.observe, jobs.backfill, jobs.refresh, jobs.rebuild],
    schedules=jobs.schedules(),
    sensors=[sensors.run_failed, sensors.run_succeeded, sensors.alerts, sensors.observe_sensor()],
    asset_checks=[published.conditions],
    resources={"archive": Archive()},
    executor={"in_process": dg.in_process_executor, "multiprocess": dg.multiprocess_executor}[
        settings_or_defaults().executor
    ],
)
