"""The failures that the archive knows, each with a message that fits one line and says what to do."""


class ArchiveError(Exception):
    """Any failure a user can be told in one line."""


class SettingsError(ArchiveError):
    """A setting or an argument is missing or wrong."""


class LandingError(ArchiveError):
    """The landing zone holds what it should not, or lacks what it should hold."""


class WarehouseError(ArchiveError):
    """A table could not be built, or a check on it failed."""


class QueryError(ArchiveError):
    """SQL that DuckDB does not take."""


class Busy(ArchiveError):
    """Another run holds the archive."""


def in_one_line(error: BaseException) -> str:
    """What went wrong: our own words, or the system's with the file that it is about."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]
