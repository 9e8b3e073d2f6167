"""Whether there is anything to fetch or to publish."""

from pipelines.landing.catalog import Catalog
from pipelines.landing.lanes import Extraction
from pipelines.landing.zone import Zone
from pipelines.serving.published import published
from pipelines.settings import Settings
from pipelines.warehouse.seal import altered


def has_news(settings: Settings, wanted: str | None = None) -> bool:
    """Whether the observe job would land or publish anything; one request per account if it would not."""
    accounts = settings.accounts(wanted)
    return is_behind(settings) or any(Extraction(settings, account, run_id="").has_news() for account in accounts)


def is_behind(settings: Settings) -> bool:
    """Whether a run would publish what is not published: of a load that has landed, or in place of changed files."""
    with Catalog(Zone(settings.home.landing)) as catalog:
        catalog.refresh(files_too=False)
        landed = catalog.last_load_id()
    if not landed or not settings.home.is_published:
        return bool(landed)
    if any(altered(settings.home)):
        return True
    with published(settings) as connection:
        last = connection.execute("select max(load_id) from loads").fetchall()[0][0]
    return landed > (last or "")
