"""Writing rows out: one writer for each format, which `query` and `export` share.

Rows go from DuckDB to the file in batches, so memory stays flat however many there are.
"""

import csv
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import duckdb

from pipelines.errors import ArchiveError, QueryError, SettingsError
from pipelines.serving.table import render
from pipelines.text import is_like_formula, printable, printable_json, spreadsheet_cell
from pipelines.warehouse.models import Model

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 2000
ARROW_ROWS_AT_ONCE = 10_240
TABLE_ROWS = 1000
SCALARS = frozenset({str, int, float, bool, type(None)})  # most values by far: the quick way out

# Excel's own limits.
SHEET_ROWS = 1_048_575  # below the header
TEXT_WAS_CUT = -2  # what the library answers where a text is longer than a cell takes, 32,767 characters
LARGEST_WHOLE_NUMBER, EXACT_DIGITS = 2**53, 15  # its numbers are doubles
FIRST_YEAR = 1900


class Rows:
    """The rows of a query as they come, of the table `model` if it is one; `told` hears how many each batch holds.

    `written`: rows that came so far; `texts_cut`: texts among them for which the format has no room.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, sql: str, model: Model | None, told: Callable[[int], None]
    ) -> None:
        self.connection, self.sql, self.model, self._told = connection, sql, model, told
        self.written = self.texts_cut = 0

    def in_python(self) -> tuple[list[str], Iterator[list[tuple[Any, ...]]]]:
        """Column names, and the rows as Python values."""
        cursor = self.connection.execute(self.sql)

        def batches() -> Iterator[list[tuple[Any, ...]]]:
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                yield rows
                self._count(len(rows))

        return [column[0] for column in cursor.description or []], batches()

    def in_arrow(self) -> tuple["pa.Schema", Iterator["pa.RecordBatch"]]:
        """The Arrow schema, with the table's and its columns' meaning where it is one of ours, and the batches."""
        from pipelines.warehouse.parquet import described

        relation = self.connection.sql(self.sql)
        if relation is None:
            raise QueryError("this SQL gives no rows")
        reader = relation.to_arrow_reader(ARROW_ROWS_AT_ONCE)
        schema = described(reader.schema, self.model) if self.model else reader.schema

        def batches() -> Iterator["pa.RecordBatch"]:
            try:
                for batch in reader:
                    yield batch
                    self._count(batch.num_rows)
            except OSError as error:  # what DuckDB's errors are to Arrow
                raise QueryError(" ".join(str(error).split())) from None

        return schema, batches()

    def _count(self, rows: int) -> None:
        self.written += rows
        self._told(rows)


def write(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    form: str,
    output: Path | None,
    model: Model | None = None,
    told: Callable[[int], None] = lambda rows: None,
) -> Rows:
    """Writes the rows of `sql` to a file, or to standard output; returns them with their counts.

    Raises QueryError where DuckDB refuses the SQL, ArchiveError where the format cannot hold the rows, SettingsError
    for a binary format on a terminal.
    """
    writer, is_text = _WRITERS[form]
    if not is_text and output is None and sys.stdout.isatty():
        raise SettingsError(f"{form} is no text: name a file with --output FILE")
    rows = Rows(connection, sql, model, told)
    with _destination(output, is_text) as file:
        try:
            writer(rows, file)
        except duckdb.Error as error:
            raise QueryError(_with_its_caret(str(error))) from None
    return rows


def _with_its_caret(message: str) -> str:
    """DuckDB's message in one line, and below it the line of the SQL with the caret under the place."""
    lines = message.splitlines()
    place = next((number for number, line in enumerate(lines) if line.startswith("LINE ")), len(lines))
    return "\n".join([" ".join(" ".join(lines[:place]).split()), *(line.rstrip() for line in lines[place:])])


