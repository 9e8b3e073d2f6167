"""Flattening against plain Python, over the recorded tasks and over generated ones, odd ones included."""

import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.landing.catalog import Catalog
from pipelines.landing.manifest import Manifest, Window
from pipelines.landing.writer import LoadWriter
from pipelines.landing.zone import Zone
from pipelines.livepeer.redact import Redactor
from pipelines.livepeer.tasks.contract import TASK, Kind, Shape
from pipelines.livepeer.tasks.rows import read_row
from pipelines.settings import Settings
from pipelines.warehouse import build
from pipelines.warehouse.database import connect
from pipelines.warehouse.working import Working
from tests.warehouse import reference

FIXTURES = Path(__file__).parent.parent / "fixtures" / "livepeer"
TABLES = ("tasks", "profiles", "tracks", "hashes", "files")


def flattened(home: Path, payloads: list[bytes]) -> dict[str, list[dict[str, Any]]]:
    """Lands payloads as they are, builds the tables, and returns their rows."""
    archive = Settings(home=home)
    zone = Zone(archive.home.landing)
    manifest = Manifest(
        load_id=zone.new_load_id("sweep", 1_795_000_000_000),
        account="default",
        lane="sweep",
        window=Window(),
        api_url="",
        code_version="",
        run_id="",
        started_at_ms=1_795_000_000_000,
        finished_at_ms=1_795_000_001_000,
        verdict="whole",
    )
    writer = LoadWriter(Catalog(zone), manifest, Redactor(b"key"))
    writer.add_page([read_row(payload) for payload in payloads], 1_795_000_000_500)
    writer.complete()
    tables = list(build.build_version(archive))
    rows = {}
    with connect(Working(archive).file, read_only=True) as connection:
        for built in tables:
            cursor = connection.execute(f"from {built.model.name}")
            names = [column[0] for column in cursor.description]
            rows[built.model.name] = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            assert all(outcome.passed or outcome.check.severity == "warn" for outcome in built.outcomes), built.outcomes
    return rows


def assert_as_expected(rows: dict[str, list[dict[str, Any]]], payloads: dict[str, Any]) -> None:
    """Each table holds for each task what plain Python makes of its payload, and nothing else."""
    assert {row["task_id"] for row in rows["tasks"]} == set(payloads)
    for task_id, task in payloads.items():
        for table, expected in reference.rows(task).items():
            found = [row for row in rows[table] if row["task_id"] == task_id]
            if table != "tasks":
                assert [row["position"] for row in found] == list(range(len(expected)))
            for row, wanted in zip(found, expected, strict=True):
                for column, value in wanted.items():
                    assert same(row[column], value, column), (table, task_id, column, row[column], value)


def same(found: Any, expected: Any, column: str) -> bool:
    if column in reference.JSON_COLUMNS or column == "spec":
        return found is expected is None or (found is not None and json.loads(found) == expected)
    if isinstance(expected, float):
        return found is not None and math.isclose(found, expected, rel_tol=1e-15)
    if column in ("gop", "creator_id", "creator_id_type") and found != expected and None not in (found, expected):
        return bool(json.loads(found) == json.loads(expected))
    return bool(found == expected)


def test_recorded_tasks(tmp_path: Path) -> None:
    scenarios = json.loads((FIXTURES / "tasks_by_scenario.json").read_text())
    page = json.loads((FIXTURES / "page_100_tasks.json").read_text())
    tasks = [*scenarios.values(), *page]
    payloads = [json.dumps(task, separators=(",", ":"), ensure_ascii=False).encode() for task in tasks]
    redacted = [json.loads(Redactor(b"key").redact(payload)) for payload in payloads]
    rows = flattened(tmp_path, payloads)
    assert_as_expected(rows, {task["id"]: task for task in redacted})
    assert rows["quarantine"] == []
    assert len(rows["tracks"]) > 100


