"""Shells, commands and their limits, without a network."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable

import pytest

from lab.hosts.simulated import Console
from lab.machine.condition import Condition
from lab.machine.faults import Faults
from lab.machine.machine import Machine, Quotas
from lab.machine.memory_disk import MemoryDisk
from lab.machine.paths import WindowsPath
from lab.winrm.shells import CommandLine, Output, Shells, Streams
from lab.winrm.wsman import Chunk, Fault

TIMED_OUT, UNKNOWN, SHELLS, OPERATIONS, PROCESSES, IN_PROGRESS = (
    2150858793,
    2150858843,
    2150859173,
    2150859174,
    2150859241,
    2150859047,
)
ROOT = WindowsPath.of("C:\\")
SCRIPT = base64.b64encode(b"script") + b"\n"
#: Reads the agent as the bootstraps of docs/agent-protocol.md do.
BOOTSTRAP = "iex ([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String([Console]::In.ReadLine())))"
POWERSHELL = CommandLine(
    "powershell.exe", ("-NoProfile", "-EncodedCommand", base64.b64encode(BOOTSTRAP.encode("utf-16-le")).decode())
)


class Echo:
    """A host with a command that prints its input and ends with status 3."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    async def run(self, line: CommandLine, streams: Streams) -> int:
        """Copies stdin to stdout."""
        try:
            while data := await streams.read():
                streams.write(data, line.arguments[0] if line.arguments else "stdout")
        except asyncio.CancelledError:
            self.ended.append(line.text)
            raise
        return 3


class Bench:
    """The shells of one machine, with one open shell."""

    def __init__(self, quotas: Quotas | None = None) -> None:
        self.host = Echo()
        self.quotas = quotas or Quotas()
        self.shells = Shells(self.host, self.quotas)
        self.shell, _ = self.shells.create("u", None)

    def start(self, *arguments: str) -> str:
        """Starts a command."""
        return self.shells.command("u", self.shell, CommandLine("echo", arguments))

    def send(self, command: str, data: bytes, *, end: bool = False) -> None:
        """Sends input."""
        self.shells.send("u", self.shell, [Chunk(command, "stdin", data, end)])

    async def receive(self, command: str, timeout: float = 1, limit: int = 1000) -> Output:  # noqa: ASYNC109 - the name in WS-Management
        """Receives."""
        return await self.shells.receive("u", self.shell, command, timeout, limit)


def code(action: Callable[[], object]) -> int:
    """The code of the fault of an action."""
    with pytest.raises(Fault) as caught:
        action()
    return caught.value.code


async def code_of(action: Awaitable[object]) -> int:
    """The same for an awaitable."""
    with pytest.raises(Fault) as caught:
        await action
    return caught.value.code


def test_input_is_returned_with_the_exit_status() -> None:
    """Two pieces of input and the end."""

    async def scene() -> None:
        bench = Bench()
        command = bench.start()
        bench.send(command, b"one")
        first = await bench.receive(command)
        bench.send(command, b"two", end=True)
        await asyncio.sleep(0)
        rest = await bench.receive(command)
        last = rest if rest.exit_code is not None else await bench.receive(command)
        assert ([b"one"], None, 3) == ([chunk.data for chunk in first.chunks], first.exit_code, last.exit_code)

    asyncio.run(scene())


def test_a_receive_without_output_times_out_and_the_command_continues() -> None:
    """The fault of the operation timeout, then normal output."""

    async def scene() -> None:
        bench = Bench()
        command = bench.start("stderr")
        assert TIMED_OUT == await code_of(bench.receive(command, 0.01))
        bench.send(command, b"x")
        output = await bench.receive(command)
        assert [("stderr", b"x")] == [(chunk.stream, chunk.data) for chunk in output.chunks]

    asyncio.run(scene())


def test_large_output_is_split() -> None:
    """No answer exceeds the envelope, and the last one has the exit status."""

    async def scene() -> None:
        bench = Bench()
        command = bench.start()
        bench.send(command, b"x" * 2500, end=True)
        pieces = []
        while True:
            output = await bench.receive(command)
            pieces.append(sum(len(chunk.data) for chunk in output.chunks))
            if output.exit_code is not None:
                break
        assert ([1000, 1000, 500], 2500) == ([piece for piece in pieces if piece], sum(pieces))

    asyncio.run(scene())


