"""Finds the embedded broker that runs on this machine. Apart from what starts one: most commands only use it."""

import contextlib
from pathlib import Path

from redis.exceptions import RedisError

from workers.host.processes import start_ticks
from workers.redis.connection import PROMPT, connect
from workers.settings import Secret

__all__ = ["find_running", "running", "server_pid"]


def running(folder: Path) -> Secret | None:
    """The URL of the embedded broker that runs from this folder, if one answers now."""
    found = find_running(folder)
    return found[0] if found else None


def find_running(folder: Path) -> tuple[Secret, int] | None:
    """The same, with the process id of the server."""
    try:
        url = Secret((folder / "broker.url").read_text("ascii").strip())
        # The process comes first: another program may use the port by now, and must not get the password.
        alive = start_ticks(int((folder / "broker.pid").read_text("ascii")))
        pid = server_pid(url) if alive else 0
    except (OSError, ValueError):
        return None
    return (url, pid) if pid else None


def server_pid(url: Secret) -> int:
    """The process id of the server that answers at this URL; 0 if none does (yet)."""
    with connect(url, waits=PROMPT) as client, contextlib.suppress(RedisError):
        client.ping()
        return int(client.info("server")["process_id"])
    return 0
