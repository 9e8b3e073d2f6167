"""Making all tables with Spark, where one machine takes too long: the same .sql files, on a cluster.

Rows by task are made as on one machine, by DuckDB behind the type gate: Spark brings all observations of a task into
one partition, and its workers make the rows of a partition and write them to Parquet files. The other marts are made
from those by Spark SQL, which takes their files as they are. Then the working file is filled with what was made, so
that checks, publishing, readers and the nights that follow are those of one machine.
"""

import os
import shutil
import signal
import sys
import tempfile
import threading
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb
import pyarrow as pa

from pipelines.errors import SettingsError, WarehouseError
from pipelines.home import Home
from pipelines.landing.catalog import Catalog
from pipelines.landing.zone import OBSERVATION, Zone
from pipelines.settings import Settings
from pipelines.signals import stopping
from pipelines.warehouse.change import Change
from pipelines.warehouse.checks import CheckResult
from pipelines.warehouse.database import quoted
from pipelines.warehouse.grain import OBSERVATIONS
from pipelines.warehouse.making import Maker, rows_at_once
from pipelines.warehouse.models import Model, published_models
from pipelines.warehouse.observations import WITH_FILE, in_batches
from pipelines.warehouse.places import place_of
from pipelines.warehouse.plan import is_stored, levels
from pipelines.warehouse.working import INTERNAL, TABLES, Working, made_with

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Result = TypeVar("Result")

CONFIGURATION = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.ansi.doubleQuotedIdentifiers": "true",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.ui.showConsoleProgress": "false",
    "spark.ui.enabled": "false",
}

# Its log would come between the lines of ours; what goes wrong is raised.
QUIET = """
status = off
rootLogger.level = off
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
"""

# The function of ours that DuckDB's sessions have as well, see `database`.
LOCAL_DATE = """
create or replace temporary function local_date(moment timestamp, zone string) returns date
return cast(from_utc_timestamp(moment, zone) as date)
"""

# What a worker tells of the tables it made rows of: a file, or a check that found something.
FOUND = "name string, file string, check string, failing_rows bigint, example string"


@contextmanager
def spark_session(settings: Settings) -> Iterator["SparkSession"]:
    """A session with the cluster of the settings. Raises SettingsError where there is no Spark or no Java."""
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas")  # which it does not use here
    try:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise SettingsError(
            "TASK_ARCHIVE_ENGINE is spark, which is not installed: pip install 'livepeer-task-archive[spark]'"
        ) from None
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder: Any = SparkSession.builder
    builder = builder.appName("task-archive").master(settings.spark_master)
    for name, value in CONFIGURATION.items():
        builder = builder.config(name, value)
    if settings.spark_master.startswith("local"):
        builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    of_signals = signal.getsignal(signal.SIGINT)
    with tempfile.NamedTemporaryFile("w", suffix=".properties", encoding="utf-8") as quiet:
        quiet.write(QUIET)
        quiet.flush()
        builder = builder.config("spark.driver.extraJavaOptions", f"-Dlog4j2.configurationFile=file:{quiet.name}")
        try:
            session = builder.getOrCreate()
        except (PySparkException, Py4JError) as error:
            raise SettingsError(
                f"no Spark session at {settings.spark_master}: {_reason(error)} (it needs Java 17 or later)"
            ) from None
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, of_signals)  # PySpark has put its own there
    try:
        with stopping(session.sparkContext.cancelAllJobs):
            session.sql(LOCAL_DATE)
            yield session
    finally:
        session.stop()


