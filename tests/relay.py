"""A TCP relay on loopback: a cable that a test can cut and join again, with TLS at its near end if that is wanted."""

import contextlib
import socket
import ssl
import threading
from typing import Self

__all__ = ["Relay"]

_CHUNK = 65_536


class Relay:
    """Passes connections on to a port of this machine, for the length of a `with` block.

    While it is cut, nothing is lost and nothing arrives: connections stay open and silent, new ones are accepted and
    get no answer. What was sent meanwhile arrives when it is joined again, as with a network that comes back.

    Args:
        port: where connections go.
        tls: for the side of the clients; None for plain TCP.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._target = port
        self._tls = tls
        self._passing = threading.Event()
        self._passing.set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._forgotten: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listening.getsockname()[1])

    def cut(self) -> None:
        """Nothing passes any more."""
        self._passing.clear()

    def join(self) -> None:
        """Everything passes again."""
        self._passing.set()

    def forget(self) -> None:
        """Nothing passes any more over the connections that are open now, without an error; new ones work."""
        self._forgotten |= self._open

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for one in tuple(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self.join()
        self._thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError), near:
            self._passing.wait()
            with self._inside(near) as inside, socket.create_connection(("127.0.0.1", self._target)) as far:
                self._open |= {inside, far}
                back = threading.Thread(target=self._copy, args=(far, inside), daemon=True)
                back.start()
                self._copy(inside, far)
                back.join()
                self._open -= {inside, far}

    def _inside(self, near: socket.socket) -> socket.socket:
        if self._tls is None:
            return near
        inside = self._tls.wrap_socket(near, server_side=True, do_handshake_on_connect=False)
        try:
            inside.do_handshake()
        except ssl.SSLError:
            # The alert says why; a connection that is closed with unread data in it would lose the alert.
            with socket.socket(fileno=inside.detach()) as raw:
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(_CHUNK):
                    pass
            raise
        return inside

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                self._passing.wait()
                if target not in self._forgotten:
                    target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
