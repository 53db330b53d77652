"""The names under which processes hold things in the store: `host:process id:token`, or that and `/part`.

Other machines learn that a holder is dead when it no longer renews what it holds. A process of the same machine sees at
once that it has ended, so that a worker that was killed is replaced as soon as the next one has started.
"""

import hashlib
import os
import re
import socket
import uuid
from functools import cache
from pathlib import Path

__all__ = ["has_ended", "new_holder"]

_NAME = re.compile(r"(.+):([1-9][0-9]{0,8}):([0-9a-f]{6})[0-9a-f]{6}(/.*)?", re.DOTALL)
#: Together they name a set of processes: containers share a boot, and may share a host name, but not their ids.
_BOOT, _NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


def new_holder() -> str:
    """A unique name for this process."""
    return f"{socket.gethostname()}:{os.getpid()}:{_processes_here()}{uuid.uuid4().hex[:6]}"


def has_ended(holder: str) -> bool:
    """Whether a holder was a process of this machine that runs no longer; False for all others, and when in doubt."""
    name = _NAME.fullmatch(holder)
    if name is None or (name[1], name[3]) != (socket.gethostname(), _processes_here()):
        return False
    try:
        os.kill(int(name[2]), 0)
    except ProcessLookupError:
        return True
    except OSError:  # of another account
        return False
    return False


@cache
def _processes_here() -> str:
    """Six hex digits for the set of processes that ids are unique in."""
    try:
        text = _BOOT.read_text("ascii") + str(_NAMESPACE.readlink())
    except OSError:  # no Linux: a name that no other process has, so that no holder is ever taken as ended
        text = uuid.uuid4().hex
    return hashlib.sha256(text.encode()).hexdigest()[:6]
