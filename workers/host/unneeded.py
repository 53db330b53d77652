"""Libraries that other libraries load if they are installed, and that we never use: a sixth of a worker's memory.

A name in `sys.modules` without a module is for Python a module that is not installed.
"""

import sys
from collections.abc import Collection, Mapping
from types import ModuleType

__all__ = ["leave_out", "needed"]

#: Module -> the library that would load it, and what for.
_UNNEEDED: Mapping[str, str] = {
    "greenlet": "Celery: the number of the present thread",
    "gssapi": "pyspnego: Kerberos; see `workers.winrm.methods`",
    "krb5": "pyspnego: the same",
    "opentelemetry": "redis: counters for it",
    "rich": "structlog: frames around tracebacks",
    "tornado": "tenacity: coroutines that wait",
    "yaml": "kombu: messages in YAML, which are refused",
}

_left_out: set[str] = set()


class _Transport:
    """In place of pywinrm's own transport, which is created and never used (docs/decisions/0009)."""

    def __init__(self, **options: object) -> None:
        del options


def leave_out(*, but: Collection[str] = ()) -> None:
    """Lets this process work without them, except `but`. What is loaded already stays."""
    for name in _UNNEEDED.keys() - but - sys.modules.keys():
        sys.modules[name] = None  # type: ignore[assignment]  # Python allows it: see above
        _left_out.add(name)
    transport = ModuleType("winrm.transport", _Transport.__doc__)
    vars(transport)["Transport"] = _Transport
    sys.modules.setdefault(transport.__name__, transport)


def needed(*names: str) -> bool:
    """Lets this process load these libraries from now on; returns whether they were left out until now."""
    known = _left_out.intersection(names)
    for name in known:
        del sys.modules[name]
    _left_out.difference_update(known)
    return bool(known)
