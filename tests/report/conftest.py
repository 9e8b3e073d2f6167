"""An archive for the module's reports, and a browser to look at them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from pydantic import SecretStr

from pipelines.landing.lanes import Extraction
from pipelines.report.page import make
from pipelines.report.queries import ReportFilter
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.publish import publish
from tests.conftest import FINGERPRINT_KEY, NOW_MS, needs

ALONE = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@dataclass
class Opened:
    """A report in the browser, what it said on the console and what it asked the network for."""

    page: Page
    file: Path
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def rows(self, table: str) -> list[dict[str, str | None]]:
        """The rows of a table, each value as the page sorts and draws it."""
        found: list[dict[str, str | None]] = self.page.evaluate(
            """id => { const t = document.getElementById(id), heads = [...t.tHead.rows[0].cells];
            return [...t.tBodies[0].rows].map(row => Object.fromEntries(
                heads.map((head, i) => [head.dataset.f, row.cells[i].dataset.v ?? row.cells[i].textContent]))) }""",
            table,
        )
        return found


def make_published(settings: Settings) -> None:
    list(build.build_version(settings))
    publish(settings)


def settings_of(simulator: Simulator, home: Path, account: str = "default", **fields: Any) -> Settings:
    keys = {account: SecretStr(simulator.api_key)}
    return Settings(
        home=home, api_url=simulator.url, api_keys=keys, fingerprint_key=SecretStr(FINGERPRINT_KEY), **fields
    )


def extract(settings: Settings, lane: Any = "auto") -> None:
    (account,) = settings.api_keys
    load = Extraction(settings, account, "run").sync(lane)
    assert load.verdict == "whole", load.reasons


def archived(home: Path, **account: Any) -> Settings:
    """An account made up by the simulator, archived and published."""
    with Simulator(**({"seed": 1, "now": NOW_MS, "speed": 0} | account)).serve() as simulator:
        settings = settings_of(simulator, home)
        extract(settings)
    make_published(settings)
    return settings


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For a module alone: while it runs, no other test can have an event loop of its own."""
    chromium = needs("chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=ALONE)
        yield opened
        opened.close()


@pytest.fixture
def look(browser: Browser) -> Iterator[Callable[..., Opened]]:
    """look(file, width, scheme): the page once its charts are drawn; it may ask for nothing but itself."""
    contexts = []

    def look(file: Path, width: int = 1280, scheme: Any = "light") -> Opened:
        contexts.append(browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme))
        opened = Opened(contexts[-1].new_page(), file)

        def route(route: Any) -> None:
            if route.request.url == file.as_uri():
                route.continue_()
            else:
                opened.requests.append(route.request.url)
                route.abort()

        contexts[-1].route("**/*", route)
        opened.page.on("console", lambda message: opened.complaints.append(message.text))
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.goto(file.as_uri())
        if opened.page.locator(".chart").count():
            opened.page.wait_for_selector("html[data-drawn]")
        return opened

    yield look
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A published archive of 30 days, whose account is hostile, and changed since yesterday."""
    with Simulator(tasks=3000, days=30, seed=1, now=NOW_MS, speed=0).serve() as simulator:
        settings = settings_of(simulator, tmp_path_factory.mktemp("archive"))
        extract(settings)
        simulator.advance(3600)
        make_hostile(simulator)
        extract(settings, "sweep")
        make_published(settings)
    return settings


# What is to stay text: markup, links, expressions of Vega, templates and shells, direction marks.
HOSTILE = [
    "</script><script>window.hurt = 1</script>",
    "<!-- <script>",
    "<img src=x onerror='window.hurt = 1'>",
    "' onmouseover='window.hurt = 1' x='",
    '"><a href=javascript:hurt()>here</a>',
    "https://evil.example/look",
    "{{ 7 * 7 }} ${7 * 7} {% raw %}",
    "datum.value + window.hurt",
    "`reboot`; $(reboot)",
    "\u202egnp.exe",
]


def make_hostile(simulator: Simulator) -> None:
    """Texts of that kind wherever the API takes text; tasks that end anew, and some that go."""
    by_phase: dict[str, list[str]] = {}
    for task_id, task in sorted(simulator.tasks().items(), key=lambda each: -each[1]["createdAt"]):
        if task["type"] == "upload":
            by_phase.setdefault(task["status"]["phase"], []).append(task_id)
    completed, failed = iter(by_phase["completed"]), iter(by_phase["failed"])
    for text in HOSTILE:
        for _ in range(3):
            simulator.update(next(completed), phase="failed", errorMessage=text)
    for _ in range(4):
        task_id = next(failed)
        simulator.update(task_id, phase="completed")
    for _ in range(2):
        simulator.remove(next(completed))
    pattern, now = simulator.tasks()[next(completed)], simulator.now()
    for number, text in enumerate(HOSTILE):
        named = {
            "id": f"00000000-0000-4000-8000-{number:012}",
            "type": text,
            "createdAt": now - 80_000_000,
            "scheduledAt": now - 79_000_000,
        }
        output = {"upload": {"assetSpec": {"name": text, "type": "video"}}}
        simulator.insert(pattern | named | {"output": output, "status": {"phase": "completed", "updatedAt": now}})


@pytest.fixture(scope="module")
def report(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its report."""
    return written(settings, tmp_path_factory.mktemp("report") / "report.html")


def written(settings: Settings, file: Path, **report_filter: Any) -> Path:
    file.write_text(make(settings, ReportFilter(**report_filter)).html, encoding="utf-8")
    return file
