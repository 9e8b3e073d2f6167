"""Canaries: secrets planted in every field of tasks are found nowhere under the home and in nothing that is printed."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb

from pipelines.livepeer.tasks.contract import TASK, Kind, Shape
from pipelines.simulator import Simulator

CANARY = "CANARY"
# Every secret has the canary's name in it and a number, so that a leak tells which shape leaked.
SHAPES = [
    "https://user:{0}@origin.example.com/in/video.mp4",
    "https://bucket.s3.amazonaws.com/v.mp4?X-Amz-Credential={0}&X-Amz-Signature={0}",
    "s3://AKIA:{0}/with/slash@host/bucket/key",
    "s3+https://{0}:{0}@s3.us-east-1.amazonaws.com/bucket",
    "gs://user:{0}@bucket/x",
    "w3s://{0}@/",
    "it said: Bearer {0} is not known",
    "could not fetch https://cdn.example.com/a.mp4?token={0} (403)",
    "password={0}",
    "eyJhbGciOiJIUzI1NiJ9.{0}.{0}",
]
SECRET_KEYS = ("jwt", "apiKey", "apiSecret", "Authorization", "password", "access_token", "client_secret", "privateKey")


def canaries() -> Iterator[str]:
    return (f"{CANARY}{number:05d}xyz" for number in itertools.count())


def planted(shape: Shape, secrets: Iterator[str], shapes: Iterator[str]) -> Any:
    """A task with a secret in every text and under every secret key of free-form JSON."""
    if isinstance(shape, list):
        return [planted(shape[0], secrets, shapes)]
    if isinstance(shape, dict):
        return {key: planted(inner, secrets, shapes) for key, inner in shape.items()}
    if shape is Kind.TEXT:
        return next(shapes).format(next(secrets))
    if shape is Kind.JSON:
        return {key: next(secrets) for key in SECRET_KEYS} | {"deep": [{"note": next(shapes).format(next(secrets))}]}
    return {Kind.BOOLEAN: True, Kind.MILLIS: 1_700_000_000_000}.get(shape, 7)


def texts_of(home: Path) -> Iterator[tuple[str, str]]:
    """Everything under the home: each file's bytes, and what compressed files hold."""
    for path in home.rglob("*"):
        if not path.is_file():
            continue
        yield str(path), path.read_bytes().decode("latin-1")
        with duckdb.connect() as connection:
            if path.suffix == ".parquet":
                yield f"{path} (rows)", str(connection.execute("from read_parquet(?)", [str(path)]).fetchall())
            elif path.suffix == ".duckdb":
                connection.execute(f"attach '{path}' as found (read_only)")
                tables = "select schema_name || '.' || table_name from duckdb_tables() where database_name = 'found'"
                for (table,) in connection.execute(tables).fetchall():
                    yield f"{path} {table}", str(connection.execute(f"from found.{table}").fetchall())


def test_no_secret_reaches_the_disk_or_the_output(
    simulate: Callable[..., Simulator], clean_environment: None, tmp_path: Path
) -> None:
    key = f"{CANARY}-the-api-key-itself"
    simulator = simulate(tasks=50, speed=0, now=None, keys={"default": key})
    secrets = canaries()
    template, told = sorted(simulator.tasks().items())[0]
    for offset in range(len(SHAPES)):
        shapes = itertools.islice(itertools.cycle(SHAPES), offset, None)
        task = planted(TASK, secrets, shapes)
        task |= {"id": f"{template[:-12]}{offset:012d}", "createdAt": simulator.now() - 1000}
        del task["deleted"]  # the list shows no row that has it
        task |= {name: told[name] for name in ("userId", "projectId")}
        task["status"] |= {"updatedAt": simulator.now() - 1000}
        simulator.insert(task)
    home = tmp_path / "home"
    environment = os.environ | {
        "LIVEPEER_API_URL": simulator.url,
        "LIVEPEER_API_KEY": key,
        "TASK_ARCHIVE_HOME": str(home),
        "TASK_ARCHIVE_RETRY_WAIT_SECONDS": "0.01",
        "TASK_ARCHIVE_ALERT_WEBHOOK_URL": f"http://127.0.0.1:9/{CANARY}/of-the-webhook",  # where nobody is
        "TASK_ARCHIVE_ALERT_EMAIL_TO": "ops@example.com",
        "TASK_ARCHIVE_ALERT_SMTP_URL": f"smtp://robot:{CANARY}-of-the-mail-server@127.0.0.1:9",
        "TASK_ARCHIVE_ALERT_FILE": str(tmp_path / "home" / "alerts.jsonl"),
    }
    said = ""

    def command(*arguments: str, **variables: str) -> int:
        nonlocal said
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", *arguments],
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=120,
        )
        said += done.stdout + done.stderr
        return done.returncode

    simulator.fault("500", at=5)  # a fault and its retry get into the logs too
    assert command("sync") == 0
    assert command("query", "select * from tasks", "--format", "json") == 0
    assert command("status", "--json") == 0
    assert command("doctor") == 0
    wrong = f"{CANARY}-a-wrong-key"  # the server's 401 echoes it
    assert command("sync", LIVEPEER_API_KEY=wrong) == 1
    assert command("doctor", LIVEPEER_API_KEY=wrong) == 1
    assert command("alert", "test") == 1
    assert command("alert", "check", "--json") == 3

    rows = json.loads(next(line for line in said.splitlines() if f'"{template[:-12]}000000000000"' in line))
    assert rows["source_url"].startswith(
        ("https://", "s3", "gs://", "w3s://", "it said", "could not", "password", "redacted")
    )
    leaks = [where for where, text in [("output", said), *texts_of(home)] if CANARY in text]
    assert leaks == []
    assert "redacted-" in said
