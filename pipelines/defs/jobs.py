"""The jobs: what the command and the schedules run. Each lands by one lane and goes on to a published version."""

from typing import Any

import dagster as dg

from pipelines.defs.landing import LandingConfig, Lane, created_days, landed_tasks
from pipelines.defs.ranges import id_ranges
from pipelines.defs.resources import executor, settings_or_defaults
from pipelines.defs.tables import TablesConfig, tables

LANDING = "landing__tasks"  # the op of the landing asset


def landing_config(**options: Any) -> dg.RunConfig:
    """The configuration of a run of the landing asset."""
    return dg.RunConfig(ops={LANDING: LandingConfig(**options)})


nightly = dg.define_asset_job(
    "nightly",
    selection=dg.AssetSelection.assets(landed_tasks).downstream(),
    description="What changed since the last proven point, or everything at first.",
)
observe = dg.define_asset_job(
    "observe",
    selection=dg.AssetSelection.assets(landed_tasks).downstream(),
    config=landing_config(lane=Lane.observe),
    description="What changed since the last proven point, where anything did; made to run all day.",
)
backfill = dg.define_asset_job(
    "backfill",
    selection=dg.AssetSelection.assets(created_days).downstream(),
    description="Tasks created on given days, fetched again.",
)
rebuild = dg.define_asset_job(
    "rebuild",
    selection=dg.AssetSelection.assets(tables).downstream(),
    config=dg.RunConfig(ops={"tables": TablesConfig(makes_anew=True)}),
    description="Every table again from the landing zone, each landed payload parsed anew. Asks the API nothing.",
)
refresh = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.assets(landed_tasks).downstream(),
    config=landing_config(lane=Lane.refresh),
    description="Single tasks by their ids: set task_ids.",
)
divided_sweep = dg.define_asset_job(
    "divided_sweep",
    selection=dg.AssetSelection.assets(id_ranges) | dg.AssetSelection.assets(landed_tasks).downstream(),
    config=landing_config(lane=Lane.sweep),
    executor_def=executor(of_workers=True),
    description="Everything, fetched by several workers at once, a range of ids each, and proven whole: for the first "
    "load of a large account.",
)


def schedules() -> list[dg.ScheduleDefinition]:
    """The schedules at the times that the settings name."""
    settings = settings_or_defaults()
    zone = settings.time_zone
    on = dg.DefaultScheduleStatus.RUNNING
    sweep = landing_config(lane=Lane.sweep)
    return [
        dg.ScheduleDefinition(
            name="nightly", job=nightly, cron_schedule=settings.schedule, execution_timezone=zone, default_status=on
        ),
        dg.ScheduleDefinition(
            name="sweep",
            job=nightly,
            run_config=sweep,
            cron_schedule=settings.sweep_schedule,
            execution_timezone=zone,
            default_status=on,
        ),
    ]
