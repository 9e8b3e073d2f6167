"""The object store: a new machine goes on from it, whatever happened to the one before; on a real S3 server."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from pipelines.audit.replay import digest
from pipelines.errors import Busy, SettingsError
from pipelines.home import Home
from pipelines.landing import store as of_store
from pipelines.landing import writer as of_writer
from pipelines.landing.context import ProgressCallbacks
from pipelines.landing.copies import shared
from pipelines.landing.lanes import Extraction
from pipelines.landing.store import Store, StoreError
from pipelines.landing.zone import Zone
from pipelines.serving.published import published
from pipelines.settings import Settings
from pipelines.simulator import Simulator
from pipelines.warehouse import build
from pipelines.warehouse.models import published_models
from pipelines.warehouse.working import Working
from tests.conftest import change_tasks

BUCKET = "archive"
ROOT = Path(build.__file__).parents[2]


class S3:
    """An S3 server on loopback, and what is wrong with it: it is asked before each request."""

    def __init__(self) -> None:
        self.fault: Callable[[str, str], str | None] = lambda method, path: None
        self.requests: list[tuple[str, str]] = []
        self._application = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append(("COPY" if "HTTP_X_AMZ_COPY_SOURCE" in environ else method, path))
        if self.fault(method, path):
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"]
        return self._application(environ, start_response)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    application = S3()
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret of the store",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    httpx.post(f"{url}/moto-api/reset")
    httpx.put(f"{url}/{BUCKET}")
    monkeypatch.setattr(of_store, "LOOK_SECONDS", 0.1)
    yield application
    server.shutdown()
    thread.join()


@pytest.fixture
def kept(s3: S3, archive: Callable[..., Any], simulate: Callable[..., Simulator]) -> Any:
    return archive(simulate(tasks=400), store=f"s3://{BUCKET}/of/ours", page_size=50)


def sync(settings: Settings, lane: Any = "auto") -> str:
    """What a run does to the landing zone; returns the lane."""
    with shared(settings, lambda line: None) as copies:
        zone = Zone(settings.home.landing, copies.put)
        return Extraction(settings, "default", "test run", zone=zone).sync(lane).lane


def on_a_new_machine(settings: Settings, folder: Path) -> Settings:
    return settings.model_copy(update={"home": Home(folder)})


def files(settings: Settings) -> dict[str, bytes]:
    root = settings.home.landing
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("[!.]*") if path.is_file()}


def stored(settings: Settings) -> dict[str, bytes]:
    store = Store(settings)
    return {key.removeprefix("landing/"): store.get(key) or b"" for key in store.sizes("landing")}


def test_a_new_machine_goes_on(kept: Any, tmp_path: Path) -> None:
    assert sync(kept.settings) == "sweep"
    change_tasks(kept.simulator)
    assert sync(kept.settings) == "changes"
    assert stored(kept.settings) == files(kept.settings)
    fresh = on_a_new_machine(kept.settings, tmp_path / "fresh")
    change_tasks(kept.simulator)
    assert sync(fresh) == "changes"
    assert len(files(fresh)) > len(files(kept.settings))
    assert stored(fresh) == files(fresh)
    assert sync(kept.settings) == "changes"  # the first machine has what the other landed
    assert files(kept.settings).keys() > files(fresh).keys()
    for settings in (kept.settings, fresh):
        with shared(settings, lambda line: None):
            list(build.build_version(settings))
    assert digests(kept.settings) == digests(fresh)


def digests(settings: Settings) -> dict[str, Any]:
    with Working(settings).opened(Working(settings).file) as connection:
        return {model.name: digest(connection, model.name) for model in published_models()}


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 7))])
def test_a_kill_between_any_two_requests(kept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """A load is whole in the store or is none; the machine goes on, and so does one that knows the store alone."""
    random = Random(seed)
    put = Store.put
    left = 0

    def put_or_die(store: Store, key: str, data: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        put(store, key, data)

    monkeypatch.setattr(Store, "put", put_or_die)
    homes = [kept.settings, on_a_new_machine(kept.settings, tmp_path / "other")]
    for turn in range(9):
        left = random.randrange(7)
        change_tasks(kept.simulator, 60)
        with suppress(KeyboardInterrupt):
            sync(homes[random.randrange(2)], random.choice(["auto", "sweep"]))
        left = 10_000
        fresh = on_a_new_machine(kept.settings, tmp_path / f"fresh-{turn}")
        with shared(fresh, lambda line: None):
            whole = {name for name in files(fresh) if name.endswith("manifest.json")}
            for name in whole:
                for part in json.loads(files(fresh)[name])["parts"]:
                    assert len(files(fresh)[name.replace("manifest.json", part["file"])]) == part["bytes"]
    for settings in homes:
        sync(settings, "sweep")
    for settings in homes:
        with shared(settings, lambda line: None):
            assert files(settings) == stored(settings)
            list(build.build_version(settings))
    assert digests(homes[0]) == digests(homes[1])


def test_an_open_load_goes_on_elsewhere(kept: Any, tmp_path: Path) -> None:
    kept.settings.page_size = 5
    asked = 0

    def fail_later(*_: Any) -> str | None:
        nonlocal asked
        asked += 1
        if asked > 60:
            raise KeyboardInterrupt
        return None

    with pytest.MonkeyPatch.context() as patched:
        add_page = of_writer.LoadWriter.add_page
        patched.setattr(of_writer.LoadWriter, "add_page", lambda *given: fail_later() or add_page(*given))
        with pytest.raises(KeyboardInterrupt):
            sync(kept.settings)
    said: list[str] = []
    fresh = on_a_new_machine(kept.settings, tmp_path / "fresh")
    with shared(fresh, said.append) as copies:
        assert copies is not None
        callbacks = ProgressCallbacks(say=said.append)
        Extraction(fresh, "default", "test run", callbacks, Zone(fresh.home.landing, copies.put)).sync()
    assert any(line.startswith("resuming ") for line in said), said


def test_a_server_that_is_busy_is_asked_again(kept: Any, s3: S3) -> None:
    asked: dict[tuple[str, str], int] = {}

    def every_first(method: str, path: str) -> str | None:
        asked[method, path] = asked.get((method, path), 0) + 1
        return "busy" if asked[method, path] == 1 and method in ("PUT", "GET") else None

    s3.fault = every_first
    sync(kept.settings)
    s3.fault = lambda method, path: None
    assert stored(kept.settings) == files(kept.settings)


def test_a_store_that_cannot_be_reached(kept: Any, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, without key or address; what had landed stays, and goes to the store with the next run."""
    monkeypatch.setattr(of_store, "ATTEMPTS", 0)
    puts = 0

    def later(method: str, path: str) -> str | None:
        nonlocal puts
        is_put = method == "PUT" and "/landing/" in path
        puts += is_put
        return "gone" if is_put and puts > 1 else None

    s3.fault = later
    with pytest.raises(StoreError) as raised:
        sync(kept.settings)
    said = str(raised.value)
    assert said.startswith(f"s3://{BUCKET}/of/ours: ")
    assert len(said.splitlines()) == 1
    assert "127.0.0.1" not in said
    assert "secret" not in said
    s3.fault = lambda method, path: None
    sync(kept.settings)
    assert stored(kept.settings) == files(kept.settings)


