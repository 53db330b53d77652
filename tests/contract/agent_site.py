"""A small web site on loopback, for the operations `tcp` and `http`."""

import base64
import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from tests.contract.agent_cases import Json, content_of

__all__ = ["ANSWERS", "LATE", "AgentSite", "filled"]

_PAGES = {
    "/hello": (200, b"hello"),
    "/missing": (404, b"missing"),
    "/broken": (500, b"broken"),
    "/moved": (302, b""),
    "/big": (200, content_of({"size": 100_000})),
    "/slow": (200, b"late"),
}
LATE = 3  #: seconds until `/slow` answers
#: The same pages as bytes of HTTP, for a site on another machine.
ANSWERS = {
    path: f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\nLocation: /hello\r\n".encode()
    + b"Connection: close\r\n\r\n"
    + body
    for path, (status, body) in _PAGES.items()
}
_SIZE = re.compile(r"@SIZE:(\d+)@")


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answers with the page of the path."""
        status, body = _PAGES.get(self.path, (404, b"missing"))
        if self.path == "/slow":
            time.sleep(LATE)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Location", "/hello")
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            return

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Prints nothing."""


class AgentSite:
    """A site that runs in a `with` block; `filled` replaces the placeholders of a case."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
        self._server.daemon_threads = True
        self._closed = socket.socket()
        self._closed.bind(("127.0.0.1", 0))  # bound, not listening: the port stays closed

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._closed.close()

    def filled(self, value: Json) -> Json:
        """The value with the placeholders for ports and large data replaced."""
        return filled(value, self._server.server_port, self._closed.getsockname()[1])


def filled(value: Json, port: int, closed: int) -> Json:
    """The value with an open and a closed port and large data instead of the placeholders."""
    if isinstance(value, dict):
        return {key: filled(item, port, closed) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, port, closed) for item in value]
    if not isinstance(value, str):
        return value
    ports = {"@PORT@": port, "@CLOSED@": closed}
    if value in ports:
        return ports[value]
    if size := _SIZE.fullmatch(value):
        return base64.b64encode(content_of({"size": int(size[1])})).decode()
    for name, number in ports.items():
        value = value.replace(name, str(number))
    return value
