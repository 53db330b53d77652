"""Nearly-Windows machines for the rollout: created, started, with the product and a service, inspected from here.

Whatever is particular to the command runner stands in this file. See docs/testing.md for what the runner must do.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psutil

from lab.control.remote import LabProcess, running_lab, spare_addresses
from tests.waiting import PATIENCE

__all__ = [
    "EXE",
    "MEMBERS",
    "NAMES",
    "SERVICE",
    "Farm",
    "WindowsMachine",
    "create_at",
    "farm_at",
    "lab_file",
    "runner_on",
]

NAMES = ("S1", "P1")  #: the origin and another server: each more costs seconds of CPU time in every rollout
MEMBERS = (*NAMES, "N001")  #: the servers of the cluster: those, and a simulated one
SERVICE = r"C:\Program Files\Ektron\EktronWindowsService30"
EXE = "Ektron.ASM.EktronServices30"
_NAME, _DISPLAY = "EktronWindowsServices30", "Ektron Windows Services 3.0"
_WEB_PORT = 8080
_PARTS = (
    r"C:\Program Files\Ektron",
    r"C:\inetpub",
    r"C:\Ektron Security Certificates",
    r"C:\ProgramData\esync-rollout",
)
#: Wine looks for them all the time, which takes 2 % of a processor for each machine.
_NO_GAME_CONTROLLERS = r"""
[System\\CurrentControlSet\\Services\\winebus]
"Enable SDL"=dword:00000000
"""
_EVENT = re.compile(r"^(\S+) ([\w-]+) pid=(\d+)", re.MULTILINE)


def runner_on(folder: Path) -> list[str]:
    """The program and arguments that run a command line, as the last argument, on the machine in a folder."""
    # .NET in Wine crashes in its garbage collector if code pages are either writable or executable.
    # Precompiled code costs half of code that is compiled again at run time.
    return ["env", "DOTNET_EnableWriteXorExecute=0", "DOTNET_TieredCompilation=0", "wine-node", "exec", str(folder)]


def create_at(folder: Path) -> None:
    """Creates a machine in a folder; it does not run yet."""
    subprocess.run(["wine-node", "create", str(folder)], check=True, capture_output=True)
    with (folder / "system.reg").open("a") as registry:
        registry.write(_NO_GAME_CONTROLLERS)


@dataclass
class WindowsMachine:
    """One machine.

    Attributes:
        folder: the machine's. address: its own on loopback.
    """

    name: str
    folder: Path
    address: str
    role: str
    _on: subprocess.Popen[bytes] | None = None
    _untouched: dict[Path, tuple[bytes, float]] = field(default_factory=dict)

    @property
    def drive(self) -> Path:
        """Its drive C:."""
        return self.folder / "drive_c"

    def at(self, path: str) -> Path:
        r"""Where `C:\...` lies here."""
        return self.drive.joinpath(*path.split("\\")[1:])

    def create(self) -> None:
        """Creates and starts the machine with its name: it runs until `remove`."""
        create_at(self.folder)
        # Such a machine ends with all services when the last program that was started on it ends.
        self._on = subprocess.Popen(
            [*runner_on(self.folder), "cmd.exe /q /k"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._wait_until_on(self._on)
        self.run(
            r"reg.exe add HKLM\System\CurrentControlSet\Control\ComputerName\ActiveComputerName "
            rf"/v ComputerName /d {self.name} /f"
        )

    def _wait_until_on(self, prompt: subprocess.Popen[bytes]) -> None:
        if prompt.stdin and prompt.stdout:
            prompt.stdin.write(b"echo it is on\r\n")
            prompt.stdin.flush()
            while b"it is on" not in (line := prompt.stdout.readline()):
                assert line, f"{self.name} cannot be switched on"

    def run(self, line: str) -> None:
        """Runs a command line on the machine."""
        # Without pipes: background programs that Wine starts would keep them open.
        nowhere = subprocess.DEVNULL
        subprocess.run(
            [*runner_on(self.folder), line], check=True, stdin=nowhere, stdout=nowhere, stderr=nowhere, timeout=PATIENCE
        )

    def install_service(self) -> None:
        """Installs and starts the practice service instead of the product's, and records this initial state."""
        program = rf"{SERVICE}\{EXE}.exe"
        subprocess.run(
            ["wine-node", "service", str(self.folder), _NAME, _DISPLAY, program], check=True, capture_output=True
        )
        self.behave()
        self.run(f"net.exe start {_NAME}")
        self._wait_until_logged("running")
        for path in self.files():
            self._untouched[path] = (path.read_bytes(), path.stat().st_mtime)

    def _wait_until_logged(self, event: str) -> None:
        until = time.monotonic() + PATIENCE
        while not self.events() or self.events()[-1][1] != event:
            assert time.monotonic() < until, f"the service of {self.name} is not {event}"
            time.sleep(0.02)

    def behave(self, **settings: object) -> None:
        """Sets the behaviour of the service: `stop="ignore"`, `stop_ms=500`. It reads this at each event."""
        known = {"address": self.address, "port": 8732, "start_ms": 100, "stop_ms": 100} | settings
        lines = ["[service]", *(f"{name}={value}" for name, value in known.items()), ""]
        self.at(rf"{SERVICE}\{EXE}.ini").write_text("\r\n".join(lines))

    def repair_service(self) -> None:
        """Ends the process of a service that hangs, as an administrator would; then the service is stopped."""
        self.behave()
        for process in self.processes(f"{EXE}.exe"):
            process.kill()
        # Windows reports a service as stopped when its process ends; Wine needs another start and stop.
        self.run(f"net.exe start {_NAME}")
        self._wait_until_logged("running")
        self.run(f"net.exe stop {_NAME}")
        self._wait_until_logged("stopped")

    def events(self) -> list[tuple[str, str, int]]:
        """The log of the service: time, event, process id."""
        log = self.at(rf"{SERVICE}\{EXE}.log")
        text = log.read_text() if log.exists() else ""
        return [(found[1], found[2], int(found[3])) for found in _EVENT.finditer(text)]

    def starts(self) -> int:
        """The number of starts of the service."""
        return sum(event == "running" for _, event, _ in self.events())

    def restore(self) -> None:
        """Restores the initial state of every file of the product; the service and its log continue."""
        for path in self.files():
            if path not in self._untouched:
                path.unlink()
        for path, (data, stamp) in self._untouched.items():
            if not path.exists() or path.stat().st_mtime != stamp:
                path.write_bytes(data)
                os.utime(path, (stamp, stamp))

    def files(self) -> Iterator[Path]:
        """The files of the product and of a rollout, without the log and the settings of the service."""
        for part in _PARTS:
            yield from (p for p in self.at(part).rglob("*") if p.is_file() and p.suffix not in {".log", ".ini"})

    def processes(self, name: str = "") -> list[psutil.Process]:
        """The processes of the machine, as this system sees them, with the text in their command line."""
        return [process for process in psutil.process_iter() if self._owns(process, name)]

    def _owns(self, process: psutil.Process, name: str) -> bool:
        try:
            named = name in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE
            return named and process.environ().get("WINEPREFIX") == str(self.folder)
        except psutil.Error:
            return False

    def remove(self) -> None:
        """Ends every process of the machine."""
        subprocess.run(["wine-node", "stop", str(self.folder)], check=False, capture_output=True)
        if self._on:
            self._on.communicate(timeout=PATIENCE)