def test_one_machine_writes_at_a_time(kept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.settings.lock_wait_seconds = 0.3
    with shared(kept.settings, lambda line: None):
        with pytest.raises(Busy, match=r"process \d+ writes to s3://"):
            sync(on_a_new_machine(kept.settings, tmp_path / "other"))
        monkeypatch.setattr(of_store, "LEASE_SECONDS", 0.1)  # the first machine is gone without a word
        sync(on_a_new_machine(kept.settings, tmp_path / "third"))
    sync(kept.settings)


def test_who_was_taken_for_gone_writes_no_more(kept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_store, "RENEW_SECONDS", 0.2)
    with shared(kept.settings, lambda line: None) as copies:
        assert copies is not None
        Store(kept.settings).put("writer.json", b'{"holder": "the other one"}')
        threading.Event().wait(1)
        with pytest.raises(StoreError, match="another machine writes"):
            copies.put(kept.settings.home.landing / "any")
    assert Store(kept.settings).get("writer.json") == b'{"holder": "the other one"}'


def test_a_home_of_before_goes_there_at_first(kept: Any, tmp_path: Path) -> None:
    kept.sync()
    said: list[str] = []
    with shared(kept.settings, said.append):
        assert stored(kept.settings) == files(kept.settings)
    assert said == [f"{len(files(kept.settings)):,} files put into s3://{BUCKET}/of/ours"]


def test_runs_ask_for_what_is_new_alone(kept: Any, s3: S3) -> None:
    for _ in range(5):
        change_tasks(kept.simulator, 5)
        sync(kept.settings)
    s3.requests.clear()
    with shared(kept.settings, lambda line: None):
        pass
    assert len(s3.requests) < 10


@pytest.mark.parametrize("marked", [True, False])
def test_a_file_that_is_damaged_here_stays_whole_there(kept: Any, marked: bool) -> None:
    sync(kept.settings)
    before = stored(kept.settings)
    (part,) = kept.settings.home.landing.glob("*/*/part-00000.parquet")
    part.write_bytes(part.read_bytes()[:-9])
    if not marked:
        (kept.settings.home.warehouse / "stored.json").unlink(missing_ok=True)
    with shared(kept.settings, lambda line: None):
        assert stored(kept.settings) == before


def test_a_store_that_was_emptied_is_filled_again(kept: Any) -> None:
    for _ in range(3):
        change_tasks(kept.simulator, 5)
        sync(kept.settings)
    store = Store(kept.settings)
    store.delete(sorted(store.sizes("landing")))
    with shared(kept.settings, lambda line: None):
        assert stored(kept.settings) == files(kept.settings)


def test_a_note_that_was_not_removed_beside_its_manifest(kept: Any, tmp_path: Path) -> None:
    sync(kept.settings)
    store = Store(kept.settings)
    manifest = next(key for key in store.sizes("landing") if key.endswith("manifest.json"))
    store.put(manifest.replace("manifest.json", "progress.json"), b"{}")
    fresh = on_a_new_machine(kept.settings, tmp_path / "fresh")
    with shared(fresh, lambda line: None):
        assert files(fresh) == files(kept.settings)


def test_a_damaged_object_is_not_taken(kept: Any, tmp_path: Path) -> None:
    sync(kept.settings)
    store = Store(kept.settings)
    part = next(key for key in store.sizes("landing") if key.endswith(".parquet"))
    store.put(part, (store.get(part) or b"")[:-9])
    fresh = on_a_new_machine(kept.settings, tmp_path / "fresh")
    with shared(fresh, lambda line: None):
        assert part.removeprefix("landing/") not in files(fresh)


@pytest.mark.slow
def test_the_command_publishes_there_and_erases_there(
    kept: Any, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions hold what the home's hold, a night sends what it changed, and an erasure reaches every object."""
    settings = kept.settings
    for name, value in {
        "TASK_ARCHIVE_HOME": str(settings.home),
        "TASK_ARCHIVE_STORE": settings.store,
        "LIVEPEER_API_URL": settings.api_url,
        "LIVEPEER_API_KEY": kept.simulator.api_key,
    }.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "pipelines.cli", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout

    run("sync")
    change_tasks(kept.simulator, 5)
    s3.requests.clear()
    run("sync")
    sent = [
        path for method, path in s3.requests if method == "PUT" and "/published/" in path and path.endswith(".parquet")
    ]
    store = Store(settings)
    current = json.loads(store.get("published/current.json") or b"")
    version = (settings.home.published / "current").resolve()
    assert current["version"] == version.name
    theirs = {key.split("/", 3)[3]: store.get(key) for key in store.sizes(f"published/versions/{version.name}")}
    ours = [path for path in version.rglob("*") if path.suffix in (".json", ".parquet")]
    assert theirs == {path.relative_to(version).as_posix(): path.read_bytes() for path in ours}
    assert store.get("published/report.html") == (version / "report.html").read_bytes()
    copied = [path for method, path in s3.requests if method == "COPY"]
    assert len(sent) + len(copied) == sum(name.endswith(".parquet") for name in theirs)
    assert copied
    with published(settings) as connection:
        (creator,) = connection.execute("select creator_id from tasks where creator_id is not null").fetchone() or ("",)
    other = on_a_new_machine(settings, tmp_path / "other")
    with shared(other, lambda line: None):
        before = files(other)
    run("erase", "--creator", creator, "--yes")
    assert stored(settings) == files(settings) != before
    with shared(other, lambda line: None):  # a machine that had it all follows
        assert files(other) == files(settings)
    assert store.folders("published/versions") == [(settings.home.published / "current").resolve().name]


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(SettingsError, match=r"pip install 'livepeer-task-archive\[store\]'"):
        Store(Settings(home=Home(tmp_path), store="s3://bucket"))
