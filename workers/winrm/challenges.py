"""The logon methods that a server offers in its headers WWW-Authenticate (RFC 9110, 11.6.1)."""

import re
from collections.abc import Iterable

__all__ = ["offered"]

_LONGEST = 40  #: characters of a name
_MOST = 20  #: names
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*(?= |$)")


def offered(challenges: Iterable[str]) -> tuple[str, ...]:
    """The names of the methods, each once, in the order of the server.

    Args:
        challenges: the headers; one may have several methods. `Basic realm="x", Negotiate` has two.
    """
    found: dict[str, str] = {}
    for challenge in challenges:
        for part in _QUOTED.sub("", challenge).split(","):
            if name := _NAME.match(part.strip()):
                found.setdefault(name[0].lower(), name[0][:_LONGEST])
    return tuple(found.values())[:_MOST]
