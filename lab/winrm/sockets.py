"""The network with real ports: a port of a machine is open on its loopback address of this host."""

import asyncio
import socket
import ssl
from collections.abc import Callable

from aiohttp import web

from lab.machine.errors import ConfigRefused
from lab.machine.network import Network
from lab.machine.web import Page, Site, request_of

__all__ = ["LoopbackNetwork", "bound_socket"]

_BACKLOG = 128
Protocols = Callable[[], asyncio.BaseProtocol]


class LoopbackNetwork(Network):
    """A network with real ports. Needs a running event loop to open or close a port."""

    def __init__(self) -> None:
        super().__init__()
        self._servers: dict[tuple[str, int], asyncio.Task[asyncio.Server]] = {}
        self._published: dict[tuple[str, int], tuple[Protocols, ssl.SSLContext | None]] = {}
        self._web: web.Server | None = None

    def listen(self, address: str, port: int, answer: Callable[[], bytes]) -> None:
        """Opens a port, on this host and in the lab."""
        super().listen(address, port, answer)
        self._publish(address, port, lambda: _OnePage(answer))

    def close(self, address: str, port: int) -> None:
        """Closes the port."""
        super().close(address, port)
        self._published.pop((address, port), None)
        self._close_real(address, port)

    def publish(self, address: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Opens a port on this host for the site that `serve` has added there.

        Raises:
            ConfigRefused: the address is in use.
        """
        if self._web is None:
            self._web = web.Server(self._answered, access_log=None)
        self._publish(address, port, self._web, tls)

    async def end(self) -> None:
        """Ends all connections to sites."""
        if self._web:
            await self._web.shutdown(timeout=0.05)

    def _publish(self, address: str, port: int, protocols: Protocols, tls: ssl.SSLContext | None = None) -> None:
        if address not in self.away:
            self._open_real(address, port, protocols, tls)
        self._published[address, port] = (protocols, tls)

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers a request for the site at the address and port of its connection."""
        address, port = request.transport.get_extra_info("sockname")[:2] if request.transport else ("", 0)
        if request.transport and address in self.away:
            request.transport.abort()
        site = self._sites.get((address, port))
        if site is None:
            return web.Response(status=404)
        return _response(await _site_answer(site, request))

    def set_away(self, address: str, *, away: bool) -> None:
        """Removes a machine from the network or adds it again; its programs continue."""
        if away == (address in self.away):
            return
        ports = [(port, how) for (where, port), how in self._published.items() if where == address]
        if away:
            self.away.add(address)
        else:
            self.away.discard(address)
        for port, how in ports:
            if away:
                self._close_real(address, port)
            else:
                self._open_real(address, port, *how)

    def _open_real(self, address: str, port: int, protocols: Protocols, tls: ssl.SSLContext | None) -> None:
        listener = bound_socket(address, port)
        loop = asyncio.get_running_loop()
        server = loop.create_server(protocols, sock=listener, ssl=tls)
        self._servers[address, port] = loop.create_task(server)

    def _close_real(self, address: str, port: int) -> None:
        task = self._servers.pop((address, port), None)
        if task and task.done():
            # At once: the port must be closed before a client learns that the service has stopped.
            task.result().close()
        elif task:
            task.add_done_callback(lambda done: done.result().close())


def bound_socket(address: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigRefused: the address is in use or not available.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigRefused(
            f"{address} port {port} cannot be used: {error.strerror}. Is another lab running, or does this system have "
            f"no address {address}? Stop it, or give other addresses with --address."
        ) from error
    listener.setblocking(False)
    return listener


async def _site_answer(site: Site, request: web.BaseRequest) -> Page:
    body = await request.read()
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        asked = request_of(request.method, request.raw_path, headers, body, request.remote or "")
    except ValueError:
        return Page(400)
    return await site.answer(asked)


def _response(page: Page) -> web.Response:
    response = web.Response(status=page.status, body=page.body, headers={"Content-Type": page.kind})
    for name, value in page.headers:
        response.headers.add(name, value)
    return response


class _OnePage(asyncio.Protocol):
    """Answers the first request of a connection, whatever its content, and closes."""

    def __init__(self, answer: Callable[[], bytes]) -> None:
        self._answer = answer
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if b"\r\n\r\n" not in self._received or self._transport is None:
            return
        body = self._answer()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self._transport.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        self._transport.close()
