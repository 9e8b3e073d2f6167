"""All that the archive knows of one task."""

import duckdb

from pipelines.errors import SettingsError
from pipelines.warehouse.database import quoted
from pipelines.warehouse.models import published_models

# Tables that other sections tell of already.
TOLD = {"tasks", "fact_tasks", "task_history", "task_intervals", "superseded_tasks"}


def find_task(connection: duckdb.DuckDBPyConnection, text: str) -> str:
    """The id that is `text`, or the only one that begins with it.

    Raises SettingsError where there is none, or several.
    """
    found = connection.execute(
        "select task_id from tasks where task_id = $text or starts_with(task_id, $text) "
        "order by task_id != $text, task_id limit 3",
        {"text": text},
    ).fetchall()
    ids = [task_id for (task_id,) in found]
    if text in ids:
        return text
    if not ids:
        raise SettingsError(
            f"the archive has no task {text!r}: `task-archive refresh {text}` asks the API for it, if the id is whole"
        )
    if len(ids) > 1:
        raise SettingsError(f"several tasks begin with {text!r}, such as {', '.join(ids[:2])}: give more of the id")
    return str(ids[0])


def sections(task_id: str) -> dict[str, str]:
    """What is shown of a task: a heading and the SQL for each part, in the order of interest."""
    task = quoted(task_id)
    parts = {
        "What it is": _by_name("fact_tasks", task),
        "Timeline, as far as it was observed (UTC)": (
            "select happened_at, event, progress, retries, error_message, observed_at, observed_by "
            f"from task_timeline({task})"
        ),
        "Why it failed": (
            "select distinct template, signature_id, owner, advice from task_history "
            f"inner join error_texts using (error_message) where task_id = {task}"
        ),
    }
    for model in published_models():
        if "task_id" in model.columns and model.name not in TOLD:
            shown = ", ".join(f'"{name}"' for name in model.columns if name not in ("task_id", "account", "type"))
            order = ", ".join(name for name in model.key if name != "task_id") or "1"
            parts[model.name] = f"select {shown} from {model.name} where task_id = {task} order by {order}"
    parts["Loads that brought its states"] = (
        "select load_id, lane, verdict, started_at, finished_at, run_id from loads "
        f"where load_id in (select load_id from task_history where task_id = {task}) order by load_id"
    )
    parts["Everything its payload tells (tasks)"] = _by_name("tasks", task)
    return parts


def _by_name(table: str, task: str) -> str:
    """A task's row of a table as one row a column that is not null; times as the other sections write them."""
    return (
        rf"select name, regexp_replace(value, '^(\d{{4}}-\d\d-\d\d) ([\d:.]+)\+00$', '\1T\2Z') as value from ("
        f"unpivot (select columns(*)::varchar from {table} where task_id = {task}) "
        "on columns(*) into name name value value)"
    )
