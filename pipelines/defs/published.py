"""What is made of a published version: its pages, its alert conditions as checks, its copies at destinations."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from pipelines.alerts.conditions import ask, load_conditions
from pipelines.defs.landing import NIGHTLY_FRESHNESS
from pipelines.defs.resources import Archive, settings_or_defaults
from pipelines.defs.tables import POOL, TASK_ARCHIVE
from pipelines.errors import ArchiveError, in_one_line
from pipelines.serving.targets import Target, names, target
from pipelines.settings import Settings
from pipelines.tracing import span
from pipelines.warehouse.publish import publish_page


@dg.asset(
    key=["published", "report"],
    group_name="published",
    kinds={"html"},
    deps=[TASK_ARCHIVE],
    freshness_policy=NIGHTLY_FRESHNESS,
    pool=POOL,
)
def report(context: dg.AssetExecutionContext, archive: Archive) -> dg.MaterializeResult:
    """The version's report and its catalogue, an HTML file each: they come after the tables, which never wait."""
    from pipelines.docs.catalogue import make as make_catalogue
    from pipelines.report.page import make
    from pipelines.report.pictures import as_markdown
    from pipelines.report.queries import ReportFilter

    try:
        with span("report", run_id=context.run.run_id):
            page = make(archive.settings, ReportFilter())
            file = publish_page(archive.settings, "report.html", page.html)
            catalogue = publish_page(archive.settings, "catalogue.html", make_catalogue(archive.settings))
            pictures = as_markdown(page.charts)
    except Exception as error:
        context.log.exception("the report could not be made")
        said = f"the tables are published, but their report could not be made: {in_one_line(error)}"
        raise dg.Failure(description=said, allow_retries=False) from None
    if archive.settings.store is not None:
        _put(archive.settings, file, catalogue)
    return dg.MaterializeResult(
        metadata={
            "report": dg.MetadataValue.path(str(file)),
            "catalogue": dg.MetadataValue.path(str(catalogue)),
            "bytes": file.stat().st_size,
            "charts": dg.MetadataValue.md(pictures),
        }
    )


def _put(settings: Settings, *pages: Path) -> None:
    """Puts pages into the object store, beside the tables that its own asset puts there."""
    from pipelines.serving.targets.store import put_page

    try:
        for page in pages:
            put_page(settings, page)
    except ArchiveError as error:
        said = f"the report is published, but not to the object store: {in_one_line(error)}"
        raise dg.Failure(description=said, allow_retries=False) from None


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(each.name, asset=TASK_ARCHIVE, description=each.header.description)
        for each in load_conditions()
    ]
)
def conditions(context: dg.AssetCheckExecutionContext, archive: Archive) -> Iterator[dg.AssetCheckResult]:
    """The alert conditions, each a check on the published version; who is alerted, the sensors decide."""
    found = ask(archive.settings, datetime.now(UTC))
    severities = {"alarm": dg.AssetCheckSeverity.ERROR, "notice": dg.AssetCheckSeverity.WARN}
    for each in load_conditions():
        alerts = [alert for alert in found.alerts if alert.condition == each.name]
        unasked = found.unasked.get(each.name)
        yield dg.AssetCheckResult(
            check_name=each.name,
            asset_key=TASK_ARCHIVE,
            passed=not alerts and unasked is None,
            severity=severities[each.header.severity],
            description="; ".join(filter(None, (said for alert in alerts for said in (alert.summary, alert.quote))))
            or unasked,
        )


def targets() -> list[dg.AssetsDefinition]:
    """The assets that carry each version to the destinations that the settings name."""
    settings = settings_or_defaults()
    return [_carried(each) for each in map(target, names()) if each.is_set(settings)]


def _carried(of: Target) -> dg.AssetsDefinition:
    @dg.asset(
        key=["published", of.name],
        group_name="published",
        kinds={of.name},
        deps=[TASK_ARCHIVE],
        freshness_policy=NIGHTLY_FRESHNESS,
        pool=POOL,
        description=" ".join(of.help.split()),
    )
    def carried(context: dg.AssetExecutionContext, archive: Archive) -> dg.MaterializeResult:
        try:
            with span(of.name, run_id=context.run.run_id):
                tables = of.publish(archive.settings, context.log.info, False)
        except (ArchiveError, OSError) as error:
            raise dg.Failure(
                description=f"published, but not to {of.title}: {in_one_line(error)}", allow_retries=False
            ) from None
        lines = [f"| {each.table} | {each.rows:,} | {each.inserted:,} | {each.deleted:,} |" for each in tables]
        return dg.MaterializeResult(
            metadata={
                "place": of.place(archive.settings),
                "dagster/row_count": next(each.rows for each in tables if each.table == "tasks"),
                "tables": dg.MetadataValue.md(
                    "\n".join(["| table | rows | inserted | deleted |", "| --- | ---: | ---: | ---: |", *lines])
                ),
            }
        )

    return carried
