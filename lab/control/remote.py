"""Starts, controls and ends a lab in another process: for tests, benchmarks and the demo."""

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
    """A range of loopback addresses for `--address` that no lab uses; each process starts with another range."""
    start = os.getpid() * 7919
    for number in range(start, start + 1000):
        base = f"127.{100 + number % 100}.{number // 100 % 250}"
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((f"{base}.{FIRST_ADDRESS}", _WINRM_PORT))
            return f"{base}.0/24"
    raise LabError("there is no free range of loopback addresses")


class LabProcess:
    """A client of the control interface of a running lab.

    Args:
        folder: the lab's folder, with `lab.json`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        described = json.loads((folder / "lab.json").read_text("utf-8"))
        self.control: str = described["control"]
        self.pid: int = described["pid"]
        self.nodes: Mapping[str, Mapping[str, Any]] = described["nodes"]
        self.cluster = Path(described["cluster"])
        self._token: str = described["token"]
        self._process: subprocess.Popen[str] | None = None

    @classmethod
    def start(cls, folder: Path, *arguments: str, seconds: float = 180.0) -> Self:
        """Starts `python -m lab --dir FOLDER ...` and waits until every node listens.

        Raises:
            LabError: the process ended, or was not ready in time.
        """
        command = [sys.executable, "-m", "lab", "--dir", str(folder), *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own program
        watchdog = threading.Timer(seconds, process.kill)
        watchdog.start()
        line = process.stdout.readline() if process.stdout else ""
        watchdog.cancel()
        if not line:
            _, stderr = process.communicate()
            raise LabError(f"the lab did not start: {stderr.strip() or f'not ready within {seconds:g} s'}")
        running = cls(folder)
        running._process = process
        return running

    def stop(self) -> None:
        """Ends the process that `start` created, and waits for it."""
        if process := self._process:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()

    @property
    def password(self) -> str:
        """The common password: a secret."""
        return (self.folder / "password").read_text("utf-8").strip()

    @property
    def site_password(self) -> str:
        """The password of all users of the sites: a secret."""
        return (self.folder / "site-password").read_text("utf-8").strip()

    def site_url(self, node: str) -> str:
        """The address of a node's site, without a slash at the end."""
        known = self.nodes[node]
        return f"{known['site_scheme']}://{known['address']}:{known['site_port']}"

    @property
    def ca_file(self) -> Path:
        """The CA file for the nodes' https certificates."""
        return self.folder / "ca.pem"

    def disk(self, node: str) -> Path:
        """The folder that is a node's drive C:.

        Raises:
            LabError: the disk is in memory.
        """
        folder = self.nodes[node]["disk"]
        if not folder:
            raise LabError(f"the disk of {node} is in memory; use its agent")
        return Path(folder)

    def totals(self) -> dict[str, Any]:
        """CPU seconds, memory and counters of the whole lab."""
        return dict(self._ask("GET", "/lab"))

    def report(self, node: str) -> dict[str, Any]:
        """Counters, service history and current faults of a node."""
        return dict(self._ask("GET", f"/nodes/{node}"))

    def reports(self) -> dict[str, dict[str, Any]]:
        """The same of all nodes, by name."""
        return {report["name"]: dict(report) for report in self._ask("GET", "/nodes")}

    def converse(self, mode: str) -> None:
        """Records the conversations of all nodes anew (`record`), replays them (`play`), or ends both (`off`)."""
        for node in self.nodes:
            self._ask("PUT", f"/nodes/{node}/conversation", {"mode": mode})

    def messages(self, node: str) -> list[dict[str, Any]]:
        """The recorded messages of the clients of a node, in order (`lab.winrm.wsman.recorded`)."""
        return list(self._ask("GET", f"/nodes/{node}/conversation"))

    def operations(self, node: str) -> list[dict[str, Any]]:
        """The latest agent operations and WinRM messages on a node, in order (`lab.machine.condition.Seen`)."""
        return list(self._ask("GET", f"/nodes/{node}/operations"))

    def break_node(self, node: str, **faults: object) -> dict[str, Any]:
        """Sets exactly these faults (`lab.machine.faults.Faults`)."""
        return dict(self._ask("PUT", f"/nodes/{node}/faults", faults))

    def heal(self, node: str) -> dict[str, Any]:
        """Clears all faults of a node."""
        return self.break_node(node)

    def agent(self, node: str, *operations: Mapping[str, object]) -> list[dict[str, Any]]:
        """Runs operations of the agent's protocol on a machine, without WinRM; returns their results."""
        request = {"v": 1, "id": "lab", "keep_going": True, "ops": list(operations)}
        return list(self._ask("POST", f"/nodes/{node}/agent", request)["results"])

    def run_configurator(self, node: str) -> None:
        """Does the same as a click on "Generate Certificates" in the Security Configurator of the node."""
        self._ask("POST", f"/nodes/{node}/configurator")

    def start_sync(self, node: str, profile: str) -> None:
        """Starts a sync on a node, as another user would; does not wait for it.

        Raises:
            LabError: there is no such profile, or a sync is in progress.
        """
        self._ask("POST", f"/nodes/{node}/sync", {"profile": profile})

    def syncs(self, node: str) -> dict[str, Any]:
        """What the database of a node knows of syncs: `running`, `status` by profile, `balance` by server."""
        return dict(self._ask("GET", f"/nodes/{node}/sync"))

    def sync_port(self, node: str) -> dict[str, Any] | None:
        """The answer of the product's service of a node on port 8732; None if the port is closed."""
        url = f"http://{self.nodes[node]['address']}:8732/"
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return dict(json.load(reply))
        except OSError:
            return None

    def _ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        headers = {"Authorization": f"Bearer {self._token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.control + path, data=data, headers=headers, method=method)  # noqa: S310 - the lab's own URL
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310 - the same
                return json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                raise LabError(f"{method} {path}: {error.read().decode('utf-8', 'replace')}") from None


@contextlib.contextmanager
def running_lab(folder: Path, *arguments: str, seconds: float = 180.0) -> Iterator[LabProcess]:
    """Runs a lab during a `with` block; `seconds` is for its start."""
    lab = LabProcess.start(folder, *arguments, seconds=seconds)
    try:
        yield lab
    finally:
        lab.stop()
