"""`python -m tests.live` on a nearly-Windows machine without the product, as on a real host."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control.remote import LabProcess, running_lab, spare_addresses
from tests.places import ROOT
from tests.sampling import in_turn
from tests.windows.conftest import machines_folder, need_machines
from tests.windows.machines import WindowsMachine, lab_file

pytestmark = [pytest.mark.windows, pytest.mark.integration, pytest.mark.timeout(600)]
PRACTICE = r"C:\practice.exe"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[tuple[WindowsMachine, LabProcess]]:
    """A machine with a practice program, and WinRM in front of it."""
    need_machines()
    with machines_folder() as folder:
        machine = WindowsMachine("HOST1", folder / "HOST1", f"{spare_addresses().rpartition('.')[0]}.11", "staging")
        try:
            machine.create()
            (tmp_path / "lab.yaml").write_text(lab_file([machine], {}))
            with running_lab(tmp_path / "lab", "--config", str(tmp_path / "lab.yaml")) as lab:
                service = ["wine-node", "service", str(machine.folder), "Practice", "Practice", PRACTICE]
                subprocess.run(service, check=True, capture_output=True)
                yield machine, lab
        finally:
            machine.remove()


@in_turn(0, 2, "a Windows host")
def test_the_whole_ladder_ends_in_a_report(host: tuple[WindowsMachine, LabProcess], tmp_path: Path) -> None:
    """Every rung that is not left out passes; the report names no password, host or account; nothing is left there."""
    machine, lab = host
    report = tmp_path / "report.txt"
    command = [sys.executable, "-m", "tests.live", machine.address, "--user", "esync", "--secret", "env:LIVE_PASSWORD"]
    done = subprocess.run(
        [
            *command,
            "-y",
            "--service-program",
            PRACTICE,
            "--cases",
            "none",
            "--report",
            str(report),
        ],
        cwd=ROOT,
        env={**os.environ, "LIVE_PASSWORD": lab.password},
        capture_output=True,
        text=True,
        check=False,
    )
    text = report.read_text() if report.exists() else done.stdout + done.stderr
    assert 0 == done.returncode, text
    assert (5, 1) == (text.count("PASSED"), text.count("SKIPPED"))
    assert "esync rollout: exit 0" in text
    assert not any(secret in text for secret in (lab.password, machine.address, machine.name))
    left = [path.name for path in machine.at(r"C:\ProgramData").glob("esync-*")]
    assert [] == [name for name in left if name != "esync-rollout"]
