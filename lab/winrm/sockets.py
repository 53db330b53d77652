"""The network with real ports: a port of a machine is open on its loopback address of this host."""

import asyncio
import socket
from collections.abc import Callable

from lab.machine.errors import ConfigRefused
from lab.machine.network import Network

__all__ = ["LoopbackNetwork", "bound_socket"]

_BACKLOG = 128


class LoopbackNetwork(Network):
    """A network with real ports. Needs a running event loop to open or close a port."""

    def __init__(self) -> None:
        super().__init__()
        self._servers: dict[tuple[str, int], asyncio.Task[asyncio.Server]] = {}

    def listen(self, address: str, port: int, answer: Callable[[], bytes]) -> None:
        """Opens a port, on this host and in the lab."""
        super().listen(address, port, answer)
        if address not in self.away:
            self._open_real(address, port, answer)

    def close(self, address: str, port: int) -> None:
        """Closes the port."""
        super().close(address, port)
        self._close_real(address, port)

    def set_away(self, address: str, *, away: bool) -> None:
        """Removes a machine from the network or adds it again; its programs continue."""
        if away == (address in self.away):
            return
        ports = [(where, port, answer) for (where, port), answer in self._open.items() if where == address]
        if away:
            self.away.add(address)
        else:
            self.away.discard(address)
        for where, port, answer in ports:
            if away:
                self._close_real(where, port)
            else:
                self._open_real(where, port, answer)

    def _open_real(self, address: str, port: int, answer: Callable[[], bytes]) -> None:
        listener = bound_socket(address, port)
        loop = asyncio.get_running_loop()
        server = loop.create_server(lambda: _OnePage(answer), sock=listener)
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
