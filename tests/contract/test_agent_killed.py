"""The agent on a real PowerShell that is killed before each statement with which a write changes the disk."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.local_channel import LocalChannel, pwsh
from tests.sampling import rotated
from workers.winrm import operations as ops
from workers.winrm.session import AgentSession
from workers.winrm.wire import agent_script, encoded_request

pytestmark = pytest.mark.powershell

_FUNCTIONS = {
    "Set-Fence",
    "Open-Fence",
    "New-ProtectedFolder",
    "Open-Backup",
    "Add-Backup",
    "Set-File",
    "Move-IntoPlace",
}
_CHANGES = re.compile(
    r"\[IO\.(File|Directory)\]::(Open|Copy|Move|Replace|SetAttributes|CreateDirectory)\(|\.(Write|Flush|Dispose)\("
)
_LAST = "(Get-HashOfFile $Path) -ne $Hash"
_KILLER = """param([string]$KilledScript, [int]$KilledLine)
$kill = { [Diagnostics.Process]::GetCurrentProcess().Kill() }
$null = Set-PSBreakpoint -Script $KilledScript -Line $KilledLine -Action $kill
. $KilledScript
"""
OLD, NEW = b"old" * 20_000, b"new" * 30_000


def _points(functions: set[str]) -> list[int]:
    """The lines of these functions before which the disk differs from its state before the previous one.

    `make test` takes every sixth one of each function, chosen by the seed.
    """
    inside, found = "", dict[str, list[int]]()
    for number, line in enumerate(agent_script().splitlines(), 1):
        if begun := re.match(r"\$\{function:([\w-]+)\} = \{", line):
            inside = begun[1]
        if inside in functions and (_CHANGES.search(line) or _LAST in line):
            found.setdefault(inside, []).append(number)
    return [lines[place] for name, lines in found.items() for place in rotated(len(lines), 6, f"killed in {name}")]


@pytest.fixture(scope="module")
def program() -> str:
    """A PowerShell of this machine."""
    return shutil.which("pwsh") or pytest.skip("no pwsh on PATH: PowerShell is killed where there is one")


@pytest.fixture(scope="module")
def healer(program: str) -> Iterator[AgentSession]:
    """The agent of the next request, which finds the files of a killed one."""
    session = AgentSession(LocalChannel(pwsh(program)), "here")
    yield session
    session.close()


def _killed_at(line: int, program: str, home: Path, request: bytes) -> bool:
    killer, script = home / "killer.ps1", home / "agent.ps1"
    command = [program, "-NoProfile", "-NonInteractive", "-File", str(killer), str(script), str(line)]
    done = subprocess.run(command, input=request, capture_output=True, check=False, timeout=120)
    assert done.returncode in {0, -9}, done.stderr[-300:]
    return done.returncode == -9


def _write(folder: Path) -> tuple[ops.Op, ops.Guard]:
    write = ops.write(
        str(folder / "web.config"), NEW, expect=ops.ANY, backup=str(folder.parent / f"{folder.name}-kept")
    )
    return write, ops.Guard(7, str(folder.parent / f"{folder.name}-fence" / "writer"), (str(folder.parent),))


def _check(folder: Path, before: bytes | None) -> None:
    """The file has all old bytes, or all new bytes and the old ones are kept. The fence file is never incomplete."""
    path, kept = folder / "web.config", folder.parent / f"{folder.name}-kept"
    now = path.read_bytes() if path.exists() else None
    assert now in {before, NEW}
    fence = folder.parent / f"{folder.name}-fence" / "writer"
    assert not fence.exists() or fence.read_bytes() in {b"", b"%020d" % 7 + b" " * 76 + b"\n"}
    if now == NEW:
        (line,) = [json.loads(line) for line in (kept / "manifest.jsonl").read_text("ascii").splitlines()]
        assert (str(path), ops.digest(NEW)) == (line["path"], line["after"])
        assert before == ((kept / "files" / "1").read_bytes() if line["kept"] else None)


@pytest.mark.parametrize(
    ("before", "functions"), [(OLD, _FUNCTIONS), (None, {"Set-File"})], ids=["replacing", "creating"]
)
def test_killed_at_every_point_of_a_write_leaves_old_or_new(
    before: bytes | None, functions: set[str], program: str, healer: AgentSession, tmp_path: Path
) -> None:
    """Never a mixture, an incomplete fence or a fence that stays locked; the next writer completes and cleans up."""
    (tmp_path / "killer.ps1").write_text(_KILLER, "ascii")
    (tmp_path / "agent.ps1").write_text(agent_script(), "ascii")
    folders = {line: tmp_path / f"at-{line}" for line in _points(functions)}
    for folder in folders.values():
        folder.mkdir()
        if before is not None:
            (folder / "web.config").write_bytes(before)

    def kill(line: int) -> bool:
        write, guard = _write(folders[line])
        return _killed_at(line, program, tmp_path, encoded_request("1", [write], keep_going=False, guard=guard))

    with ThreadPoolExecutor(2) as threads:
        killed = sum(threads.map(kill, folders))
    assert killed >= len(folders) - 2, "one line belongs to another case, one runs only after an error"
    for folder in folders.values():
        _check(folder, before)
        write, guard = _write(folder)
        healer.ask([write], deadline=60, guard=guard)
        assert ["web.config"] == [path.name for path in folder.iterdir()]
        assert NEW == (folder / "web.config").read_bytes()
