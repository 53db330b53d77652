"""Web requests and pages of a simulated machine, without sockets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["Page", "Request", "Site", "request_of"]

_MOST_FIELDS = 200
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Page:
    """The answer of a site.

    Attributes:
        kind: its content type. headers: name and value of each other header.
    """

    status: int
    body: bytes = b""
    kind: str = "text/html; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """A request as a web application sees it.

    Attributes:
        host: host name of the Host header, lower case, without the port.
        path: decoded, begins with `/`.
        fields: of the query and of the form, by lower-case name; the first of several values.
        cookies: by name.
        source: address of the client.
    """

    method: str
    path: str
    host: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    cookies: Mapping[str, str] = field(default_factory=dict)
    source: str = ""


class Site(Protocol):
    """A web site of one machine."""

    async def answer(self, request: Request) -> Page:
        """Answers one request."""


def request_of(
    method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"", source: str = ""
) -> Request:
    """Reads a request.

    Args:
        method: `GET`, `POST`...
        target: path and query as sent.
        headers: by lower-case name.
        body: of a form.
        source: address of the client.

    Raises:
        ValueError: it cannot be read, as with too many fields.
    """
    headers = headers or {}
    parts = urlsplit(f"//host{target if target.startswith('/') else f'/{target}'}")
    fields = _fields(parts.query)
    if headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
        fields = _fields(body.decode("utf-8", "replace")) | fields
    return Request(
        method=method.upper(),
        path=unquote(parts.path, errors="replace"),
        host=_host(headers.get("host", "")),
        fields=fields,
        cookies=_cookies(headers.get("cookie", "")),
        source=source,
    )


def _fields(text: str) -> dict[str, str]:
    pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    return {name.lower(): value for name, value in reversed(pairs)}


def _host(text: str) -> str:
    """Without its port; an IPv6 address keeps its brackets."""
    name, colon, port = text.strip().lower().rpartition(":")
    return name if colon and port.isdigit() else text.strip().lower()


def _cookies(text: str) -> dict[str, str]:
    pairs = (pair.strip().partition("=") for pair in text.split(";"))
    return {name: value for name, equals, value in pairs if name and equals}
