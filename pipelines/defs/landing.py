"""From the API to the landing zone: an asset for each way of asking. What it lands counts the same, whichever way."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum

import dagster as dg
import duckdb

from pipelines.defs.resources import Archive
from pipelines.errors import ArchiveError, as_fault_of_the_program, in_one_line
from pipelines.landing.lanes import Extraction
from pipelines.landing.manifest import Manifest
from pipelines.livepeer.failures import TransientError
from pipelines.serving.news import is_behind
from pipelines.serving.published import open_tasks
from pipelines.text import markdown_cell
from pipelines.warehouse.ahead import made_ahead
from pipelines.warehouse.memory import keep_little

FIRST_DAY = "2020-01-01"  # before the first task of Livepeer's video API
CREATED_DAYS = dg.DailyPartitionsDefinition(start_date=FIRST_DAY, end_offset=1)
NIGHTLY_FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=36), warn_window=timedelta(hours=26))
PROOF = "proof_is_whole"

# The client repeats single requests; this repeats the lane, which goes on from where it was, after a failure that may
# pass by itself. A policy of Dagster's would repeat it after every other one too, an interruption included.
MOST_RETRIES = 2
RETRY_WAIT_SECONDS = 60

# Tag of runs that somebody waits for at a terminal: they show a failure at once instead.
FAILS_AT_ONCE = "task_archive/fails_at_once"


class Lane(Enum):
    """`auto` sweeps an account that was never swept whole, and fetches changes otherwise."""

    auto = "auto"
    changes = "changes"
    sweep = "sweep"


class SyncConfig(dg.Config):
    """What a nightly run fetches; no account means all that have a key."""

    lane: Lane = Lane.auto
    account: str | None = None


class ObserveConfig(dg.Config):
    """What an observe run looks at; no account means all that have a key."""

    account: str | None = None


class RefreshConfig(dg.Config):
    """The tasks to ask for by id."""

    task_ids: list[str]
    account: str | None = None


def _proof(asset: str) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            PROOF,
            asset=dg.AssetKey(["landing", asset]),
            description="every task that the server counts was met, and each difference is explained",
        )
    ]


@dg.asset(
    key=["landing", "account_tasks"],
    group_name="landing",
    kinds={"python", "parquet"},
    freshness_policy=NIGHTLY_FRESHNESS,
    check_specs=_proof("account_tasks"),
)
def account_tasks(context: dg.AssetExecutionContext, config: SyncConfig, archive: Archive) -> dg.MaterializeResult:
    """Tasks of all accounts, nightly: everything at first, then what changed since the last proven point."""
    loads = _for_each_account(context, archive, config.account, lambda extraction: extraction.sync(config.lane.value))
    return _materialized(loads, "account_tasks")


@dg.asset(
    key=["landing", "observed_tasks"],
    group_name="landing",
    kinds={"python", "parquet"},
    output_required=False,
    check_specs=_proof("observed_tasks"),
)
def observed_tasks(
    context: dg.AssetExecutionContext, config: ObserveConfig, archive: Archive
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """What changed since the last proven point, and some open tasks. Where nothing changed nothing is materialized, so
    that nothing downstream runs."""
    settings = archive.settings

    def observe(extraction: Extraction) -> Manifest | None:
        return extraction.observe(lambda before_ms: open_tasks(settings, extraction.account, before_ms))

    loads = _for_each_account(context, archive, config.account, observe, is_repeated=False)
    if loads or is_behind(settings):
        yield _materialized(loads, "observed_tasks")
    else:
        yield dg.AssetCheckResult(passed=True, check_name=PROOF, description="nothing changed")


@dg.asset(
    key=["landing", "created_days"],
    group_name="landing",
    kinds={"python", "parquet"},
    partitions_def=CREATED_DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=_proof("created_days"),
)
def created_days(context: dg.AssetExecutionContext, archive: Archive) -> dg.MaterializeResult:
    """Tasks created on a day (UTC), fetched again: a partition each, one request window for a range of them."""
    window = context.partition_time_window
    from_ms, to_ms = (round(moment.timestamp() * 1000) for moment in (window.start, window.end))
    loads = _for_each_account(context, archive, None, lambda extraction: extraction.backfill(from_ms, to_ms))
    return _materialized(loads, "created_days")


@dg.asset(
    key=["landing", "refreshed_tasks"],
    group_name="landing",
    kinds={"python", "parquet"},
    check_specs=_proof("refreshed_tasks"),
)
def refreshed_tasks(context: dg.AssetExecutionContext, config: RefreshConfig, archive: Archive) -> dg.MaterializeResult:
    """Single tasks, asked for by their ids."""
    loads = _for_each_account(context, archive, config.account, lambda extraction: extraction.refresh(config.task_ids))
    return _materialized(loads, "refreshed_tasks")


def _for_each_account(
    context: dg.AssetExecutionContext,
    archive: Archive,
    wanted: str | None,
    run: Callable[[Extraction], Manifest | None],
    is_repeated: bool = True,
) -> list[Manifest]:
    """Runs a lane for each account; one account's failure keeps no other from landing, and fails the asset then."""
    loads: list[Manifest] = []
    failures: dict[str, str] = {}
    may_pass = False
    settings = archive.settings
    keep_little()
    with made_ahead(settings, archive.callbacks(context.log.info)) as callbacks:
        for account in settings.accounts(wanted):
            try:
                load = run(Extraction(settings, account, context.run.run_id, callbacks))
                loads += [load] if load else []
            except (ArchiveError, OSError, duckdb.Error) as error:  # the disk may be full
                failures[account] = in_one_line(error)
                may_pass = may_pass or isinstance(error, TransientError)
            except Exception as error:
                context.log.exception(f"account {account} failed")
                failures[account] = as_fault_of_the_program(error)
    if failures:
        several = len(settings.accounts(wanted)) > 1
        failure = dg.Failure("; ".join(f"{account}: {said}" if several else said for account, said in failures.items()))
        if may_pass and is_repeated and FAILS_AT_ONCE not in context.run.tags and context.retry_number < MOST_RETRIES:
            raise dg.RetryRequested(MOST_RETRIES, RETRY_WAIT_SECONDS * 2**context.retry_number) from failure
        raise failure
    return loads


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
