"""The data dictionary, written from the .sql files: `python -m pipelines.warehouse.dictionary FILE`."""

import sys
import tempfile
from pathlib import Path

from pipelines.settings import Settings
from pipelines.warehouse import build
from pipelines.warehouse.models import load_macros, load_models

OPENING = """# Data dictionary

Made from `sql/` by `make docs`; do not edit. Times are TIMESTAMPTZ in UTC, to the millisecond. Where the API
sends a secret stands a `redacted-…` fingerprint: equal secrets have equal fingerprints.
"""


def dictionary() -> str:
    """Every published table with its key, checks and columns, and the macros. Types come from building them empty."""
    sections = [OPENING]
    with tempfile.TemporaryDirectory() as folder:
        for table in build.build_empty(Settings(home=Path(folder))):
            model = table.model
            lines = [f"## {model.name}", "", model.description, ""]
            lines.append(f"Layer {model.layer}, from {_listed(model.reads)}. Key: {', '.join(model.key)}.")
            lines.append(f"Checked: {'; '.join(f'`{check.description}`' for check in model.checks)}.")
            lines += ["", "| column | type | meaning |", "| --- | --- | --- |"]
            lines += [f"| {name} | {_shown(kind)} | {model.columns[name]} |" for name, kind in table.columns]
            sections.append("\n".join(lines) + "\n")
    for macro in load_macros():
        sections.append(f"## {macro.name}({macro.takes})\n\nTable macro. {macro.description}\n")
    return "\n".join(sections)


def _listed(reads: frozenset[str]) -> str:
    inner = load_models()
    names = {name if name in inner and inner[name].layer != "landing" else "the landing zone" for name in reads}
    return ", ".join(sorted(names))


def _shown(kind: str) -> str:
    return "TIMESTAMPTZ" if kind == "TIMESTAMP WITH TIME ZONE" else kind.replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True)
    Path(sys.argv[1]).write_text(dictionary())
