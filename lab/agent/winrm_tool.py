"""WinRM's quotas on a simulated machine: by name, and as `winrm get winrm/config` prints them."""

from lab.machine.machine import Machine

__all__ = ["asks_for_config", "config_text", "quotas_by_name"]


def asks_for_config(program: str, args: list[str]) -> bool:
    """Whether the command line is `cscript ... get winrm/config`."""
    return program.lower() == "cscript.exe" and [arg.lower() for arg in args[-2:]] == ["get", "winrm/config"]


def _envelope(machine: Machine) -> dict[str, str]:
    return {"MaxEnvelopeSizekb": str(machine.quotas.envelope_bytes // 1024), "MaxTimeoutms": "60000"}


def _service(machine: Machine) -> dict[str, str]:
    return {"MaxConcurrentOperationsPerUser": str(machine.quotas.operations_per_shell)}


def _shells(machine: Machine) -> dict[str, str]:
    quotas = machine.quotas
    return {
        "IdleTimeout": str(int(quotas.idle_seconds * 1000)),
        "MaxConcurrentUsers": str(quotas.users),
        "MaxProcessesPerShell": str(quotas.processes_per_shell),
        "MaxMemoryPerShellMB": str(quotas.memory_megabytes),
        "MaxShellsPerUser": str(quotas.shells_per_user),
    }


def quotas_by_name(machine: Machine) -> dict[str, str]:
    """All simulated quotas by name."""
    return {**_envelope(machine), **_service(machine), **_shells(machine)}


def config_text(machine: Machine) -> str:
    """The settings in indented sections."""
    lines = [
        "Config",
        *_listed(_envelope(machine), 4),
        "    Client",
        "        AllowUnencrypted = false",
        "    Service",
        *_listed(_service(machine), 8),
        '        AllowUnencrypted = false [Source="GPO"]',
        "    Winrs",
        "        AllowRemoteShellAccess = true",
        *_listed(_shells(machine), 8),
    ]
    return "\r\n".join(lines) + "\r\n"


def _listed(settings: dict[str, str], indent: int) -> list[str]:
    return [f"{'':{indent}}{name} = {value}" for name, value in settings.items()]
