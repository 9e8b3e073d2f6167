"""Where Dagster keeps the events of runs, as `dagster.yaml` names it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, NullPool, create_engine

MOST_KEPT = 4  # engines: one a run, and one for the index of them all


class EventLog(SqliteEventLogStorage):
    """Dagster's own, in the same files, with engines that are kept.

    Dagster makes an engine for each event, which compiles its statements anew: half of what a run's hundreds of events
    cost. `base_dir` is the folder of the instance, so that the configuration may say $DAGSTER_HOME.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: dict[str, Engine] = {}  # the one used last comes last
        super().__init__(str(Path(base_dir, "history", "runs")), inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        """What `dagster.yaml` says."""
        return cls(inst_data=inst_data, **config_value)

    def dispose(self) -> None:
        """Closes the databases."""
        super().dispose()
        while self._engines:
            self._engines.popitem()[1].dispose()

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            self._engines[shard] = engine = self._engines.pop(shard, None) or create_engine(
                self.conn_string_for_shard(shard),
                # A run's file is closed after each event: that changes it, which is what the web page watches for.
                poolclass=None if shard == INDEX_SHARD_NAME else NullPool,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
            )
            if len(self._engines) > MOST_KEPT:
                self._engines.pop(next(iter(self._engines))).dispose()
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection
