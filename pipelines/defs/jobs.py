"""The jobs: what the command and the schedules run. Each lands by one lane and goes on to a published version."""

import dagster as dg

from pipelines.defs.landing import account_tasks, created_days, refreshed_tasks
from pipelines.errors import SettingsError
from pipelines.settings import environment_variable, load_settings

nightly = dg.define_asset_job(
    "nightly",
    selection=dg.AssetSelection.assets(account_tasks).downstream(),
    description="What changed since the last proven point, or everything at first.",
)
backfill = dg.define_asset_job(
    "backfill",
    selection=dg.AssetSelection.assets(created_days).downstream(),
    description="Tasks created on given days, fetched again.",
)
refresh = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.assets(refreshed_tasks).downstream(),
    description="Single tasks by their ids.",
)


def nightly_schedule() -> dg.ScheduleDefinition:
    """The nightly job at the time that the settings name. Raises SettingsError where that is no cron line."""
    settings = load_settings()
    try:
        return dg.ScheduleDefinition(
            name="nightly",
            job=nightly,
            cron_schedule=settings.schedule,
            execution_timezone=settings.time_zone,
            default_status=dg.DefaultScheduleStatus.RUNNING,
        )
    except dg.DagsterInvalidDefinitionError:
        raise SettingsError(f"{environment_variable('schedule')} is no cron line: {settings.schedule}") from None
