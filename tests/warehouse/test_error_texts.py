"""Error templates: the same failure has the same template whatever differs from task to task, and keeps it."""

import hashlib
from collections.abc import Iterator

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.warehouse.models import load_models
from pipelines.warehouse.sql import sql_folder

# What is published stays: a signature is referred to from reports, alerts and tickets.
KEPT = {
    "file could not be imported from URL because it was not accessible": ("c2ce691e147d", "user"),
    "internal error processing file": ("b2043b11c100", "platform"),
    "catalyst task lost (last update 2m3.9s ago)": ("4448d8c41ede", "platform"),
    "error on export request: 403 Forbidden": ("8bdb4f26bbab", "user"),
    "whatever 12 else": ("", "unknown"),
}
TEMPLATES = {
    "asset 10d93d74-259a-4146-91db-8f077f165878 is not in /data/tmp/x.mp4": "asset <id> is not in <path>",
    "GET https://a.example/b?c=redacted-0011aabb: dial tcp 10.1.2.3:443: timeout after 30 seconds": (
        "GET <url> dial tcp <address>: timeout after <duration>"
    ),
    "status code: 503, got 12,345.6 bytes of 1920x1080": "status code: 503, got <number> bytes of <number>",
    "500 Internal Server Error": "500 Internal Server Error",
    "read 500 of 512": "read <number> of <number>",
    "bad   key\n redacted-00ff11aa": "bad key <secret>",
    "  ": "(no error message)",
    "": "(no error message)",
}
ID = st.uuids().map(str)
NUMBER = st.integers(0, 10**9).map(str)
DURATION = st.tuples(st.integers(0, 59), st.integers(0, 59), st.integers(0, 9)).map(lambda t: "{}m{}.{}s".format(*t))
MOMENT = st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z")


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        owners = sql_folder() / "seeds" / "signature_owners.csv"
        seed = "select row_number() over () as position, * from read_csv(?, header = true)"
        connection.execute(f"create table signature_owners as {seed}", [str(owners)])
        connection.execute("create table task_history (error_message varchar)")
        yield connection


def told(connection: duckdb.DuckDBPyConnection, *texts: str) -> list[tuple[str, str, str]]:
    """(template, signature_id, owner) of each text."""
    connection.execute("delete from task_history")
    connection.execute("insert into task_history select unnest(?)", [list(texts)])
    rows = connection.execute(load_models()["error_texts"].compiled_sql).fetchall()
    found = {row[0]: row[1:4] for row in rows}
    return [found[text] for text in texts]


def test_templates(connection: duckdb.DuckDBPyConnection) -> None:
    found = [template for template, _, _ in told(connection, *TEMPLATES)]
    assert dict(zip(TEMPLATES, found, strict=True)) == TEMPLATES


def test_signatures_and_owners_stay(connection: duckdb.DuckDBPyConnection) -> None:
    for (template, signature, owner), kept in zip(told(connection, *KEPT), KEPT.values(), strict=True):
        assert (signature if kept[0] else "", owner) == kept
        assert signature == hashlib.sha256(template.encode()).hexdigest()[:12]


@given(st.lists(st.tuples(ID, NUMBER, DURATION, MOMENT), min_size=2, max_size=8))
def test_what_differs_from_task_to_task_is_taken_out(
    connection: duckdb.DuckDBPyConnection, tasks: list[tuple[str, str, str, str]]
) -> None:
    texts = {"task {} lost {} frames in {} at {}, 404 Not Found".format(*task) for task in tasks}
    assert {template for template, _, _ in told(connection, *texts)} == {
        "task <id> lost <number> frames in <duration> at <time>, 404 Not Found"
    }


@given(st.text(max_size=200).filter(lambda text: "\x00" not in text))
def test_a_template_of_any_text_is_short_and_stays_itself(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    ((template, _, _),) = told(connection, text)
    assert 0 < len(template) <= 300
