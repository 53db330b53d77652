"""A lab in a process of its own, started, steered and ended from here: for tests, benches and the demo."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from lab.config import FIRST_ADDRESS
from lab.machine.errors import LabError

__all__ = ["LabProcess", "running_lab", "spare_addresses"]

_STOP_SECONDS = 15.0
_WINRM_PORT = 5986


def spare_addresses() -> str:
    """A range of loopback addresses for `--address` that no lab uses at present; another process gets another."""
    start = os.getpid() * 7919
    for number in range(start, start + 1000):
        base = f"127.{100 + number % 100}.{number // 100 % 250}"
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((f"{base}.{FIRST_ADDRESS}", _WINRM_PORT))
            return f"{base}.0/24"
    raise LabError("no range of loopback addresses is free")


class LabProcess:
    """Talks to the control of a running lab.

    Args:
        folder: the lab's folder, with `lab.json`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        known = json.loads((folder / "lab.json").read_text("utf-8"))
        self.control: str = known["control"]
        self.pid: int = known["pid"]
        self.nodes: Mapping[str, Mapping[str, Any]] = known["nodes"]
        self.cluster = Path(known["cluster"])
        self._token: str = known["token"]
        self._process: subprocess.Popen[str] | None = None

    @classmethod
    def start(cls, folder: Path, *arguments: str, seconds: float = 60.0) -> Self:
        """Starts `python -m lab --dir FOLDER ...` and waits until every node listens.

        Raises:
            LabError: it ended, or said nothing in time.
        """
        command = [sys.executable, "-m", "lab", "--dir", str(folder), *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own
        watchdog = threading.Timer(seconds, process.kill)
        watchdog.start()
        line = process.stdout.readline() if process.stdout else ""
        watchdog.cancel()
        if not line:
            _, said = process.communicate()
            raise LabError(f"the lab did not start: {said.strip() or 'it said nothing in time'}")
        running = cls(folder)
        running._process = process
        return running

    def stop(self) -> None:
        """Ends the process that `start` started, and waits for it."""
        if process := self._process:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()

    @property
    def password(self) -> str:
        """The common password. Show it to nobody."""
        return (self.folder / "password").read_text("utf-8").strip()

    @property
    def ca_file(self) -> Path:
        """What the nodes' https certificates are verified against."""
        return self.folder / "ca.pem"

    def disk(self, node: str) -> Path:
        """The folder that is a node's drive C:.

        Raises:
            LabError: its disk is in memory.
        """
        folder = self.nodes[node]["disk"]
        if not folder:
            raise LabError(f"the disk of {node} is in memory; ask its agent")
        return Path(folder)

    def totals(self) -> dict[str, Any]:
        """CPU seconds, memory and counters of the whole lab."""
        return dict(self._ask("GET", "/lab"))

    def report(self, node: str) -> dict[str, Any]:
        """Counters, service history and present faults of a node."""
        return dict(self._ask("GET", f"/nodes/{node}"))

    def operations(self, node: str) -> list[dict[str, Any]]:
        """The latest operations of the agent and messages of WinRM there, in order (`lab.machine.condition.Seen`)."""
        return list(self._ask("GET", f"/nodes/{node}/operations"))

    def break_node(self, node: str, **faults: object) -> dict[str, Any]:
        """Makes exactly these faults hold (`lab.machine.faults.Faults`)."""
        return dict(self._ask("PUT", f"/nodes/{node}/faults", faults))

    def heal(self, node: str) -> dict[str, Any]:
        """Makes a node well."""
        return self.break_node(node)

    def agent(self, node: str, *operations: Mapping[str, object]) -> list[dict[str, Any]]:
        """Does operations of the agent's protocol on a machine, past WinRM; gives their results."""
        request = {"v": 1, "id": "lab", "keep_going": True, "ops": list(operations)}
        return list(self._ask("POST", f"/nodes/{node}/agent", request)["results"])

    def run_configurator(self, node: str) -> None:
        """Does what a person does who clicks "Generate Certificates" there."""
        self._ask("POST", f"/nodes/{node}/configurator")

    def sync_port(self, node: str) -> dict[str, Any] | None:
        """What the product's service of a node answers on 8732; None when nobody listens."""
        url = f"http://{self.nodes[node]['address']}:8732/"
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return dict(json.load(reply))
        except OSError:
            return None

    def _ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        headers = {"Authorization": f"Bearer {self._token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.control + path, data=data, headers=headers, method=method)  # noqa: S310 - ours
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310 - ours
                return json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                raise LabError(f"{method} {path}: {error.read().decode('utf-8', 'replace')}") from None


@contextlib.contextmanager
def running_lab(folder: Path, *arguments: str) -> Iterator[LabProcess]:
    """A lab for the length of a `with` block."""
    lab = LabProcess.start(folder, *arguments)
    try:
        yield lab
    finally:
        lab.stop()
