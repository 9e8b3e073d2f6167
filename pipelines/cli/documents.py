"""`python -m pipelines.cli.documents FOLDER` writes every generated document, and the column lineage into sql/."""

import sys
import tempfile
from pathlib import Path

from pipelines.cli.main import main
from pipelines.docs import lineage, reference
from pipelines.docs.diagram import diagrams
from pipelines.docs.dictionary import dictionary, metrics
from pipelines.settings import Settings
from pipelines.warehouse import build
from pipelines.warehouse.models import LINEAGE
from pipelines.warehouse.sql import sql_folder


def documents() -> dict[str, str]:
    """Every generated document by the name of its file. Types come from building the tables empty."""
    with tempfile.TemporaryDirectory() as folder:
        tables = build.build_empty(Settings(home=Path(folder)))
    return {
        "data_dictionary.md": dictionary(tables),
        "metrics.md": metrics(),
        "er.md": diagrams(tables),
        "commands.md": reference.commands(main),
        "settings.md": reference.settings(),
        "tables.md": reference.tables(),
        "alerts.md": reference.alerts(),
    }


if __name__ == "__main__":
    for name, text in documents().items():
        (Path(sys.argv[1]) / name).write_text(text, encoding="utf-8")
    (sql_folder() / LINEAGE).write_text(lineage.as_json(), encoding="utf-8")
