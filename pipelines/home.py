"""The folder of an archive: where everything in it lies."""

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import SettingsError


@dataclass(frozen=True)
class Home:
    """The paths of one archive."""

    path: Path
    scratch: Path | None = None  # holds the derived files instead, to build the tables aside

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def at(cls, path: Path | str) -> "Home":
        """The home at a path, made absolute. Raises SettingsError if DuckDB cannot write there: it reads some
        characters of a path as patterns."""
        whole = Path(path).expanduser().resolve()
        if set("?\\") & set(str(whole)):
            raise SettingsError(f"TASK_ARCHIVE_HOME: DuckDB cannot write below {whole}, because its path holds ? or \\")
        return cls(whole)

    @property
    def landing(self) -> Path:
        """Immutable raw files: the truth of the archive."""
        return self.path / "landing"

    @property
    def events(self) -> Path:
        """What webhooks delivered and a run has not landed yet."""
        return self.path / "events"

    @property
    def warehouse(self) -> Path:
        """The catalog of what has landed and the tables as the last run left them: derived, can be deleted."""
        return self.scratch or self.path / "warehouse"

    @property
    def published(self) -> Path:
        """What readers open."""
        return self.path / "published"

    @property
    def dagster(self) -> Path:
        """The Dagster instance: runs, events, schedules."""
        return self.path / "dagster"

    @property
    def lock(self) -> Path:
        """Held by the run that writes."""
        return self.path / ".lock"

    def pace(self, account: str) -> Path:
        """When the last request of an account was sent, where a setting limits their rate."""
        return self.path / f".requests.{account}"

    @property
    def alerts(self) -> Path:
        """Which alerts were sent, and how the last runs ended."""
        return self.path / "alerts.json"

    @property
    def alerts_lock(self) -> Path:
        """Held by the process that sends alerts."""
        return self.path / ".alerts.lock"

    @property
    def is_published(self) -> bool:
        """Whether there is a version to read."""
        return (self.published / "current").exists()

    def make(self) -> None:
        """Creates the folder."""
        self.path.mkdir(parents=True, exist_ok=True)

    def fingerprint_key(self) -> bytes:
        """The key of redaction's fingerprints, created at first use: `fingerprint.key`, readable by its owner only."""
        path = self.path / "fingerprint.key"
        if not path.exists():
            self.make()
            fresh = path.with_name(f".{path.name}.{os.getpid()}.new")  # a kill must not leave an empty key
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(descriptor)
            with suppress(FileExistsError):  # if two processes create it at once, the first one wins
                path.hardlink_to(fresh)
            fresh.unlink()
        return path.read_bytes()
