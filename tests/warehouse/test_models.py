"""The reader of .sql files refuses what is not documented."""

import duckdb
import pytest

from pipelines.errors import WarehouseError
from pipelines.warehouse.models import load_models, parse_model

GOOD = """/*
description: Tasks by type.
key: [type]
checks:
  - tasks > 0
*/

with ended as (select * from tasks where phase = 'failed')

select
    type,               -- task type
    count(*) as tasks   -- how many
from ended
left join loads using (load_id)
group by type
"""


def test_a_table_is_read_whole() -> None:
    model = parse_model("marts", "by_type", GOOD)
    assert model.description == "Tasks by type."
    assert model.columns == {"type": "task type", "tasks": "how many"}
    assert model.reads == {"tasks", "loads"}
    assert [check.name for check in model.checks] == ["key_is_unique", "tasks_0"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("-- how many", ""), "column tasks needs a comment"),
        (("key: [type]\n", ""), "name its key"),
        (("description: Tasks by type.\n", ""), "missing required field `description`"),
        (("/*\n", ""), "open with a comment that holds YAML"),
        (("key: [type]", "key: [type"), "its opening comment is not YAML"),
        (("key: [type]", "key: type"), r"Expected `array`, got `str` - at `\$.key`"),
        (("key:", "primary:"), "unknown field `primary`; known are checks, description, key"),
        (("count(*) as tasks ", "* "), "every column needs a name"),
        (("select\n    type", "selec\n    type"), "sql/marts/by_type.sql"),
    ],
)
def test_what_is_missing_is_an_error(change: tuple[str, str], says: str) -> None:
    with pytest.raises(WarehouseError, match=says.replace("*", r"\*")):
        parse_model("marts", "by_type", GOOD.replace(*change))


REFERRING = GOOD.replace(
    "key: [type]\n",
    """key: [type]
relationships:
  - {columns: [type], table: kinds, there: [name]}
  - {columns: [type, tasks], table: sums}
""",
)


def test_a_reference_is_checked_where_its_columns_are_not_null() -> None:
    model = parse_model("marts", "by_type", REFERRING)
    assert model.columns == {"type": "task type; refers to kinds", "tasks": "how many; refers to sums"}
    with duckdb.connect() as connection:
        connection.execute("create table by_type(type varchar, tasks bigint)")
        connection.execute(
            "insert into by_type values ('clip', 1), ('clip', 2), ('import', 1), (null, 3), ('clip', null)"
        )
        connection.execute("create table kinds as select 'clip' as name")
        connection.execute("create table sums as select 'clip' as type, 1 as tasks union all select 'import', 1")
        broken = {check.name: connection.execute(check.failing).fetchall() for check in model.checks}
    assert broken["type_in_kinds"] == [("import", 1)]
    assert broken["type_tasks_in_sums"] == [("clip", 2)]


def test_a_relationship_of_no_column_is_an_error() -> None:
    with pytest.raises(WarehouseError, match="kind is not a column"):
        parse_model("marts", "by_type", REFERRING.replace("columns: [type],", "columns: [kind],"))


METRIC = """/*
description: Tasks by type.
key: [type]
metrics:
  - columns: [failure_rate, twice]
    formula: failed / all
    unit: share
    population: tasks of the type
    n: tasks
    minimum_n: [20, 50]
    better: lower
*/

select
    type,               -- task type
    count(*) as tasks,  -- how many
    count(*) filter (where phase = 'failed') * 1.0 / count(*) as failure_rate,
    2.0 as twice
from tasks
group by type
"""
TAKEN_OVER = """/*
description: Tasks by account.
key: [account]
metrics:
  - columns: [failure_rate]
    as_in: by_type
    population: tasks of the account
*/

select
    account,            -- account
    count(*) as tasks,  -- how many
    count(*) filter (where t.phase = 'failed') * 1.0 / count(*) as failure_rate
from tasks as t
group by account
"""


def test_a_metric_is_defined_where_it_is_computed() -> None:
    model = parse_model("marts", "by_type", METRIC)
    rate, twice = model.metrics
    assert (rate.n, rate.minimum_n, twice.minimum_n) == ("tasks", 20, 50)
    assert (rate.population, rate.excludes) == ("tasks of the type", "nothing")
    assert model.columns["failure_rate"] == "failed / all; share; null where tasks is below 20"
    assert "case when tasks >= 20 then failure_rate end as failure_rate" in model.compiled_sql
    other = parse_model("marts", "by_account", TAKEN_OVER, {"by_type": model})
    (taken,) = other.metrics
    assert (taken.table_name, taken.formula, taken.minimum_n) == ("by_account", "failed / all", 20)
    assert taken.population == "tasks of the account"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("[failure_rate, twice]", "[success_rate]"), "metric success_rate is not a column"),
        (("    unit: share\n", ""), "metric failure_rate lacks unit"),
        (("    unit:", "    units:"), "unknown field `units`"),
        (("n: tasks", "n: rows"), "counted by rows, which is not a column"),
    ],
)
def test_a_metric_is_defined_whole(change: tuple[str, str], says: str) -> None:
    with pytest.raises(WarehouseError, match=says):
        parse_model("marts", "by_type", METRIC.replace(*change))


def test_a_definition_is_taken_over_for_the_same_number_only() -> None:
    by_type = {"by_type": parse_model("marts", "by_type", METRIC)}
    with pytest.raises(WarehouseError, match="failure_rate is not computed as in by_type"):
        parse_model("marts", "by_account", TAKEN_OVER.replace("'failed'", "'cancelled'"), by_type)
    with pytest.raises(WarehouseError, match="by_day defines no metric failure_rate"):
        parse_model("marts", "by_account", TAKEN_OVER.replace("as_in: by_type", "as_in: by_day"), by_type)


def test_tables_come_in_build_order() -> None:
    seen: set[str] = set()
    for model in load_models().values():
        assert {name for name in model.reads if name in load_models()} <= seen, model.name
        seen.add(model.name)


def test_the_sql_keeps_to_its_style() -> None:
    """Lower case, and each column of a published table on lines of its own with its comment behind it."""
    for model in load_models().values():
        code = "\n".join(line.split("--")[0] for line in model.compiled_sql.splitlines())
        words = [word for word in ("SELECT", "FROM", "WHERE", "GROUP BY", "COUNT(") if word in code]
        assert words == [], model.name
