"""What `winrm get winrm/config` prints on a simulated machine: its quotas, in the shape of the real tool."""

from lab.machine import Machine

__all__ = ["asks_for_config", "config_text"]


def asks_for_config(program: str, args: list[str]) -> bool:
    """Whether that is the call: the script host, the tool's script, and what is wanted of it."""
    return program.lower() == "cscript.exe" and [arg.lower() for arg in args[-2:]] == ["get", "winrm/config"]


def config_text(machine: Machine) -> str:
    """The settings, in sections by indentation."""
    quotas = machine.quotas
    lines = [
        "Config",
        f"    MaxEnvelopeSizekb = {quotas.envelope_bytes // 1024}",
        "    MaxTimeoutms = 60000",
        "    Client",
        "        AllowUnencrypted = false",
        "    Service",
        f"        MaxConcurrentOperationsPerUser = {quotas.operations_per_shell}",
        '        AllowUnencrypted = false [Source="GPO"]',
        "    Winrs",
        "        AllowRemoteShellAccess = true",
        f"        IdleTimeout = {int(quotas.idle_seconds * 1000)}",
        f"        MaxProcessesPerShell = {quotas.processes_per_shell}",
        "        MaxMemoryPerShellMB = 1024",
        f"        MaxShellsPerUser = {quotas.shells_per_user}",
    ]
    return "\r\n".join(lines) + "\r\n"
