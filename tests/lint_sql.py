"""What stands in the .sql files that both engines run must mean the same in both: a lint, part of `make check`.

What is listed here was held against DuckDB by tests/warehouse/test_spark.py. A construct that is new may join the list
once that test passes with it.
"""

import sys
from collections.abc import Iterator

import sqlglot
from sqlglot import exp
from sqlglot.tokens import TokenType

from pipelines.warehouse.models import Model, published_models
from pipelines.warehouse.spark import is_made_by_spark

FUNCTIONS = {
    "abs", "and", "arg_max", "case", "cast", "coalesce", "concat_ws", "count", "explode", "extract",
    "from_utc_timestamp", "greatest", "if", "lead", "least", "local_date", "logical_and", "max", "min", "nullif", "or",
    "percentile_cont", "round", "row_number", "sequence", "split_part", "sqrt", "struct", "substring", "sum",
    "timestamp_trunc", "to_utc_timestamp", "unix_millis", "upper",
}  # fmt: skip

NODES = {
    "Add", "Alias", "Boolean", "CTE", "Column", "DPipe", "DataType", "Distinct", "Div", "EQ", "Filter", "From", "GT",
    "GTE", "Group", "Identifier", "In", "Interval", "Is", "Join", "LT", "LTE", "Literal", "Mul", "NEQ", "Neg", "Not",
    "Null", "Order", "Ordered", "Paren", "Select", "Star", "Sub", "Subquery", "Table", "TableAlias", "Tuple", "Union",
    "Values", "Var", "Where", "Window", "WindowSpec", "With", "WithinGroup",
}  # fmt: skip

# Words and signs that are DuckDB's alone, where the tree does not tell them from what both take.
WORDS = {
    "unnest": "write explode(list)",
    "{": "write struct(…)",
    "exclude": "name the columns",
    "replace": "name the columns",
}


def faults(sql: str) -> Iterator[str]:
    """What may differ between DuckDB and Spark in a SELECT."""
    for token in sqlglot.tokenize(sql, read="duckdb"):
        if token.token_type != TokenType.STRING and (hint := WORDS.get(token.text.lower())):
            yield f"{token.text}: {hint}"
    for node in sqlglot.parse_one(sql, read="duckdb").walk():
        text = node.sql("duckdb", comments=False)[:60]
        if isinstance(node, exp.Func):
            name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
            if name not in FUNCTIONS:
                yield f"{name}: `{text}`"
        elif type(node).__name__ not in NODES:
            yield f"{type(node).__name__}: `{text}`"
        if isinstance(node, exp.Div) and any(map(_is_decimal, (node.this, node.expression))):
            yield f"a division of decimals, which Spark rounds: `{text}`; write 16 or 0.5e0"


def _is_decimal(node: exp.Expr) -> bool:
    return any("." in each.name and "e" not in each.name for each in node.find_all(exp.Literal) if not each.is_string)


def faults_of(model: Model) -> list[str]:
    return [f"sql/{model.layer}/{model.name}.sql: {fault}" for fault in faults(model.raw_sql)]


def main() -> None:
    found = [fault for model in published_models() if is_made_by_spark(model) for fault in faults_of(model)]
    for fault in found:
        print(fault, "not known to be the same in Spark and DuckDB, see tests/lint_sql.py", sep=": ")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
