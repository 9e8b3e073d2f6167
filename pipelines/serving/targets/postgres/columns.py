"""DuckDB's columns as PostgreSQL has them."""

import re
from dataclasses import dataclass

# DuckDB's types and PostgreSQL's names of the same, as format_type writes them.
TYPES = {
    "BOOLEAN": "boolean",
    "UTINYINT": "smallint",
    "TINYINT": "smallint",
    "SMALLINT": "smallint",
    "USMALLINT": "integer",
    "INTEGER": "integer",
    "UINTEGER": "bigint",
    "BIGINT": "bigint",
    "FLOAT": "real",
    "DOUBLE": "double precision",
    "DATE": "date",
    "TIME": "time without time zone",
    "TIMESTAMP": "timestamp without time zone",
    "TIMESTAMP WITH TIME ZONE": "timestamp with time zone",
    "INTERVAL": "interval",
    "BLOB": "bytea",
}


@dataclass(frozen=True)
class Column:
    """A column: its PostgreSQL type, the DuckDB expression that gives the value for it, and the condition under which
    that is not the value itself; empty where there is none."""

    name: str
    type: str
    value: str
    is_mended: str = ""

    @property
    def definition(self) -> str:
        return f"{identifier(self.name)} {self.type}"


def column_of(name: str, kind: str) -> Column:
    """The PostgreSQL column for a column of a DuckDB type: what is nested is jsonb, what it has no type for is text."""
    it = identifier(name)
    decimal = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", kind)
    if kind in TYPES:
        return Column(name, TYPES[kind], it)
    if kind.endswith("[]") and kind[:-2] in TYPES:
        return Column(name, f"{TYPES[kind[:-2]]}[]", it)
    if kind == "VARCHAR[]":
        mended = f"list_transform({it}, lambda item: {_without_nul('item')})"
        return Column(name, "text[]", mended, f"contains(array_to_string({it}, ''), chr(0))")
    if decimal:
        return Column(name, f"numeric({decimal[1]},{decimal[2]})", it)
    if kind in ("UBIGINT", "HUGEINT"):
        return Column(name, "numeric(38,0)", f"{it}::decimal(38, 0)")
    if kind == "JSON" or kind.endswith("]") or kind.startswith(("STRUCT", "MAP")):
        text = f"{it}::varchar" if kind == "JSON" else f"to_json({it})::varchar"  # which in Parquet is text
        # The binary form of jsonb is a version, 1, and the text.
        in_binary = f"chr(1) || replace({text}, '\\u0000', '\\ufffd')"
        return Column(name, "jsonb", in_binary, f"contains({text}, '\\u0000')")
    return Column(name, "text", _without_nul(f"{it}::varchar"), f"contains({it}::varchar, chr(0))")


def _without_nul(text: str) -> str:
    return f"replace({text}, chr(0), '\N{REPLACEMENT CHARACTER}')"


def identifier(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'
