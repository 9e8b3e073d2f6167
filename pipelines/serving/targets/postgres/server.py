"""A connection to PostgreSQL, and what is said of its failures."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pipelines.errors import ArchiveError, Busy, SettingsError
from pipelines.settings import Settings, environment_variable

if TYPE_CHECKING:
    from adbc_driver_manager.dbapi import Connection

LOCK_NOT_AVAILABLE = "55P03"  # an SQLSTATE


class PostgresError(ArchiveError):
    """PostgreSQL refused, or could not be reached. The message holds no secret of the DSN."""


class Server:
    """A connection to PostgreSQL, in a transaction that `commit` ends."""

    def __init__(self, connection: "Connection") -> None:
        self.connection = connection

    def do(self, sql: str) -> int:
        """Runs a statement; returns the rows that it touched."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return int(cursor.rowcount)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def load(self, temporary_table: str, rows: Any) -> None:
        """Appends the batches of an Arrow reader to a temporary table."""
        with self.connection.cursor() as cursor:
            cursor.adbc_ingest(temporary_table, rows, mode="append", temporary=True)

    def commit(self) -> None:
        self.connection.commit()


@contextmanager
def connected(settings: Settings) -> Iterator[Server]:
    """The server that the DSN names; failures in the body become one line without its secrets."""
    if settings.postgres_dsn is None:
        raise SettingsError(
            f"{environment_variable('postgres_dsn')} is not set: give the database's URL, "
            "postgresql://user:password@host/database"
        )
    try:
        from adbc_driver_manager import Error
        from adbc_driver_postgresql import dbapi
    except ImportError:
        raise SettingsError(
            "PostgreSQL needs its driver: pip install 'livepeer-task-archive[postgres]', or make setup in a checkout"
        ) from None
    dsn = settings.postgres_dsn.get_secret_value()
    try:
        with dbapi.connect(dsn) as connection:
            yield Server(connection)
    except Error as error:
        said = _without_secrets(str(error), dsn)
        if error.sqlstate == LOCK_NOT_AVAILABLE:
            raise Busy(
                f"PostgreSQL: another publication or a reader held a lock for {settings.lock_wait_seconds:g} s "
                f"({environment_variable('lock_wait_seconds')})"
            ) from None
        raise PostgresError(f"PostgreSQL: {said}") from None


def _without_secrets(message: str, dsn: str) -> str:
    """What the server or its library said, in one line, without the library's own words around it."""
    said = " ".join(message.split())
    found = re.search(r"ERROR: (.+?)(?: LINE \d+:| HINT:| CONTEXT:| Query was:|\. SQLSTATE:|$)", said)
    said = found[1].strip() if found else said.rpartition("[libpq] ")[2]
    parts = urlsplit(dsn)
    in_query = [value for name, value in parse_qsl(parts.query) if "password" in name]
    for secret in filter(None, [dsn, parts.password, unquote(parts.password or ""), *in_query]):
        said = said.replace(secret, "…")
    return said
