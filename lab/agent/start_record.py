"""The start record of a service: a process of it, and what that process has loaded (docs/agent-protocol.md)."""

import json
from dataclasses import dataclass
from typing import Self

from lab.agent.messages import Fields, as_time
from lab.machine.errors import Refusal
from lab.machine.machine import Machine
from lab.machine.paths import WindowsPath
from lab.machine.services import Service

__all__ = ["Loaded", "Outdated"]


@dataclass(frozen=True, slots=True)
class Outdated:
    """What a change of a file says before it: the running process of the service has loaded something else."""

    service: str = ""
    file: WindowsPath | None = None

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """Reads it from an operation that changes files; refuses `invalid`."""
        given = fields.object_or_none("start_record")
        return cls(given.text("service"), given.path("file")) if given else cls()

    def save(self, machine: Machine) -> None:
        """Writes the record if that service has a process."""
        if self.file is None:
            return
        try:
            service = machine.services.get(self.service)
        except Refusal:
            return
        if service.state() and service.pid:
            _save(machine, self.file, service, None)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the start of a service says after it: its process has loaded these files."""

    file: WindowsPath | None = None
    hashes: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """Reads it from the start of a service; refuses `invalid`."""
        given = fields.object_or_none("start_record")
        return cls(given.path("file"), tuple(given.names("loaded").items())) if given else cls()

    def save(self, machine: Machine, service: Service) -> None:
        """Writes the record if the service has a process."""
        if self.file and service.state() and service.pid:
            _save(machine, self.file, service, dict(self.hashes))


def _save(machine: Machine, file: WindowsPath, service: Service, loaded: dict[str, str] | None) -> None:
    value = {
        "service": service.name,
        "pid": service.pid,
        "started": as_time(service.started) if service.started else None,
        "loaded": loaded,
    }
    machine.disk.make_folder(file.parent)
    machine.disk.put(file, json.dumps(value).encode() + b"\n")
