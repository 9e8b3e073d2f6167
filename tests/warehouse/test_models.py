"""The reader of .sql files refuses what is not documented."""

import pytest

from pipelines.errors import WarehouseError
from pipelines.warehouse.models import load_models, parse_model

GOOD = """-- Tasks by type.
-- key: type
-- check: tasks > 0

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
        (("-- key: type\n", ""), "name its key"),
        (("-- Tasks by type.\n", ""), "say in the first comment lines"),
        (("-- key:", "-- primary:"), "unknown directive `primary:`"),
        (("count(*) as tasks ", "* "), "every column needs a name"),
        (("select\n    type", "selec\n    type"), "sql/marts/by_type.sql"),
    ],
)
def test_what_is_missing_is_an_error(change: tuple[str, str], says: str) -> None:
    with pytest.raises(WarehouseError, match=says.replace("*", r"\*")):
        parse_model("marts", "by_type", GOOD.replace(*change))


def test_tables_come_in_build_order() -> None:
    seen: set[str] = set()
    for model in load_models().values():
        assert {name for name in model.reads if name in load_models()} <= seen, model.name
        seen.add(model.name)


def test_the_sql_keeps_to_its_style() -> None:
    """Lower case, and each column of a published table on lines of its own with its comment behind it."""
    for model in load_models().values():
        code = "\n".join(line.split("--")[0] for line in model.sql.splitlines())
        words = [word for word in ("SELECT", "FROM", "WHERE", "GROUP BY", "COUNT(") if word in code]
        assert words == [], model.name
