"""The cookies of one site on one node: kept by name, whatever host they name.

A node is asked at its own address while its cookies are for the site's name: the rules of a browser would refuse them.
The parser of the standard library drops values with characters that sites do send, such as blanks.
"""

from collections.abc import Iterable
from contextlib import suppress
from email.utils import parsedate_to_datetime

from workers.records import now

__all__ = ["Cookies"]

_MANY = 100  #: cookies of a site
_LONGEST = 8192  #: characters of one


class Cookies:
    """What the site has set.

    Args:
        secure: whether the site is asked over https; without it no cookie is kept that is meant for https only.
    """

    def __init__(self, *, secure: bool) -> None:
        self._secure = secure
        self._values: dict[str, str] = {}

    def take(self, headers: Iterable[str]) -> None:
        """Takes the values of `Set-Cookie` headers; what is no cookie is ignored."""
        for header in headers:
            pair, *rest = header.split(";")
            name, equals, value = (part.strip() for part in pair.partition("="))
            if equals and name and len(header) <= _LONGEST and header.isprintable():
                self._take(name, value, _attributes(rest))

    def _take(self, name: str, value: str, attributes: dict[str, str]) -> None:
        if not value or _has_ended(attributes):
            self._values.pop(name, None)
        elif (self._secure or "secure" not in attributes) and (name in self._values or len(self._values) < _MANY):
            self._values[name] = value

    @property
    def header(self) -> str:
        """The value of the header `Cookie`; empty without cookies."""
        return "; ".join(f"{name}={value}" for name, value in self._values.items())


def _attributes(parts: Iterable[str]) -> dict[str, str]:
    pairs = (part.partition("=") for part in parts)
    return {name.strip().casefold(): value.strip() for name, _, value in pairs}


def _has_ended(attributes: dict[str, str]) -> bool:
    age = attributes.get("max-age", "")
    if age.removeprefix("-").isdigit():
        return int(age) <= 0
    with suppress(ValueError, TypeError):
        return parsedate_to_datetime(attributes.get("expires", "")) <= now()
    return False
