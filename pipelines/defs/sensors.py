"""Sensors: alerts at the end of each run and at intervals, as an archive without runs grows stale; looks for news.

A run of the command sends its own alerts, as there may be no daemon; an alert that was sent is not repeated.
"""

from datetime import UTC, datetime

import dagster as dg

from pipelines.alerts import notify
from pipelines.alerts.channels import configured
from pipelines.defs.jobs import observe
from pipelines.defs.resources import settings_or_defaults
from pipelines.defs.retention import forget_old_runs
from pipelines.errors import ArchiveError, in_one_line
from pipelines.serving.news import has_news
from pipelines.settings import load_settings

SECONDS_BETWEEN_LOOKS = 900
SHORT_ATTEMPT = {"attempts": 1, "request_timeout_seconds": 10.0, "answer_seconds": 20.0}


@dg.run_failure_sensor(name="run_failed", default_status=dg.DefaultSensorStatus.RUNNING)
def run_failed(context: dg.RunFailureSensorContext) -> None:
    """Tells that a run failed, and what else is wrong."""
    _after_run(context, _reason(context.failure_event))


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS, name="run_succeeded", default_status=dg.DefaultSensorStatus.RUNNING
)
def run_succeeded(context: dg.RunStatusSensorContext) -> None:
    """Tells what is wrong after a run that went well."""
    _after_run(context, None)


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Tells what is wrong though no run ends."""
    settings = load_settings()
    if not configured(settings):
        return dg.SkipReason("no channel is set")
    found = notify.check(settings, context.log.error)
    return dg.SkipReason("; ".join(alert.summary for alert in found.alerts) or "nothing is wrong")


def observe_sensor() -> dg.SensorDefinition:
    """Looks for news, and starts a run where there are any: hundreds of idle runs a day would bury the others.

    A look is one short attempt, since a sensor has a minute; one that fails is left to a run, which tries again.
    """

    @dg.sensor(
        name="observe",
        job=observe,
        minimum_interval_seconds=settings_or_defaults().observe_seconds,
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def looks(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """What changed since the last proven point, looked for at intervals."""
        settings = load_settings()
        try:
            if has_news(settings.model_copy(update=SHORT_ATTEMPT)):
                return dg.RunRequest()
        except ArchiveError as error:
            context.log.info(f"the look failed, a run tries again: {in_one_line(error)}")
            return dg.RunRequest()
        notify.after_look(settings, "observe", None)
        return dg.SkipReason("nothing new")

    return looks


def _after_run(context: dg.RunStatusSensorContext, reason: str | None) -> None:
    run = context.dagster_run
    record = context.instance.get_run_record_by_id(run.run_id)
    ended_at = datetime.fromtimestamp(record.end_time, UTC) if record and record.end_time else datetime.now(UTC)
    settings = load_settings()
    notify.after_run(settings, run.job_name, run.run_id, reason, ended_at, context.log.error)
    forget_old_runs(context.instance, settings.keep_runs)


def _reason(event: dg.DagsterEvent) -> str:
    """Why a run failed: the first cause of its error, without the name of its class."""
    error = event.job_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    said = error.message.strip().split(": ", 1)[-1] if error else event.message
    return said or "no reason was given"