def test_tasks_of_the_years_before_2023(tmp_path: Path) -> None:
    """An old transcode task has one profile, and its asset specification one level deeper than other types."""
    spec = {
        "hash": [{"hash": "61b42e93", "algorithm": "md5"}],
        "name": "a.mp4_720p0",
        "size": 52_615_193,
        "type": "video",
        "videoSpec": {"format": "mp4", "tracks": [{"codec": "h264"}], "bitrate": 9.5, "duration": 309.9},
        "playbackRecordingId": "recording-1",
    }
    stored = {"assetSpec": spec, "videoFilePath": "https://s/video", "metadataFilePath": "https://s/video.json"}
    profile = {"name": "720p0", "height": 720, "bitrate": 3_000_000, "encoder": "h264"}
    uploaded = {"uploadedObjectKey": "directUpload/1bde4o2i6xycudoy", "recordedSessionId": "recording-1"}
    tasks = [
        {"id": "transcode", "params": {"transcode": {"profile": profile}}, "output": {"transcode": {"asset": stored}}},
        {"id": "import", "params": {"import": uploaded}, "output": {"import": stored}},
        {"id": "failed", "params": {"transcode": {"profile": None}}, "output": {"transcode": {"asset": None}}},
    ]
    rows = flattened(tmp_path, [json.dumps(task).encode() for task in tasks])
    assert_as_expected(rows, {str(task["id"]): task for task in tasks})
    assert rows["quarantine"] == [row for row in rows["drift"] if row["kind"] == "unknown path"] == []
    by_id = {row["task_id"]: row for row in rows["tasks"]}
    for name in ("transcode", "import"):
        row = by_id[name]
        assert (row["asset_name"], row["asset_size_bytes"]) == ("a.mp4_720p0", 52_615_193)
        assert (row["media_format"], row["media_duration_seconds"], row["media_bitrate_bps"]) == ("mp4", 309.9, 9.5)
        assert (row["video_file_path"], row["metadata_file_path"]) == ("https://s/video", "https://s/video.json")
        assert row["asset_playback_recording_id"] == "recording-1"
    assert by_id["import"]["uploaded_object_key"] == "directUpload/1bde4o2i6xycudoy"
    assert by_id["import"]["recorded_session_id"] == "recording-1"
    assert [row["task_id"] for row in rows["tracks"]] == ["import", "transcode"]
    assert [row["task_id"] for row in rows["hashes"]] == ["import", "transcode"]
    assert [(row["task_id"], row["position"], row["name"]) for row in rows["profiles"]] == [("transcode", 0, "720p0")]


def test_every_column_of_tasks_has_a_reference() -> None:
    from pipelines.warehouse.models import load_models

    assert set(load_models()["tasks"].columns) == set(reference.TASKS) | reference.ABOUT_THE_ARCHIVE


def test_every_field_of_the_contract_reaches_a_column(tmp_path: Path) -> None:
    """A task with a value of its own in every field: each value is found again in some column."""
    counter = itertools.count(1)

    def filled(shape: Shape) -> Any:
        if isinstance(shape, list):
            return [filled(shape[0])]
        if isinstance(shape, dict):
            return {key: filled(inner) for key, inner in shape.items()}
        number = next(counter)
        made = {Kind.TEXT: f"value{number}", Kind.INTEGER: 10_000 + number, Kind.NUMBER: number + 0.5}
        made |= {Kind.MILLIS: 1_700_000_000_000 + number, Kind.JSON: {"inner": f"value{number}"}}
        return made.get(shape, True)

    missing = []
    for params in TASK["params"]:
        for output in TASK["output"]:
            task = filled(TASK)
            task["params"] = {params: task["params"][params]}
            task["output"] = {output: task["output"][output]}
            missing.append((task, params, output))
    payloads = []
    for number, (task, _, _) in enumerate(missing):
        task["id"] = f"task{number:03d}"
        payloads.append(json.dumps(task, separators=(",", ":")).encode())
    rows = flattened(tmp_path, payloads)
    assert rows["quarantine"] == []
    for task, params, output in missing:
        shown = json.dumps(
            [[row for row in rows[table] if row["task_id"] == task["id"]] for table in TABLES],
            default=lambda value: round(value.timestamp() * 1000),
        )
        lost = [leaf for leaf in leaves(task) if leaf.strip('"') not in shown]
        # The asset's own profiles are listed only where the task asked for none; a pipeline redacts what is secret.
        lost = [leaf for leaf in lost if not hidden_by_design(task, leaf)]
        assert lost == [], (params, output)


def leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in leaves(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in leaves(inner)]
    return [] if isinstance(value, bool) else [json.dumps(value)]


def hidden_by_design(task: Any, leaf: str) -> bool:
    secret = [
        reference.at(task, path)
        for path in (
            "params/upload/encryption",
            "params/import/encryption",
            "params/export/custom/headers",
            "params/export/ipfs/pinata",
            "params/exportData/ipfs/pinata",
        )
    ]
    asset = reference.asset(task) or {}
    secret += [reference.at(asset, "playbackPolicy/webhookContext"), reference.at(asset, "source/encryption")]
    asked = any(
        reference.at(task, f"params/{path}")
        for path in ("upload/profiles", "transcode-file/profiles", "transcode/profile")
    )
    overruled = [asset.get("profiles")] if asked else []
    # A transcode-file task's own size, duration and creator give way to an asset's; none has both.
    both = [reference.at(task, "output/transcodeFile/input_video")] if asset else []
    both += [asset.get("creatorId")] if reference.at(task, "params/transcode-file/creatorId") else []
    creator_shape = [asset.get("creatorId"), reference.at(task, "params/transcode-file/creatorId")]
    return leaf in [found for value in (*secret, *overruled, *both, *creator_shape) for found in leaves(value)]


def misfits() -> st.SearchStrategy[Any]:
    """Values that some field will not take; Raw ones are JSON text that Python's json would not write."""
    return st.sampled_from(
        [
            1.5, "text", True, False, 2**63, -(2**63) - 1, 2**53 + 1, 1.0, -0.0, 1e21, 1e300, [], {}, [1], {"a": None},
            "2020-01-01T00:00:00Z", 253_402_300_800_000, -1, "half \ud83d", {"deep": ["\udc00"]}, math.nan, math.inf,
            {"free": [math.nan]}, "", "null", "quo\"te\\", "nul\x00", "\u2028 é 🎬", [[[]]], 10**400,
        ]
    )  # fmt: skip


def fitting(kind: Kind) -> st.SearchStrategy[Any]:
    return {
        Kind.TEXT: st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        Kind.INTEGER: st.integers(-(2**63), 2**63 - 1),
        Kind.NUMBER: st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
        Kind.BOOLEAN: st.booleans(),
        Kind.MILLIS: st.integers(-62_135_596_800_000, 253_402_300_799_999),
        Kind.JSON: st.recursive(
            st.none() | st.booleans() | st.integers(-9, 9) | st.text("abc", max_size=3),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("xyz", max_size=2), inner, max_size=2),
            max_leaves=4,
        ),
    }[kind]


def values(shape: Shape) -> st.SearchStrategy[Any]:
    """Mostly what fits, now and then null or a misfit, at every level."""
    if isinstance(shape, Kind):
        proper = fitting(shape)
    elif isinstance(shape, list):
        proper = st.lists(values(shape[0]), max_size=3)
    else:
        proper = objects(shape)
    return st.one_of(proper, proper, proper, proper, st.none(), misfits())


@st.composite
def objects(draw: st.DrawFn, shape: dict[str, Shape]) -> dict[str, Any]:
    """An object with some of the fields, and now and then one that no contract knows."""
    names = draw(st.lists(st.sampled_from(sorted(shape)), max_size=6, unique=True))
    made = {name: draw(values(shape[name])) for name in names}
    if draw(st.integers(0, 9)) == 0:
        made["unknownField"] = draw(misfits())
    return made


