"""The agent's operations beyond files: services, versions, registry, network, clock, programs."""

import base64
from collections.abc import Awaitable, Callable

from lab.agent.messages import Fields, Result, as_time
from lab.agent.start_record import Loaded
from lab.agent.winrm_tool import asks_for_config, config_text, quotas_by_name
from lab.machine.binaries import file_version
from lab.machine.disk import sha256
from lab.machine.errors import Refusal, Slug
from lab.machine.machine import Machine
from lab.machine.paths import WindowsPath
from lab.machine.services import Service, ServiceState

__all__ = ["SYSTEM_OPERATIONS", "WAITING_OPERATIONS"]

_CUT = 65_536
_PORTS = 65_535


def _hello(machine: Machine, fields: Fields) -> Result:
    del fields
    facts = machine.facts
    return {
        "agent": 1,
        "powershell": facts.powershell,
        "edition": facts.edition,
        "language_mode": facts.language_mode,
        "clr": facts.clr,
        "os": facts.os,
        "computer": machine.name,
        "admin": facts.admin,
        "code_page": facts.code_page,
        "program_data": facts.program_data,
        "system_drive": facts.system_drive,
        "drives": [{"name": drive, "free": machine.disk.free} for drive in facts.drives],
        "winrm": quotas_by_name(machine),
    }


def _version(machine: Machine, fields: Fields) -> Result:
    data = machine.disk.read(fields.path())
    return {"version": file_version(data), "size": len(data), "hash": sha256(data)}


def _registry(machine: Machine, fields: Fields) -> Result:
    return {"value": machine.value(fields.text("key"), fields.text("name"))}


def _clock(machine: Machine, fields: Fields) -> Result:
    del fields
    return {"now": as_time(machine.clock.now()), "boot": as_time(machine.clock.boot())}


async def _service(machine: Machine, fields: Fields) -> Result:
    name, action, deadline = fields.text("name"), fields.text("action", "query"), fields.seconds("deadline", 60)
    if action not in {"query", "stop", "start"}:
        raise Refusal(Slug.INVALID, "service: action must be query, stop or start")
    loaded = Loaded.of(fields) if action == "start" else Loaded()
    service = machine.services.get(name)
    changed = False
    if action == "stop":
        changed = await machine.services.stop(service, deadline)
    elif action == "start":
        changed = await machine.services.start(service, deadline)
        if changed:
            loaded.save(machine, service)
    return {**_described(machine, service), "changed": changed}


def _described(machine: Machine, service: Service) -> Result:
    state = service.state()
    return {
        "name": service.name,
        "display": service.display,
        "state": state.value,
        "start_type": service.start_type.value,
        "pid": 0 if state is ServiceState.STOPPED else service.pid,
        "started": as_time(service.started) if service.started else None,
        "image_path": service.image_path,
        "exit_code": service.exit_code,
        "dependents": machine.services.running_dependents(service),
    }


async def _tcp(machine: Machine, fields: Fields) -> Result:
    host, port = fields.text("host"), fields.whole("port", least=1)
    if port > _PORTS or not host:
        raise Refusal(Slug.INVALID, "tcp: host must not be empty and port at most 65535")
    why = await machine.network.reach(machine.name, host, port, fields.seconds("timeout", 5))
    return {"reachable": False, "message": why} if why else {"reachable": True}


async def _http(machine: Machine, fields: Fields) -> Result:
    url, limit = fields.text("url"), fields.whole("limit", _CUT)
    page = await machine.network.get(machine.name, url, fields.seconds("timeout", 10))
    return {"status": page.status, "body": base64.b64encode(page.body[:limit]).decode()}


async def _resolve(machine: Machine, fields: Fields) -> Result:
    host = fields.text("host")
    fields.seconds("timeout", 5)
    address = machine.network.address_of(host, machine.name) if host else machine.address
    if address is None:
        raise Refusal(Slug.NOT_FOUND, f"no address of the name {host}")
    return {"addresses": [address]}


async def _run(machine: Machine, fields: Fields) -> Result:
    program, args = fields.path("program"), fields.texts("args")
    fields.seconds("deadline", 60)
    output = _simulated(machine, program, args)
    return {"exit": 0, "stdout": output[:_CUT], "stderr": ""}


def _simulated(machine: Machine, program: WindowsPath, args: list[str]) -> str:
    """The output of the few programs that a simulated machine has."""
    name = program.name.lower()
    if name == "hostname.exe" and not args:
        return f"{machine.name}\r\n"
    if asks_for_config(name, args):
        return config_text(machine)
    entry = machine.disk.stat(program)
    if entry is None:
        raise Refusal(Slug.NOT_FOUND, "there is no such program", program.text)
    if entry.folder:
        raise Refusal(Slug.INVALID, "expected a program, found a folder", program.text)
    raise Refusal(Slug.FAILED, f"{program.name} cannot run on a simulated machine", program.text)


SYSTEM_OPERATIONS: dict[str, Callable[[Machine, Fields], Result]] = {
    "hello": _hello,
    "version": _version,
    "registry": _registry,
    "clock": _clock,
}

WAITING_OPERATIONS: dict[str, Callable[[Machine, Fields], Awaitable[Result]]] = {
    "service": _service,
    "tcp": _tcp,
    "http": _http,
    "resolve": _resolve,
    "run": _run,
}
