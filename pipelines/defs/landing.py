"""From the API to the landing zone: tasks by a lane, and the tasks created on given days as partitions."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from typing import NoReturn

import dagster as dg
import duckdb
from pydantic import Field

from pipelines.defs.resources import Archive
from pipelines.errors import ArchiveError, as_fault_of_the_program, in_one_line
from pipelines.landing.catalog import Catalog
from pipelines.landing.events import summary
from pipelines.landing.lanes import Extraction
from pipelines.landing.manifest import Manifest
from pipelines.landing.zone import Zone
from pipelines.livepeer.failures import TransientError
from pipelines.serving.news import is_behind
from pipelines.serving.published import open_tasks
from pipelines.settings import Settings
from pipelines.text import counted, markdown_cell
from pipelines.tracing import span
from pipelines.warehouse.ahead import made_ahead
from pipelines.warehouse.memory import keep_little

FIRST_DAY = "2020-01-01"  # before the first task of Livepeer's video API
ID_RANGES = dg.AssetKey(["landing", "id_ranges"])  # see `ranges`
CREATED_DAYS = dg.DailyPartitionsDefinition(start_date=FIRST_DAY, end_offset=1)
NIGHTLY_FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=36), warn_window=timedelta(hours=26))
PROOF = "proof_is_whole"
POOL = "livepeer_api"  # of the steps that ask the API: where a limit is set, so many runs hold one at a time

# The client repeats single requests; this repeats the lane, which goes on from where it was, after a failure that may
# pass by itself. A policy of Dagster's would repeat it after every other one too, an interruption included.
MOST_RETRIES = 2
RETRY_WAIT_SECONDS = 60


class Lane(Enum):
    """`auto` sweeps an account that was never swept whole, and fetches changes otherwise."""

    auto = "auto"
    changes = "changes"
    sweep = "sweep"
    observe = "observe"
    refresh = "refresh"


class RunOptions(dg.Config):
    """What every landing run may be given. With `fails_at_once` a failure that may pass is not tried again."""

    account: str | None = Field(default=None, description="One account; all that have a key otherwise.")
    fails_at_once: bool = Field(default=False, description="Show a failure at once instead of trying again.")


class LandingConfig(RunOptions):
    """What a run asks the API for."""

    lane: Lane = Field(
        default=Lane.auto,
        description="auto: everything at first, then what changed. changes, sweep: that. observe: what changed, where "
        "anything did, and some open tasks. refresh: the tasks of task_ids.",
    )
    task_ids: list[str] = Field(default=[], description="Of the lane refresh: ids of the tasks to fetch.")


def _proof(asset: str) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            PROOF,
            asset=dg.AssetKey(["landing", asset]),
            description="every task that the server counts was read, and each difference is explained",
        )
    ]


@dg.asset(
    key=["landing", "tasks"],
    deps=[ID_RANGES],
    group_name="landing",
    kinds={"python", "parquet"},
    freshness_policy=NIGHTLY_FRESHNESS,
    output_required=False,
    pool=POOL,
    check_specs=_proof("tasks"),
)
def landed_tasks(
    context: dg.AssetExecutionContext, config: LandingConfig, archive: Archive
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Tasks of all accounts, by one lane. Where the lane `observe` finds nothing new nothing is materialized, so that
    nothing downstream runs."""
    settings = archive.settings

    def fetch(extraction: Extraction) -> Manifest | None:
        if config.lane is Lane.observe:
            return extraction.observe(lambda before_ms: open_tasks(settings, extraction.account, before_ms))
        if config.lane is Lane.refresh:
            return extraction.refresh(config.task_ids)
        return extraction.sync(config.lane.value)

    loads = _for_each_account(context, archive, config, fetch)
    if not loads and not is_behind(settings):
        yield dg.AssetCheckResult(passed=True, check_name=PROOF, description="nothing changed")
        return
    _mark_proven_days(context.instance, settings, loads)
    yield _materialized(loads, "tasks")


@dg.asset(
    key=["landing", "created_days"],
    group_name="landing",
    kinds={"python", "parquet"},
    partitions_def=CREATED_DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    pool=POOL,
    check_specs=_proof("created_days"),
)
def created_days(context: dg.AssetExecutionContext, config: RunOptions, archive: Archive) -> dg.MaterializeResult:
    """Tasks created on a day (UTC), fetched again: a partition each, one request window for a range of them. A sweep
    that is proven whole marks all days before it."""
    window = context.partition_time_window
    from_ms, to_ms = (round(moment.timestamp() * 1000) for moment in (window.start, window.end))
    loads = _for_each_account(context, archive, config, lambda extraction: extraction.backfill(from_ms, to_ms))
    return _materialized(loads, "created_days")


