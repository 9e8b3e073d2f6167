"""How a load begins: anew, or where an interrupted one stopped."""

import time
from collections.abc import Iterable

from pipelines import __version__
from pipelines.landing import damage
from pipelines.landing.context import AccountContext
from pipelines.landing.manifest import Lane, Manifest, Window
from pipelines.landing.writer import LoadWriter
from pipelines.text import counted


def resume_or_begin(context: AccountContext, lane: Lane, window: Window) -> Manifest:
    """The manifest to write on: of an interrupted walk by id of the same window, else a fresh one.

    Other interrupted loads are closed as broken with what they had landed, so that nothing fetched is lost.
    """
    account = context.account
    context.catalog.clear_leftovers(account)
    context.catalog.refresh(account, files_too=False)
    loads = context.catalog.open_loads(account)
    can_go_on = lane in ("sweep", "backfill")  # by id
    resumed = next((load for load in loads if can_go_on and (load.lane, load.window) == (lane, window)), None)
    for manifest in reversed(loads):  # a sweep before its ranges: while it is open they count
        if resumed is not None and manifest.load_id in (resumed.load_id, *resumed.ranges):
            continue
        manifest.verdict = "broken"
        manifest.reasons = ["interrupted; what had landed is kept, a later load fetches the rest"]
        LoadWriter(context.catalog, manifest, context.redactor).complete()
    if resumed is not None:
        if not resumed.ranges:
            context.callbacks.say(f"resuming {resumed.load_id} after {counted(resumed.rows_read, 'row')}")
        resumed.run_id = context.run_id  # the load belongs to the run that ends it
        return resumed
    fresh = begun(context, lane, window)
    fresh.lost_files = [lost.name for lost in damage.lost(context.catalog, account)]
    return fresh


def begun(context: AccountContext, lane: Lane, window: Window, load_id: str | None = None) -> Manifest:
    """The manifest of a load that begins now, under an id that was set aside for it or a new one."""
    now_ms = time.time_ns() // 1_000_000
    return Manifest(
        load_id=load_id or context.zone.new_load_id(lane, now_ms),
        account=context.account,
        lane=lane,
        window=window,
        api_url=context.settings.api_url,
        code_version=__version__,
        run_id=context.run_id,
        started_at_ms=now_ms,
    )


def unserved(loads: Iterable[Manifest]) -> list[str]:
    """Tasks that the list could not serve in the last sweep or since then; `loads`: the newest first."""
    found: set[str] = set()
    for load in loads:
        found.update(missing.task_id for missing in load.unreadable if "500" in missing.reason)
        found.update(load.had_by_id)
        if load.lane == "sweep" and load.verdict != "broken":
            break
    return sorted(found)


def server_clock_ms(date_ms: int | None) -> int:
    """The server's time at the first answer; our own, a minute back, where it sends no Date."""
    return date_ms if date_ms is not None else time.time_ns() // 1_000_000 - 60_000
