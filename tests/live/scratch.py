r"""A scratch installation on a real Windows host: the product's files and a stand-in service, in one own folder.

Everything is below `C:\ProgramData\esync-live\<token>`, apart from the service, which needs the product's name. So a
host on which the product is installed is refused.
"""

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.machine.folder_disk import FolderDisk
from lab.machine.machine import Machine
from lab.product.site import Edition, Options, install_files, run_configurator
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply, digest
from workers.winrm.session import AgentSession

__all__ = ["EDITION", "Occupied", "Scratch", "compiled", "scratch_on"]

EDITION = "8.0"
SYNC_PORT, WEB_PORT = 8732, 8739
_ALL = r"C:\ProgramData\esync-live"
_SERVICE = "EktronWindowsServices30"
_DISPLAY = "Ektron Windows Services 3.0"
_KEY = rf"HKLM\SYSTEM\CurrentControlSet\Services\{_SERVICE}"
_PROGRAMS = r"C:\Program Files\Ektron"
_SYSTEM = r"C:\Windows\System32"
_CMD, _SC = rf"{_SYSTEM}\cmd.exe", rf"{_SYSTEM}\sc.exe"
_POWERSHELL = rf"{_SYSTEM}\WindowsPowerShell\v1.0\powershell.exe"
_DEADLINE = 120.0


class Occupied(Exception):
    """The host has a service of the product's name: nothing is tried there."""


@dataclass(frozen=True)
class Scratch:
    """The installation: its folders on the host, and the files that were written, with their digests."""

    root: str
    site: str
    service_folder: str
    product_folder: str
    files: dict[str, str]

    def differences(self, session: AgentSession) -> list[str]:
        """Files that are not as they were written; files that were added are not looked at."""
        replies = asked(session, [ops.hash_of(path) for path in self.files], keep_going=True)
        found = {
            path: reply["hash"] if reply.ok else reply.error for path, reply in zip(self.files, replies, strict=True)
        }
        return [path.removeprefix(self.root) for path, value in self.files.items() if found[path] != value]


def asked(session: AgentSession, operations: list[Op], *, keep_going: bool = False) -> list[Reply]:
    """The replies to operations, in requests of moderate size."""
    replies: list[Reply] = []
    for start in range(0, len(operations), 20):
        replies += session.ask(operations[start : start + 20], deadline=_DEADLINE, keep_going=keep_going)
    return replies


def compiled(session: AgentSession, folder: str) -> str:
    """The path of the stand-in service's program, compiled on the host by Windows PowerShell; empty if it cannot be."""
    source, program = f"{folder}\\standin.cs", f"{folder}\\standin.exe"
    code = (Path(__file__).parent / "standin.cs").read_bytes()
    command = (
        f"Add-Type -Path '{source}' -OutputAssembly '{program}' -OutputType ConsoleApplication "
        "-ReferencedAssemblies System.ServiceProcess"
    )
    arguments = ["-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-Command", command]
    asked(session, [ops.mkdir(folder), ops.write(source, code, expect=ops.ANY)])
    asked(session, [ops.run(_POWERSHELL, arguments, deadline=90)], keep_going=True)
    (found,) = asked(session, [ops.stat(program)], keep_going=True)
    return program if found.ok and found.get("exists") else ""


@contextmanager
def scratch_on(session: AgentSession, address: str, practice: str) -> Iterator[Scratch]:
    """The installation with a running service; everything is removed at the end.

    Args:
        session: with the host.
        address: that the sync port is opened at.
        practice: path of a practice service's program on the host.

    Raises:
        Occupied: the product is installed there.
    """
    (registered,) = asked(session, [ops.registry(_KEY, "ImagePath")], keep_going=True)
    if registered.ok:
        raise Occupied(f"the service {_SERVICE} is registered on this host")
    root = f"{_ALL}\\{secrets.token_hex(4)}"
    name = session.hello().computer
    try:
        scratch = _written(session, root, name, f"http://{address}:{WEB_PORT}/WorkArea/ServerControlWS.asmx")
        _service(session, scratch, address, practice)
        yield scratch
    finally:
        _removed(session, root)


def _written(session: AgentSession, root: str, name: str, ws_path: str) -> Scratch:
    site = f"{root}\\site"
    with tempfile.TemporaryDirectory() as folder:
        machine, edition = Machine(name, FolderDisk(Path(folder))), Edition.of(EDITION)
        run_configurator(install_files(machine, edition, Options(site_path=site, ws_path=ws_path)))
        drive = Path(folder, "C")
        contents = {
            "C:\\" + str(path.relative_to(drive)).replace("/", "\\"): path.read_bytes()
            for path in sorted(drive.rglob("*"))
            if path.is_file()
        }
    placed = {
        path.replace(_PROGRAMS, f"{root}\\Ektron"): data
        for path, data in contents.items()
        if path.startswith((_PROGRAMS, site))
    }
    folders = sorted({path.rpartition("\\")[0] for path in placed})
    asked(session, [ops.mkdir(folder) for folder in (_ALL, root, *folders)])
    asked(session, [ops.write(path, data, expect=ops.ABSENT) for path, data in placed.items()])
    service = f"{root}\\Ektron\\EktronWindowsService30"
    product = f"{root}\\Ektron\\CMS400v80"
    files = {path: digest(data) for path, data in placed.items() if not path.endswith(".exe")}
    return Scratch(root, site, service, product, files)


def _service(session: AgentSession, scratch: Scratch, address: str, practice: str) -> None:
    program = f"{scratch.service_folder}\\Ektron.ASM.EktronServices30.exe"
    settings = f"[service]\r\naddress={address}\r\nport={SYNC_PORT}\r\nweb_port={WEB_PORT}\r\n"
    copy = ["/c", "copy", "/y", practice, program]
    (copied,) = asked(session, [ops.run(_CMD, copy)])
    if copied["exit"]:
        raise RuntimeError(f"the stand-in service cannot be copied from {practice}: {copied['stdout']}")
    asked(session, [ops.write(program.removesuffix(".exe") + ".ini", settings.encode(), expect=ops.ANY)])
    create = [
        "create",
        _SERVICE,
        "binPath=",
        f'"{program}"',
        "start=",
        "auto",
        "DisplayName=",
        "Ektron Windows Services 3.0",
    ]
    (created,) = asked(session, [ops.run(_SC, create)])
    if created["exit"]:
        raise RuntimeError(f"the stand-in service cannot be registered: {created['stdout']}{created['stderr']}")
    asked(session, [ops.service(_SERVICE, action="start")])


def _removed(session: AgentSession, root: str) -> None:
    """Removes the service, if its program is ours, and the folder."""
    (image,) = asked(session, [ops.registry(_KEY, "ImagePath")], keep_going=True)
    if image.ok and root.casefold() in str(image["value"]).casefold():
        asked(session, [ops.service(_SERVICE, action="stop"), ops.run(_SC, ["delete", _SERVICE])], keep_going=True)
    asked(session, [ops.run(_CMD, ["/c", "rmdir", "/s", "/q", root]), ops.remove(_ALL)], keep_going=True)
