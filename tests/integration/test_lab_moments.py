"""Faults that begin at a moment, over WinRM: the error of the client, the effect on the node, and the end."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from winrm.exceptions import AuthenticationError, WinRMOperationTimeoutError, WinRMTransportError, WSManFaultError

from lab.control.remote import LabProcess, spare_addresses
from tests.integration.test_lab_winrm import client, powershell
from tests.waiting import PATIENCE
from tests.warm import warm_lab

pytestmark = pytest.mark.integration

MKDIR = {"op": "mkdir", "path": r"C:\made"}


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    """One node."""
    with warm_lab(tmp_path_factory.mktemp("lab"), "--nodes", "1", "--address", spare_addresses()) as running:
        yield running


class Gone(Exception):
    """PowerShell ended without an answer."""


def talking(lab: LabProcess) -> Callable[..., list[dict[str, Any]]]:
    """Sends requests to a PowerShell on the node."""
    protocol = client(lab)
    shell = protocol.open_shell()
    command = powershell(protocol, shell)

    def request(*ops: dict[str, Any]) -> list[dict[str, Any]]:
        line = json.dumps({"v": 1, "id": "1", "ops": ops}).encode() + b"\n"
        protocol.send_command_input(shell, command, line)
        out, ended = b"", False
        while not out.endswith(b"\n"):
            if ended:
                raise Gone
            stdout, _, _, ended = protocol.get_command_output_raw(shell, command)
            out += stdout
        return list(json.loads(out)["results"])

    return request


def begins(lab: LabProcess, *, after: bool = False, seconds: float | None = None, **faults: object) -> None:
    """Faults that begin when a folder is created."""
    at = {"operation": "mkdir", "target": r"c:\MADE", "after": after}
    lab.break_node("S1", later=[{"at": at, "faults": faults, "seconds": seconds}])


def made(lab: LabProcess) -> bool:
    """Whether the folder exists."""
    return (lab.disk("S1") / "made").is_dir()


def is_made(lab: LabProcess, timeout: float = PATIENCE) -> None:
    """Waits for the folder: PowerShell may create it after the end of the connection."""
    until = time.monotonic() + timeout
    while not made(lab):
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("after", [False, True])
def test_killed_before_and_after(lab: LabProcess, *, after: bool) -> None:
    """The process ends without a reply, before or after the operation."""
    request = talking(lab)
    begins(lab, after=after, dies_after_operations=0)
    with pytest.raises(Gone):
        request(MKDIR)
    assert (after, 1) == (made(lab), lab.report("S1")["begun"])


@pytest.mark.parametrize(
    ("faults", "seen"),
    [
        ({"refuse_connections": True}, OSError),
        ({"away": True}, OSError),
        ({"reset_replies": 1}, OSError),
        ({"http_errors": {"status": 500, "times": 1}}, WinRMTransportError),
        ({"http_errors": {"status": 503, "times": 1}}, WinRMTransportError),
        ({"refuse_logons": True}, AuthenticationError),
        ({"refuse_operations": 1}, WSManFaultError),
        ({"receive_timeouts": 1}, WinRMOperationTimeoutError),
    ],
)
def test_the_connection_breaks_before_a_reply(lab: LabProcess, faults: dict[str, Any], seen: type[Exception]) -> None:
    """The current message fails; the request was carried out."""
    request = talking(lab)
    begins(lab, **faults)
    with pytest.raises(seen):
        request(MKDIR)
    is_made(lab)


def test_a_fault_ends_after_its_time(lab: LabProcess) -> None:
    """Then the node answers as before."""
    request = talking(lab)
    begins(lab, seconds=0.2, away=True)
    with pytest.raises(OSError, match=r"Connection|Remote"):
        request(MKDIR)
    until = time.monotonic() + PATIENCE
    while lab.report("S1")["faults"].get("away"):
        assert time.monotonic() < until
        time.sleep(0.02)
    request = talking(lab)
    assert [{"ok": True, "changed": False}] == request(MKDIR)


def test_a_node_that_hangs_continues_when_the_fault_is_cleared(lab: LabProcess) -> None:
    """No reply while it hangs; the operation runs afterwards."""
    request = talking(lab)
    begins(lab, hangs=True)
    with pytest.raises(WinRMOperationTimeoutError):
        request(MKDIR)
    assert not made(lab)
    lab.heal("S1")
    is_made(lab)


def test_a_power_cut_ends_all_processes(lab: LabProcess) -> None:
    """The operation did not run, the shell is closed, and the service starts again afterwards."""
    request = talking(lab)
    starts = lab.report("S1")["service"]["starts"]
    begins(lab, power_cut=True)
    with pytest.raises(OSError, match=r"Connection|Remote"):
        request(MKDIR)
    report = lab.report("S1")
    assert (False, 0, "stopped") == (made(lab), report["shells_open"], report["service"]["state"])
    lab.heal("S1")
    assert ("running", starts + 1) == tuple(lab.report("S1")["service"][what] for what in ("state", "starts"))


def test_operations_and_messages_are_recorded(lab: LabProcess) -> None:
    """The agent's operations and the messages of WinRM, in order."""
    request = talking(lab)
    request(MKDIR, {"op": "clock"})
    seen = [(one["operation"], one["target"]) for one in lab.operations("S1")]
    asked = [one for one in seen if one[0] != "Receive"]
    assert [("Create", ""), ("Command", ""), ("Send", ""), ("Send", ""), ("mkdir", r"C:\made"), ("clock", "")] == asked
