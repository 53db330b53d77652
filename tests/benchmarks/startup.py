"""What it costs to start a command: CPU seconds of whole processes, and the wall time of a short job on one machine.

python -m tests.benchmarks.startup
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lab.control.remote import running_lab, spare_addresses

__all__ = ["measured"]

RUNS = 5
NODES = 1000
AT_ONCE = 6
_ESYNC = (sys.executable, "-c", "from pipelines.cli.entry import main; main()")
#: Verbs that only read. The lab has a server S1, and its last run found the cluster joined.
_READ = (("runs",), ("status",), ("report",), ("report", "--format", "html"), ("watch",), ("explain", "S1"))
_HEAD = """\
name: shop
edition: "9.1"
origin: S1
site: {path: 'C:\\inetpub\\wwwroot\\shop'}
connection: {user: svc, secret: "env:SHOP"}
nodes:
"""


def measured() -> dict[str, float]:
    """The measured values.

    Returns:
        Keys begin with `startup.`: `help`, `check` (a file of 1,000 nodes) and `read` (while `esync up` runs, of the
        verb that takes most of those that only read) are CPU seconds, the median; `verify` are wall seconds of a check
        of four simulated servers without `esync up`, the median; `six` is how many of six such commands, started at
        once, succeed.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        file = folder / "cluster.yaml"
        file.write_text(_HEAD + "".join(map(_node, range(1, NODES + 1))))
        own = {"ESYNC_STATE": str(folder / "state"), "SHOP": "x"}
        found = {"startup.help": _cpu(own, "--help"), "startup.check": _cpu(own, "check", str(file))}
        lab = running_lab(folder / "lab", "--nodes", "4", "--address", spare_addresses())
        with lab as servers:
            subprocess.run([*_ESYNC, "rollout", "--yes", servers.cluster], env=_environment(own), check=True)
            found["startup.verify"] = statistics.median(_wall(own, str(servers.cluster)) for _ in range(RUNS))
            found["startup.six"] = _at_once(own, str(servers.cluster))
        with _up(own):
            found["startup.read"] = max(_cpu(own, *verb) for verb in _READ)
        return found


def _node(number: int) -> str:
    role = "staging" if number == 1 else "production"
    return f"  - {{name: S{number}, host: s{number}.example.org, role: {role}, pool: {role}}}\n"


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """That of a command. Compiled files are kept by its first run, as an installation keeps them."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | dict(own)


def _cpu(own: Mapping[str, str], *arguments: str) -> float:
    """CPU seconds of a command and its children, the median; one run before is not counted."""
    return statistics.median([_cpu_once(own, arguments) for _ in range(RUNS + 1)][1:])


def _cpu_once(own: Mapping[str, str], arguments: tuple[str, ...]) -> float:
    before = os.times()
    subprocess.run([*_ESYNC, *arguments], env=_environment(own), check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def _wall(own: Mapping[str, str], cluster: str) -> float:
    before = time.monotonic()
    subprocess.run([*_ESYNC, "verify", cluster], env=_environment(own), check=True, capture_output=True)
    return time.monotonic() - before


def _at_once(own: Mapping[str, str], cluster: str) -> int:
    command = [*_ESYNC, "verify", cluster]
    started = [
        subprocess.Popen(command, env=_environment(own), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(AT_ONCE)
    ]
    return sum(one.wait() == 0 for one in started)


@contextmanager
def _up(own: Mapping[str, str]) -> Iterator[None]:
    command = [*_ESYNC, "up"]
    with subprocess.Popen(command, env=_environment(own), stderr=subprocess.PIPE, text=True) as services:
        try:
            if not any(line.startswith("all esync commands") for line in services.stderr or ()):
                raise RuntimeError("`esync up` did not start")
            yield
        finally:
            services.send_signal(signal.SIGINT)
            services.wait()


if __name__ == "__main__":
    for name, value in measured().items():
        print(f"{name:16} {value:.2f}")  # noqa: T201 - what it is for
