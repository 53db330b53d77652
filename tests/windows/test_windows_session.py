"""A session with a nearly-Windows machine over WinRM: after any end of it, no process of ours runs there."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.integration.harness import cluster_of
from tests.sampling import examples
from tests.waiting import PATIENCE, wait_until
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

REQUESTS = examples(200, 50)
POWERSHELL = r"C:\windows\system32\WindowsPowerShell\v1.0\powershell.exe"


@pytest.fixture
def machine(farm: Farm) -> Iterator[WindowsMachine]:
    """A machine without a running PowerShell, before and after the test."""
    found = farm.machines["P1"]
    for process in found.processes("pwsh.exe"):  # of sessions that an earlier test left open
        process.kill()
    yield found
    assert ends(found, "pwsh.exe")


@pytest.fixture
def channel(farm: Farm, machine: WindowsMachine) -> WinRMChannel:
    """A channel to the machine, without a command."""
    return WinRMChannel(cluster_of(farm.lab).endpoint(machine.name), Secret(farm.lab.password))


def ends(machine: WindowsMachine, program: str, seconds: float = PATIENCE) -> bool:
    """Whether all such programs on the machine end in time."""
    until = time.monotonic() + seconds
    while machine.processes(program) and time.monotonic() < until:
        time.sleep(0.05)
    return not machine.processes(program)


def begins(machine: WindowsMachine, program: str) -> bool:
    """Whether such a program starts in time."""
    until = time.monotonic() + PATIENCE
    while not machine.processes(program) and time.monotonic() < until:
        time.sleep(0.02)
    return bool(machine.processes(program))


@pytest.mark.parametrize("way", ["conversation", "batch", "auto"])
def test_a_node_describes_itself(channel: WinRMChannel, machine: WindowsMachine, way: Way) -> None:
    """In both ways, with name, version, drives and rights; afterwards no process is left."""
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


def test_many_requests_go_through_one_process(channel: WinRMChannel, machine: WindowsMachine) -> None:
    """One PowerShell start, two round trips per request; each reply belongs to its request."""
    session = AgentSession(channel, machine.name)
    session.hello()
    before = session.counters.round_trips
    for _ in range(REQUESTS):
        (found,) = session.ask([ops.stat(r"C:\windows")], deadline=60)
        assert "folder" == found["kind"]
    assert (1, 2 * REQUESTS) == (session.counters.shells, session.counters.round_trips - before)
    session.close()


def test_a_large_reply_arrives_completely(channel: WinRMChannel, machine: WindowsMachine) -> None:
    """More than 150 kB, split by the size of the envelope, with letters of any language."""
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
    """Only the end of input."""
    channel.send(b"", Limit("node", 10), end=True)


@pytest.mark.parametrize("way_out", [closed, input_ended])
def test_powershell_ends_with_the_session(
    channel: WinRMChannel, machine: WindowsMachine, way_out: Callable[[WinRMChannel], None]
) -> None:
    """Within seconds, while it waits for a request."""
    channel.start(command_line(), Limit("node", 60))
    channel.send(script_line(), Limit("node", 60))
    assert begins(machine, "pwsh.exe")
    way_out(channel)
    assert ends(machine, "pwsh.exe")
    channel.close()


def test_an_abandoned_shell_ends(
    farm: Farm, channel: WinRMChannel, machine: WindowsMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Signal and Delete, after the idle time of the node."""
    before = farm.lab.report(machine.name)
    monkeypatch.setattr(remote, "IDLE", 2)
    channel.start(command_line(), Limit("node", 60))
    channel.send(script_line(), Limit("node", 60))
    wait_until(lambda: farm.lab.report(machine.name)["shells_open"] <= before["shells_open"])
    assert before["powershell_starts"] + 1 == farm.lab.report(machine.name)["powershell_starts"]
    assert ends(machine, "pwsh.exe")
    channel.close()


def test_a_program_of_an_operation_ends_with_the_session(channel: WinRMChannel, machine: WindowsMachine) -> None:
    """A running program that the agent started without a window, within seconds."""
    session = AgentSession(channel, machine.name)
    session.hello()
    sleeps = ops.run(POWERSHELL, ("-NoProfile", "-Command", "Start-Sleep 600"), deadline=60)
    with pytest.raises(Cancelled):
        session.ask([sleeps], deadline=60, cancelled=lambda: bool(machine.processes("Start-Sleep 600")))
    session.close()
    assert ends(machine, "Start-Sleep 600")