def test_only_one_receive_waits_at_a_time() -> None:
    """The second is a fault, the first continues."""

    async def scene() -> None:
        bench = Bench()
        command = bench.start()
        first = asyncio.create_task(bench.receive(command))
        await asyncio.sleep(0)
        assert IN_PROGRESS == await code_of(bench.receive(command))
        bench.send(command, b"x")
        assert 1 == len((await first).chunks)

    asyncio.run(scene())


@pytest.mark.parametrize("signal", ["terminate", "ctrl_c"])
def test_a_signal_ends_the_command(signal: str) -> None:
    """After terminate it is unknown, after ctrl_c it has ended."""

    async def scene() -> None:
        bench = Bench()
        command = bench.start()
        await asyncio.sleep(0)
        bench.shells.signal("u", bench.shell, command, signal)
        await asyncio.sleep(0)
        assert ["echo"] == bench.host.ended
        if signal == "terminate":
            assert UNKNOWN == await code_of(bench.receive(command))
        else:
            assert 0xC000013A == (await bench.receive(command)).exit_code

    asyncio.run(scene())


def test_deleting_a_shell_ends_everything_in_it() -> None:
    """Its commands and a waiting Receive end, and the shell is unknown."""

    async def scene() -> None:
        bench = Bench()
        waiting = asyncio.create_task(bench.receive(bench.start()))
        await asyncio.sleep(0)
        bench.shells.delete("u", bench.shell)
        assert UNKNOWN == await code_of(waiting)
        assert ["echo"] == bench.host.ended
        assert UNKNOWN == code(lambda: bench.shells.delete("u", bench.shell))

    asyncio.run(scene())


def test_quotas_are_faults_with_their_own_codes() -> None:
    """Shells of a user, processes of a shell, operations of a shell."""

    async def scene() -> None:
        bench = Bench(Quotas(shells_per_user=2, processes_per_shell=1, operations_per_shell=2))
        bench.shells.create("u", None)
        assert SHELLS == code(lambda: bench.shells.create("u", None))
        bench.shells.create("other", None)
        command = bench.start()
        assert PROCESSES == code(bench.start)
        bench.shells.signal("u", bench.shell, command, "terminate")
        bench.shells.signal("u", bench.shell, bench.start(), "terminate")
        assert OPERATIONS == code(bench.start)

    asyncio.run(scene())


def test_an_idle_shell_is_ended() -> None:
    """With its commands; a shell in use stays."""

    async def scene() -> None:
        bench = Bench(Quotas(idle_seconds=0.05))
        command = bench.start()
        await asyncio.sleep(0.1)
        bench.shells.end_idle()
        await asyncio.sleep(0)
        assert ([UNKNOWN], ["echo"]) == ([await code_of(bench.receive(command))], bench.host.ended)

    asyncio.run(scene())


def test_another_users_shell_is_unknown() -> None:
    """Only its owner can use it."""

    async def scene() -> None:
        bench = Bench()
        assert UNKNOWN == code(lambda: bench.shells.delete("v", bench.shell))

    asyncio.run(scene())


