"""Landed files that are not what was landed: found by the catalog, named, set aside, and done without.

Nothing is removed: a damaged file moves to `landing-damaged/`, where it keeps its place. What is put back into the
landing zone whole is used again by the next run.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipelines.landing.catalog import Catalog
from pipelines.landing.catalog_file import MISSING
from pipelines.landing.manifest import Manifest, Part
from pipelines.landing.zone import MANIFEST, PROGRESS
from pipelines.text import counted

ASIDE = "was damaged and set aside"


@dataclass(frozen=True)
class Damage:
    """A landed file that cannot be used: a part, or a manifest and with it the whole load. `load`, `part`: its record,
    where that can be read."""

    account: str
    load_id: str
    file: str
    what: str
    load: Manifest | None = None
    part: Part | None = None

    @property
    def name(self) -> str:
        """What a manifest calls it."""
        return f"{self.load_id}/{self.file}"

    def __str__(self) -> str:
        rows = f", {self.part.rows:,} observations" if self.part else ", the whole load"
        fetched = f", fetched {_between(self.load)}" if self.load else ""
        return f"landed file {self.account}/{self.name} {self.what}{rows}{fetched}"


def lost(catalog: Catalog, account: str | None = None) -> list[Damage]:
    """Landed files that the archive lacks, as the catalog last saw it: missing, not what was landed, set aside, or
    without their manifest."""
    zone, found = catalog.zone, []
    for load, part, what in catalog.damaged(account):
        if not (zone.folder(load.account, load.load_id) / part.file).exists():
            what = ASIDE if any((zone.damaged / load.account / load.load_id).glob(f"{part.file}*")) else MISSING
        found.append(Damage(load.account, load.load_id, part.file, what, load, part))
    for folder in sorted(catalog.unreadable_loads(account)):
        names = [name for name in (MANIFEST, PROGRESS) if (folder / name).exists()]
        if names:
            found.append(Damage(folder.parent.name, folder.name, names[0], "cannot be read"))
        elif not zone.is_leftover(folder):
            found.append(Damage(folder.parent.name, folder.name, MANIFEST, MISSING))
    for folder in sorted(zone.damaged.glob(f"{account or '*'}/*/")):
        if not zone.folder(folder.parent.name, folder.name).exists():
            found.append(Damage(folder.parent.name, folder.name, MANIFEST, ASIDE))
    return found


@dataclass(frozen=True)
class Checked:
    """The landing zone against its manifests. `unswept`: accounts that no sweep has read since they lost files."""

    files: int
    bytes: int
    damages: list[Damage]
    unswept: frozenset[str]

    def lines(self) -> Iterator[str]:
        """For people: each damage and what brings its data back."""
        for damage in self.damages:
            yield f"damaged    {damage}"
            again = (
                "the next `task-archive sync` reads the whole list again for their current state"
                if damage.account in self.unswept
                else "a sweep has brought back their current state since"
            )
            yield f"  do       put it back from a backup; without one, {again}, and its past states are lost"
        verdict = "damaged" if self.damages else "sound"
        yield f"{verdict:10} {counted(self.files, 'file')}, {self.bytes / 1e6:,.1f} MB checked"

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        damages = [
            {
                "account": damage.account,
                "load_id": damage.load_id,
                "file": damage.file,
                "rows": damage.part.rows if damage.part else None,
                "says": str(damage),
            }
            for damage in self.damages
        ]
        return {"is_sound": not damages, "files": self.files, "bytes": self.bytes, "damages": damages}


def check(catalog: Catalog) -> Checked:
    """Reads every landed file; changes nothing in the landing zone."""
    catalog.refresh(every_byte=True)
    found = lost(catalog)
    shaken = {
        account
        for account in {damage.account for damage in found}
        if unswept([damage for damage in found if damage.account == account], catalog.manifests(account))
    }
    return Checked(*catalog.files(), found, frozenset(shaken))


def set_aside(catalog: Catalog, account: str | None, say: Callable[[str], None]) -> list[Damage]:
    """Moves what is damaged out of the way of runs, and names it. Only for the run that holds the archive.

    Returns the landed files that are missing or quarantined.
    """
    zone = catalog.zone
    for damage in lost(catalog, account):
        folder = zone.folder(damage.account, damage.load_id)
        if damage.part is not None and (folder / damage.file).exists():
            zone.set_aside(folder / damage.file)
        elif damage.part is None and folder.exists():
            # The note goes last: a kill meanwhile leaves a load that is still known to be damaged.
            for file in sorted(folder.iterdir(), key=lambda path: path.name in (MANIFEST, PROGRESS)):
                zone.set_aside(file)
            folder.rmdir()
        else:
            continue
        say(f"{damage}: set aside into {zone.damaged / damage.account / damage.load_id}, the rest is used")
    return lost(catalog, account)


def summary(damages: list[Damage]) -> str | None:
    """What each run says of landed files that are missing or quarantined, if there are any."""
    if not damages:
        return None
    more = f" and {len(damages) - 1:,} more" if len(damages) > 1 else ""
    return f"{damages[0]}{more}: see `task-archive verify --landing`"


def unswept(damages: Iterable[Damage], loads: Iterable[Manifest]) -> bool:
    """Whether something is lost that no sweep has made up for: what it held of the current state may be missing, and
    changes alone would not bring it back."""
    made_up = {name for load in loads if load.lane == "sweep" and load.verdict != "broken" for name in load.lost_files}
    return any(damage.name not in made_up for damage in damages)


def _between(load: Manifest) -> str:
    began, ended = (
        datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        for millis in (load.started_at_ms, load.finished_at_ms or load.started_at_ms)
    )
    return f"{began} to {ended} UTC by a {load.lane} load"
