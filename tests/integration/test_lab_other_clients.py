"""Other programs that speak WinRM with the lab: every start of PowerShell gets an answer."""

import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import winrm

from lab.control.remote import LabProcess, spare_addresses
from tests.stand_in_pwsh import stand_in_pwsh
from tests.warm import warm_lab

pytestmark = pytest.mark.integration

#: As Ansible's module `raw` starts a command.
RAW = ["-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Unrestricted", "-EncodedCommand"]


def lab_with(path: str, factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    """A lab of two nodes that was started with this PATH."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", path)
            starting = warm_lab(factory.mktemp("lab"), "--nodes", "2", "--address", spare_addresses())
            running = stack.enter_context(starting)
        yield running


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    """A lab without PowerShell."""
    yield from lab_with("/nowhere", tmp_path_factory)


@pytest.fixture(scope="module")
def equipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    """A lab with a program that stands in for PowerShell and runs scripts as Python."""
    yield from lab_with(str(stand_in_pwsh(tmp_path_factory.mktemp("bin"))), tmp_path_factory)


def session(lab: LabProcess) -> winrm.Session:
    """A session of pywinrm with S1, as its users open it."""
    return winrm.Session(
        f"https://{lab.nodes['S1']['address']}:5986/wsman",
        auth=("esync", lab.password),
        transport="ntlm",
        ca_trust_path=str(lab.ca_file),
        proxy=None,
        operation_timeout_sec=5,
        read_timeout_sec=30,
    )


def encoded(script: str) -> str:
    """The script as an argument."""
    return base64.b64encode(script.encode("utf-16-le")).decode()


def test_hostname_is_the_nodes(bare: LabProcess) -> None:
    """`run_cmd('hostname')` of pywinrm prints the name of the simulated server."""
    done = session(bare).run_cmd("hostname")
    assert (0, b"S1\r\n", b"") == (done.status_code, done.std_out, done.std_err)


def test_hostname_needs_no_powershell(bare: LabProcess) -> None:
    """As Ansible's `raw: hostname` starts it: the name of the simulated server, one start of PowerShell."""
    before = bare.report("S1")["powershell_starts"]
    done = session(bare).run_cmd("PowerShell", [*RAW, encoded("hostname")])
    assert (0, b"S1\r\n", b"") == (done.status_code, done.std_out, done.std_err)
    assert bare.report("S1")["powershell_starts"] == before + 1


def test_without_powershell_every_start_is_an_error(bare: LabProcess) -> None:
    """`run_ps`, a raw encoded command, `-Command` and an interactive start: status 1 and the reason, without a hang."""
    commands = [
        session(bare).run_ps("Get-Date"),
        session(bare).run_cmd("PowerShell", [*RAW, encoded("Get-Date")]),
        session(bare).run_cmd("powershell", ["-Command", "Get-Date"]),
    ]
    assert [1, 1, 1] == [done.status_code for done in commands]
    assert all(b"put pwsh on PATH of the lab" in done.std_err for done in commands)
    interactive = session(bare).run_cmd("powershell")
    assert (1, True) == (interactive.status_code, b"no script" in interactive.std_err)


def test_with_powershell_every_start_runs(equipped: LabProcess) -> None:
    """The same starts run their script, and return its output and status."""
    script = "print('ran'); sys.exit(5)"
    for done in (
        session(equipped).run_ps(script),
        session(equipped).run_cmd("PowerShell", [*RAW, encoded(script)]),
        session(equipped).run_cmd("powershell", ["-Command", f'"{script}"']),
    ):
        assert (5, b"ran\n", b"") == (done.status_code, done.std_out, done.std_err)


@pytest.mark.powershell
def test_a_real_powershell_runs_scripts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where pwsh is on PATH: a script of pywinrm and an encoded `hostname` run in it."""
    if shutil.which("pwsh") is None:
        pytest.skip("no pwsh on PATH: scripts of other clients are run where there is one")
    for lab in lab_with(os.environ["PATH"], tmp_path_factory):
        done = session(lab).run_ps("Write-Output (1 + 2)")
        assert (0, b"3") == (done.status_code, done.std_out.strip())
        assert session(lab).run_cmd("PowerShell", [*RAW, encoded("Get-Date")]).status_code == 0
