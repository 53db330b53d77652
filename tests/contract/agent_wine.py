"""PowerShell for Windows on a nearly-Windows machine, with Windows paths, registry and services."""

import base64
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.contract.agent_cases import Json
from tests.contract.agent_machines import RealDisk, Talk
from tests.windows.machines import create_at, runner_on

__all__ = ["WineMachine"]

#: A PowerShell script that runs each line, decoded from base64, and prints `done` or an error.
_INSPECTOR = """
$ProgressPreference = 'SilentlyContinue'
$ErrorActionPreference = 'Stop'
$held = New-Object Collections.Generic.List[object]
while ($line = [Console]::In.ReadLine()) {
    $text = [Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($line))
    try { $null = . ([scriptblock]::Create($text)); $text = 'done' } catch { $text = "$_" -replace '[^ -~]', ' ' }
    [Console]::Out.Write($text + "`n")
}
"""
#: The behaviour of a service in a case, as a setting of the practice service.
_BEHAVIOUR: dict[str, Callable[[float], str]] = {
    "start_seconds": lambda seconds: f"start_ms={int(seconds * 1000)}",
    "stop_seconds": lambda seconds: f"stop_ms={int(seconds * 1000)}",
    "never_stops": lambda _: "stop=ignore",
    "dies_on_start": lambda _: "start_ms=9000",
}


_ATTRIBUTES = "user.DOSATTRIB"


def _program(image_path: str) -> str:
    """The program of an image path, without quotes and arguments."""
    found = re.match(r'"([^"]+)"|(\S+)', image_path)
    return (found[1] or found[2]) if found else image_path


class WineMachine(RealDisk):
    """A nearly-Windows machine with one PowerShell process for all cases.

    Args:
        program: creates such machines and runs commands on them.
    """

    platform = "wine"

    def __init__(self, program: str) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="wine-", ignore_cleanup_errors=True)
        self._node = Path(self._home.name) / "node"
        self._program = program
        create_at(self._node)
        subprocess.run([program, "service", str(self._node), "Template", "Template", "C:\\practice.exe"], check=True)
        self._practice = self._node / "drive_c" / "practice.exe"
        self._services: list[str] = []
        encoded = base64.b64encode(_INSPECTOR.encode("utf-16-le")).decode()
        self._inspector = Talk(
            self._command, f"powershell.exe -NoProfile -NonInteractive -EncodedCommand {encoded}", b""
        )
        super().__init__(self._node / "drive_c", self._command)

    def _command(self, line: str) -> list[str]:
        return [*runner_on(self._node), line]

    def _run(self, line: str) -> None:
        subprocess.run(self._command(line), check=False, capture_output=True, timeout=300)

    def _powershell(self, script: str) -> None:
        """Runs a script on the machine without the agent."""
        text = self._inspector.ask(base64.b64encode(script.encode()).decode())
        if text != "done":
            raise RuntimeError(f"the machine was not set up: {text}")

    def local(self, value: Json) -> Json:
        """The value unchanged: the paths are Windows paths."""
        return value

    def set_up(self, given: Json, root: str) -> None:
        """Creates folders, files, registry values and services."""
        super().set_up({**given, "locked": []}, root)
        for path in given.get("hidden", []):
            os.setxattr(self.real(path), _ATTRIBUTES, b"0x22")
        for path in given.get("locked", []):
            self._powershell(f"$held.Add([IO.File]::Open('{path}', 'Open', 'ReadWrite', 'None'))")
        for value in given.get("values", []):
            key = value["key"].replace("HKLM", "HKEY_LOCAL_MACHINE")
            self._powershell(f"[Microsoft.Win32.Registry]::SetValue('{key}', '{value['name']}', '{value['value']}')")
        for service in given.get("services", []):
            self._install(service)

    def _install(self, given: Json) -> None:
        name, program = given["name"], _program(given["image_path"])
        settings = [tell(given[what]) for what, tell in _BEHAVIOUR.items() if given.get(what)]
        place = self._drive.joinpath(*program.removeprefix("C:\\").split("\\"))
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(self._practice, place)
        if given.get("no_program"):
            place.unlink()
        place.with_suffix(".ini").write_text("\n".join(["[service]", *settings, ""]))
        place.with_suffix(".log").unlink(missing_ok=True)
        start_type = "Disabled" if given.get("disabled") else "Automatic"
        needs = "".join(f" -DependsOn {other}" for other in given.get("depends_on", ()))
        self._services.append(name)
        self._powershell(
            f"New-Service {name} -DisplayName '{given['display']}' -BinaryPathName '{given['image_path']}' "
            f"-StartupType {start_type}{needs}"
            + (f"; Start-Service {name}" if given.get("running") else "")
            + (
                f"; Stop-Process -Force -Id (Get-CimInstance Win32_Service -Filter \"Name='{name}'\").ProcessId"
                if given.get("died")
                else ""
            )
        )
        if given.get("dies_on_start"):
            threading.Thread(target=self._kill_when_started, args=[place.with_suffix(".log")], daemon=True).start()

    def _kill_when_started(self, log: Path) -> None:
        until = time.monotonic() + 150
        while time.monotonic() < until:
            found = re.search(r" starting pid=(\d+)", log.read_text() if log.exists() else "")
            if found:
                self._run(f"taskkill.exe /F /PID {found[1]}")
                return
            time.sleep(0.05)

    def hidden(self, path: str) -> bool | None:
        """Whether Wine has stored the attribute."""
        real = self.real(path)
        return _ATTRIBUTES in os.listxattr(real) and bool(int(os.getxattr(real, _ATTRIBUTES), 16) & 2)

    def clear(self) -> None:
        """Closes files and removes the services."""
        self._powershell("foreach ($one in $held) { $one.Dispose() }; $held.Clear()")
        if self._services:
            self._remove_services()
        super().clear()

    def _remove_services(self) -> None:
        """Kills their processes first, because some services never stop."""
        names = ",".join(reversed(self._services))
        self._powershell(
            f"$names = '{names}'.Split(','); $ids = foreach ($n in $names) {{ "
            "(Get-CimInstance Win32_Service -Filter \"Name='$n'\").ProcessId }; $ids = @($ids | Where-Object { $_ }); "
            "if ($ids) { Stop-Process -Id $ids -Force -ErrorAction SilentlyContinue; Start-Sleep -Milliseconds 300 }; "
            "foreach ($n in $names) { sc.exe delete $n }"
        )
        self._services.clear()

    def close(self) -> None:
        """Ends every process of the machine."""
        with contextlib.suppress(OSError, RuntimeError):
            super().close()
        self._inspector.close()
        subprocess.run([self._program, "stop", str(self._node)], check=False, capture_output=True)
        self._home.cleanup()
