"""Digests of the tasks that a load met, whatever the order: equal tasks, equal digests.

Each is the sum modulo 2^64 of the first 8 bytes, big-endian, of the SHA-256 of a text a task: its id, or `id:updatedAt`
(nothing behind the colon where it has none). A sum, so that a task met again in a newer state is taken out and put in.
"""

from collections.abc import Collection, Mapping
from hashlib import sha256
from struct import unpack

MODULUS = 2**64


class Digests:
    """Of the tasks read so far: each counts once, in the state that was read last."""

    def __init__(self, ids: str | None = None, states: str | None = None) -> None:
        self._ids = int(ids or "0", 16)
        self._states = int(states or "0", 16)

    @property
    def ids(self) -> str:
        """Of the ids, 16 hex digits."""
        return f"{self._ids % MODULUS:016x}"

    @property
    def states(self) -> str:
        """Of each id with its updatedAt, 16 hex digits."""
        return f"{self._states % MODULUS:016x}"

    def __add__(self, other: "Digests") -> "Digests":
        """Of the tasks of both, none of which is among both."""
        both = Digests()
        both._ids, both._states = self._ids + other._ids, self._states + other._states
        return both

    def add(self, met: Mapping[str, int | None], before: Mapping[str, int | None]) -> None:
        """Takes in tasks with their updatedAt; `before`: those among them that were read before, as they were then."""
        self._ids += _sum(met) - (_sum(before) if before else 0)
        self._states += _sum(_states(met)) - (_sum(_states(before)) if before else 0)


def _states(met: Mapping[str, int | None]) -> list[str]:
    return [f"{task_id}:{'' if updated is None else updated}" for task_id, updated in met.items()]


def _sum(texts: Collection[str]) -> int:
    hashes = b"".join([sha256(text.encode()).digest() for text in texts])
    return sum(unpack(">" + "Q24x" * len(texts), hashes))
