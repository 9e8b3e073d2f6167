"""The catalogue in a browser: everything that is published is in it, and a search finds it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from pipelines.docs.catalogue import make
from pipelines.serving.published import named_queries, published
from pipelines.settings import Settings
from pipelines.warehouse.models import published_models
from tests.conftest import needs


@pytest.fixture(scope="module")
def page(published_archive: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    file = tmp_path_factory.mktemp("catalogue") / "catalogue.html"
    file.write_text(make(published_archive), encoding="utf-8")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=needs("chromium"), args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page(viewport={"width": 1200, "height": 800})
        said: list[str] = []
        opened.on("console", lambda message: said.append(message.text))
        opened.goto(file.as_uri())
        yield opened
        assert said == []
        browser.close()


def test_every_column_is_there_with_its_type(page: Page, published_archive: Settings) -> None:
    with published(published_archive) as connection:
        known = connection.execute(
            "select table_name || '.' || column_name from duckdb_columns() where not internal"
        ).fetchall()
    shown = page.locator("tbody tr").evaluate_all("rows => rows.map(row => row.id)")
    assert sorted(shown) == sorted(name for (name,) in known)
    assert page.locator(r"#tasks\.created_at .type").inner_text() == "TIMESTAMPTZ"
    assert page.locator("#queries article").count() == len(named_queries())
    made_from = page.locator("#fact_tasks dd").nth(1).inner_text()
    assert made_from == "error_texts, freshness, tasks, thresholds"
    targets = page.locator("a").evaluate_all("all => all.filter(a => !document.getElementById(a.hash.slice(1))).length")
    assert targets == 0


def test_a_search_shows_what_holds_all_words_and_its_columns(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("pixel format")
    shown = page.locator("main > article:not([hidden])").evaluate_all("all => all.map(article => article.id)")
    assert "tracks" in shown
    assert len(shown) < len(published_models()) / 2
    assert page.locator("#tracks tbody tr:visible").evaluate_all("rows => rows.map(row => row.id)") == [
        "tracks.pixel_format"
    ]
    page.get_by_label("Search").fill("no such words anywhere")
    assert page.get_by_text("Nothing holds these words.").is_visible()
    page.get_by_label("Search").fill("")
    assert page.locator("main > article:visible").count() == len(published_models())
