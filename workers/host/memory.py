"""Memory of a worker: kept in one place, because its threads wait more than they compute; and garbage in it."""

import ctypes
import gc
from contextlib import suppress

__all__ = ["SMALL_CACHES", "few_arenas", "spare_loaded"]

#: For the environment of a worker: malloc keeps little of what each thread frees. It would be 0.2 MB a thread, and a
#: worker has dozens. Up to 512 bytes Python's objects are in memory of its own. glibc reads it when a program starts.
SMALL_CACHES = {"GLIBC_TUNABLES": "glibc.malloc.tcache_max=512"}
_M_ARENA_MAX = -8  #: of mallopt(3)
ARENAS = 1
_NEW = 5_000  #: objects, more than were freed, between two searches for garbage among them; Python's default is 700


def few_arenas() -> bool:
    """Limits the arenas of malloc, of which glibc makes one for almost every thread; each keeps what was freed in it.

    Returns:
        Whether the C library knows the limit. It has to be set before threads are started.
    """
    with suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS))
    return False


def spare_loaded() -> None:
    """Lets the garbage collector pass over everything that was loaded so far: it stays as long as the process.

    A worker has loaded some hundred thousand objects when it is ready. To look at all of them again and again costs
    more time than all steps on a node spend in the run store. To look once now would find a thousand, and take a tenth
    of the start. A process may have disabled the collector until now. What its threads make is looked at less often.
    """
    gc.freeze()
    gc.set_threshold(_NEW)
    gc.enable()
