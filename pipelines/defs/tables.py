"""From the landing zone to the published tables: the assets are read from the .sql files, with their lineage, columns
and checks. Tables are built, checked and published in one step, and reported once readers can see them."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

import dagster as dg
import duckdb
from pydantic import Field

from pipelines.defs.landing import NIGHTLY_FRESHNESS, created_days, landed_tasks
from pipelines.defs.resources import Archive
from pipelines.errors import ArchiveError, WarehouseError, in_one_line
from pipelines.text import counted
from pipelines.tracing import span
from pipelines.warehouse import build
from pipelines.warehouse.checks import CheckResult, run_check
from pipelines.warehouse.database import connect, current_database
from pipelines.warehouse.from_tables import BuiltTable
from pipelines.warehouse.models import Model, column_lineage, load_models, made_from, published_models
from pipelines.warehouse.publish import Published, publish

LANDED = [asset.key for asset in (landed_tasks, created_days)]

# The checks of a table in Dagster, by the severity of the conditions in its .sql file that they stand for.
CHECKS = {"error": "rows_are_sound", "warn": "rows_are_plausible"}

POOL = "warehouse_writer"  # of the steps that write tables or what is made of them

TASK_ARCHIVE = dg.AssetKey(["published", "task_archive"])


class TablesConfig(dg.Config):
    """How the tables are made."""

    makes_anew: bool = Field(
        default=False, description="Make every table anew from the landing zone, each payload parsed again."
    )


def asset_key(table: str) -> dg.AssetKey:
    """`core/tasks` for tasks, and so on."""
    return dg.AssetKey([load_models()[table].layer, table])


def _upstream(model: Model) -> list[dg.AssetKey]:
    """Assets that a table is made from: what is no table of ours comes from what has landed."""
    names, models = made_from(model), load_models()
    return sorted({asset_key(name) for name in names & models.keys()} | set(LANDED if names - models.keys() else ()))


def _spec(model: Model) -> dg.AssetSpec:
    return dg.AssetSpec(
        asset_key(model.name),
        deps=_upstream(model),
        description=model.description,
        group_name=model.layer,
        kinds={"sql", "duckdb"},
        freshness_policy=NIGHTLY_FRESHNESS,
        metadata={
            "dagster/table_name": f"task_archive.main.{model.name}",
            "sql": dg.MetadataValue.md(f"```sql\n{model.raw_sql}\n```"),
            "file": model.file,
            "dagster/column_schema": dg.TableSchema(
                [dg.TableColumn(name, description=meaning) for name, meaning in model.columns.items()]
            ),
        },
    )


def _version_spec() -> dg.AssetSpec:
    return dg.AssetSpec(
        TASK_ARCHIVE,
        deps=[asset_key(model.name) for model in published_models()],
        description="The DuckDB file and the Parquet folders, swapped whole; an open reader stays on its version.",
        group_name="published",
        kinds={"duckdb", "parquet"},
        freshness_policy=NIGHTLY_FRESHNESS,
    )


def _check_specs(model: Model) -> list[dg.AssetCheckSpec]:
    """A check for all that must hold in a table, and one for what is reported: three of Dagster's events each."""
    listed = {
        severity: "; ".join(check.description for check in model.checks if check.severity == severity)
        for severity in CHECKS
    }
    return [
        dg.AssetCheckSpec(
            CHECKS[severity], asset=asset_key(model.name), description=conditions, blocking=severity == "error"
        )
        for severity, conditions in listed.items()
        if conditions
    ]


