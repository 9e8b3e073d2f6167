"""The lint of what Spark runs as well finds what differs, and nothing in the files that there are."""

import pytest

from pipelines.warehouse.models import published_models
from pipelines.warehouse.spark import is_made_by_spark
from tests.lint_sql import faults, faults_of


def test_the_files_that_there_are_have_no_fault() -> None:
    models = [model for model in published_models() if is_made_by_spark(model)]
    assert len(models) > 15
    assert [fault for model in models for fault in faults_of(model)] == []


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("select 1.0 * a / b from t", "a division of decimals"),
        ("select a / 1000.0 from t", "a division of decimals"),
        ("select a from t qualify row_number() over (partition by a order by b) = 1", "Qualify: "),
        ("select unnest(a) from t", "Unnest: "),
        ("select {'a': 1} from t", "{: "),
        ("select * exclude (a) from t", "exclude"),
        ("select list_filter(a, lambda x: x > 1) from t", "Lambda"),
        ("select approx_count_distinct(a) from t", "approx"),
        ("select a / 2.5 from t", "a division of decimals"),
        ("select a from t limit 1", "Limit: "),
    ],
)
def test_what_differs_is_found(sql: str, says: str) -> None:
    assert any(says.lower() in fault.lower() for fault in faults(sql)), list(faults(sql))


def test_doubles_and_whole_numbers_divide() -> None:
    assert list(faults("select a / 1000, 0.5e0 * a / b, 'exclude {' from t")) == []
