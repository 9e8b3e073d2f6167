"""The failures that the archive knows, each with a message that fits one line and says what to do."""

import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


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


def is_lack_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or str(error) == "can't start new thread"


def in_one_line(error: BaseException) -> str:
    """What went wrong: our own words, or the system's with the file that it is about."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if is_lack_of_memory(error):
        return "there is not enough memory"
    return (str(error).splitlines() or [type(error).__name__])[0]


def as_fault_of_the_program(error: BaseException) -> str:
    """An error that was not expected: where it happened, without its message, which may hold secrets."""
    if is_lack_of_memory(error):
        return in_one_line(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{type(error).__name__} in line {place.lineno} of {Path(place.filename).name}, a fault of this program: "
        "please report it"
    )


def unknown(what: str, name: str, known: Iterable[str], otherwise: str = "") -> str:
    """What to say of a name that is not known: the nearest ones; where none is near `otherwise`, or all."""
    known = list(known)
    near = get_close_matches(name, known, 3, 0.5)
    said = f"did you mean {' or '.join(near)}?" if near else otherwise or f"known are {', '.join(known) or 'none'}"
    return f"no {what} is named {name!r}: {said}"
