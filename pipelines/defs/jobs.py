"""The jobs: what the command and the schedules run. Each lands by one lane and goes on to a published version."""

from typing import Any

import dagster as dg

from pipelines.alerts.notify import after_look
from pipelines.defs.landing import Lane, SyncConfig, account_tasks, created_days, observed_tasks, refreshed_tasks
from pipelines.defs.tables import MAKES_ANEW, tables
from pipelines.errors import ArchiveError, SettingsError
from pipelines.serving.news import has_news
from pipelines.settings import environment_variable, load_settings

nightly = dg.define_asset_job(
    "nightly",
    selection=dg.AssetSelection.assets(account_tasks).downstream(),
    description="What changed since the last proven point, or everything at first.",
)
observe = dg.define_asset_job(
    "observe",
    selection=dg.AssetSelection.assets(observed_tasks).downstream(),
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
    description="Every table again from the landing zone, each landed payload parsed anew. Asks the API nothing.",
    tags={MAKES_ANEW: "true"},
)
refresh = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.assets(refreshed_tasks).downstream(),
    description="Single tasks by their ids.",
)


def schedules() -> list[dg.ScheduleDefinition]:
    """The schedules at the times that the settings name. Raises SettingsError where one is no cron line."""
    sweep = dg.RunConfig(ops={"landing__account_tasks": SyncConfig(lane=Lane.sweep)})
    return [
        _schedule("nightly", "schedule", job=nightly),
        _schedule("sweep", "sweep_schedule", job=nightly, run_config=sweep),
        _schedule("observe", "observe_schedule", is_on=False, job=observe, execution_fn=_where_there_is_news),
    ]


def _schedule(name: str, setting: str, is_on: bool = True, **arguments: Any) -> dg.ScheduleDefinition:
    settings = load_settings()
    try:
        return dg.ScheduleDefinition(
            name=name,
            cron_schedule=getattr(settings, setting),
            execution_timezone=settings.time_zone,
            default_status=dg.DefaultScheduleStatus.RUNNING if is_on else dg.DefaultScheduleStatus.STOPPED,
            **arguments,
        )
    except dg.DagsterInvalidDefinitionError:
        raise SettingsError(f"{environment_variable(setting)} is no cron line: {getattr(settings, setting)}") from None


def _where_there_is_news(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Looks before it runs: hundreds of idle runs a day would bury the others. A look that fails is left to a run."""
    try:
        settings = load_settings()
        if has_news(settings):
            return dg.RunRequest()
    except ArchiveError:
        return dg.RunRequest()
    after_look(settings, "observe", None)
    return dg.SkipReason("nothing new")
