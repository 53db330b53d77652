"""Which logon methods can be used on this machine: Kerberos needs packages that are not installed everywhere."""

import importlib
import sys

from workers.records import Transport

__all__ = ["missing_package"]

_KERBEROS = "esync-rollout[kerberos]"


def missing_package(transport: Transport) -> str:
    """What has to be installed before a worker on this machine can log on in that way; empty when nothing is missing.

    NTLM, CredSSP, basic and certificates need no further package. On Windows the system itself has Kerberos.
    """
    if transport is not Transport.KERBEROS or sys.platform == "win32":
        return ""
    try:
        for module in ("gssapi", "krb5"):
            importlib.import_module(module)
    except (ImportError, OSError):  # not installed, or without the Kerberos library of the system
        return _KERBEROS
    return ""