@st.composite
def payloads(draw: st.DrawFn) -> list[dict[str, Any]]:
    tasks = draw(st.lists(objects({key: inner for key, inner in TASK.items() if key != "id"}), min_size=6, max_size=24))
    return [{"id": f"task-{number:03d}", **task} for number, task in enumerate(tasks)]


@settings(max_examples=3, suppress_health_check=list(HealthCheck))
@given(tasks=payloads(), spaced=st.booleans())
def test_generated_tasks(tmp_path_factory: pytest.TempPathFactory, tasks: list[dict[str, Any]], spaced: bool) -> None:
    separators = (", ", ": ") if spaced else (",", ":")
    texts = [json.dumps(task, separators=separators).encode() for task in tasks]
    redacted = [json.loads(Redactor(b"key").redact(text)) for text in texts]
    rows = flattened(tmp_path_factory.mktemp("home"), texts)
    assert_as_expected(rows, {task["id"]: task for task in redacted})
    for problem in rows["quarantine"]:
        assert problem["task_id"] in {task["id"] for task in redacted}
    # Nothing is lost silently: a value that did not fit left a row.
    for task in redacted:
        if any(True for _ in misfitting(TASK, task)):
            assert any(problem["task_id"] == task["id"] for problem in rows["quarantine"]), task


def misfitting(shape: Shape, value: Any) -> Any:
    """The values within `value` that are not what the shape wants."""
    if value is None:
        return
    if isinstance(shape, dict):
        if isinstance(value, dict):
            for key, inner in value.items():
                if key in shape:
                    yield from misfitting(shape[key], inner)
        else:
            yield value
    elif isinstance(shape, list):
        if isinstance(value, list):
            for inner in value:
                yield from misfitting(shape[0], inner)
        else:
            yield value
    else:
        read = {
            Kind.TEXT: reference.text,
            Kind.INTEGER: reference.integer,
            Kind.NUMBER: reference.number,
            Kind.BOOLEAN: reference.boolean,
            Kind.MILLIS: reference.moment,
            Kind.JSON: reference.free,
        }[shape]
        if read(value) is None:
            yield value


def test_a_key_given_twice_is_said_and_the_last_one_counts(tmp_path: Path) -> None:
    rows = flattened(tmp_path, [b'{"id":"a","type":"clip","type":"upload","status":{"phase":"failed"}}'])
    assert [(row["task_id"], row["type"]) for row in rows["tasks"]] == [("a", "upload")]
    assert [(row["path"], row["value"]) for row in rows["quarantine"]] == [("$.type", '"clip"')]


def test_what_is_no_task_is_quarantined_whole(tmp_path: Path) -> None:
    deep = b'{"id":"deep","params":' + b'{"a":' * 5000 + b"1" + b"}" * 5001
    odd = [b"null", b"5", b'"text"', b"[]", b"{}", b'{"id":7}', b'{"id":""}', deep, b'{"id":"ok","type":"upload"}']
    rows = flattened(tmp_path, odd)
    assert [row["task_id"] for row in rows["tasks"]] == ["ok"]
    assert len(rows["quarantine"]) == len(odd) - 1
    assert {row["path"] for row in rows["quarantine"]} == {"$"}


def test_bytes_that_are_no_text_are_kept(tmp_path: Path) -> None:
    rows = flattened(tmp_path, [b'{"id":"a","status":{"errorMessage":"caf\xe9"}}'])
    assert [row["error_message"] for row in rows["tasks"]] == ["caf?"]
    assert [row["path"] for row in rows["quarantine"]] == ["$.status.errorMessage"]


def test_a_load_that_was_removed_leaves_the_tables(tmp_path: Path) -> None:
    """What is derived follows the landing zone, also where a damaged load was taken out of it to be fetched again."""
    assert len(flattened(tmp_path, [b'{"id":"a","type":5}', b'{"id":"b"}'])["tasks"]) == 2
    shutil.rmtree(tmp_path / "landing")
    rows = flattened(tmp_path, [b'{"id":"c"}'])
    assert [row["task_id"] for row in rows["tasks"]] == ["c"]
    assert rows["quarantine"] == []
