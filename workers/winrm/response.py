"""An HTTP answer as `http.client` reads it, but for its headers: their parser is one of e-mail messages.

That parser takes longer than everything else that is done with the HTTP of an answer.
"""

import http.client
import re
from io import BufferedIOBase
from types import FunctionType
from typing import Any

__all__ = ["Headers", "Response", "read_headers"]

_LONGEST = 65_536  #: bytes of a line; the limits of `http.client`
_MOST = 100  #: lines, with the empty one
_NAME = re.compile("[\x21-\x39\x3b-\x7e]*:")  # any other line ends the headers, as it does for the parser of e-mail
_ENDS = frozenset({b"\r\n", b"\n", b""})


class Headers:
    """The headers of an answer, by their names without case.

    Args:
        lines: of the head, with their ends.
    """

    def __init__(self, lines: list[str]) -> None:
        self._values: dict[str, list[str]] = {}
        values: list[str] | None = None
        for line in lines:
            if line[:1] in {" ", "\t"}:
                if values is not None:  # the first line continues nothing
                    values[-1] += line
            elif _NAME.match(line):
                name, _, value = line.partition(":")
                values = self._values.setdefault(name.lower(), [])
                values.append(value.lstrip(" \t"))
            else:
                break

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of a header, or the default."""
        found = self._values.get(name.lower())
        return found[0].rstrip("\r\n") if found else default

    def get_all(self, name: str, default: object = None) -> object:
        """All values of a header, or the default."""
        found = self._values.get(name.lower())
        return [value.rstrip("\r\n") for value in found] if found else default


def read_headers(file: BufferedIOBase, **_: object) -> Headers:
    """Reads the headers of an answer, and the empty line after them.

    Raises:
        http.client.HTTPException: there are too many, or one is too long.
    """
    lines: list[str] = []
    while (line := file.readline(_LONGEST + 1)) not in _ENDS:
        if len(line) > _LONGEST:
            raise http.client.LineTooLong("header line")
        lines.append(line.decode("iso-8859-1"))
        if len(lines) == _MOST:
            raise http.client.HTTPException(f"got more than {_MOST} headers")
    return Headers(lines)


class Response(http.client.HTTPResponse):
    """An answer of a node."""

    #: The library's own, with our reader of headers in the place of its.
    begin: Any = FunctionType(
        http.client.HTTPResponse.begin.__code__, {**vars(http.client), "parse_headers": read_headers}, "begin"
    )