class SparkMaker(Maker):
    """Makes all tables, most of them with Spark; the working file is fresh."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        catalog: Catalog,
        change: Change,
        given: dict[str, pa.Table],
        settings: Settings,
        session: "SparkSession",
    ) -> None:
        super().__init__(connection, catalog, change, given, rows_at_once(settings))
        self._session = session
        self._memory_mb = settings.memory_mb
        self._folder = settings.home.warehouse / "spark"
        self._files: dict[str, list[str]] = {}  # of tables, by name
        self._seen: set[str] = set()  # by Spark SQL
        self.made: set[str] = set()  # by Spark SQL

    def make(self) -> None:
        """Raises WarehouseError where Spark or the SQL fails."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        try:
            super().make()
            for model in published_models():
                if is_made_by_spark(model) and model.name not in self.made:
                    self._make_whole(model)
            self._connection.execute(f"checkpoint {TABLES}")
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _make_from_observations(self, models: list[Model]) -> None:
        """Makes rows by task in the cluster, and puts them into the tables."""
        self._make_batches(models, [])  # tables without rows, as they are to be
        parts = self._change.parts
        if not parts:
            return
        by_task = {OBSERVATIONS, *(model.name for model in models)}
        names = {name for model in models for name in model.reads} - by_task
        made_from = {name: self._connection.sql(f"from {name}").to_arrow_table() for name in sorted(names)}
        paths = [str(self._catalog.zone.folder(part.account, part.load_id) / part.file) for part in parts]
        partitions = 1 + sum(part.rows for part in parts) // self._rows_at_once
        self._session.conf.set("spark.sql.shuffle.partitions", str(partitions))
        columns = ["*", "_metadata.file_name as file", "true as is_new"]
        observations = self._session.read.schema(_ddl(OBSERVATION)).parquet(*paths).selectExpr(*columns)
        make = partial(_make_partition, code_of_workers(), _streams(made_from), str(self._folder), self._memory_mb)
        found = observations.repartition(partitions, "task_id").mapInArrow(make, FOUND)
        checks = {(model.name, check.name): check for model in models for check in model.checks}
        for name, file, check, failing_rows, example in self._tried("rows by task", found.collect):
            if check is None:
                self._files.setdefault(name, []).append(file)
                continue
            outcomes, checked = self.failed.setdefault(name, {}), checks[name, check]
            before = outcomes[checked].failing_rows if checked in outcomes else 0
            outcomes[checked] = CheckResult(checked, before + failing_rows, example)
        for name, place in places_by_task().items():
            self._fill(place, self._files[name])

    def _make_whole(self, model: Model) -> None:
        if not is_made_by_spark(model):
            super()._make_whole(model)
            return
        for name in sorted(model.reads - self._seen):
            self._session.read.parquet(*self._files_of(name)).createOrReplaceTempView(name)
            self._seen.add(name)
        folder = self._folder / model.name
        self._tried(model.file, lambda: self._session.sql(model.compiled_sql).write.parquet(str(folder)))
        self._files[model.name] = [str(folder)]
        self._run_sql(model, f"create or replace table {place_of(model)} as from ({model.compiled_sql}) with no data")
        self._fill(place_of(model), [str(file) for file in folder.glob("*.parquet")])
        self.made.add(model.name)

    def _files_of(self, name: str) -> list[str]:
        """The files of a table: those that workers or Spark wrote, or written from DuckDB now."""
        if name not in self._files:
            file = str(self._folder / f"{name}.parquet")
            self._connection.execute(f"copy {name} to {quoted(file)} (format parquet)")
            self._files[name] = [file]
        return self._files[name]

    def _fill(self, place: str, files: list[str]) -> None:
        listed = ", ".join(map(quoted, files))
        self._connection.execute(f"insert into {place} from read_parquet([{listed}])")
        self._connection.execute(f"checkpoint {TABLES}")

    def _tried(self, what: str, work: Callable[[], Result]) -> Result:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        try:
            return work()
        except (PySparkException, Py4JError) as error:
            raise WarehouseError(f"{what} failed in Spark: {_reason(error)}") from None


def is_made_by_spark(model: Model) -> bool:
    """Whether Spark SQL makes a table: marts that read tables alone."""
    return model.layer == "marts" and not any(model in level for level in levels()[:2])


def places_by_task() -> dict[str, str]:
    """Where what is made from observations lies, by name."""
    places = {model.name: place_of(model) for model in levels()[1] if is_stored(model)}
    return places | {name: f"{TABLES}.{INTERNAL}.{name}" for name in ("problems", "unknown_paths")}


def _ddl(schema: pa.Schema) -> str:
    """A schema in Spark's words."""
    names = {"int32": "int", "int64": "bigint", "bool": "boolean"}
    types = (
        "timestamp" if pa.types.is_timestamp(field.type) else names.get(str(field.type), str(field.type))
        for field in schema
    )
    return ", ".join(f"{name} {kind}" for name, kind in zip(schema.names, types, strict=True))


def _streams(tables: dict[str, pa.Table]) -> dict[str, bytes]:
    """Tables as bytes that a worker can be sent."""
    found = {}
    for name, table in tables.items():
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        found[name] = sink.getvalue().to_pybytes()
    return found


def code_of_workers() -> dict[str, str]:
    """What makes the tables besides the settings, each with a digest: workers must have the same."""
    return made_with("")


def _make_partition(
    code: dict[str, str], made_from: dict[str, bytes], folder: str, memory_mb: int, rows: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """What a worker does: makes the rows of the tasks of a partition, whose observations it gets, writes them to files
    and tells which. The file of a try that failed is named by none."""
    if code != made_with(""):
        raise WarehouseError("a worker has other code or SQL of task-archive: install the same on all machines")
    held = list(rows)
    if not held:
        return
    table = pa.Table.from_batches(held).select(WITH_FILE.names).cast(WITH_FILE)
    tables = {name: pa.ipc.open_stream(stream).read_all() for name, stream in made_from.items()}
    found: list[tuple[Any, ...]] = []
    with tempfile.TemporaryDirectory() as local:
        settings = Settings(home=Home.at(local), memory_mb=memory_mb)
        with (
            Catalog(Zone(settings.home.landing)) as catalog,
            Working(settings).opened_fresh("") as connection,
        ):
            connection.execute("set threads = 1")  # Spark shares out the cores
            maker = Maker(connection, catalog, Change(True, []), tables, rows_at_once(settings))
            maker.make_rows(in_batches(table, rows_at_once(settings)))
            for name, place in places_by_task().items():
                file = f"{folder}/{name}-{uuid.uuid4().hex}.parquet"
                connection.execute(f"copy {place} to {quoted(file)} (format parquet)")
                found.append((name, file, None, None, None))
            for name, outcomes in maker.failed.items():
                found += [(name, None, each.check.name, each.failing_rows, each.example) for each in outcomes.values()]
    columns = [pa.array(column) for column in zip(*found, strict=True)]
    types = [pa.string(), pa.string(), pa.string(), pa.int64(), pa.string()]
    yield pa.RecordBatch.from_arrays(
        [column.cast(kind) for column, kind in zip(columns, types, strict=True)],
        ["name", "file", "check", "failing_rows", "example"],
    )


def _reason(error: BaseException) -> str:
    """What Spark says, without the Java that it comes with."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error" in line and not line.startswith("at ")), lines[0])
