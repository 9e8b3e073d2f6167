"""The failures that the archive knows, each with a message that fits one line and says what to do."""


class ArchiveError(Exception):
    """Any failure a user can be told in one line."""


class SettingsError(ArchiveError):
    """A setting or an argument is missing or wrong."""


class LandingError(ArchiveError):
    """The landing zone holds what it should not, or lacks what it should hold."""


class WarehouseError(ArchiveError):
    """A table could not be built, or a check on it failed."""


class Busy(ArchiveError):
    """Another run holds the archive."""
