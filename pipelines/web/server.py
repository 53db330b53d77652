"""The HTTP server: uvicorn with our application. Its own access log is off: it would have the query strings."""

import asyncio
import socket

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from workers.errors import InputRefused, Misused

__all__ = ["address_in", "bound_socket", "server_for", "url_of"]

DRAIN = 3  #: seconds that open answers, such as event streams, have to end
HEADERS = 20.0  #: seconds in which the headers of a request have to arrive
WAITING = 512  #: connections that wait to be accepted


def address_in(text: str) -> tuple[str, int]:
    """Host and port in a text such as `127.0.0.1:8470` or `[::1]:8470`.

    Raises:
        Misused: it has no port, or no valid one.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:  # noqa: PLR2004 - the largest port
        raise Misused(f"{text!r} is not HOST:PORT", remedy="for example: --listen 127.0.0.1:8470")
    return host.strip("[]"), int(port)


def bound_socket(host: str, port: int, spare: int | None = None) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Args:
        host: name or address.
        port: of the socket.
        spare: the port if that one is taken; None for none.

    Raises:
        InputRefused: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reason = ""
    for one in (port, *([] if spare is None else [spare])):
        try:
            return socket.create_server((host, one), family=family, backlog=WAITING)
        except OSError as error:
            reason = error.strerror or "it is refused"
    raise InputRefused(f"{host}:{port} cannot be listened on: {reason}", remedy="choose another with --listen")


def url_of(listening: socket.socket) -> str:
    """The address of a server that listens on that socket."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


class _Bounded(H11Protocol):
    """HTTP/1.1 whose clients have to finish the headers of a request: an open connection costs a file."""

    late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Waits for the first request."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Waits for the rest of a request that has begun."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._arrived()
        elif self.late is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits for nothing more."""
        self._arrived()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self.late = self.loop.call_later(HEADERS, self.transport.close)

    def _arrived(self) -> None:
        if self.late is not None:
            self.late.cancel()
            self.late = None


def server_for(app: FastAPI) -> uvicorn.Server:
    """A server for the application; run it with the sockets it has to listen on."""
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        http=_Bounded,  # also bounds the bytes of headers, as the other parser does not
        ws="none",
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # who is believed is decided by the access file
        timeout_graceful_shutdown=DRAIN,
        h11_max_incomplete_event_size=32_000,
    )
    return uvicorn.Server(config)
