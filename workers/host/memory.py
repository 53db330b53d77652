"""How the C library keeps memory: in one place, because a worker's threads wait more than they compute."""

import ctypes
from contextlib import suppress

__all__ = ["few_arenas"]

_M_ARENA_MAX = -8  #: of mallopt(3)
ARENAS = 1


def few_arenas() -> bool:
    """Limits the arenas of malloc, of which glibc makes one for almost every thread; each keeps what was freed in it.

    Returns:
        Whether the C library knows the limit. It has to be set before threads are started.
    """
    with suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS))
    return False