@contextmanager
def _destination(output: Path | None, is_text: bool) -> Iterator[IO[Any]]:
    """Standard output, or a file that takes the name `output` once it is whole."""
    how: dict[str, Any] = {"mode": "w", "newline": "", "encoding": "utf-8"} if is_text else {"mode": "wb"}
    if output is None:
        yield sys.stdout if is_text else sys.stdout.buffer
        return
    if output.exists() and not output.is_file():  # a pipe or a device
        with output.open(**how) as file:
            yield file
        return
    output = output.resolve()  # of a link, what it leads to is replaced
    if not output.parent.is_dir():
        raise SettingsError(f"{output.parent} is no folder: make it first")
    part = output.with_name(f".task-archive-{os.getpid()}.part")
    try:
        with part.open(**how) as file:
            yield file
        if output.exists():
            shutil.copymode(output, part)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def _csv(rows: Rows, file: IO[str]) -> None:
    names, batches = rows.in_python()
    # All text is quoted: before Python 3.13 a carriage return is not, and what follows it is taken for a new row.
    writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    csv.writer(file, lineterminator="\n").writerow(spreadsheet_cell(printable(name)) for name in names)
    for batch in batches:
        writer.writerows([[spreadsheet_cell(_in_cell(value)) for value in row] for row in batch])


def _ndjson(rows: Rows, file: IO[str]) -> None:
    names, batches = rows.in_python()
    for batch in batches:
        for row in batch:
            file.write(printable_json(_json(dict(zip(names, map(plain, row), strict=True)))) + "\n")


def _table(rows: Rows, file: IO[str]) -> None:
    names, batches = rows.in_python()
    shown: list[tuple[Any, ...]] = []
    while len(shown) <= TABLE_ROWS and (batch := next(batches, None)):
        shown += batch
    numeric = [all(isinstance(row[i], int | float | Decimal | None) for row in shown) for i in range(len(names))]
    cells = [[printable(" ".join(str(_in_cell(value)).split())) for value in row] for row in shown[:TABLE_ROWS]]
    width = shutil.get_terminal_size().columns if file is sys.stdout and file.isatty() else None
    file.write(render([printable(name) for name in names], cells, numeric, width))
    if not shown:
        file.write("(no rows)\n")
    if len(shown) > TABLE_ROWS:
        file.write(f"(the first {TABLE_ROWS:,} rows; --format csv gives all)\n")


def _parquet(rows: Rows, file: IO[bytes]) -> None:
    import pyarrow as pa

    from pipelines.warehouse.parquet import write_parquet

    schema, batches = rows.in_arrow()
    try:
        write_parquet(schema, batches, file)
    except pa.ArrowNotImplementedError as error:
        raise ArchiveError(f"parquet has no place for a column: cast it to text. {error}") from None


def _arrow(rows: Rows, file: IO[bytes]) -> None:
    """Arrow's file format, or where it cannot be read by offset, in a pipe, its stream format."""
    import pyarrow as pa

    schema, batches = rows.in_arrow()
    options = pa.ipc.IpcWriteOptions(compression="zstd", unify_dictionaries=True)
    opened = pa.ipc.new_file if file.seekable() else pa.ipc.new_stream
    with opened(file, schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch.cast(schema))


