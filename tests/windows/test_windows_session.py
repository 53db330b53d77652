"""A session with a nearly-Windows machine over WinRM: every way out of it leaves nothing of ours running there."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.integration.harness import cluster_of
from tests.windows.machines import Farm, WindowsMachine
from workers.errors import Cancelled
from workers.settings import Secret
from workers.winrm import operations as ops
from workers.winrm import remote
from workers.winrm.channel import Limit
from workers.winrm.remote import WinRMChannel
from workers.winrm.session import AgentSession, Way
from workers.winrm.wire import command_line, script_line

pytestmark = [pytest.mark.windows, pytest.mark.integration]

POWERSHELL = r"C:\windows\system32\WindowsPowerShell\v1.0\powershell.exe"
SECONDS = 5.0
_IDLE_CHECK = 5.0  #: how often the lab looks for shells that nobody uses


@pytest.fixture
def machine(farm: Farm) -> Iterator[WindowsMachine]:
    """One on which no PowerShell runs, before and after."""
    found = farm.machines["S2"]
    for process in found.processes("pwsh.exe"):  # of sessions that a test before this one left open
        process.kill()
    yield found
    assert ends(found, "pwsh.exe")


@pytest.fixture
def channel(farm: Farm, machine: WindowsMachine) -> WinRMChannel:
    """To that machine, with nothing started."""
    return WinRMChannel(cluster_of(farm.lab).endpoint(machine.name), Secret(farm.lab.password))


def ends(machine: WindowsMachine, program: str, seconds: float = SECONDS) -> bool:
    """Whether no such program runs there any more within so many seconds."""
    until = time.monotonic() + seconds
    while machine.processes(program) and time.monotonic() < until:
        time.sleep(0.05)
    return not machine.processes(program)


def begins(machine: WindowsMachine, program: str) -> bool:
    """Whether such a program runs there soon."""
    until = time.monotonic() + 20
    while not machine.processes(program) and time.monotonic() < until:
        time.sleep(0.02)
    return bool(machine.processes(program))


@pytest.mark.parametrize("way", ["conversation", "batch", "auto"])
def test_a_node_says_what_it_is(channel: WinRMChannel, machine: WindowsMachine, way: Way) -> None:
    """Both ways work; its own name, version, drives and rights come with the first answer; then nothing is left."""
    session = AgentSession(channel, machine.name, way=way)
    (clock,) = session.ask([ops.clock()], deadline=60)
    hello = session.hello()
    assert (machine.name, "C:", r"C:\ProgramData", "FullLanguage", True) == (
        hello.computer,
        hello.system_drive,
        hello.program_data,
        hello.language_mode,
        hello.admin,
    )
    assert abs(ops.time_of(clock["now"]).timestamp() - time.time()) < 5
    session.close()
    assert ends(machine, "pwsh.exe")


def test_hundreds_of_requests_go_through_one_process(channel: WinRMChannel, machine: WindowsMachine) -> None:
    """One PowerShell start, two round trips a request, each answer its own."""
    session = AgentSession(channel, machine.name)
    session.hello()
    before = session.counters.round_trips
    for _ in range(200):
        (found,) = session.ask([ops.stat(r"C:\windows")], deadline=30)
        assert "folder" == found["kind"]
    assert (1, 400) == (session.counters.shells, session.counters.round_trips - before)
    session.close()


def test_a_large_answer_arrives_whole(channel: WinRMChannel, machine: WindowsMachine) -> None:
    """More than 150 kB, in pieces that the envelope allows, with letters of any language in it."""
    path = "C:\\ProgramData\\gr\u00fc\u00dfe [1].txt"
    data = "gr\u00fc\u00dfe, \u4f60\u597d\r\n".encode() * 30_000
    machine.at(path).write_bytes(data)
    session = AgentSession(channel, machine.name)
    (found,) = session.ask([ops.read(path)], deadline=60)
    assert data == ops.data_of(found)
    session.close()


def closed(channel: WinRMChannel) -> None:
    """Signal and Delete."""
    channel.close()


def input_ended(channel: WinRMChannel) -> None:
    """The end of input, and no other word."""
    channel.send(b"", Limit("node", 10), end=True)


@pytest.mark.parametrize("way_out", [closed, input_ended])
def test_powershell_ends_with_the_session(
    channel: WinRMChannel, machine: WindowsMachine, way_out: Callable[[WinRMChannel], None]
) -> None:
    """Within seconds, while it waits for a request."""
    channel.start(command_line(), Limit("node", 30))
    channel.send(script_line(), Limit("node", 30))
    assert begins(machine, "pwsh.exe")
    way_out(channel)
    assert ends(machine, "pwsh.exe")
    channel.close()


def test_a_shell_that_is_forgotten_ends(
    channel: WinRMChannel, machine: WindowsMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody says goodbye: the node's idle time does it."""
    monkeypatch.setattr(remote, "IDLE", "PT2S")
    channel.start(command_line(), Limit("node", 30))
    channel.send(script_line(), Limit("node", 30))
    assert begins(machine, "pwsh.exe")
    assert ends(machine, "pwsh.exe", 2 + _IDLE_CHECK + SECONDS)
    channel.close()


def test_what_an_operation_started_ends_with_the_session(channel: WinRMChannel, machine: WindowsMachine) -> None:
    """A program in the middle of its work, started by the agent without a window: gone within seconds."""
    session = AgentSession(channel, machine.name)
    session.hello()
    sleeps = ops.run(POWERSHELL, ("-NoProfile", "-Command", "Start-Sleep 600"), deadline=60)
    with pytest.raises(Cancelled):
        session.ask([sleeps], deadline=60, cancelled=lambda: bool(machine.processes("Start-Sleep 600")))
    session.close()
    assert ends(machine, "Start-Sleep 600")
