"""Erasing a creator's data: the landing zone, then everything that was made of it."""

import os
from collections.abc import Callable
from contextlib import ExitStack

from pipelines.cli.run import run_job
from pipelines.errors import SettingsError
from pipelines.landing.context import redactor_of
from pipelines.landing.copies import shared
from pipelines.landing.erasure import Erased, erase, erasures, note
from pipelines.landing.lock import locked
from pipelines.landing.zone import Zone
from pipelines.serving.published import published
from pipelines.settings import Settings, environment_variable, load_settings
from pipelines.text import counted
from pipelines.warehouse.build import forget

TASKS = """
select account, task_id
from (
    select account, task_id, creator_id from tasks
    union all
    select account, task_id, creator_id from superseded_tasks
)
where creator_id = ?
group by account, task_id
order by account, task_id
"""


def tasks_of(settings: Settings, creator: str) -> dict[str, list[str]]:
    """A creator's tasks by account: those that the published version knows, in any of their states, and those of an
    earlier request. Raises SettingsError where there are none."""
    found: dict[str, set[str]] = {}
    with published(settings) as connection:
        for account, task_id in connection.execute(TASKS, [creator]).fetchall():
            found.setdefault(account, set()).add(task_id)
    of_creator = redactor_of(settings).fingerprint(creator)
    for erasure in erasures(Zone(settings.home.landing)):
        if erasure.creator == of_creator:
            for account, task_ids in erasure.tasks.items():
                found.setdefault(account, set()).update(task_ids)
    if not found:
        raise SettingsError(f"the archive has no task of a creator {creator!r}: see `creator_id` in the table `tasks`")
    return {account: sorted(task_ids) for account, task_ids in sorted(found.items())}


def erase_creator(settings: Settings, creator: str, tasks: dict[str, list[str]], say: Callable[[str], None]) -> Erased:
    """Cuts down what the archive holds of the tasks, makes all tables anew, publishes them wherever a setting says, and
    removes every earlier version. Killed in the midst, it is to be called again."""
    zone = Zone(settings.home.landing)
    with ExitStack() as held:
        held.enter_context(locked(settings))
        copies = held.enter_context(shared(settings, say))
        note(zone, redactor_of(settings).fingerprint(creator), tasks)
        erased = erase(zone, settings.home.events)
        if copies is not None:
            copies.replace()
        forget(settings)
        say(f"landing    {counted(erased.observations, 'payload')} in {counted(erased.files, 'file')} cut down")
        if erased.deleted_files:
            say(f"deleted    {counted(erased.deleted_files, 'damaged file')} that could not be read")
    os.environ[environment_variable("iceberg_keep_days")] = "0"  # an older snapshot would keep what is to go
    os.environ[environment_variable("keep_versions")] = "1"
    run_job(load_settings(), "rebuild")
    say("published  anew, and no earlier version is left")
    return erased
