"""The network between the machines of one lab, without sockets: names, open ports, sites.

`lab.winrm.sockets` also opens real ports; inside the lab, both give the same answers.
"""

import asyncio
import ipaddress
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

import aiohttp

from lab.machine.errors import Refusal, Slug
from lab.machine.paths import fold
from lab.machine.web import Page, Site, request_of

__all__ = ["Network"]

_PORTS = {"http": 80, "https": 443}


class Network:
    """The network between the machines of one lab. Other addresses are reachable only on this host's loopback.

    Attributes:
        away: addresses that do not answer.
        cut: (from name, to name) pairs without a connection.
    """

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.cut: set[tuple[str, str]] = set()
        self._addresses: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._hosts: dict[str, Callable[[], bytes]] = {}
        self._open: dict[tuple[str, int], Callable[[], bytes]] = {}
        self._sites: dict[tuple[str, int], Site] = {}

    def join(self, name: str, address: str, hosts: Callable[[], bytes] = bytes) -> None:
        """Connects a machine to the network; `hosts` returns its hosts file."""
        self._addresses[fold(name)] = address
        self._hosts[fold(name)] = hosts
        self._names[address] = fold(name)

    def listen(self, address: str, port: int, answer: Callable[[], bytes]) -> None:
        """Opens a port; `answer` returns the body for `GET /`."""
        self._open[address, port] = answer

    def close(self, address: str, port: int) -> None:
        """Closes a port."""
        self._open.pop((address, port), None)

    def listening(self, address: str, port: int) -> bool:
        """Whether the port is open on a machine of the lab."""
        return (address, port) in self._open

    def serve(self, address: str, port: int, site: Site) -> None:
        """Adds a site on a port of a machine, without a socket."""
        self._sites[address, port] = site

    def address_of(self, host: str, source: str) -> str | None:
        """The address of a host name as one machine resolves it, by its hosts file first; None for an unknown name."""
        hosts = self._hosts.get(fold(source), bytes)
        if listed := _listed(hosts(), host):
            return listed
        if host.lower() == "localhost":
            return self._addresses.get(fold(source), "127.0.0.1")
        if _is_address(host):
            return self._addresses.get(fold(host), host)
        return self._addresses.get(fold(host.partition(".")[0]))

    def obstacle(self, source: str, address: str) -> str:
        """Why a machine cannot reach an address; empty if it can."""
        target, own = self._names.get(address, ""), self._addresses.get(fold(source), "")
        away = address != own and {address, own} & self.away
        if away or (fold(source), target) in {(fold(a), fold(b)) for a, b in self.cut}:
            return "no answer: the host is unreachable"
        return ""

    async def reach(self, source: str, host: str, port: int, seconds: float) -> str:
        """Connects from a machine; returns an empty text, or why the connection failed."""
        address = self.address_of(host, source)
        if address is None:
            return f"no such host is known: {host}"
        if why := self.obstacle(source, address):
            return why
        if self.listening(address, port):
            return ""
        return await _connect(address, port, seconds)

    async def get(self, source: str, url: str, seconds: float) -> Page:
        """Sends a GET request from a machine.

        Raises:
            Refusal: `invalid` if it is not an http URL, `failed` without an answer, `timeout`.
        """
        parts = _split(url)
        address = self.address_of(parts.hostname or "", source)
        if address is None:
            raise Refusal(Slug.FAILED, f"no such host is known: {parts.hostname}")
        if why := self.obstacle(source, address):
            raise Refusal(Slug.TIMEOUT, why)
        port = parts.port or _PORTS[parts.scheme]
        site = self._sites.get((address, port)) or self._sites.get((self._own(source, address), port))
        if site:
            return await _asked(site, parts, self._addresses.get(fold(source), ""))
        if answer := self._open.get((address, port)):
            return Page(200, answer())
        return await _fetch(address, parts, seconds)

    def _own(self, source: str, address: str) -> str:
        return self._addresses.get(fold(source), address) if address == "127.0.0.1" else address


@lru_cache(maxsize=4096)
def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _listed(hosts: bytes, name: str) -> str | None:
    """The address of a name in a hosts file: `127.0.0.1 name other # comment`."""
    for line in hosts.decode("latin-1").splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if name.lower() in (one.lower() for one in names) and _is_address(address):
            return address
    return None


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        wrong = parts.scheme not in _PORTS or not parts.hostname or parts.port == 0
    except ValueError:
        wrong = True
    if wrong:
        raise Refusal(Slug.INVALID, f"not an http or https URL: {url}")
    return parts


async def _asked(site: Site, parts: SplitResult, source: str) -> Page:
    target = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
    try:
        request = request_of("GET", target, {"host": parts.hostname or ""}, source=source)
    except ValueError:
        return Page(400)
    return await site.answer(request)


async def _connect(address: str, port: int, seconds: float) -> str:
    """Opens a real connection, only on this host's loopback: the lab never uses a network."""
    if not ipaddress.ip_address(address).is_loopback:
        return f"no answer: {address} is outside the lab"
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return f"no answer from {address} port {port} in {seconds:g} s"
    except OSError as error:
        return f"no connection to {address} port {port}: {error.strerror or error}"
    writer.close()
    return ""


async def _fetch(address: str, parts: SplitResult, seconds: float) -> Page:
    if not ipaddress.ip_address(address).is_loopback:
        raise Refusal(Slug.FAILED, f"no answer: {address} is outside the lab")
    port = f":{parts.port}" if parts.port else ""
    url = parts._replace(netloc=f"{address}{port}", fragment="").geturl()
    limit = aiohttp.ClientTimeout(total=seconds)
    try:
        async with aiohttp.ClientSession(timeout=limit) as session, session.get(url, allow_redirects=False) as reply:
            return Page(reply.status, await reply.read())
    except TimeoutError as error:
        raise Refusal(Slug.TIMEOUT, f"no answer from {address}{port} in {seconds:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Refusal(Slug.FAILED, f"no answer from {address}{port}: {error}") from error