def _mark_proven_days(instance: dg.DagsterInstance, settings: Settings, loads: list[Manifest]) -> None:
    """Shows the days from the first task to a sweep of every account as materialized, once the sweep is whole."""
    swept = {load.account for load in loads if load.lane == "sweep" and load.verdict == "whole"}
    if not swept.issuperset(settings.accounts()):
        return
    proven_ms = min(load.proven_until_ms or 0 for load in loads if load.lane == "sweep")
    with Catalog(Zone(settings.home.landing)) as catalog:
        first_ms = catalog.first_created_ms() or proven_ms
    first, last = (datetime.fromtimestamp(ms / 1000, UTC).strftime(CREATED_DAYS.fmt) for ms in (first_ms, proven_ms))
    known = instance.get_materialized_partitions(created_days.key)
    for day in CREATED_DAYS.get_partition_keys():
        if first <= day < last and day not in known:
            instance.report_runless_asset_event(dg.AssetMaterialization(created_days.key, partition=day))


def _for_each_account(
    context: dg.AssetExecutionContext,
    archive: Archive,
    options: RunOptions,
    run: Callable[[Extraction], Manifest | None],
) -> list[Manifest]:
    """Runs a lane for each account; one account's failure keeps no other from landing, and fails the asset then."""
    loads: list[Manifest] = []
    failures: dict[str, str] = {}
    may_pass = False
    settings = archive.settings
    keep_little()
    with made_ahead(settings, archive.callbacks(context.log.info)) as callbacks:
        for account in settings.accounts(options.account):
            try:
                extraction = Extraction(settings, account, context.run.run_id, callbacks, archive.zone)
                # Events wait for an interrupted load that goes on; those that came meanwhile land after it.
                for land in (extraction.land_events, partial(run, extraction), extraction.land_events):
                    with span("load", account=account, run_id=context.run.run_id) as note:
                        if load := land():
                            loads.append(load)
                            context.log.info(_as_line(load))
                            for name in ("lane", "load_id", "requests", "tasks_seen", "rows_landed", "verdict"):
                                note(name, getattr(load, name))
                if not any(load.account == account for load in loads):
                    context.log.info(f"{account}: nothing new")
            except (ArchiveError, OSError, duckdb.Error) as error:  # the disk may be full
                failures[account] = in_one_line(error)
                may_pass = may_pass or isinstance(error, TransientError)
            except Exception as error:
                context.log.exception(f"account {account} failed")
                failures[account] = as_fault_of_the_program(error)
    if failures:
        several = len(settings.accounts(options.account)) > 1
        failure = dg.Failure("; ".join(f"{account}: {said}" if several else said for account, said in failures.items()))
        # The next look comes soon, so that one that fails is not repeated.
        is_look = isinstance(options, LandingConfig) and options.lane is Lane.observe
        fail(failure, may_pass and not is_look and not options.fails_at_once, context.retry_number)
    return loads


def fail(failure: dg.Failure, may_pass: bool, retry_number: int) -> NoReturn:
    """Ends a step: one whose failure may pass by itself is tried again, some times."""
    if may_pass and retry_number < MOST_RETRIES:
        raise dg.RetryRequested(MOST_RETRIES, RETRY_WAIT_SECONDS * 2**retry_number) from failure
    raise failure


def _materialized(manifests: list[Manifest], asset: str) -> dg.MaterializeResult:
    """What Dagster shows of the loads that an asset made."""
    return dg.MaterializeResult(
        metadata={
            "tasks seen": sum(manifest.tasks_seen for manifest in manifests),
            "rows landed": sum(manifest.rows_landed for manifest in manifests),
            "loads": dg.MetadataValue.md(_as_markdown(manifests)),
        },
        check_results=[
            dg.AssetCheckResult(
                passed=all(manifest.verdict == "whole" for manifest in manifests),
                check_name=PROOF,
                asset_key=dg.AssetKey(["landing", asset]),
                severity=(
                    dg.AssetCheckSeverity.ERROR
                    if any(manifest.verdict == "broken" for manifest in manifests)
                    else dg.AssetCheckSeverity.WARN
                ),
                description="; ".join(reason for manifest in manifests for reason in manifest.reasons) or None,
            )
        ],
    )


def _as_line(load: Manifest) -> str:
    """What a load fetched and proved."""
    if load.lane == "events":
        return f"{load.lane} {load.account}: {summary(load)}"
    gaps = f": {'; '.join(load.reasons)}" if load.reasons else ""
    read, requests = counted(load.tasks_seen, "task"), counted(load.requests, "request")
    return (
        f"{load.lane} {load.account}: {read} read in {requests}, {load.appeared:,} new, {load.changed:,} changed, "
        f"{counted(load.rows_landed, 'observation')} landed; proof {load.verdict}{gaps}"
    )


def _as_markdown(manifests: list[Manifest]) -> str:
    lines = [
        "| load | account | seen | new | changed | verdict | proven until (UTC) | reasons |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for load in manifests:
        proven = (
            datetime.fromtimestamp(load.proven_until_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
            if load.proven_until_ms
            else "never"
        )
        lines.append(
            f"| {load.load_id} | {load.account} | {load.tasks_seen:,} | {load.appeared:,} | {load.changed:,} "
            f"| {load.verdict} | {proven} | {markdown_cell('; '.join(load.reasons))} |"
        )
    return "\n".join(lines)
