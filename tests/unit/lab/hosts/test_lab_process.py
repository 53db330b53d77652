"""Commands as real processes: streams, exit statuses, no leftovers. `/bin/sh -c` is the runner."""

import asyncio
import gc
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
#: Ignores SIGTERM, in its own session, after the end of its parent.
STUBBORN = "(setsid sh -c 'trap \"\" TERM HUP; echo $$ > left; while :; do sleep 0.1; done' &) ; "


def host(runner: tuple[str, ...] = SHELL) -> ProcessHost:
    """A host that runs command lines with the shell."""
    return ProcessHost(runner, CONDITION)


def scene(script: Callable[[], Awaitable[None]]) -> None:
    """Runs a scene with a time limit."""

    async def bounded() -> None:
        async with asyncio.timeout(15):
            await script()

    asyncio.run(bounded())


def output(streams: Streams, name: str) -> bytes:
    """The output on a stream."""
    return b"".join(chunk.data for chunk in streams.output if chunk.stream == name)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def soon(look: Callable[[], bool], seconds: float = 3) -> bool:
    """Whether the condition becomes true in time."""
    until = time.monotonic() + seconds
    for _ in iter(lambda: look() or time.monotonic() > until, True):
        await asyncio.sleep(0.01)
    return look()


async def gone(pid: int, seconds: float = 3) -> bool:
    """Whether the process ends in time."""
    return await soon(lambda: not alive(pid), seconds)


async def number_in(file: Path) -> int:
    """The number in a file, as soon as it is complete."""
    assert await soon(lambda: bool(text_of(file)))
    return int(text_of(file))


def text_of(file: Path) -> str:
    """The current content."""
    return file.read_text().strip() if file.exists() else ""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the commands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_both_streams_and_the_exit_status_arrive() -> None:
    """Arguments are joined by spaces; stdout and stderr are separate."""

    async def script() -> None:
        streams = Streams()
        line = CommandLine("echo", ("out;", "echo", '"err  or"', ">&2;", "exit", "3"))
        assert 3 == await host().run(line, streams)
        assert (b"out\n", b"err  or\n") == (output(streams, "stdout"), output(streams, "stderr"))

    scene(script)


def test_input_arrives_at_once_and_ends_on_request() -> None:
    """The first piece is answered before the second one is sent; the end of input ends the command."""

    async def script() -> None:
        streams = Streams()
        running = asyncio.create_task(host().run(CommandLine("cat"), streams))
        streams.feed(b"one", end=False)
        await streams.changed.wait()
        assert b"one" == output(streams, "stdout")
        rest = bytes(range(256)) * 4096
        streams.feed(rest, end=True)
        assert 0 == await running
        assert b"one" + rest == output(streams, "stdout")

    scene(script)


def test_unread_input_is_no_problem() -> None:
    """A command that ends with a megabyte unread returns its status."""

    async def script() -> None:
        streams = Streams()
        streams.feed(b"x" * 2**20, end=True)
        assert 5 == await host().run(CommandLine("exit 5"), streams)

    scene(script)


def test_a_missing_runner_is_reported() -> None:
    """On stderr, with a status that is not 0."""

    async def script() -> None:
        streams = Streams()
        assert 1 == await host(("/nowhere/runner",)).run(CommandLine("x"), streams)
        assert b"/nowhere/runner cannot be started" in output(streams, "stderr")

    scene(script)


@pytest.mark.parametrize("line", ["sleep 600", "trap '' TERM; while :; do sleep 0.1; done", f"{STUBBORN} sleep 600"])
def test_a_cancelled_command_ends_with_all_its_processes(folder: Path, line: str) -> None:
    """Also if one ignores SIGTERM, or has left its group and parent."""

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


def test_leftover_processes_end_with_their_command(folder: Path) -> None:
    """The status arrives although the leftover process keeps the streams open."""

    async def script() -> None:
        line = CommandLine(f"{STUBBORN} while [ ! -s left ]; do sleep 0.05; done; exit 4")
        assert 4 == await host().run(line, Streams())
        assert await gone(int(text_of(folder / "left")))

    scene(script)


def test_the_end_of_the_lab_waits_for_every_command(folder: Path) -> None:
    """Also for one that ignores SIGTERM."""

    async def script() -> None:
        shells = Shells(host(), Quotas())
        shell, _ = shells.create("u", None)
        shells.command("u", shell, CommandLine("trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done"))
        pid = await number_in(folder / "pid")
        shells.end_all()
        await shells.ended()
        assert not alive(pid)

    scene(script)


# The second cancel ends the wait for the process, so that its object may be collected before the process has ended.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_command_that_is_cancelled_twice_ends(folder: Path) -> None:
    """The second time during the wait after SIGTERM."""

    async def script() -> None:
        line = CommandLine("trap '' TERM; echo $$ > pid; while :; do sleep 0.1; done")
        running = asyncio.create_task(host().run(line, Streams()))
        pid = await number_in(folder / "pid")
        running.cancel()
        await asyncio.sleep(0.1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await gone(pid)

    scene(script)
    gc.collect()


@pytest.mark.parametrize("way", ["terminate", "ctrl_c", "delete", "idle"])
def test_every_end_of_a_shell_ends_the_process(folder: Path, way: str) -> None:
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
    """With a quota of one, the next process starts only after the end of the first one."""

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
    """As on a simulated machine; other programs are not."""

    async def script() -> None:
        condition = Condition()
        condition.set(Faults(powershell_start_ms=2000))
        run = ProcessHost(("/bin/echo",), condition).run
        started = time.monotonic()
        await run(CommandLine("hostname"), Streams())
        await run(CommandLine(r"C:\Windows\System32\PowerShell.EXE -Command x"), Streams())
        lasted = time.monotonic() - started
        assert (1, True) == (condition.counters.powershell_starts, lasted >= 2)

    scene(script)


def test_commands_are_independent(folder: Path) -> None:
    """The end of one does not end another one, even if their processes left their groups."""

    async def script() -> None:
        other = asyncio.create_task(host().run(CommandLine(f"{STUBBORN} sleep 600"), Streams()))
        pid = await number_in(folder / "left")
        assert 0 == await host().run(CommandLine("true"), Streams())
        assert alive(pid)
        other.cancel()
        assert await gone(pid)

    scene(script)
