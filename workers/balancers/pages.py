"""One GET of a page: bounded in time and bytes, without redirects."""

import http.client
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["NoAnswer", "Page", "get"]

_LARGEST = 262_144  #: bytes of a page that are read
_CONNECTIONS = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}


class NoAnswer(Exception):
    """There was no HTTP answer in time; the text says why."""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer, whatever its status."""

    status: int
    body: bytes

    def shows(self, text: str) -> bool:
        """Whether it is the page that was wanted: status 200, and the text in it."""
        return self.status == http.client.OK and text.encode() in self.body


def get(url: str, seconds: float) -> Page:
    """The page at an http or https URL. A certificate is verified against the authorities of this system.

    Raises:
        NoAnswer: no connection, no whole answer in time, or no such URL.
    """
    until = time.monotonic() + seconds
    try:
        parts = urlsplit(url)
        connection = _CONNECTIONS[parts.scheme](parts.hostname or "", parts.port, timeout=seconds)
    except (KeyError, ValueError):
        raise NoAnswer("not an http or https URL") from None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET", target, headers={"User-Agent": "esync-rollout", "Connection": "close"})
        reply = connection.getresponse()
        return Page(reply.status, _body(reply, until))
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(str(error) or type(error).__name__) from error
    finally:
        connection.close()


def _body(reply: http.client.HTTPResponse, until: float) -> bytes:
    body = bytearray()
    while chunk := reply.read1(min(65_536, _LARGEST - len(body))):
        body += chunk
        if len(body) >= _LARGEST:
            break
        if time.monotonic() > until:
            raise NoAnswer("the page takes too long")
    return bytes(body)
