"""HAProxy over its runtime API: a socket file of this machine, or a TCP address (management guide, 9.3).

`drain` changes the administrative state only: health checks go on, and sessions that are open may end. A server that is
drained and whose check fails is still drained; so the administrative state is read, not the one-word status.
"""

import csv
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from workers.balancers.port import Balancer, Seen, ServerState
from workers.errors import BalancerFailed
from workers.texts import cleaned

__all__ = ["HAProxy"]

_LARGEST = 4_000_000  #: bytes of an answer
_TAKEN_OUT = 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x20  #: every kind of maintenance and of drain
_RUNNING = "2"  #: srv_op_state
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")  #: what HAProxy allows in names: no space, no `;`


class HAProxy(Balancer):
    """One backend.

    Args:
        address: the path of the socket, or `host:port`.
        backend: its name.
        deadline: seconds for each request.
    """

    def __init__(self, address: str, backend: str, deadline: float) -> None:
        self._address = address
        self._backend = _named(backend)
        self._deadline = deadline

    def drain(self, server: str) -> None:
        """Sets the state `drain`."""
        self._set(server, "drain")

    def undrain(self, server: str) -> None:
        """Sets the state `ready`."""
        self._set(server, "ready")

    def state(self, server: str) -> Seen:
        """Its administrative and operational state, and its current sessions."""
        try:
            return self._servers()[server]
        except KeyError:
            raise self._failed(f"backend {self._backend} has no server {cleaned(server)}") from None

    def healthy(self, servers: Sequence[str]) -> frozenset[str]:
        """Those that are running and not taken out."""
        known = self._servers()
        return frozenset(name for name in servers if name in known and known[name].state is ServerState.READY)

    def _set(self, server: str, state: str) -> None:
        said = self._ask(f"set server {self._backend}/{_named(server)} state {state}").strip()
        if said:  # it answers with an empty line when it did it
            raise self._failed(said.splitlines()[0])

    def _servers(self) -> dict[str, Seen]:
        """Every server of the backend, in one exchange."""
        lines = self._ask(f"show servers state {self._backend};show stat -1 4 -1").splitlines()
        sessions = dict(_sessions(lines, self._backend))
        found = {name: Seen(state, sessions.get(name)) for name, state in _states(lines)}
        if not found:
            why = next((line for line in lines if line.strip()), "it has no such backend")
            raise self._failed(f"backend {self._backend}: {why}")
        return found

    def _ask(self, command: str) -> str:
        """Sends one line; HAProxy answers and closes."""
        until = time.monotonic() + self._deadline
        answer = bytearray()
        try:
            with self._connected() as connection:
                connection.sendall(command.encode("ascii") + b"\n")
                while chunk := connection.recv(65_536):
                    answer += chunk
                    left = until - time.monotonic()
                    if left <= 0 or len(answer) > _LARGEST:
                        raise self._failed("its answer takes too long, or is too large")
                    connection.settimeout(left)
        except OSError as error:
            raise self._failed(error.strerror or str(error)) from error
        return answer.decode("utf-8", "replace")

    @contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        if self._address.startswith("/"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self._deadline)
                connection.connect(self._address)
                yield connection
            return
        host, _, port = self._address.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), self._deadline) as connection:
            yield connection

    def _failed(self, why: str) -> BalancerFailed:
        return BalancerFailed(
            f"HAProxy at {self._address}: {cleaned(why)}",
            remedy="the worker needs its runtime API with level admin (stats socket ... level admin)",
        )


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BalancerFailed(f"HAProxy has no name such as {cleaned(name)!r}")
    return name


def _states(lines: Sequence[str]) -> Iterator[tuple[str, ServerState]]:
    """Of `show servers state`: columns separated by spaces, named by a line that begins with `# be_id`."""
    columns: list[str] = []
    for line in lines:
        if line.startswith("# be_id "):
            columns = line[2:].split()
        elif not line.strip():
            columns = []
        elif columns:
            row = dict(zip(columns, line.split(), strict=False))
            yield row["srv_name"], _state(row)


def _state(row: dict[str, str]) -> ServerState:
    if int(row["srv_admin_state"]) & _TAKEN_OUT:
        return ServerState.DRAINING
    return ServerState.READY if row["srv_op_state"] == _RUNNING else ServerState.DOWN


def _sessions(lines: Sequence[str], backend: str) -> Iterator[tuple[str, int]]:
    """Of `show stat`: CSV, its header begins with `# pxname`."""
    start = next((place for place, line in enumerate(lines) if line.startswith("# pxname,")), len(lines))
    for row in csv.DictReader([line.removeprefix("# ") for line in lines[start:] if line.strip()]):
        if row["pxname"] == backend:
            yield row["svname"], int(row["scur"] or 0)
