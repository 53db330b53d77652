"""The PowerShell scripts: their size and content, and whether they run on the oldest supported PowerShell."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import workers.winrm
from workers.winrm.wire import agent_script

FOLDER = Path(workers.winrm.__file__).parent
BOOTSTRAPS = [FOLDER / "bootstrap.ps1", FOLDER / "batch.ps1"]
PARTS = sorted((FOLDER / "agent").iterdir())
LONGEST_PART = 250  #: lines
FUNCTION = r"^\$\{function:([\w-]+)\}"


@pytest.mark.parametrize("script", [*BOOTSTRAPS, *PARTS], ids=lambda path: path.name)
def test_a_script_is_short_ascii_and_starts_with_its_purpose(script: Path) -> None:
    """Scripts are sent without comments and indentation, which would damage a text of several lines."""
    text = script.read_text("ascii")
    assert text.count("\n") <= LONGEST_PART
    assert text.startswith("# ")
    assert [] == re.findall(r"@['\"]\s*$|<#|`\s*$", text, re.MULTILINE)


def test_only_the_batch_bootstrap_reads_stdin_as_a_whole() -> None:
    """In another script that name, even in a comment, makes PowerShell wait for the end of input before it runs."""
    found = [script.name for script in [*BOOTSTRAPS, *PARTS] if "$input" in script.read_text("ascii").lower()]
    assert ["batch.ps1"] == found


def test_the_agent_is_its_parts_in_the_order_of_their_names() -> None:
    """Joined once per process: the first line is the first part's, the main loop comes last, no comment is left."""
    script = agent_script()
    joined = "".join(part.read_text("ascii") for part in PARTS)
    assert re.findall(FUNCTION, joined, re.MULTILINE) == re.findall(FUNCTION, script, re.MULTILINE)
    assert script.isascii()
    assert [] == [line for line in script.splitlines() if line.startswith("#") or line != line.strip()]
    assert ("Set-StrictMode -Version 2.0", "}") == (script.splitlines()[0], script.splitlines()[-1])
    assert agent_script() is script


def test_no_function_of_the_agent_is_defined_twice() -> None:
    """A later part would silently replace it."""
    names = re.findall(FUNCTION, agent_script(), re.MULTILINE)
    assert sorted(set(names)) == sorted(names)


@pytest.fixture
def short_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the lint's own scripts call: for each command of a script it searches all of PATH, several times."""
    (tmp_path / "bin").mkdir()
    for name in (
        "cat",
        "chmod",
        "dirname",
        "env",
        "mkdir",
        "mktemp",
        "mv",
        "python3",
        "readlink",
        "rm",
        "stat",
        "tar",
        "xz",
    ):
        if found := shutil.which(name):
            (tmp_path / "bin" / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.mark.powershell
def test_the_lint_for_windows_powershell_finds_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Syntax, commands, parameters, types and members of Windows PowerShell 3.0 with .NET 4.5; the agent as sent."""
    lint = shutil.which("lint-windows-powershell")
    if lint is None:
        pytest.skip("no lint-windows-powershell on PATH: it knows what Windows PowerShell 3.0 has")
    request.getfixturevalue("short_path")
    script = tmp_path / "all.ps1"  # one start of PowerShell for all of them
    script.write_text("\n".join([agent_script(), *(path.read_text("ascii") for path in BOOTSTRAPS)]), "ascii")
    done = subprocess.run([lint, str(script)], capture_output=True, text=True, check=False, timeout=500)
    assert (0, "0 finding(s) in 1 file(s)") == (done.returncode, done.stdout.strip())
