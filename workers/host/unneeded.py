"""Libraries that other libraries load if they are installed, and that a worker never uses: a fifth of its memory.

A name in `sys.modules` without a module is for Python a module that is not installed.
"""

import importlib
import sys
import threading
from collections.abc import Mapping
from types import ModuleType

__all__ = ["leave_out", "restore_kerberos"]

_KERBEROS = ("gssapi", "krb5")
_LOOKS_FOR_THEM, _ITS_CLASS = "spnego._gss", "GSSAPIProxy"

#: Module -> the library that would load it, and what for.
_UNNEEDED: Mapping[str, str] = {
    "greenlet": "Celery: the number of the present thread",
    "opentelemetry": "redis: counters for it",
    "rich": "structlog: frames around tracebacks",
    "tornado": "tenacity: coroutines that wait",
    "yaml": "kombu: messages in YAML, which are refused",
} | dict.fromkeys(_KERBEROS, "pyspnego, amqp: restored before the first logon by Kerberos")
_lock = threading.Lock()


class _Transport:
    """In place of pywinrm's own transport, which is created and never used (docs/decisions/0009)."""

    def __init__(self, **options: object) -> None:
        del options


def leave_out() -> None:
    """Lets this process work without them. What is loaded already stays."""
    for name in _UNNEEDED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # Python allows it: see above
    transport = ModuleType("winrm.transport", _Transport.__doc__)
    vars(transport)["Transport"] = _Transport
    sys.modules.setdefault(transport.__name__, transport)


def restore_kerberos() -> None:
    """Makes the libraries of Kerberos available again, if they were left out."""
    with _lock:
        left_out = [name for name in _KERBEROS if sys.modules.get(name, sys) is None]
        for name in left_out:
            del sys.modules[name]
        if left_out and _LOOKS_FOR_THEM in sys.modules:
            found = vars(importlib.reload(sys.modules[_LOOKS_FOR_THEM]))[_ITS_CLASS]
            users = [module for name, module in list(sys.modules.items()) if name.startswith("spnego.")]
            for names in map(vars, users):
                names.update({_ITS_CLASS: found} if _ITS_CLASS in names else {})
