"""Libraries that other libraries load if they are installed, and that we never use: a sixth of a worker's memory.

A name in `sys.modules` without a module is for Python a module that is not installed.
"""

import sys
from collections.abc import Collection, Mapping
from types import ModuleType

__all__ = ["leave_out"]

#: Module -> the library that would load it, and what for.
_UNNEEDED: Mapping[str, str] = {
    "greenlet": "Celery: the number of the present thread",
    "opentelemetry": "redis: counters for it",
    "rich": "structlog: frames around tracebacks",
    "tornado": "tenacity: coroutines that wait",
    "yaml": "kombu: messages in YAML, which are refused",
}


class _Transport:
    """In place of pywinrm's own transport, which is created and never used (docs/decisions/0009)."""

    def __init__(self, **options: object) -> None:
        del options


def leave_out(*, but: Collection[str] = ()) -> None:
    """Lets this process work without them, except `but`. What is loaded already stays."""
    for name in _UNNEEDED.keys() - but:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # Python allows it: see above
    transport = ModuleType("winrm.transport", _Transport.__doc__)
    vars(transport)["Transport"] = _Transport
    sys.modules.setdefault(transport.__name__, transport)
