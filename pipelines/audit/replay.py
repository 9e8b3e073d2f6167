"""Whether the published tables are what the landing zone makes them: built again elsewhere, and compared.

A table's digest is the sum of a hash of each row, so it depends neither on the order of the rows nor on threads.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from pipelines.settings import Settings
from pipelines.text import counted
from pipelines.warehouse import build
from pipelines.warehouse.database import connect, current_database, quoted
from pipelines.warehouse.models import Model, published_models
from pipelines.warehouse.working import Working

SCRATCH = "rebuild-"
LONGEST_SHOWN = 80


@dataclass(frozen=True)
class Digest:
    """What a table holds, in two numbers."""

    rows: int
    digest: str


@dataclass(frozen=True)
class ColumnDifference:
    """A column that differs in so many rows that both sides have; one of them by its key, with both values."""

    column: str
    rows: int
    key: dict[str, str]
    published: str
    rebuilt: str


@dataclass(frozen=True)
class TableComparison:
    """A published table and the same made again; None: it is not there. Rows are matched by the table's key."""

    table: str
    published: Digest | None
    rebuilt: Digest
    rows_only_published: int = 0
    rows_only_rebuilt: int = 0
    columns_only_published: tuple[str, ...] = ()
    columns_only_rebuilt: tuple[str, ...] = ()
    columns: tuple[ColumnDifference, ...] = ()

    @property
    def is_equal(self) -> bool:
        return self.published == self.rebuilt

    def lines(self) -> Iterator[str]:
        """For people."""
        if self.is_equal:
            yield f"equal      {self.table}: {counted(self.rebuilt.rows, 'row')}, digest {self.rebuilt.digest}"
            return
        if self.published is None:
            yield f"differs    {self.table}: not in the published version, {counted(self.rebuilt.rows, 'row')} rebuilt"
            return
        yield (
            f"differs    {self.table}: {counted(self.published.rows, 'row')} published, {self.rebuilt.rows:,} rebuilt; "
            f"{self.rows_only_published:,} only published, {self.rows_only_rebuilt:,} only rebuilt"
        )
        for side, names in (("published", self.columns_only_published), ("rebuilt", self.columns_only_rebuilt)):
            if names:
                yield f"  columns only {side}: {', '.join(names)}"
        for found in self.columns:
            key = ", ".join(f"{name} {value}" for name, value in found.key.items())
            yield (
                f"  {found.column}: {counted(found.rows, 'row')}, such as {key}: "
                f"published {found.published}, rebuilt {found.rebuilt}"
            )


def compare_with_rebuilt(settings: Settings, say: Callable[[str], None]) -> list[TableComparison]:
    """Builds every table again from the landing zone and compares; what is published stays as it is.

    Only for the run that holds the archive. Raises WarehouseError before the first publication.
    """
    published = current_database(settings)
    for leftover in settings.home.warehouse.glob(f"{SCRATCH}*"):  # of a run that was killed
        shutil.rmtree(leftover)
    settings.home.warehouse.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.home.warehouse, prefix=SCRATCH) as folder:
        elsewhere = settings.model_copy(update={"home": replace(settings.home, scratch=Path(folder))})
        for _ in build.build_version(elsewhere, say):
            pass
        with connect(Working(elsewhere).file, read_only=True, memory_mb=settings.memory_mb) as connection:
            connection.execute(f"attach {quoted(str(published))} as published (read_only)")
            return [_compare(connection, model) for model in published_models()]


def digest(connection: duckdb.DuckDBPyConnection, table: str) -> Digest:
    """Over all columns in their order, each row as JSON. Whole numbers add up to the same in any order."""
    of_row = "md5_number_lower(to_json(each)::varchar)"
    found = connection.execute(f"select count(*), coalesce(sum({of_row}), 0) from {table} as each").fetchall()
    return Digest(found[0][0], f"{int(found[0][1]) % 2**64:016x}")


def _compare(connection: duckdb.DuckDBPyConnection, model: Model) -> TableComparison:
    theirs, ours = f"published.main.{model.name}", model.name
    was, now = _columns(connection, theirs), _columns(connection, ours)
    rebuilt = digest(connection, ours)
    if not was:
        return TableComparison(model.name, None, rebuilt)
    published = digest(connection, theirs)
    if published == rebuilt or not set(model.key) <= set(was):
        return TableComparison(model.name, published, rebuilt)
    keys = ", ".join(f'"{name}"' for name in model.key)
    return TableComparison(
        model.name,
        published,
        rebuilt,
        _rows(connection, f"{theirs} anti join {ours} using ({keys})"),
        _rows(connection, f"{ours} anti join {theirs} using ({keys})"),
        tuple(name for name in was if name not in now),
        tuple(name for name in now if name not in was),
        tuple(_column_differences(connection, model, [name for name in now if name in was and name not in model.key])),
    )


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    """A table's columns in their order; none where it is not there."""
    with suppress(duckdb.CatalogException):
        return [row[0] for row in connection.execute(f"describe {table}").fetchall()]
    return []


def _column_differences(
    connection: duckdb.DuckDBPyConnection, model: Model, columns: list[str]
) -> Iterator[ColumnDifference]:
    keys = ", ".join(f'"{name}"' for name in model.key)
    both = f"published.main.{model.name} as was inner join {model.name} as now using ({keys})"
    counted = ", ".join(f'count(*) filter (was."{name}" is distinct from now."{name}")' for name in columns)
    for name, rows in zip(columns, connection.execute(f"select {counted} from {both}").fetchall()[0], strict=True):
        if rows:
            *key, was, now = connection.execute(
                f'select {keys}, was."{name}", now."{name}" from {both} '
                f'where was."{name}" is distinct from now."{name}" order by {keys} limit 1'
            ).fetchall()[0]
            yield ColumnDifference(
                name, rows, dict(zip(model.key, map(str, key), strict=True)), _shown(was), _shown(now)
            )


def _rows(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    rows: int = connection.execute(f"select count(*) from {relation}").fetchall()[0][0]
    return rows


def _shown(value: object) -> str:
    text = "NULL" if value is None else str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"