class Talk:
    """Requests to the agent through the simulated console."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.machine = Machine("N1", MemoryDisk())
        self.condition = Condition()
        self.condition.set(faults or Faults())
        self.streams = Streams()
        self.console = Console(self.machine, self.condition)

    async def run(self, *pieces: bytes, end: bool = True, line: CommandLine = POWERSHELL) -> tuple[int, list[str], str]:
        """Sends stdin in pieces; returns exit status, ids of the replies, and stderr."""
        for piece in pieces:
            self.streams.feed(piece, end=False)
        self.streams.feed(b"", end=end)
        status = await asyncio.wait_for(self.console.run(line, self.streams), 5)
        out = b"".join(chunk.data for chunk in self.streams.output if chunk.stream == "stdout")
        err = b"".join(chunk.data for chunk in self.streams.output if chunk.stream == "stderr")
        return status, [json.loads(text)["id"] for text in out.splitlines()], err.decode()


def request(request_id: str, *ops: dict[str, object], stop: bool = False) -> bytes:
    """One request line."""
    return json.dumps({"v": 1, "id": request_id, "ops": list(ops), "stop": stop}).encode() + b"\n"


def test_requests_may_arrive_in_any_pieces() -> None:
    """Several lines in one piece, one line in several pieces, and a last line without an end."""
    lines = SCRIPT + request("1") + request("2") + request("3").rstrip()
    whole = asyncio.run(Talk().run(lines))
    bytewise = asyncio.run(Talk().run(*(bytes([byte]) for byte in lines)))
    assert (0, ["1", "2", "3"], "") == whole == bytewise


def test_a_stop_request_ends_the_conversation_without_the_end_of_input() -> None:
    """Later lines are not read."""
    assert (0, ["1", "2"], "") == asyncio.run(Talk().run(SCRIPT, request("1"), request("2", stop=True), end=False))


def test_powershell_can_lose_its_input() -> None:
    """Then there is no reply."""
    talk = Talk(Faults(stdin_swallowed=True))
    assert (4, [], "") == asyncio.run(talk.run(SCRIPT, request("1")))


def test_powershell_dies_between_two_operations() -> None:
    """Only the first one ran; a write leaves half of its bytes in a temporary file; once only."""
    talk = Talk(Faults(dies_after_operations=1))
    data = base64.b64encode(b"0123456789").decode()
    write: dict[str, object] = {"op": "write", "path": "C:\\x", "data": data, "expect": "any"}
    mkdir: dict[str, object] = {"op": "mkdir", "path": "C:\\d"}
    status, replies, _ = asyncio.run(talk.run(SCRIPT, request("1", mkdir, write)))
    (left,) = [entry for entry in talk.machine.disk.entries(ROOT) if not entry.folder]
    assert (-1, [], 5, True) == (status, replies, left.size, left.name.startswith("x.esync-"))
    talk.streams = Streams()
    assert (0, ["2"], "") == asyncio.run(talk.run(SCRIPT, request("2", mkdir, write)))
    assert {"d", "x"} == set(talk.machine.disk.names(ROOT))


def test_powershell_dies_during_a_spread() -> None:
    """Half of the files are complete, the next one is half in a temporary file, the rest is missing."""
    talk = Talk(Faults(dies_after_operations=0))
    blobs = {"a": base64.b64encode(b"0123456789").decode()}
    spread: dict[str, object] = {"op": "spread", "folder": "C:\\", "blobs": blobs, "files": dict.fromkeys("wxyz", "a")}
    assert (-1, [], "") == asyncio.run(talk.run(SCRIPT, request("1", spread)))
    left = {entry.name: entry.size for entry in talk.machine.disk.entries(ROOT)}
    temporary = next(name for name in left if name.startswith("y.esync-"))
    assert {"w": 10, "x": 10, temporary: 5} == left
    talk.streams = Streams()
    assert (0, ["2"], "") == asyncio.run(talk.run(SCRIPT, request("2", spread)))
    assert set("wxyz") == set(talk.machine.disk.names(ROOT))


@pytest.mark.parametrize(
    ("line", "status", "expected"),
    [
        (CommandLine("dir", ("C:\\",)), 1, "'dir' is not recognized"),
        (CommandLine("powershell", ("-Command", "-")), 1, "no script"),
        (CommandLine("powershell", ("-EncodedCommand", "?")), 1, "not valid"),
        (CommandLine("hostname " + "x" * 8200), 1, "too long"),
    ],
)
def test_other_commands_do_not_exist(line: CommandLine, status: int, expected: str) -> None:
    """With the message of cmd.exe on stderr."""
    found, replies, err = asyncio.run(Talk().run(line=line))
    assert (status, [], True) == (found, replies, expected in err)


def test_an_invalid_first_line_ends_powershell() -> None:
    """It must be base64."""
    status, replies, err = asyncio.run(Talk().run(request("1")))
    assert (13, [], True) == (status, replies, "base64" in err)


def test_hostname_prints_the_name() -> None:
    """With a Windows line end."""
    talk = Talk()
    status = asyncio.run(talk.console.run(CommandLine("C:\\Windows\\System32\\HOSTNAME.EXE"), talk.streams))
    assert (0, b"N1\r\n") == (status, talk.streams.output[0].data)
