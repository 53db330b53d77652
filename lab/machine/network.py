"""What machines of one lab can reach of each other, without a socket: names, open ports, sites.

`lab.winrm.sockets` opens the ports for real as well; asked from inside the lab, both answer the same.
"""

import asyncio
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

import aiohttp

from lab.machine.errors import Refusal, Slug
from lab.machine.paths import fold

__all__ = ["Network", "Page", "Site"]

_HTTP_PORT = 80


@dataclass(frozen=True, slots=True)
class Page:
    """What a site answers."""

    status: int
    body: bytes


class Site(Protocol):
    """A web site of one machine."""

    def get(self, path: str) -> Page:
        """Answers a GET of a path such as `/WorkArea/x.asmx`."""


class Network:
    """The wire between the machines of one lab. Whatever is not of the lab is reached only on this host's loopback.

    Attributes:
        away: addresses that answer nobody at present.
        cut: (from name, to name) pairs between which nothing passes.
    """

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.cut: set[tuple[str, str]] = set()
        self._addresses: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._open: dict[tuple[str, int], Callable[[], bytes]] = {}
        self._sites: dict[tuple[str, int], Site] = {}

    def join(self, name: str, address: str) -> None:
        """A machine is on the wire."""
        self._addresses[fold(name)] = address
        self._names[address] = fold(name)

    def listen(self, address: str, port: int, answer: Callable[[], bytes]) -> None:
        """A port opens; `answer` gives the body of what it says to `GET /`."""
        self._open[address, port] = answer

    def close(self, address: str, port: int) -> None:
        """A port closes."""
        self._open.pop((address, port), None)

    def listening(self, address: str, port: int) -> bool:
        """Whether somebody of the lab listens there."""
        return (address, port) in self._open

    def serve(self, address: str, port: int, site: Site) -> None:
        """A machine has a site on that port; it costs no socket."""
        self._sites[address, port] = site

    def address_of(self, host: str, asked_by: str) -> str | None:
        """The address behind a host as one machine sees it; None for a name nobody has."""
        if host.lower() == "localhost":
            return self._addresses.get(fold(asked_by), "127.0.0.1")
        name = host.split(".", maxsplit=1)[0] if not _is_address(host) else host
        return self._addresses.get(fold(name), host if _is_address(host) else None)

    def why_not(self, source: str, address: str) -> str:
        """Why nothing passes from a machine to an address, or nothing when it does."""
        target = self._names.get(address, "")
        if address in self.away or (fold(source), target) in {(fold(a), fold(b)) for a, b in self.cut}:
            return "no answer: the host is unreachable"
        return ""

    async def reach(self, source: str, host: str, port: int, timeout: float) -> str:  # noqa: ASYNC109 - protocol word
        """Tries to connect as that machine; nothing when it worked, otherwise why not."""
        address = self.address_of(host, source)
        if address is None:
            return f"no such host is known: {host}"
        if why := self.why_not(source, address):
            return why
        if self.listening(address, port):
            return ""
        return await _connect(address, port, timeout)

    async def get(self, source: str, url: str, timeout: float) -> Page:  # noqa: ASYNC109 - protocol word
        """GETs a page as that machine.

        Raises:
            Refusal: `invalid` for what is no http URL, `failed` without an answer, `timeout`.
        """
        parts = _split(url)
        address = self.address_of(parts.hostname or "", source)
        if address is None:
            raise Refusal(Slug.FAILED, f"no such host is known: {parts.hostname}")
        if why := self.why_not(source, address):
            raise Refusal(Slug.TIMEOUT, why)
        port = parts.port or _HTTP_PORT
        site = self._sites.get((address, port)) or self._sites.get((self._own(source, address), port))
        if site:
            return site.get(parts.path or "/")
        if answer := self._open.get((address, port)):
            return Page(200, answer())
        return await _fetch(address, parts, timeout)

    def _own(self, source: str, address: str) -> str:
        return self._addresses.get(fold(source), address) if address == "127.0.0.1" else address


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        wrong = parts.scheme != "http" or not parts.hostname or parts.port == 0
    except ValueError:
        wrong = True
    if wrong:
        raise Refusal(Slug.INVALID, f"this is no http URL: {url}")
    return parts


async def _connect(address: str, port: int, timeout: float) -> str:  # noqa: ASYNC109 - protocol word
    """A real connection, on this host's loopback only: the lab never touches a network."""
    if not ipaddress.ip_address(address).is_loopback:
        return f"no answer: {address} is outside the lab"
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return f"no answer from {address} port {port} in {timeout:g} s"
    except OSError as error:
        return f"no connection to {address} port {port}: {error.strerror or error}"
    writer.close()
    return ""


async def _fetch(address: str, parts: SplitResult, timeout: float) -> Page:  # noqa: ASYNC109 - protocol word
    if not ipaddress.ip_address(address).is_loopback:
        raise Refusal(Slug.FAILED, f"no answer: {address} is outside the lab")
    port = f":{parts.port}" if parts.port else ""
    url = parts._replace(netloc=f"{address}{port}", fragment="").geturl()
    limit = aiohttp.ClientTimeout(total=timeout)
    try:
        async with aiohttp.ClientSession(timeout=limit) as session, session.get(url, allow_redirects=False) as reply:
            return Page(reply.status, await reply.read())
    except TimeoutError as error:
        raise Refusal(Slug.TIMEOUT, f"no answer from {address}{port} in {timeout:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Refusal(Slug.FAILED, f"no answer from {address}{port}: {error}") from error
