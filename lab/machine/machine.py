"""One simulated Windows server: name, disk, services, processes, clock."""

import itertools
import time
from dataclasses import dataclass, field

from lab.machine.disk import Disk
from lab.machine.errors import Refusal, Slug
from lab.machine.network import Network
from lab.machine.paths import WindowsPath, fold
from lab.machine.services import Program, Service, Services

__all__ = ["Clock", "Machine", "Quotas", "SystemFacts"]

_SECOND = 1_000_000_000
_HOSTS = WindowsPath.of(r"C:\Windows\System32\drivers\etc\hosts")


@dataclass(slots=True)
class Clock:
    """The machine's clock: real time plus `skew` seconds."""

    skew: float = 0.0
    booted: int = field(default_factory=lambda: time.time_ns() - 60 * _SECOND)

    def now(self) -> int:
        """Nanoseconds since 1970, UTC, by this clock."""
        return time.time_ns() + int(self.skew * _SECOND) if self.skew else time.time_ns()

    def boot(self) -> int:
        """The start time of the machine, by this clock."""
        return self.booted + int(self.skew * _SECOND)


@dataclass(slots=True)
class Quotas:
    """Quotas of the WinRM service with the defaults of Windows Server 2016 to 2022 (engineering-pitfalls 7).

    Attributes:
        shells_per_user: maximum open shells. operations_per_shell: maximum commands in the life of a shell.
        processes_per_shell: maximum running commands in a shell. idle_seconds: time after which a shell is ended.
        envelope_bytes: largest message; larger ones are refused. users: maximum accounts with open shells.
        memory_megabytes: maximum of a shell and all its processes.
    """

    shells_per_user: int = 30
    processes_per_shell: int = 25
    operations_per_shell: int = 1500
    idle_seconds: float = 7200.0
    envelope_bytes: int = 512_000
    users: int = 10
    memory_megabytes: int = 1024


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """What the machine reports about itself in a `hello`."""

    powershell: str = "5.1.17763.1"
    edition: str = "Desktop"
    language_mode: str = "FullLanguage"
    clr: str = "4.0.30319.42000"
    os: str = "Microsoft Windows Server 2019 Standard (simulated)"
    admin: bool = True
    code_page: int = 437
    program_data: str = r"C:\ProgramData"
    system_drive: str = "C:"
    drives: tuple[str, ...] = ("C:",)


class Machine:
    """A server and everything that an agent on it can see.

    Without more arguments it has only a disk: no product, no service, no other machine. The protocol's case files run
    against such a machine. Add what a case needs with `install_service` and `set_value`; `tcp` and `http` reach real
    ports on this host's loopback.

    Attributes:
        name: its NetBIOS name.
        disk: its drives; changes get the time of the machine's clock.
        services: the Windows services that the agent queries.
        network: the network to the other machines; `address` is its own address.
        processes: ids of the running PowerShell processes.
        kept_backups: folder of kept files -> the largest number that an agent has written there.
    """

    def __init__(
        self,
        name: str,
        disk: Disk,
        *,
        address: str = "127.0.0.1",
        network: Network | None = None,
        facts: SystemFacts | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        self.name = name
        self.disk = disk
        self.address = address
        self.network = network or Network()
        self.facts = facts or SystemFacts()
        self.quotas = quotas or Quotas()
        self.clock = Clock()
        self.services = Services()
        self.processes: set[int] = set()
        self.kept_backups: dict[str, int] = {}
        self._pids = itertools.count(1204, 4)
        self._registry: dict[tuple[str, str], str] = {}
        disk.now = self.clock.now
        self.network.join(name, address, self._hosts_file)

    def _hosts_file(self) -> bytes:
        """Names that this machine resolves in its own way."""
        return self.disk.read(_HOSTS) if self.disk.stat(_HOSTS) else b""

    def new_pid(self) -> int:
        """An unused process id."""
        return next(self._pids)

    def install_service(
        self,
        name: str,
        display: str,
        image_path: str,
        *,
        program: Program | None = None,
        depends_on: tuple[str, ...] = (),
    ) -> Service:
        """Installs a stopped service with automatic start, and its registry key."""
        service = Service(
            name=name,
            display=display,
            image_path=image_path,
            clock=self.clock.now,
            new_pid=self.new_pid,
            program=program,
            depends_on=depends_on,
        )
        self.set_value(rf"HKLM\SYSTEM\CurrentControlSet\Services\{name}", "ImagePath", image_path)
        return self.services.add(service)

    def set_value(self, key: str, name: str, text: str) -> None:
        """Sets one registry value; the case of keys and names is ignored."""
        self._registry[_key(key), fold(name)] = text

    def value(self, key: str, name: str) -> str:
        """One registry value.

        Raises:
            Refusal: `not_found`, or `invalid` for a key without a hive.
        """
        text = self._registry.get((_key(key), fold(name)))
        if text is None:
            raise Refusal(Slug.NOT_FOUND, f"there is no registry value {key}\\{name}")
        return text


_HIVES = {"HKLM", "HKCU", "HKCR", "HKU", "HKCC"}


def _key(text: str) -> str:
    hive, _, rest = fold(text).partition("\\")
    if hive not in _HIVES:
        raise Refusal(Slug.INVALID, f"the key must begin with HKLM\\ or another hive: {text}")
    rest = rest.rstrip("\\")
    return f"{hive}\\{rest}"
