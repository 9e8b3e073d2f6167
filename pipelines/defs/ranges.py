"""A sweep by several workers: the ids of an account divided into ranges, each fetched by a step of its own.

By Dagster's executors the steps run at the same time, on one machine or on several that share the home. What they land
is proven by the sweep that comes after them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
from pydantic import BaseModel, Field

from pipelines.defs.landing import ID_RANGES, RunOptions, fail
from pipelines.defs.resources import lines
from pipelines.errors import ArchiveError, in_one_line
from pipelines.landing.context import ProgressCallbacks
from pipelines.landing.lanes import Extraction
from pipelines.landing.lock import locked_by_worker
from pipelines.landing.manifest import Manifest
from pipelines.livepeer.failures import TransientError
from pipelines.settings import load_settings
from pipelines.text import counted

POOL = "livepeer_ranges"  # of the steps that fetch ranges: where a limit is set, so many ask the API at a time


class RangesConfig(RunOptions):
    """How a sweep is divided."""

    ranges: int = Field(
        default=16,
        ge=1,
        le=4096,
        description="Ranges of ids: more than workers, so that all end at about one time.",
    )


class Work(BaseModel):
    """What a step is to fetch: the load of a range, of a sweep that was begun."""

    account: str
    sweep_id: str
    load_id: str
    fails_at_once: bool


@dg.op(out=dg.DynamicOut())
def divide(context: dg.OpExecutionContext, config: RangesConfig) -> Iterator[dg.DynamicOutput[Work]]:
    """Begins the sweeps, or goes on with those that were interrupted: an output for each range that is left."""
    settings = load_settings()
    for place, account in enumerate(settings.accounts(config.account)):
        with _failing(context, config.fails_at_once), locked_by_worker(settings, is_alone=True):
            extraction = Extraction(settings, account, context.run_id, _callbacks(context))
            sweep, ranges = extraction.begin_ranges(config.ranges)
        context.log.info(f"{account}: sweep {sweep}, {len(ranges)} ranges to fetch")
        for load_id in ranges:
            work = Work(account=account, sweep_id=sweep, load_id=load_id, fails_at_once=config.fails_at_once)
            yield dg.DynamicOutput(work, mapping_key=f"account_{place}_{load_id.split('-')[0]}")


@dg.op(pool=POOL)
def fetch_range(context: dg.OpExecutionContext, work: Work) -> int:
    """Fetches and lands a range; returns how many tasks it holds."""
    settings = load_settings()
    with _failing(context, work.fails_at_once), locked_by_worker(settings):
        extraction = Extraction(settings, work.account, context.run_id, _callbacks(context))
        load = extraction.fetch_range(work.sweep_id, work.load_id)
    context.log.info(_as_line(work, load))
    return 0 if load is None else load.tasks_seen


@dg.op
def fetched(context: dg.OpExecutionContext, tasks: list[int]) -> dg.Output[None]:
    """All ranges have landed."""
    return dg.Output(None, metadata={"ranges": len(tasks), "tasks seen": sum(tasks)})


@dg.graph_asset(
    key=ID_RANGES,
    group_name="landing",
    kinds={"python", "parquet"},
    description="Tasks of all accounts, fetched by several workers at once, a range of ids each. The sweep that "
    "follows proves them all.",
)
def id_ranges() -> Any:
    """The graph of the steps."""
    return fetched(divide().map(fetch_range).collect())


@contextmanager
def _failing(context: dg.OpExecutionContext, fails_at_once: bool) -> Iterator[None]:
    """Has a step fail with one line, and tried again where that may pass."""
    try:
        yield
    except (ArchiveError, OSError) as error:  # the disk may be full
        may_pass = isinstance(error, TransientError) and not fails_at_once
        fail(dg.Failure(in_one_line(error)), may_pass, context.retry_number)


def _callbacks(context: dg.OpExecutionContext) -> ProgressCallbacks:
    return ProgressCallbacks(progress=lines(context.log.info), say=context.log.info)


def _as_line(work: Work, load: Manifest | None) -> str:
    if load is None:
        return f"{work.account}: the sweep {work.sweep_id} is over, so that {work.load_id} is not fetched"
    window = load.window
    ids = f"{window.after_id or 'first'} to {window.last_id or 'last'}"
    landed = counted(load.rows_landed, "observation")
    return f"{work.account}: {counted(load.tasks_seen, 'task')}, ids {ids}, {landed} landed"
