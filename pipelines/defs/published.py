"""The published version: what readers open. Published whole, after every blocking check of its tables has passed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import dagster as dg

from pipelines.defs.landing import NIGHTLY_FRESHNESS
from pipelines.defs.resources import Archive
from pipelines.defs.tables import asset_key
from pipelines.errors import ArchiveError, in_one_line
from pipelines.settings import Settings, load_settings
from pipelines.warehouse.build import DATABASE, REPORT, building_folder
from pipelines.warehouse.models import published_models
from pipelines.warehouse.publish import publish

TASK_ARCHIVE, REPORT_PAGE = dg.AssetKey(["published", "task_archive"]), dg.AssetKey(["published", "report"])


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            TASK_ARCHIVE,
            description="The DuckDB file and the Parquet folders, swapped whole; an open reader stays on its version.",
            deps=[asset_key(model.name) for model in published_models()],
            group_name="published",
            kinds={"duckdb", "parquet"},
            freshness_policy=NIGHTLY_FRESHNESS,
        ),
        dg.AssetSpec(
            REPORT_PAGE,
            description="The version's report: one HTML file that needs nothing else. Published with it.",
            deps=[asset_key(model.name) for model in published_models()],
            group_name="published",
            kinds={"html"},
            freshness_policy=NIGHTLY_FRESHNESS,
        ),
    ]
)
def published(context: dg.AssetExecutionContext, archive: Archive) -> Iterator[dg.MaterializeResult]:
    """The tables and their report. Where the report cannot be made, the tables are published all the same."""
    with ThreadPoolExecutor(1) as pool:  # so that whatever befalls it is told after the publication
        report = pool.submit(_make_report, archive.settings)
    try:
        version = publish(archive.settings)
    except (ArchiveError, OSError) as error:
        raise dg.Failure(description=in_one_line(error), allow_retries=False) from None
    yield dg.MaterializeResult(
        asset_key=TASK_ARCHIVE,
        metadata={
            "version": version.version,
            "database": dg.MetadataValue.path(str(version.database)),
            "parquet": dg.MetadataValue.path(str(version.parquet)),
            "dagster/row_count": version.rows["tasks"],
            "bytes": version.bytes,
        },
    )
    if (fault := report.exception()) is not None:
        context.log.error("the report could not be made", exc_info=fault)
        raise dg.Failure(
            description=f"published, but without its report: {in_one_line(fault)}", allow_retries=False
        ) from None
    yield dg.MaterializeResult(
        asset_key=REPORT_PAGE,
        metadata={"report": dg.MetadataValue.path(str(archive.settings.published / REPORT))}
        | {heading: dg.MetadataValue.md(image) for heading, image in report.result().items()},
    )


def _make_report(settings: Settings) -> dict[str, str]:
    """Makes the report of the version that was built; its key charts by their headings, in Markdown."""
    from pipelines.report.page import write
    from pipelines.report.pictures import as_metadata

    built = building_folder(settings)
    return as_metadata(write(settings, built / DATABASE, built / REPORT).charts)


def postgres() -> list[dg.AssetsDefinition]:
    """The asset that carries each version into PostgreSQL; none where no database is set."""
    if load_settings().postgres_dsn is None:
        return []

    @dg.asset(
        key=["published", "postgres"],
        group_name="published",
        kinds={"postgres"},
        deps=[TASK_ARCHIVE],
        freshness_policy=NIGHTLY_FRESHNESS,
    )
    def carried(context: dg.AssetExecutionContext, archive: Archive) -> dg.MaterializeResult:
        """The same tables in a schema of PostgreSQL, in one transaction; a reader's stays on the version before."""
        from pipelines.warehouse.postgres import publish_to_postgres

        try:
            tables = publish_to_postgres(archive.settings, context.log.info)
        except (ArchiveError, OSError) as error:
            raise dg.Failure(
                description=f"published, but not to PostgreSQL: {in_one_line(error)}", allow_retries=False
            ) from None
        lines = [f"| {each.table} | {each.rows:,} | {each.inserted:,} | {each.deleted:,} |" for each in tables]
        return dg.MaterializeResult(
            metadata={
                "schema": archive.settings.postgres_schema,
                "dagster/row_count": next(each.rows for each in tables if each.table == "tasks"),
                "tables": dg.MetadataValue.md(
                    "\n".join(["| table | rows | inserted | deleted |", "| --- | ---: | ---: | ---: |", *lines])
                ),
            }
        )

    return [carried]
