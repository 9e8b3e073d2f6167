"""The published version: what readers open. Published whole, after every blocking check of its tables has passed."""

import dagster as dg

from pipelines.defs.landing import NIGHTLY_FRESHNESS
from pipelines.defs.resources import Archive
from pipelines.defs.tables import asset_key
from pipelines.errors import ArchiveError, in_one_line
from pipelines.warehouse.models import published_models
from pipelines.warehouse.publish import publish


@dg.asset(
    key=["published", "task_archive"],
    group_name="published",
    kinds={"duckdb", "parquet"},
    deps=[asset_key(model.name) for model in published_models()],
    freshness_policy=NIGHTLY_FRESHNESS,
)
def task_archive(context: dg.AssetExecutionContext, archive: Archive) -> dg.MaterializeResult:
    """The DuckDB file and the Parquet folders, swapped whole; a reader that is open stays on its version."""
    try:
        published = publish(archive.settings)
    except (ArchiveError, OSError) as error:
        raise dg.Failure(description=in_one_line(error), allow_retries=False) from None
    return dg.MaterializeResult(
        metadata={
            "version": published.version,
            "database": dg.MetadataValue.path(str(published.database)),
            "parquet": dg.MetadataValue.path(str(published.parquet)),
            "dagster/row_count": published.rows["tasks"],
            "bytes": published.bytes,
        }
    )
