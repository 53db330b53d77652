"""Which logon methods can be used on this machine: Kerberos needs packages that are not installed everywhere."""

import importlib
import sys
import threading
from contextlib import suppress

from workers.host.unneeded import needed
from workers.records import Transport

__all__ = ["load_kerberos", "missing_package"]

_KERBEROS = "esync-rollout[kerberos]"
_PACKAGES = ("gssapi", "krb5")
#: The modules of `pyspnego` that ask once whether Kerberos is installed, and those that have their classes.
_ASKING = ("spnego._gss", "spnego._negotiate", "spnego._credssp", "spnego.auth", "spnego")
_lock = threading.Lock()


def missing_package(transport: Transport) -> str:
    """What has to be installed before a worker on this machine can log on in that way; empty when nothing is missing.

    NTLM, CredSSP, basic and certificates need no further package. On Windows the system itself has Kerberos.
    """
    if transport is not Transport.KERBEROS or sys.platform == "win32":
        return ""
    load_kerberos()
    try:
        for module in _PACKAGES:
            importlib.import_module(module)
    except (ImportError, OSError):  # not installed, or without the Kerberos library of the system
        return _KERBEROS
    return ""


def load_kerberos() -> None:
    """Loads the packages for Kerberos where they were left out until now; does nothing where they are not installed.

    They take a twelfth of a worker's memory, and most workers meet no node that needs them.
    """
    with _lock, suppress(ImportError, OSError):
        if needed(*_PACKAGES) and "spnego" in sys.modules:
            vars(sys.modules["spnego.exceptions"])["GSSError"] = importlib.import_module("gssapi.raw").GSSError
            for name in _ASKING:
                importlib.reload(sys.modules[name])
