"""PowerShell for Windows on a nearly-Windows machine: Windows' own paths, registry and services."""

import base64
import contextlib
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

__all__ = ["WineMachine"]

_HOLD = (
    "$held = [IO.File]::Open('{}', 'Open', 'ReadWrite', 'None'); [Console]::Out.WriteLine(1); [Console]::In.ReadLine()"
)
#: What the simulated machine's services do, as the practice service is told to.
_BEHAVIOUR: dict[str, Callable[[float], str]] = {
    "start_seconds": lambda seconds: f"start_ms={int(seconds * 1000)}",
    "stop_seconds": lambda seconds: f"stop_ms={int(seconds * 1000)}",
    "never_stops": lambda _: "stop=ignore",
    "dies_on_start": lambda _: "start_ms=9000",
}


class WineMachine(RealDisk):
    """A nearly-Windows machine with one PowerShell that answers all cases.

    Args:
        program: what makes such machines and runs commands on them.
    """

    platform = "wine"

    def __init__(self, program: str) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="wine-", ignore_cleanup_errors=True)
        self._node = Path(self._home.name) / "node"
        self._program = program
        subprocess.run([program, "create", str(self._node)], check=True, capture_output=True)
        self._drive = self._node / "drive_c"
        subprocess.run([program, "service", str(self._node), "Template", "Template", "C:\\practice.exe"], check=True)
        self._practice = self._drive / "practice.exe"
        self._services: list[str] = []
        self._holders: list[subprocess.Popen[bytes]] = []
        super().__init__(self._drive / "case", Talk(self._command))

    def _command(self, line: str) -> list[str]:
        # .NET under Wine dies in its garbage collector while it keeps code either writable or executable.
        return ["env", "DOTNET_EnableWriteXorExecute=0", self._program, "exec", str(self._node), line]

    def _run(self, line: str) -> None:
        subprocess.run(self._command(line), check=False, capture_output=True, timeout=60)

    def local(self, value: Json) -> Json:
        """As it is: these are Windows' own paths."""
        return value

    def lay_out(self, given: Json) -> None:
        r"""Makes `C:\case`, and registry values and services as given."""
        super().lay_out({**given, "locked": []})
        for path in given.get("locked", []):
            self._hold(path)
        if given.get("values"):
            self._set_values(given["values"])
        for service in given.get("services", []):
            self._install(service)

    def _hold(self, path: str) -> None:
        encoded = base64.b64encode(_HOLD.format(path).encode("utf-16-le")).decode()
        holder = subprocess.Popen(
            self._command(f"powershell.exe -NoProfile -EncodedCommand {encoded}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        if holder.stdout:
            holder.stdout.readline()
        self._holders.append(holder)

    def _set_values(self, values: list[Json]) -> None:
        lines = ["Windows Registry Editor Version 5.00", ""]
        for value in values:
            text = value["value"].replace("\\", "\\\\").replace('"', '\\"')
            key = value["key"].replace("HKLM", "HKEY_LOCAL_MACHINE")
            lines += [f"[{key}]", f'"{value["name"]}"="{text}"', ""]
        (self._drive / "values.reg").write_text("\r\n".join(lines), "utf-16")
        self._run("reg.exe import C:\\values.reg")

    def _install(self, given: Json) -> None:
        name, program = given["name"], given["image_path"].strip('"')
        settings = [tell(given[what]) for what, tell in _BEHAVIOUR.items() if given.get(what)]
        place = self._drive.joinpath(*program.removeprefix("C:\\").split("\\"))
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(self._practice, place)
        place.with_suffix(".ini").write_text("\n".join(["[service]", *settings, ""]))
        place.with_suffix(".log").unlink(missing_ok=True)
        start_type = "Disabled" if given.get("disabled") else "Automatic"
        needs = "".join(f" -DependsOn {other}" for other in given.get("depends_on", ()))
        self._services.append(name)
        self._powershell(
            f"New-Service {name} -DisplayName '{given['display']}' -BinaryPathName '{given['image_path']}' "
            f"-StartupType {start_type}{needs} | Out-Null" + (f"; Start-Service {name}" if given.get("running") else "")
        )
        if given.get("dies_on_start"):
            threading.Thread(target=self._kill_when_started, args=[place.with_suffix(".log")], daemon=True).start()

    def _kill_when_started(self, log: Path) -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            found = re.search(r" starting pid=(\d+)", log.read_text() if log.exists() else "")
            if found:
                self._run(f"taskkill.exe /F /PID {found[1]}")
                return
            time.sleep(0.05)

    def _powershell(self, script: str) -> None:
        encoded = base64.b64encode(script.encode("utf-16-le")).decode()
        self._run(f"powershell.exe -NoProfile -NonInteractive -EncodedCommand {encoded}")

    def clear(self) -> None:
        """Lets go of files, and takes the services away again."""
        for holder in self._holders:
            holder.communicate(b"\n", timeout=60)
        self._holders.clear()
        if self._services:
            self._take_services_away()
        super().clear()

    def _take_services_away(self) -> None:
        """Kills their processes, which works for those too that never stop."""
        names = ",".join(reversed(self._services))
        self._powershell(
            f"foreach ($n in '{names}'.Split(',')) {{ "
            "$id = (Get-CimInstance Win32_Service -Filter \"Name='$n'\").ProcessId; "
            "if ($id) { Stop-Process -Id $id -Force; Start-Sleep -Milliseconds 300 }; sc.exe delete $n }"
        )
        self._services.clear()

    def close(self) -> None:
        """Ends every process of the machine."""
        with contextlib.suppress(OSError):
            super().close()
        subprocess.run([self._program, "stop", str(self._node)], check=False, capture_output=True)
        self._home.cleanup()
