"""A small https server with scripted answers, for the transport."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import trustme

__all__ = ["HttpsServer", "Reply", "answering"]


@dataclass(frozen=True)
class Reply:
    """One answer. `raw` is sent as it is instead; `close` ends the connection afterwards."""

    body: bytes = b"done"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    raw: bytes = b""
    close: bool = False


@dataclass
class HttpsServer:
    """A running server; the last reply is used again and again.

    Attributes:
        bodies, headers: of the requests. connections: how many were opened.
    """

    authority: trustme.CA
    replies: list[Reply] = field(default_factory=lambda: [Reply()])
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    closed: threading.Event = field(default_factory=threading.Event)

    def next(self) -> Reply:
        """The reply to the current request."""
        return self.replies[min(len(self.bodies), len(self.replies)) - 1]


def _handler(server: HttpsServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            server.connections += 1

        def finish(self) -> None:
            super().finish()
            server.closed.set()

        def do_POST(self) -> None:
            """Answers with the next reply."""
            server.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
            server.headers.append({**dict(self.headers.items()), "path": self.path})
            reply = server.next()
            self.close_connection = reply.close
            if reply.raw:
                self.wfile.write(reply.raw)
                return
            self.send_response(reply.status)
            for name, value in (("Content-Length", str(len(reply.body))), *reply.headers):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *_: object) -> None:
            """Prints nothing."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Prints nothing: clients end connections."""


@contextmanager
def answering(
    *replies: Reply, client: trustme.CA | None = None, context: ssl.SSLContext | None = None, plain: bool = False
) -> Iterator[HttpsServer]:
    """A server on loopback; with an authority for clients it requires a client certificate.

    With a context it speaks TLS as that says, and not with a certificate of its authority; `plain` is http.
    """
    server = HttpsServer(trustme.CA())
    server.replies = list(replies) or server.replies
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.authority.issue_cert("127.0.0.1").configure_cert(context)
    if client:
        client.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    with _Server(("127.0.0.1", 0), _handler(server)) as http:
        if not plain:
            http.socket = context.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
        server.port = http.server_address[1]
        thread = threading.Thread(target=http.serve_forever, args=[0.02])
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
