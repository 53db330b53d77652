"""Would the scripts run on the oldest PowerShell we support?"""

import shutil
import subprocess
from pathlib import Path

import pytest

import workers.winrm

FOLDER = Path(workers.winrm.__file__).parent


@pytest.mark.powershell
@pytest.mark.parametrize("name", ["agent.ps1", "bootstrap.ps1", "batch.ps1"])
def test_the_lint_for_windows_powershell_finds_nothing(name: str) -> None:
    """Syntax, commands, parameters, types and members of Windows PowerShell 3.0 with .NET 4.5."""
    lint = shutil.which("lint-windows-powershell")
    if lint is None:
        pytest.skip("no lint-windows-powershell on PATH: it knows what Windows PowerShell 3.0 has")
    done = subprocess.run([lint, str(FOLDER / name)], capture_output=True, text=True, check=False, timeout=120)
    assert (0, "0 finding(s) in 1 file(s)") == (done.returncode, done.stdout.strip())
