"""Publishing to PostgreSQL, for BI servers that open no DuckDB file.

One transaction makes the tables of a schema what the published version holds. Each is loaded beside, as a temporary
table, then rows that are gone or changed are deleted and new ones inserted. So a reader's transaction stays on the
version that it began with, no reader waits, and views, grants and indexes that others have on the tables stay.

The schema notes the hashes of the Parquet files whose rows it holds. By them the next publication leaves tables as they
are, and of a table by task carries the weeks that differ: whichever version the schema holds, an older or a newer one.
"""

import json
from collections.abc import Callable
from pathlib import Path

from pipelines.serving.targets import Target, TargetTable
from pipelines.serving.targets.postgres.schema import Change, Held, Schema
from pipelines.serving.targets.postgres.server import connected
from pipelines.settings import Settings
from pipelines.warehouse.database import connect, current_database
from pipelines.warehouse.models import published_models
from pipelines.warehouse.parquet import MANIFEST
from pipelines.warehouse.working import COMPLETE, PARQUET


def publish_to_postgres(
    settings: Settings, told: Callable[[str], None] = lambda line: None, every_row: bool = False
) -> list[TargetTable]:
    """Makes the tables of the schema what the published version holds; `told` hears of each.

    Compares the rows that may differ from what was published there before, or every row, whatever others did to them.

    Raises SettingsError where no DSN is set or the driver is missing, Busy where another publication or a reader's lock
    lasts too long, PostgresError with one line for what the server refuses. What was published before stays then.
    """
    database = current_database(settings)
    parquet = database.parent / PARQUET
    version = json.loads((database.parent / COMPLETE).read_bytes())["version"]
    with (
        connected(settings) as server,
        connect(database, read_only=True, memory_mb=settings.memory_mb) as source,
    ):
        schema = Schema(server, settings.postgres_schema)
        schema.open(settings.lock_wait_seconds)
        published, there = held_by(parquet / MANIFEST), {} if every_row else schema.held()
        carried = []
        for model in published_models():
            change = None
            if before := there.get(model.name):
                differing = before.files.items() ^ published[model.name].files.items()
                change = Change(before.rows, parquet / model.name, {Path(path).stem for path, _ in differing})
            carried.append(schema.carry(source, model, change))
            told(str(carried[-1]))
        schema.note(published, version)
        if settings.postgres_reader and not schema.may_be_read_by(settings.postgres_reader, carried):
            told(f"role {settings.postgres_reader} is not there and may not be made: nothing was granted")
        server.commit()
    return carried


def held_by(manifest: Path) -> dict[str, Held]:
    """What the tables of a version hold, by its manifest."""
    return {
        name: Held(table["rows"], {file["path"]: file["sha256"] for file in table["files"]})
        for name, table in json.loads(manifest.read_bytes())["tables"].items()
    }


def _check(settings: Settings) -> str:
    with connected(settings) as server:
        (version,) = server.ask("select current_setting('server_version')")[0]
    return f"version {version} answers"


TARGET = Target(
    name="postgres",
    title="PostgreSQL",
    help="""Make the tables of a PostgreSQL schema what the published version holds, in one transaction.

    The database is that of TASK_ARCHIVE_POSTGRES_DSN. Once that is set, the nightly job does the same. Rows are
    compared where the version differs from the one that was published there before.
    """,
    is_set=lambda settings: settings.postgres_dsn is not None,
    place=lambda settings: f"schema {settings.postgres_schema}",
    publish=publish_to_postgres,
    check=_check,
)
