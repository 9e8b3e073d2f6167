"""What comparing the archive with the server comes to, for people and for machines."""

import shlex
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipelines.text import counted

MOST_REFRESHED = 20

Kind = Literal["missing", "outdated", "deleted", "forbidden", "unreadable", "unlisted"]
HEALED: tuple[Kind, ...] = ("missing", "outdated", "deleted")  # by fetching
SAYS: dict[Kind, str] = {
    "missing": "the server lists it, the archive does not hold it",
    "outdated": "the archive holds an older state",
    "deleted": "the server has deleted it, the archive does not know yet",
    "forbidden": "the list shows it no more, and the key may not get it by id (403)",
    "unreadable": "the server cannot serve it (500), the archive does not hold it: only its operator can fix that",
    "unlisted": "the archive holds it as the server has it, but the list shows it no more: another project?",
}


@dataclass(frozen=True)
class Difference:
    """A task in which archive and server differ, beyond what changed since the last proven point."""

    task_id: str
    kind: Kind
    type: str | None
    created_at: str | None


@dataclass(frozen=True)
class TypeCount:
    """Tasks of a type, deleted ones aside."""

    type: str
    server: int
    archive: int


@dataclass(frozen=True)
class Comparison:
    """An account's tasks on the server and in the archive, deleted ones aside.

    `since_at`: from here on the next run fetches what changed; so many tasks did, of which `new_since` are new.
    `unserved`: rows that the server cannot serve, of which the archive may hold an earlier state.
    """

    account: str
    server: int
    archive: int
    since_at: str
    changed_since: int
    new_since: int
    unserved: int
    types: list[TypeCount]
    differences: list[Difference]
    requests: int

    @property
    def is_equal(self) -> bool:
        return all(found.kind == "unlisted" for found in self.differences)

    def lines(self) -> Iterator[str]:
        """For people."""
        server = counted(self.server, "task")
        yield f"account    {self.account}: the server counts {server}, the archive {self.archive:,}"
        yield (
            f"since      {self.since_at}: {self.changed_since:,} changed, of which {self.new_since:,} are new; "
            "the next sync fetches them"
        )
        if self.unserved:
            unserved = counted(self.unserved, "row")
            yield f"unserved   {unserved} that the server counts and cannot serve: nothing to compare with"
        yield f"{'type':20} {'server':>12} {'archive':>12}"
        for count in self.types:
            yield f"{count.type:20} {count.server:12,} {count.archive:12,}"
        for day, kinds in self.by_day().items():
            yield f"differs    {day}: " + ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
        for found in self.differences[:MOST_REFRESHED]:
            known = f" {found.type}, created {found.created_at}" if found.type or found.created_at else ""
            yield f"  {found.task_id}{known}: {SAYS[found.kind]}"
        if len(self.differences) > MOST_REFRESHED:
            yield f"  and {len(self.differences) - MOST_REFRESHED:,} more: --json lists all"
        if ids := [found.task_id for found in self.differences if found.kind in HEALED]:
            few = len(ids) <= MOST_REFRESHED
            yield f"do         task-archive {'refresh -- ' + shlex.join(ids) if few else 'sync --lane sweep'}"
        yield f"{'equal' if self.is_equal else 'different':10} {self.requests:,} requests"

    def by_day(self) -> dict[str, dict[str, int]]:
        """Differences by day of creation and kind."""
        days: dict[str, dict[str, int]] = {}
        for found in self.differences:
            kinds = days.setdefault((found.created_at or "no day")[:10], {})
            kinds[found.kind] = kinds.get(found.kind, 0) + 1
        return days

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self) | {"is_equal": self.is_equal}
