"""Commands as real processes: streams, statuses, and that nothing is left running. `/bin/sh -c` is the runner."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lab.hosts.process import ProcessHost
from lab.machine.condition import Condition
from lab.machine.faults import Faults
from lab.machine.machine import Quotas
from lab.winrm.shells import CommandLine, Shells, Streams
from lab.winrm.wsman import Chunk, Fault

SHELL = ("/bin/sh", "-c")
CONDITION = Condition()
#: Asks for its death to be ignored, in a session of its own, behind a parent that is gone.
STUBBORN = "(setsid sh -c 'trap \"\" TERM HUP; echo $$ > left; while :; do sleep 0.1; done' &) ; "


def host(runner: tuple[str, ...] = SHELL) -> ProcessHost:
    """Runs lines under the shell."""
    return ProcessHost(runner, CONDITION)


def scene(script: Callable[[], Awaitable[None]]) -> None:
    """Runs a scene, and fails when it takes long."""

    async def bounded() -> None:
        async with asyncio.timeout(15):
            await script()

    asyncio.run(bounded())


def said(streams: Streams, name: str) -> bytes:
    """What stands on a stream."""
    return b"".join(chunk.data for chunk in streams.output if chunk.stream == name)


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def soon(look: Callable[[], bool], seconds: float = 3) -> bool:
    """Whether it becomes so within that many seconds."""
    until = time.monotonic() + seconds
    for _ in iter(lambda: look() or time.monotonic() > until, True):
        await asyncio.sleep(0.01)
    return look()


async def gone(pid: int, seconds: float = 3) -> bool:
    """Whether it ends within so many seconds."""
    return await soon(lambda: not alive(pid), seconds)


async def number_in(file: Path) -> int:
    """The number that a command writes to a file, once it is there."""
    assert await soon(lambda: bool(text_of(file)))
    return int(text_of(file))


def text_of(file: Path) -> str:
    """What it holds so far."""
    return file.read_text().strip() if file.exists() else ""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands write."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_both_streams_and_the_exit_status_arrive() -> None:
    """Arguments joined by blanks, output apart from errors, status 3."""

    async def script() -> None:
        streams = Streams()
        line = CommandLine("echo", ("out;", "echo", '"err  or"', ">&2;", "exit", "3"))
        assert 3 == await host().run(line, streams)
        assert (b"out\n", b"err  or\n") == (said(streams, "stdout"), said(streams, "stderr"))

    scene(script)


def test_input_arrives_as_it_is_sent_and_ends_when_told() -> None:
    """An answer to the first piece before the second is sent; bytes unchanged; the end of input ends the command."""

    async def script() -> None:
        streams = Streams()
        running = asyncio.create_task(host().run(CommandLine("cat"), streams))
        streams.feed(b"one", end=False)
        await streams.changed.wait()
        assert b"one" == said(streams, "stdout")
        rest = bytes(range(256)) * 4096
        streams.feed(rest, end=True)
        assert 0 == await running
        assert b"one" + rest == said(streams, "stdout")

    scene(script)


def test_input_that_nobody_reads_harms_nobody() -> None:
    """A command that ends with a megabyte unread gives its status."""

    async def script() -> None:
        streams = Streams()
        streams.feed(b"x" * 2**20, end=True)
        assert 5 == await host().run(CommandLine("exit 5"), streams)

    scene(script)


def test_a_runner_that_is_not_there_is_said() -> None:
    """On stderr, with a status that is not 0."""

    async def script() -> None:
        streams = Streams()
        assert 1 == await host(("/nowhere/runner",)).run(CommandLine("x"), streams)
        assert b"/nowhere/runner cannot be started" in said(streams, "stderr")

    scene(script)


@pytest.mark.parametrize("line", ["sleep 600", "trap '' TERM; while :; do sleep 0.1; done", f"{STUBBORN} sleep 600"])
def test_a_cancelled_command_ends_with_all_it_started(folder: Path, line: str) -> None:
    """Also when it ignores being asked, and what left its group and parent."""

    async def script() -> None:
        running = asyncio.create_task(host().run(CommandLine(f"echo $$ > pid; {line}"), Streams()))
        pids = [await number_in(folder / "pid")]
        if STUBBORN in line:
            pids.append(await number_in(folder / "left"))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert [True] * len(pids) == [await gone(pid) for pid in pids]

    scene(script)


def test_what_a_command_leaves_behind_ends_with_it(folder: Path) -> None:
    """Its status comes although the process left behind holds the streams open, and then that one is gone too."""

    async def script() -> None:
        line = CommandLine(f"{STUBBORN} while [ ! -s left ]; do sleep 0.05; done; exit 4")
        assert 4 == await host().run(line, Streams())
        assert await gone(int(text_of(folder / "left")))

    scene(script)


def test_the_end_of_the_lab_waits_for_the_end_of_every_command(folder: Path) -> None:
    """Also of one that ignores being asked."""

    async def script() -> None:
        shells = Shells(host(), Quotas())
        shell, _ = shells.create("u", None)
        shells.command("u", shell, CommandLine("trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done"))
        pid = await number_in(folder / "pid")
        shells.end_all()
        await shells.ended()
        assert not alive(pid)

    scene(script)


def test_a_command_cancelled_twice_ends_all_the_same(folder: Path) -> None:
    """The second time comes while it is still being asked."""

    async def script() -> None:
        line = CommandLine("trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done")
        running = asyncio.create_task(host().run(line, Streams()))
        pid = await number_in(folder / "pid")
        running.cancel()
        await asyncio.sleep(0.1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await gone(pid, 0.3)

    scene(script)


@pytest.mark.parametrize("way", ["terminate", "ctrl_c", "delete", "idle"])
def test_every_way_out_of_a_shell_ends_the_process(folder: Path, way: str) -> None:
    """Signal, Delete and the idle timeout, each within seconds."""

    async def script() -> None:
        shells = Shells(host(), Quotas(idle_seconds=0.2))
        shell, _ = shells.create("u", None)
        command = shells.command("u", shell, CommandLine("echo $$ > pid; exec sleep 600"))
        pid = await number_in(folder / "pid")
        assert alive(pid)
        if way == "delete":
            shells.delete("u", shell)
        elif way == "idle":
            await asyncio.sleep(0.3)
            shells.end_idle()
        else:
            shells.signal("u", shell, command, way)
        assert await gone(pid)
        if way == "ctrl_c":
            output = await shells.receive("u", shell, command, 5, 1000)
            assert 0xC000013A == output.exit_code

    scene(script)


def test_quotas_of_a_shell_hold_for_processes() -> None:
    """One process at a time where the quota says so, and again after it has ended."""

    async def script() -> None:
        shells = Shells(host(), Quotas(processes_per_shell=1))
        shell, _ = shells.create("u", None)
        command = shells.command("u", shell, CommandLine("cat"))
        with pytest.raises(Fault):
            shells.command("u", shell, CommandLine("true"))
        shells.send("u", shell, [Chunk(command, "stdin", b"", end=True)])
        output = await shells.receive("u", shell, command, 5, 1000)
        assert 0 == output.exit_code
        shells.command("u", shell, CommandLine("true"))
        shells.end_all()

    scene(script)


def test_starts_of_powershell_are_counted_and_delayed() -> None:
    """As on a simulated machine; other programs are neither."""

    async def script() -> None:
        condition = Condition()
        condition.set(Faults(powershell_start_ms=2000))
        run = ProcessHost(("/bin/echo",), condition).run
        started = time.monotonic()
        await run(CommandLine("hostname"), Streams())
        quick = time.monotonic() - started
        await run(CommandLine(r"C:\Windows\System32\PowerShell.EXE -Command x"), Streams())
        slow = time.monotonic() - started - quick
        assert (1, True) == (condition.counters.powershell_starts, slow >= 2 > quick)

    scene(script)


def test_commands_do_not_see_each_other(folder: Path) -> None:
    """The end of one leaves another one alone, whatever both left their groups for."""

    async def script() -> None:
        other = asyncio.create_task(host().run(CommandLine(f"{STUBBORN} sleep 600"), Streams()))
        pid = await number_in(folder / "left")
        assert 0 == await host().run(CommandLine("true"), Streams())
        assert alive(pid)
        other.cancel()
        assert await gone(pid)

    scene(script)