class _WebService(BaseHTTPRequestHandler):
    """Replaces the site's web service."""

    def do_GET(self) -> None:
        """Answers 200 for the web service."""
        self.send_response(200 if self.path.lower().endswith("/servercontrolws.asmx") else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Prints nothing."""


@contextmanager
def _web_site(address: str) -> Iterator[None]:
    with ThreadingHTTPServer((address, _WEB_PORT), _WebService) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


@dataclass(frozen=True)
class Farm:
    """Machines behind one lab's WinRM."""

    lab: LabProcess
    machines: dict[str, WindowsMachine]

    def __iter__(self) -> Iterator[WindowsMachine]:
        return iter(self.machines.values())

    def starts(self) -> dict[str, int]:
        """The number of starts of each machine's service."""
        return {machine.name: machine.starts() for machine in self}


@contextmanager
def farm_at(folder: Path, names: Sequence[str] = NAMES, *, simulated: int = 0, origin: str = "") -> Iterator[Farm]:
    """Creates and starts everything, and ends everything afterwards.

    Args:
        folder: where all of it lies.
        names: of the machines.
        simulated: how many simulated servers stand beside them.
        origin: its name; the first simulated server, or else the first machine, unless told otherwise.
    """
    base = spare_addresses().rpartition(".")[0]
    machines = {
        name: WindowsMachine(name, folder / name, f"{base}.{11 + place}", "production" if name == "P1" else "staging")
        for place, name in enumerate(names)
    }
    beside = {f"N{number:03}": f"{base}.{100 + number}" for number in range(1, simulated + 1)}
    with ExitStack() as stack:
        for machine in machines.values():
            stack.callback(machine.remove)
            machine.create()
            stack.enter_context(_web_site(machine.address))
        (folder / "lab.yaml").write_text(lab_file(machines.values(), beside, origin))
        lab = stack.enter_context(running_lab(folder / "lab", "--config", str(folder / "lab.yaml")))
        for machine in machines.values():
            machine.install_service()
        yield Farm(lab, machines)


def lab_file(machines: Iterable[WindowsMachine], simulated: Mapping[str, str], origin: str = "") -> str:
    """The lab file for these machines, and for simulated ones: name -> address."""
    nodes: list[dict[str, Any]] = [
        {
            "name": machine.name,
            "address": machine.address,
            "role": machine.role,
            "pool": machine.role,
            "ws_path": f"http://{machine.address}:{_WEB_PORT}/WorkArea/ServerControlWS.asmx",
            "process": {"runner": runner_on(machine.folder), "drive": str(machine.drive)},
        }
        for machine in machines
    ]
    nodes += [
        {"name": name, "address": address, "role": "staging", "pool": "staging"} for name, address in simulated.items()
    ]
    first = next(iter(simulated), nodes[0]["name"])
    return json.dumps({"origin": origin or first, "edition": "8.0", "nodes": nodes})  # YAML is a superset of JSON
