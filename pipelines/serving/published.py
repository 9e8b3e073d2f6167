"""Reading the published version: its tables, as they stand and as they stood, and the named queries."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import duckdb

from pipelines import signals
from pipelines.days import moment_of
from pipelines.errors import SettingsError, unknown
from pipelines.serving import export
from pipelines.settings import Settings
from pipelines.text import printable
from pipelines.warehouse.database import connect, current_database, quoted
from pipelines.warehouse.models import Model, load_macros, published_models
from pipelines.warehouse.sql import QueryHeader, names_in, read_folder, read_sql

# Settings, definitions and what texts mean: as of any time they are today's.
TIMELESS = {"thresholds", "slo_targets", "metrics", "signature_owners", "error_texts"}


def named_queries() -> dict[str, str]:
    """The queries of sql/queries: name and what it answers."""
    return {file.name: file.header.description for file in read_folder("queries", QueryHeader)}


def sql_of(text: str) -> str:
    """The SQL of a named query, or the text itself where it is SQL. Raises SettingsError for neither."""
    if text in names_in("queries"):
        return read_sql("queries", text, QueryHeader).select
    if text.replace("_", "").isalnum():
        raise SettingsError(unknown("query", text, names_in("queries"), "`task-archive query` lists them"))
    with suppress(duckdb.Error):  # told with its place when it runs
        if not duckdb.extract_statements(text):
            raise SettingsError("the query is empty: give SQL, or a name that `task-archive query` lists")
    return text


@contextmanager
def published(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """A read-only connection to the published version; stays on it whatever is published meanwhile."""
    with connect(current_database(settings), read_only=True) as connection, signals.stopping(connection.interrupt):
        yield connection


@contextmanager
def published_as_of(settings: Settings, moment: datetime) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection on which every table stands as a version published at that moment held it.

    What was known then is cut out of the published version, the tables made from it are their .sql files' SELECTs over
    that. What cannot be cut refuses to answer. Raises SettingsError for a moment that the archive knows nothing of.
    """
    with connect() as connection, signals.stopping(connection.interrupt):
        connection.execute(f"attach {quoted(str(current_database(settings)))} as published (read_only)")
        known_from, known_until = connection.execute("select min(finished_at), now() from published.loads").fetchall()[
            0
        ]
        if known_from is None or not known_from <= moment <= known_until:
            first = f"the first load was complete at {export.plain(known_from)}"
            why = first if moment < known_until else "it is to come"
            raise SettingsError(f"nothing can be said as of {export.plain(moment)}: {why}")
        connection.execute("create schema as_of")
        connection.execute("set search_path = 'memory.as_of,published.main'")
        then = f"timestamptz {quoted(moment.isoformat())}"
        for model in published_models():
            connection.execute(f"create view as_of.{model.name} as {_as_of(model, then)}")
        yield connection


def _as_of(model: Model, then: str) -> str:
    """A table's SELECT as of a moment."""
    if model.name in {macro.name.removesuffix("_as_of") for macro in load_macros()}:
        return f"from {model.name}_as_of({then})"
    if model.name == "loads":
        return f"from published.loads where finished_at <= {then}"
    if model.name == "quarantine":
        return "from published.quarantine where load_id in (select load_id from loads)"
    if model.name in TIMELESS:
        return f"from published.{model.name}"
    if model.layer == "core" or model.name == "superseded_tasks":
        why = f"{model.name} cannot be asked as of an earlier time: it holds the newest states only"
        return f"from published.{model.name} where error({quoted(why)})"
    return model.compiled_sql


def check_known(connection: duckdb.DuckDBPyConnection, column: str, wanted: str | None) -> None:
    """Raises SettingsError for a type or an account that no task has; None is all."""
    if wanted is None:
        return
    known = [row[0] for row in connection.execute(f"select distinct {column} from fact_tasks order by 1").fetchall()]
    if known and wanted not in known:  # where there is no task at all, none can be known
        raise SettingsError(printable(unknown(column, wanted, map(str, known))))


def run_query(settings: Settings, sql: str, form: str, output: Path | None, as_of: str | None = None) -> None:
    """Runs SQL and writes the rows in a format of `export`. Raises QueryError where DuckDB refuses it."""
    with published(settings) if as_of is None else published_as_of(settings, moment_of(as_of)) as connection:
        export.write(connection, sql, form, output)


def run_export(
    settings: Settings,
    form: str,
    table: str | None,
    query: str | None,
    since: str | None,
    output: Path | None,
    told: Callable[[int], None],
) -> export.Rows:
    """Writes a table, or the rows of a query, in memory that does not grow with them. Raises as `export.write` does."""
    if (table is None) == (query is None):
        raise SettingsError("name either a --table or a --query")
    if since is not None and table is None:
        raise SettingsError("--since goes with --table; a --query says in its SQL what it wants")
    model = None if table is None else _published_model(table)
    sql = sql_of(query or "") if model is None else _rows_since(model, since)
    with published(settings) as connection:
        connection.execute(f"set memory_limit = '{settings.memory_mb}MB'")
        return export.write(connection, sql, form, output, model, told)


def _published_model(table: str) -> Model:
    models = {model.name: model for model in published_models()}
    if table not in models:
        raise SettingsError(unknown("table", table, sorted(models)))
    return models[table]


def _rows_since(model: Model, since: str | None) -> str:
    """SQL of a table's rows; of a day on, all rows of the tasks of which the archive has learned a state since."""
    if since is None:
        return f"from {model.name}"
    if "task_id" not in model.key:
        have = ", ".join(other.name for other in published_models() if "task_id" in other.key)
        raise SettingsError(f"no row of {model.name} is one task's: export it whole; --since takes {have}")
    learned = f"known_at >= timestamptz {quoted(moment_of(since).isoformat())}"
    theirs = f"task_id in (select task_id from task_history where {learned})"
    # Ids lie anywhere among each other, rows by when they were written: by those, DuckDB skips what is older, unread.
    return f"from {model.name} where rowid in (select rowid from {model.name} where {theirs})"


def open_tasks(settings: Settings, account: str, before_ms: int) -> list[str]:
    """Ids of an account's open tasks last changed before a time, as published, the longest unseen first."""
    if not settings.home.is_published:
        return []
    with published(settings) as connection:
        found = connection.execute(
            "select task_id from tasks where account = ? and phase in ('pending', 'waiting', 'running') "
            "and deleted_at is null and epoch_ms(updated_at) < ? order by observed_at, task_id",
            [account, before_ms],
        )
        return [task_id for (task_id,) in found.fetchall()]
