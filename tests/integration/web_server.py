"""`esync serve` for tests: the real application behind a real uvicorn on loopback, in a thread of the test."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx

from pipelines.engine import Engine
from pipelines.usecases.tokens import Grant, Role, create_token
from pipelines.web.access import Access
from pipelines.web.app import create_app
from pipelines.web.server import bound_socket, server_for
from tests.waiting import wait_until

__all__ = ["PLAIN", "WebServer", "web_server"]

#: For clients without TLS: to load the authorities of the system takes longer than most requests.
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True)
class WebServer:
    """A server that answers, and what a test needs to ask it."""

    url: str
    engine: Engine
    access: Access
    _stack: ExitStack

    def token(self, role: Role = Role.ADMIN, *clusters: str, name: str = "test") -> str:
        """A new token with that role; for all clusters unless some are named."""
        grant = Grant(role=role, clusters=clusters or ("*",))
        return create_token(self.engine, name, grant, timedelta(hours=1))[1].reveal()

    def client(self, role: Role | None = Role.ADMIN, *clusters: str, name: str = "test") -> httpx.Client:
        """A client with such a token; with None it has none. It is closed with the server."""
        headers = {} if role is None else {"Authorization": f"Bearer {self.token(role, *clusters, name=name)}"}
        return self._stack.enter_context(httpx.Client(base_url=self.url, headers=headers, timeout=60, verify=PLAIN))


@contextmanager
def web_server(engine: Engine, clusters: Path | None = None, access: Access | None = None) -> Iterator[WebServer]:
    """Serves that engine until the end of the block. Any number can run beside each other."""
    accepted = access or Access()
    server = server_for(create_app(engine, accepted, clusters))
    with bound_socket("127.0.0.1", 0) as listening, ExitStack() as stack:
        port = listening.getsockname()[1]
        thread = threading.Thread(target=server.run, args=([listening],), name="uvicorn")
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield WebServer(f"http://127.0.0.1:{port}", engine, accepted, stack)
        finally:
            stack.close()  # an open connection would delay the end of the server
            server.should_exit = True
            thread.join()
