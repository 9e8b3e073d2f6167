"""Telling somebody when a run has failed."""

import dagster as dg

from pipelines.alerts.channels import Undelivered, configured
from pipelines.alerts.message import Alert, Message
from pipelines.settings import load_settings


@dg.run_failure_sensor(name="run_failed", default_status=dg.DefaultSensorStatus.RUNNING)
def run_failed(context: dg.RunFailureSensorContext) -> None:
    """Tells it by every channel that is set."""
    run, settings = context.dagster_run, load_settings()
    says = f"run {run.run_id[:8]} of job {run.job_name} failed"
    reason = context.failure_event.message or "no reason was given"
    alert = Alert("run_failed", run.job_name, "alarm", says, "task-archive doctor", quote=reason)
    for channel in configured(settings):
        try:
            channel.send(Message(str(settings.home), [alert]))
        except Undelivered as error:
            context.log.error(f"{channel.name} did not take the alert: {error}")
