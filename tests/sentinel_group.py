"""A primary, a replica and three Sentinels as real processes on loopback, each with its own password."""

import os
import signal
import socket
import subprocess
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Self

from redis import Redis

from tests.ports import kept_ports
from tests.waiting import wait_until
from workers.redis.embedded import find_server
from workers.settings import Secret

__all__ = ["SentinelGroup"]

_NAME = "esync"
_PASSWORD, _ASKING = "of-the-servers", "of-the-Sentinels"
_SERVER = """\
port {port}
bind 127.0.0.1
dir {folder}
logfile {folder}/log
requirepass {password}
masterauth {password}
appendonly yes
repl-diskless-sync-delay 0
"""
_SENTINEL = """\
port {port}
bind 127.0.0.1
dir {folder}
logfile {folder}/log
requirepass {asking}
sentinel sentinel-pass {asking}
sentinel monitor {name} 127.0.0.1 {primary} 2
sentinel auth-pass {name} {password}
sentinel down-after-milliseconds {name} 500
sentinel failover-timeout {name} 3000
"""


class SentinelGroup:
    """All five processes, for the length of a `with` block. A server is dead after half a second without an answer.

    Args:
        folder: for their files; created.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept = ExitStack()
        self._ports = self._kept.enter_context(kept_ports(5))
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.primary = self._ports[0]  #: port of the primary, as far as this object knows

    @property
    def url(self) -> Secret:
        """The address for esync."""
        return self.database(0)

    def database(self, number: int) -> Secret:
        """The address of one of its databases."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._ports[2:])
        return Secret(f"sentinel://:{_PASSWORD}@{hosts}/{number}?master={_NAME}&sentinel_password={_ASKING}")

    def kill_first_sentinel(self) -> None:
        """Kills the Sentinel that is named first; the other two agree without it."""
        process = self._processes.pop(self._ports[2])
        process.kill()
        process.wait()

    def named(self) -> int:
        """The port of the server that the first Sentinel names now."""
        with Redis(port=self._ports[2], password=_ASKING, decode_responses=True) as sentinel:
            return int(sentinel.sentinel_get_master_addr_by_name(_NAME)[1])

    def kill_primary(self) -> None:
        """Kills the primary, as a power failure would."""
        process = self._processes.pop(self.primary)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def wait_for_another(self) -> None:
        """Waits until the Sentinels have made the other server the primary."""
        before = self.primary
        wait_until(lambda: self.named() != before)
        self.primary = self.named()

    def restart_other(self) -> None:
        """Starts the killed server again, and waits until the Sentinels have made it a replica that has all data."""
        (port,) = [port for port in self._ports[:2] if port != self.primary]
        self._start(port)
        wait_until(lambda: self._replicates(self.primary))

    def __enter__(self) -> Self:
        first, second, *sentinels = self._ports
        for port in self._ports:
            text = (_SERVER if port in {first, second} else _SENTINEL).format(
                port=port,
                folder=self._folder / str(port),
                primary=first,
                name=_NAME,
                password=_PASSWORD,
                asking=_ASKING,
            )
            (self._folder / str(port)).mkdir(parents=True)
            self._file(port).write_text(text + (f"replicaof 127.0.0.1 {first}\n" if port == second else ""))
        for port in (first, second):
            self._start(port)
        wait_until(lambda: self._replicates(first))
        for port in sentinels:
            self._start(port, "--sentinel")
        wait_until(lambda: all(self._knows_all(port) for port in sentinels))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()
        self._kept.close()

    def _file(self, port: int) -> Path:
        return self._folder / str(port) / "server.conf"

    def _start(self, port: int, *arguments: str) -> None:
        command = [str(find_server()), str(self._file(port)), *arguments]
        self._processes[port] = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "TZ": "UTC"}
        )
        wait_until(lambda: self._listens(port))

    @staticmethod
    def _listens(port: int) -> bool:
        with closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    @staticmethod
    def _replicates(primary: int) -> bool:
        with Redis(port=primary, password=_PASSWORD) as client:
            return bool(client.info("replication").get("slave0", {}).get("state") == "online")

    @staticmethod
    def _knows_all(port: int) -> bool:
        with Redis(port=port, password=_ASKING, decode_responses=True) as client:
            seen = client.info("sentinel")["master0"]
            return bool((seen["status"], seen["slaves"], seen["sentinels"]) == ("ok", 1, 3))
