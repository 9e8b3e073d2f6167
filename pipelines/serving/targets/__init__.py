"""Destinations: places that each version is published to as well. One module each, with a `TARGET` in it.

A module is imported only when its target is asked for, its driver only when it publishes: the rest costs nothing.
From `TARGET` come the command `task-archive publish NAME`, the asset `published/NAME`, and doctor's line.
"""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from pipelines.settings import Settings
from pipelines.text import counted


@dataclass(frozen=True)
class TargetTable:
    """A table at a destination: its rows, how many were inserted and deleted (a changed row is both), and how many
    values had to be replaced because the destination cannot hold them."""

    table: str
    rows: int
    inserted: int
    deleted: int
    replaced: int

    def __str__(self) -> str:
        replaced = f", {counted(self.replaced, 'value')} replaced" if self.replaced else ""
        rows = counted(self.rows, "row")
        return f"{self.table:24} {rows}; {self.inserted:,} inserted, {self.deleted:,} deleted{replaced}"


@dataclass(frozen=True)
class Target:
    """A destination.

    title: its name for people; help: what its command says; is_set: whether the settings name one; place: what was
    published to, in words; publish: makes the destination hold the published version, calls a function with a line for
    each table, compares every row where asked to, and raises ArchiveError with one line; check: what answers there.
    """

    name: str
    title: str
    help: str
    is_set: Callable[[Settings], bool]
    place: Callable[[Settings], str]
    publish: Callable[[Settings, Callable[[str], None], bool], list[TargetTable]]
    check: Callable[[Settings], str]


def names() -> list[str]:
    """The destinations that there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def target(name: str) -> Target:
    """A destination by its name."""
    found: Target = import_module(f"{__name__}.{name}").TARGET
    return found
