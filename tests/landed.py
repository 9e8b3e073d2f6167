"""The landing zone as its files tell it, read one after the other: what the tests hold the catalog against."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pipelines.landing.manifest import Manifest, Part
from pipelines.landing.zone import MANIFEST, PROGRESS, Zone, read_note


class LandedFiles(Zone):
    """A landing zone that tells of its loads and parts without a catalog."""

    def manifests(self, account: str | None = None) -> list[Manifest]:
        """Complete loads in the order they were made, less those whose manifest is damaged."""
        return _readable(self.root.glob(f"{account or '*'}/*/{MANIFEST}"))

    def open_loads(self, account: str | None = None) -> list[Manifest]:
        """Loads that were begun and not completed, as far as they had got when their last part was written."""
        folders = [path for path in self.root.glob(f"{account or '*'}/*/") if not (path / MANIFEST).exists()]
        return _readable(path / PROGRESS for path in folders)

    def parts(self, manifests: Iterable[Manifest]) -> Iterator[tuple[Path, Part]]:
        """The Parquet files of loads, less those that are missing or were set aside."""
        for manifest in manifests:
            for part in manifest.parts:
                path = self.folder(manifest.account, manifest.load_id) / part.file
                if path.exists():
                    yield path, part


def _readable(paths: Iterable[Path]) -> list[Manifest]:
    found = [note for path in paths if (note := read_note(path)) is not None]
    return sorted(found, key=lambda manifest: manifest.load_id)
