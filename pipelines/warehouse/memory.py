"""Memory that is freed goes back to the system: a run's peak is what it needs, not what its allocators keep."""

import ctypes
from contextlib import suppress

import pyarrow as pa

# Numbers of glibc's mallopt, see malloc.h. By itself it keeps an arena for each thread, and raises what it keeps.
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8


def keep_little() -> None:
    """Has Arrow and the C library keep little of what is freed. Does nothing where the C library is another."""
    pa.set_memory_pool(pa.system_memory_pool())
    with suppress(AttributeError, OSError):
        malloc_options = ctypes.CDLL(None).mallopt
        malloc_options(ARENA_MAX, 2)
        malloc_options(MMAP_THRESHOLD, 1 << 18)
        malloc_options(TRIM_THRESHOLD, 1 << 20)
