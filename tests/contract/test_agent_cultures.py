"""The agent's cases on machines of other cultures: dates, numbers, comparisons and order are the same everywhere."""

import subprocess
from pathlib import Path

import pytest

from tests.contract.agent_cases import CASES
from tests.contract.agent_machines import LinuxMachine, found_on_path
from tests.contract.agent_site import AgentSite
from tests.contract.test_agent_protocol import case_differences
from tests.sampling import rotated
from workers.winrm.wire import agent_script

pytestmark = pytest.mark.powershell

#: Dots that do not count; one in six of: I without a dot, decimal commas, two calendars, other orders of letters.
OTHERS = ("tr_TR", "de_DE", "ar_SA", "fa_IR", "ja_JP", "da_DK")
CULTURES = ("th_TH", *(OTHERS[number] for number in rotated(len(OTHERS), 6, "cultures")))
#: What depends on the culture in PowerShell, and what it has to be.
SAME = r"""
$found = @('1.12.3.4', '11.2.3.4' | Sort-Object -Unique).Count, ('WITHIN' -match '\Awithin\z'), 'x'.EndsWith('.')
$found += (Get-TimeText ([DateTime]'2026-11-28T10:00:00Z')), (ConvertTo-JsonLine @{ a = 1.5 })
'{0}|{1}|{2}|{3}|{4}' -f $found
"""


@pytest.fixture(params=CULTURES)
def culture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A culture in which PowerShell is started; its libraries may be missing here."""
    name = str(request.param)
    monkeypatch.setenv("DOTNET_SYSTEM_GLOBALIZATION_INVARIANT", "0")
    monkeypatch.setenv("LC_ALL", f"{name}.UTF-8")
    if asked("[Globalization.CultureInfo]::CurrentCulture.Name", tmp_path) != name.replace("_", "-"):
        pytest.skip("no ICU libraries: PowerShell has only one culture here")
    return name


def asked(script: str, folder: Path) -> str:
    """What PowerShell prints."""
    program = found_on_path("pwsh") or pytest.skip("no pwsh on PATH: PowerShell 7 for Linux runs the agent's script")
    file = folder / "asked.ps1"
    file.write_text(script, "ascii")
    arguments = [program, "-NoProfile", "-NonInteractive", "-File", str(file)]
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
    return done.stdout.decode().strip()


def test_nothing_follows_the_culture(culture: str, tmp_path: Path) -> None:
    """Order, patterns, dates and numbers are those of every other machine, in all parts of the agent."""
    parts = agent_script().partition("$Waiting = ")[0]  # without the main loop, which waits for requests
    assert asked(parts + SAME, tmp_path) == "2|True|False|2026-11-28T10:00:00.0000000Z|" + '{"a":1.5}', culture


def test_the_cases_are_the_same_in_every_culture(culture: str) -> None:
    """Some of them, others in each run."""
    machine = LinuxMachine(found_on_path("pwsh") or "")
    try:
        with AgentSite() as site:
            chosen = [CASES[number] for number in rotated(len(CASES), 25, f"cases in {culture}")]
            wrong = [f"{case.name}: {line}" for case in chosen for line in case_differences(case, machine, site)]
    finally:
        machine.close()
    assert [] == wrong


def test_a_full_disk_is_known_by_its_number(tmp_path: Path) -> None:
    """The words of Windows are in its language: the number stands behind them. Other failures have none."""
    parts = agent_script().partition("$Waiting = ")[0]
    failure = "(New-Object IO.IOException 'Nicht genug Speicherplatz', {code}) @{{}}"
    printed = "Write-Output (Get-FailedResult {0})['message']"
    full, other = (printed.format(failure.format(code=code)) for code in (-2147024784, -2147024809))
    told = asked(f"{parts}\n{full}\n{other}\n", tmp_path).splitlines()
    assert told == ["Nicht genug Speicherplatz (error 112)", "Nicht genug Speicherplatz"]
