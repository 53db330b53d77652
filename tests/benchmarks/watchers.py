"""Two hundred browsers that look at one run: memory and CPU of the server, how late they see what happens.

The same run without them, in the same minutes, says what they cost the worker.
"""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from urllib.error import URLError
from urllib.request import urlopen

from pipelines.usecases.tokens import Grant, Role, create_token
from tests.benchmarks.bars import Values
from tests.benchmarks.installation import Installation, Job, cpu, installation, peak_memory, whole_cluster
from workers.records import Event

__all__ = ["watchers"]

COUNT = 200
MARK_EVERY = 0.5  #: seconds between two events whose time the browsers know


def watchers(nodes: int) -> Values:
    """A run on that many untouched servers, once with browsers and once without."""
    alone = _without(nodes)
    with installation(nodes) as ready, _server(ready) as (url, server):
        job, seen, used = _watched(ready, url, server.pid)
        memory = peak_memory(server.pid)
    return {
        f"watch.{nodes}.memory": memory,
        f"watch.{nodes}.late": seen["p99"],
        f"watch.{nodes}.median": seen["median"],
        f"watch.{nodes}.latest": seen["latest"],
        f"watch.{nodes}.ended": 100 * seen["ended"] / COUNT,
        f"watch.{nodes}.messages": seen["messages"] / COUNT,
        f"watch.{nodes}.megabytes": seen["megabytes"],
        f"watch.{nodes}.cpu": 100 * used / job.seconds,
        f"watch.{nodes}.wall": job.seconds,
        f"watch.{nodes}.alone": alone.seconds,
        f"watch.{nodes}.worker": job.worker_cpu / alone.worker_cpu,
    }


def _without(nodes: int) -> Job:
    with installation(nodes) as ready:
        return ready.job(whole_cluster(ready.lab))


@contextlib.contextmanager
def _server(ready: Installation) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The page as a process of its own, as `esync serve` starts it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    command = [sys.executable, "-m", "pipelines.web.app", "--listen", address]
    with (ready.folder / "page.log").open("ab") as log:
        process = subprocess.Popen(command, env=dict(ready.environment), stdout=log, stderr=log)
    try:
        _wait_for(f"http://{address}/logon")
        yield f"http://{address}", process
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url: str) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            with urlopen(url):  # noqa: S310 - our own server
                return
        except (URLError, OSError):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _watched(ready: Installation, url: str, server: int) -> tuple[Job, dict[str, float], float]:
    """The run, what its watchers have seen, and the CPU seconds of the server."""
    token = create_token(ready.engine, "bench", Grant(role=Role.VIEWER), timedelta(hours=2))[1].reveal()
    before, found, over = cpu(server), list[subprocess.Popen[str]](), threading.Event()

    def accompany() -> None:
        while not (active := ready.engine.store.active()):
            time.sleep(0.02)
        command = [sys.executable, "-m", "tests.benchmarks.watching", url, active[0], str(COUNT)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        process.stdin.write(f"{token}\n")
        process.stdin.close()
        found.append(process)
        while not over.wait(MARK_EVERY):
            ready.engine.store.note(active[0], Event(kind="run.marked", message=f"mark {time.time()}"))

    thread = threading.Thread(target=accompany, daemon=True)
    thread.start()
    job = ready.job(whole_cluster(ready.lab))
    over.set()
    thread.join()
    assert found[0].stdout is not None
    seen = json.loads(found[0].stdout.readline())
    found[0].wait(30)
    return job, seen, cpu(server) - before
