"""One simulated Windows server: what it is called, what lies on its disk, what runs, what its clock says."""

import itertools
import time
from dataclasses import dataclass, field
from typing import Self

from lab.machine.disk import Disk
from lab.machine.errors import Refusal, Slug
from lab.machine.network import Network
from lab.machine.paths import fold
from lab.machine.services import Program, Service, Services

__all__ = ["Clock", "Machine", "Quotas", "SystemFacts"]

_SECOND = 1_000_000_000


@dataclass(slots=True)
class Clock:
    """The machine's time: the real one, and off by `skew` seconds."""

    skew: float = 0.0
    booted: int = field(default_factory=lambda: time.time_ns() - 60 * _SECOND)

    def now(self) -> int:
        """Nanoseconds since 1970, UTC, as the machine believes."""
        return time.time_ns() + int(self.skew * _SECOND)

    def boot(self) -> int:
        """When it started, by its own clock."""
        return self.booted + int(self.skew * _SECOND)


@dataclass(slots=True)
class Quotas:
    """Limits of the WinRM service, as a Windows Server of 2016 to 2022 has them (engineering-pitfalls 7).

    Attributes:
        shells_per_user: shells open at a time. operations_per_shell: commands a shell takes in its life.
        processes_per_shell: commands running in a shell at a time. idle_seconds: after which a shell is ended.
        envelope_bytes: largest message; larger ones are refused. users: accounts with shells at a time.
        memory_megabytes: of a shell and all that runs in it.
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
    """What the machine says of itself when greeted."""

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
    """A server and everything an agent on it can see.

    Attributes:
        name: its NetBIOS name.
        disk: its drives; stamped with the machine's own clock.
        services, registry: as the agent queries them; `registry` is set with `set_value`.
        network: the wire to the other machines; `address` is its own on it.
        processes: ids of the PowerShell processes that live at present.
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
        self._pids = itertools.count(1204, 4)
        self._registry: dict[tuple[str, str], str] = {}
        disk.now = self.clock.now
        self.network.join(name, address)

    @classmethod
    def bare(cls, name: str, disk: Disk) -> Self:
        """A machine with that disk and nothing on it: no product, no service, no other machine on its wire.

        This is what the protocol's case files run against: `Agent(Machine.bare("N1", MemoryDisk())).answer(line)`
        answers one request line, for example with a `FolderDisk` whose folder the case prepared. Add what a case needs
        with `install_service` and `set_value`; `tcp` and `http` reach real ports on this host's loopback.
        """
        return cls(name, disk)

    def new_pid(self) -> int:
        """A process id nobody has."""
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
        """Installs a stopped service that starts by itself, and its registry key."""
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
        """Sets one registry value; names of keys and values are found in any case."""
        self._registry[_key(key), fold(name)] = text

    def value(self, key: str, name: str) -> str:
        """One registry value.

        Raises:
            Refusal: `not_found`, or `invalid` for a key of no hive.
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
