"""What is written about the project is true."""

import re
import subprocess
import sys
from pathlib import Path

import duckdb

from pipelines.cli.documents import documents
from pipelines.docs import lineage
from pipelines.serving.published import named_queries
from pipelines.settings import Settings
from pipelines.warehouse import build
from pipelines.warehouse.models import LINEAGE, column_lineage, published_models
from pipelines.warehouse.sql import sql_folder
from pipelines.warehouse.working import Working

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()


def test_the_generated_documents_are_fresh() -> None:
    for name, text in documents().items():
        assert (ROOT / "docs" / name).read_text() == text, f"{name}: run `make docs`"


def test_the_column_lineage_is_fresh() -> None:
    assert (sql_folder() / LINEAGE).read_text() == lineage.as_json(), "run `make docs`"
    assert column_lineage()["daily_task_stats"]["failure_rate"] == ["fact_tasks.is_ended", "fact_tasks.is_failed"]


def test_the_diagrams_show_every_reference_with_its_cardinality() -> None:
    drawn = (ROOT / "docs" / "er.md").read_text()
    for model in published_models():
        for each in model.relationships:
            line = rf'    {each.table} (\|\||\|o)--(o\||o{{) {model.name} : "{", ".join(each.columns)}"'
            assert re.search(line, drawn), (model.name, each)
    assert '    tasks ||--o| fact_tasks : "task_id"' in drawn
    assert '    tasks ||--o{ profiles : "task_id"' in drawn
    assert '    dim_date |o--o{ fact_tasks : "finished_day"' in drawn


def test_the_sql_of_the_readme_runs(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    build.build_empty(settings)
    with duckdb.connect(Working(settings).file, read_only=True) as connection:
        blocks = re.findall(r"```sql\n(.+?)```", README, re.DOTALL)
        statements = [statement for block in blocks for statement in block.split(";") if statement.strip()]
        assert len(statements) >= 3
        for statement in statements:
            connection.execute(statement)


def test_queries_named_in_the_readme_exist() -> None:
    named = set(re.findall(r"task-archive query ([a-z_]+)", README))
    assert named
    assert named <= set(named_queries())


def test_the_lock_file_has_hashes_and_names_no_host() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    packages = re.findall(r"^[a-zA-Z0-9_.-]+(?:\[[^\]]+\])?==", lock, re.MULTILINE)
    assert len(packages) > 50
    assert lock.count("--hash=sha256:") > len(packages)
    assert not re.search(r"https?://|index-url", lock)


def test_the_python_of_the_bi_guide_runs(published_archive: Settings, tmp_path: Path) -> None:
    (tmp_path / "archive").symlink_to(published_archive.home.path)
    blocks = re.findall(r"```python\n(.+?)```", (ROOT / "docs" / "bi.md").read_text(), re.DOTALL)
    ours = [block for block in blocks if "polars" not in block]  # the others were tried by hand
    assert len(ours) >= 4
    for block in ours:
        subprocess.run([sys.executable, "-c", block], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