def _xlsx(rows: Rows, file: IO[bytes]) -> None:
    """One sheet. More rows than it has are an error; text that is too long for a cell is cut and counted."""
    import xlsxwriter

    counted = f"select count(*) from ({rows.sql.strip().rstrip(';')}\n)"
    if rows.connection.execute(counted).fetchall()[0][0] > SHEET_ROWS:
        raise _TOO_MANY_ROWS
    in_utc = [str(kind) == "TIMESTAMP WITH TIME ZONE" for kind in rows.connection.sql(rows.sql).types]
    names, batches = rows.in_python()
    path = Path(str(getattr(file, "name", "")))
    beside = path.parent if path.is_file() else None
    with tempfile.TemporaryDirectory(prefix=".task-archive-", dir=beside) as scratch:  # /tmp is memory on some systems
        book = xlsxwriter.Workbook(file, {"constant_memory": True, "tmpdir": scratch})
        book.use_zip64()
        sheet = book.add_worksheet(rows.model.name[:31] if rows.model else "query")
        sheet.freeze_panes(1, 0)
        write_cell = _cell_writer(book, sheet)
        bold = book.add_format({"bold": True})
        for column, name in enumerate(names):
            header = printable(name) + (" (UTC)" if in_utc[column] else "")
            sheet.set_column(column, column, max(len(header) + 4, 24 if in_utc[column] else 12))
            sheet.write_string(0, column, header, bold)
        number = 0
        for batch in batches:
            for row in batch:
                number += 1
                if number > SHEET_ROWS:  # a query may give others than when they were counted
                    raise _TOO_MANY_ROWS
                for column, value in enumerate(row):
                    if value is not None:
                        rows.texts_cut += write_cell(number, column, value)
        sheet.autofilter(0, 0, number, len(names) - 1)
        book.close()


_TOO_MANY_ROWS = ArchiveError(
    f"an Excel sheet holds {SHEET_ROWS:,} rows below its header, these are more: take csv or parquet, or fewer rows"
)


def _cell_writer(book: Any, sheet: Any) -> Callable[[int, int, Any], bool]:
    """A function that writes a value that is not None into (row, column), as Excel's type where it has one.

    It returns whether the value's text was too long and cut.
    """
    day = book.add_format({"num_format": "yyyy-mm-dd"})
    moment = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss.000"})
    stays_text = book.add_format({"quote_prefix": True})  # even after the cell was edited

    def write(row: int, column: int, value: Any) -> bool:
        if isinstance(value, bool):
            sheet.write_boolean(row, column, value)
        elif isinstance(value, int | float | Decimal) and _is_exact(value):
            sheet.write_number(row, column, value)
        elif isinstance(value, datetime) and value.year >= FIRST_YEAR:
            sheet.write_datetime(row, column, _naive(value), moment)
        elif isinstance(value, date) and not isinstance(value, datetime) and value.year >= FIRST_YEAR:
            sheet.write_datetime(row, column, value, day)
        else:
            text = str(_in_cell(value))
            if text.startswith("<r>"):  # which the library would write as markup
                text = f" {text}"
            written = sheet.write_string(row, column, text, stays_text if is_like_formula(text) else None)
            return bool(written == TEXT_WAS_CUT)
        return False

    return write


def _is_exact(number: float | Decimal) -> bool:
    """Whether a number survives as the double that Excel makes of it."""
    if isinstance(number, Decimal):
        return len(number.as_tuple().digits) <= EXACT_DIGITS
    return abs(number) <= LARGEST_WHOLE_NUMBER if isinstance(number, int) else math.isfinite(number)


def _in_cell(value: Any) -> Any:
    """A value for a cell: none as empty text, what is nested as JSON."""
    if type(value) in SCALARS:
        return "" if value is None else value
    value = plain(value)
    return _json(value) if isinstance(value, list | dict) else value


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:  # JSON has no NaN and no infinity
        return json.dumps(_finite(value), ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def plain(value: Any) -> Any:
    """Values as text and JSON show them: timestamps as ISO 8601, those with a zone in UTC, to the millisecond."""
    if type(value) in SCALARS:
        return value
    if isinstance(value, datetime):
        text = _naive(value).isoformat(timespec="milliseconds")
        return text if value.tzinfo is None else f"{text}Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    return value


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


_WRITERS: dict[str, tuple[Callable[[Rows, IO[Any]], None], bool]] = {
    "table": (_table, True),
    "csv": (_csv, True),
    "ndjson": (_ndjson, True),
    "xlsx": (_xlsx, False),
    "parquet": (_parquet, False),
    "arrow": (_arrow, False),
}
