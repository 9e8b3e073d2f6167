"""The example notebook runs from its first cell to its last."""

from pathlib import Path

import nbclient
import nbformat
import pytest

from pipelines.settings import Settings

ROOT = Path(__file__).parent.parent


def test_the_notebook_runs(published_archive: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASK_ARCHIVE_HOME", str(published_archive.home))
    notebook = nbformat.read(ROOT / "examples" / "analysis.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(ROOT / "examples")}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [
        cell.source for cell in cells if not any(each.output_type == "execute_result" for each in cell.outputs)
    ] == []
    assert any("image/svg+xml" in each.data for cell in cells for each in cell.outputs)
