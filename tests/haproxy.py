"""A real HAProxy for tests: one backend, its runtime API on a socket file and a TCP port, a frontend on loopback."""

import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import absent
from tests.waiting import wait_until
from workers.balancers.haproxy import HAProxy

__all__ = ["BACKEND", "Running", "free_port", "haproxy"]

BACKEND = "www"
_PROGRAM = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")
_CONFIG = """
global
  stats socket {socket} mode 600 level admin
  stats socket 127.0.0.1:{admin} level admin
defaults
  mode http
  timeout connect 2s
  timeout client 10s
  timeout server 10s
  retries 0
frontend site
  bind 127.0.0.1:{port}
  default_backend {backend}
backend {backend}
  balance roundrobin
{servers}
"""


@dataclass(frozen=True)
class Running:
    """A running HAProxy.

    Attributes:
        socket: the file of its runtime API.
        admin: the TCP address of the same.
        url: of its frontend.
        balancer: our adapter.
    """

    socket: Path
    admin: str
    url: str
    balancer: HAProxy

    def tell(self, command: str) -> str:
        """What an operator would type into the runtime API."""
        with socket.socket(socket.AF_UNIX) as api:
            api.connect(str(self.socket))
            api.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: api.recv(65_536), b"")).decode()


def free_port() -> int:
    """A port of the loopback that was free a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def haproxy(folder: Path, servers: Mapping[str, str], options: str = "") -> Iterator[Running]:
    """Starts it.

    Args:
        folder: for its socket and its configuration.
        servers: name -> `address:port`.
        options: of each server, such as `check inter 100ms`.
    """
    if _PROGRAM is None:
        absent("haproxy is not installed (Debian: haproxy)")
    path, admin, port = folder / "haproxy.sock", free_port(), free_port()
    lines = "\n".join(f"  server {name} {address} {options}" for name, address in servers.items())
    config = folder / "haproxy.cfg"
    config.write_text(_CONFIG.format(socket=path, admin=admin, port=port, backend=BACKEND, servers=lines))
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([_PROGRAM, "-db", "-f", str(config)], stdout=log, stderr=log)
        try:
            wait_until(lambda: path.exists() and process.poll() is None, (folder / "haproxy.log").read_text)
            running = Running(path, f"127.0.0.1:{admin}", f"http://127.0.0.1:{port}/", HAProxy(str(path), BACKEND, 5))
            running.balancer.healthy(list(servers))
            yield running
        finally:
            process.kill()
            process.wait()