@dg.multi_asset(
    specs=[*map(_spec, published_models()), _version_spec()],
    check_specs=[spec for model in published_models() for spec in _check_specs(model)],
    can_subset=True,
    pool=POOL,
)
def tables(
    context: dg.AssetExecutionContext, config: TablesConfig, archive: Archive
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Every table, each the SELECT of its .sql file, brought up to what has landed, and published as one version.

    Where a blocking check fails nothing is published: the checks are reported, and no table is materialized. Of a
    selection of tables only those are reported; a version is published whole, so all of them are brought up to date.
    Checks that are chosen without a table run on the published version.
    """
    with _failing_clearly():
        chosen, checks = context.selected_asset_keys, context.selected_asset_check_keys
        if not chosen:
            yield from _check_published(archive, checks)
            return
        if config.makes_anew:
            build.forget(archive.settings)
        made: list[BuiltTable] = []
        progress = archive.callbacks(context.log.info).tables
        progress(0, len(published_models()))
        with span("tables", run_id=context.run.run_id):
            for each in build.build_version(archive.settings, context.log.info):
                made.append(each)
                progress(len(made), len(published_models()))
                context.log.debug(f"{each.model.name}: {each.rows:,} rows, {each.finish_seconds:.2f} s")
        broken = {each.model.name: _broken([outcome for outcome in each.outcomes if outcome.blocks]) for each in made}
        if any(broken.values()):
            for each in made:
                yield from _check_results(each, checks)
            found = "; ".join(f"{table}: {rows}" for table, rows in broken.items() if rows)
            raise WarehouseError(f"nothing is published: {found}")
        with span("publish", run_id=context.run.run_id) as note:
            published = publish(archive.settings)
            note("version", published.version)
        context.log.info(f"published version {published.version}: {len(made)} tables, {published.bytes:,} bytes")
        for each in made:
            if asset_key(each.model.name) in chosen:
                yield _materialized(each, checks)
        if TASK_ARCHIVE in chosen:
            yield _version(published)


def _check_published(archive: Archive, checks: AbstractSet[dg.AssetCheckKey]) -> Iterator[dg.AssetCheckResult]:
    """Runs checks on the published version. Raises WarehouseError where there is none."""
    settings = archive.settings
    with connect(current_database(settings), read_only=True, memory_mb=settings.memory_mb) as connection:
        for model in published_models():
            if any(key.asset_key == asset_key(model.name) for key in checks):
                outcomes = [run_check(connection, check) for check in model.checks]
                yield from _check_results(BuiltTable(model, 0, [], outcomes), checks)


def _version(published: Published) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        asset_key=TASK_ARCHIVE,
        metadata={
            "version": published.version,
            "database": dg.MetadataValue.path(str(published.database)),
            "parquet": dg.MetadataValue.path(str(published.parquet)),
            "dagster/row_count": published.rows["tasks"],
            "bytes": published.bytes,
        },
    )


def _materialized(built: BuiltTable, checks: AbstractSet[dg.AssetCheckKey]) -> dg.MaterializeResult:
    model = built.model
    return dg.MaterializeResult(
        asset_key=asset_key(model.name),
        metadata={
            "dagster/row_count": built.rows,
            "dagster/column_lineage": _lineage(model),
            "seconds to check and export": round(built.finish_seconds, 3),
            "dagster/column_schema": dg.TableSchema(
                [
                    dg.TableColumn(
                        name,
                        column_type,
                        description=model.columns[name],
                        constraints=dg.TableColumnConstraints(nullable=name not in model.key),
                    )
                    for name, column_type in built.columns
                ]
            ),
        },
        check_results=list(_check_results(built, checks)),
    )


def _lineage(model: Model) -> dg.TableColumnLineage:
    sources = column_lineage().get(model.name, {})
    deps = {
        column: [
            dg.TableColumnDep(asset_key(table), name)
            for table, _, name in (source.partition(".") for source in sources[column])
        ]
        for column in sources
    }
    return dg.TableColumnLineage(deps)


def _check_results(built: BuiltTable, chosen: AbstractSet[dg.AssetCheckKey]) -> Iterator[dg.AssetCheckResult]:
    """The results of those of a table's checks that are chosen."""
    for severity, name in CHECKS.items():
        outcomes = [each for each in built.outcomes if each.check.severity == severity]
        if outcomes and dg.AssetCheckKey(asset_key(built.model.name), name) in chosen:
            yield dg.AssetCheckResult(
                passed=all(each.passed for each in outcomes),
                check_name=name,
                asset_key=asset_key(built.model.name),
                severity=dg.AssetCheckSeverity.ERROR if severity == "error" else dg.AssetCheckSeverity.WARN,
                description=_broken(outcomes) or None,
                metadata={f"failing rows: {each.check.description}": each.failing_rows for each in outcomes},
            )


def _broken(outcomes: list[CheckResult]) -> str:
    """The conditions that do not hold, with the rows that break them; nothing where all hold."""
    return "; ".join(
        f"{each.check.name}: {counted(each.failing_rows, 'row')}, such as {each.example}"
        for each in outcomes
        if not each.passed
    )


class _failing_clearly:
    """Turns our failures into Dagster's, with the message and no retry: the same input would fail again."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (ArchiveError, OSError, duckdb.Error)):  # the disk may be full
            raise dg.Failure(description=in_one_line(error), allow_retries=False) from None
