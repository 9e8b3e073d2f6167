"""Where Dagster keeps runs, their events and its schedules, as `dagster.yaml` names it: in its own files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, cast

from dagster import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.runs.sqlite import SqliteRunStorage, sqlite_run_storage
from dagster._core.storage.schedules.sqlite import SqliteScheduleStorage, sqlite_schedule_storage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy import URL, Connection, Engine, create_engine
from sqlalchemy.event import listen

MOST_KEPT = 4  # engines: one a run, and one for the index of them all


def _url(folder: str, name: str) -> str:
    """A database's URL. Dagster puts the path in as it is, where % may begin an escape."""
    return URL.create("sqlite", database=str(Path(folder, f"{name}.db").absolute())).render_as_string()


for module in (sqlite_run_storage, sqlite_schedule_storage):
    vars(module)["create_db_conn_string"] = _url


class RunStorage(SqliteRunStorage):
    """Dagster's own. `base_dir` is the folder of the instance, so that the configuration may say $DAGSTER_HOME."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        """What `dagster.yaml` says."""
        return cls.from_local(str(Path(config_value["base_dir"], "history")), inst_data)


class ScheduleStorage(SqliteScheduleStorage):
    """Dagster's own, likewise."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        """What `dagster.yaml` says."""
        return cast(Self, cls.from_local(str(Path(config_value["base_dir"], "schedules")), inst_data))


class EventLog(SqliteEventLogStorage):
    """Dagster's own, in the same files, with connections that are kept.

    Dagster opens the file and compiles its statements anew for each event: most of what a run's hundreds of events
    cost.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: dict[str, Engine] = {}  # the one used last comes last
        self._tables: set[str] = set()
        super().__init__(str(Path(base_dir, "history", "runs")), inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        """What `dagster.yaml` says."""
        return cls(inst_data=inst_data, **config_value)

    def conn_string_for_shard(self, shard_name: str) -> str:
        return _url(self._base_dir, shard_name)

    def dispose(self) -> None:
        """Closes the databases."""
        super().dispose()
        while self._engines:
            self._engines.popitem()[1].dispose()

    def has_table(self, table_name: str) -> bool:
        """A table that is there stays: it is looked for once."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def delete_events(self, run_id: str) -> None:
        """Deletes the events of a run, and with them its file, which Dagster would leave empty."""
        super().delete_events(run_id)
        with self._db_lock:
            if (engine := self._engines.pop(run_id, None)) is not None:
                engine.dispose()
            self._initialized_dbs.discard(run_id)
            for name in ("", "-wal", "-shm"):
                Path(f"{self.path_for_shard(run_id)}{name}").unlink(missing_ok=True)

    def store_event(self, event: EventLogEntry) -> None:
        """Stores it, and tells who watches the run's file: SQLite writes beside it until it is closed."""
        super().store_event(event)
        with suppress(FileNotFoundError):  # the run was deleted meanwhile
            os.utime(self.path_for_shard(event.run_id))

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            self._engines[shard] = engine = self._engines.pop(shard, None) or self._engine(shard)
            if len(self._engines) > MOST_KEPT:
                self._engines.pop(next(iter(self._engines))).dispose()
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def _engine(self, shard: str) -> Engine:
        engine = create_engine(self.conn_string_for_shard(shard), connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})
        # A lost power supply may take the last events, and leaves the file whole.
        listen(engine, "connect", lambda connection, _: connection.execute("pragma synchronous = normal"))
        return engine
