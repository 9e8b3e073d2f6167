"""The .sql files of the project with a change, for as long as a test needs it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.warehouse import given, sql, working
from pipelines.warehouse.grain import grains
from pipelines.warehouse.models import load_models
from pipelines.warehouse.plan import levels


@contextmanager
def changed_sql(folder: Path, name: str, place: str, text: str) -> Iterator[None]:
    """`text` in front of `place` in the file `name`, such as core/tasks.sql; `folder`: where the copy goes."""

    def change(copy: Path) -> None:
        original = (copy / name).read_text(encoding="utf-8")
        assert place in original
        (copy / name).write_text(original.replace(place, text + place), encoding="utf-8")

    with other_sql(folder, change):
        yield


@contextmanager
def other_sql(folder: Path, change: Callable[[Path], object]) -> Iterator[None]:
    """Files of sql/ as `change` makes them in a copy, which goes to `folder`."""
    shutil.copytree(sql.sql_folder(), folder)
    change(folder)
    try:
        with pytest.MonkeyPatch.context() as patched:
            for module in (sql, given, working):
                patched.setattr(module, "sql_folder", lambda: folder)
            _read_again()
            yield
    finally:
        _read_again()


def _read_again() -> None:
    """Forgets what was read of the .sql files."""
    for known in (load_models, grains, levels):
        known.cache_clear()
