"""Telling somebody when a run has failed."""

import dagster as dg
import httpx

from pipelines.settings import load_settings


@dg.run_failure_sensor(name="run_failed", default_status=dg.DefaultSensorStatus.RUNNING)
def run_failed(context: dg.RunFailureSensorContext) -> None:
    """Posts a message, in the form that Slack and its like take, to TASK_ARCHIVE_FAILURE_WEBHOOK_URL if that is set."""
    run, settings = context.dagster_run, load_settings()
    reason = context.failure_event.message or "no reason was given"
    text = f"Task Archive: run {run.run_id[:8]} of job {run.job_name} failed. {reason}"
    context.log.error(text)
    if settings.failure_webhook_url is None:
        return
    try:
        httpx.post(settings.failure_webhook_url.get_secret_value(), json={"text": text}, timeout=30).raise_for_status()
    except httpx.HTTPStatusError as error:
        context.log.error(f"the failure webhook answered {error.response.status_code}")
    except httpx.HTTPError as error:
        context.log.error(f"the failure webhook could not be called: {type(error).__name__}")
