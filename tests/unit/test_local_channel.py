"""The channel to a child process, with `/bin/sh` as the program."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests import local_channel
from tests.local_channel import LocalChannel, pwsh
from workers.errors import SessionLost, Unreachable
from workers.winrm.channel import Chunk, Counters, Limit


@pytest.fixture
def channel() -> Iterator[LocalChannel]:
    """Runs each command line with the shell."""
    found = LocalChannel(lambda command: ["/bin/sh", "-c", command])
    yield found
    found.close()


def limit(seconds: float = 10) -> Limit:
    """A limit from now."""
    return Limit("here", seconds)


def rest(channel: LocalChannel) -> tuple[bytes, bytes, int | None]:
    """The output up to the exit status."""
    stdout, stderr, status = b"", b"", None
    while status is None:
        chunk = channel.receive(limit())
        stdout, stderr, status = stdout + chunk.stdout, stderr + chunk.stderr, chunk.exit_status
    return stdout, stderr, status


def lives(process: int) -> bool:
    """Whether a process runs, and is no zombie."""
    try:
        with open(f"/proc/{process}/stat") as file:  # noqa: PTH123 - as short as it can be
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_streams_and_the_exit_status_arrive(channel: LocalChannel) -> None:
    """Both streams apart; the counters count writes, waits, starts and bytes."""
    channel.start("read line; echo $line; echo problem >&2; exit 3", limit())
    assert channel.pid
    channel.send(b"hello\n", limit(), end=True)
    assert (b"hello\n", b"problem\n", 3) == rest(channel)
    counters = channel.counters
    assert (1, 6, 14) == (counters.shells, counters.bytes_sent, counters.bytes_received)
    assert counters.round_trips >= 2


def test_a_wait_without_output_is_an_empty_chunk_and_counts(channel: LocalChannel) -> None:
    """As long as the turn, the limit, or one second: the shortest."""
    channel.start("sleep 30", limit())
    before = channel.counters.round_trips
    started = time.monotonic()
    assert Chunk() == channel.receive(limit(), turn=0.05)
    assert Chunk() == channel.receive(limit(0.05))
    assert 0.1 <= time.monotonic() - started < 20
    assert before + 2 == channel.counters.round_trips
    started = time.monotonic()
    assert Chunk() == channel.receive(limit(), turn=30)
    assert 1 <= time.monotonic() - started < 20


def test_the_end_of_input_is_separate(channel: LocalChannel) -> None:
    """Without it, the child waits for more."""
    channel.start("cat; echo end", limit())
    channel.send(b"one", limit())
    assert b"one" == channel.receive(limit()).stdout
    channel.send(b"two", limit(), end=True)
    assert (b"twoend\n", b"", 0) == rest(channel)


def test_a_program_that_does_not_exist_is_unreachable() -> None:
    """Nothing ran; it does not count as a start."""
    channel = LocalChannel(lambda _: ["/no/such/program"])
    with pytest.raises(Unreachable, match="/no/such/program cannot be started: No such file"):
        channel.start("x", limit())
    assert (None, Counters()) == (channel.pid, channel.counters)
    channel.close()


def test_a_child_that_closed_its_input_is_a_lost_session(channel: LocalChannel) -> None:
    """Its output may still be read."""
    channel.start("exec 0<&-; echo closed; sleep 30", limit())
    assert b"closed\n" == channel.receive(limit()).stdout
    with pytest.raises(SessionLost, match="closed its stdin"):
        channel.send(b"x" * 100_000, limit())


def test_without_a_child_there_is_no_session(channel: LocalChannel) -> None:
    """Before a start and after a stop."""
    with pytest.raises(SessionLost, match="no child process"):
        channel.send(b"", limit())
    channel.start("cat", limit())
    channel.stop()
    assert channel.pid is None
    with pytest.raises(SessionLost, match="no child process"):
        channel.receive(limit())


def test_a_stopped_child_ends_by_itself_first_and_its_children_are_killed(
    channel: LocalChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of its input is a request to end; the process group does not survive."""
    monkeypatch.setattr(local_channel, "PATIENCE", 20)
    channel.start("trap '' TERM HUP; sleep 30 & echo $!; cat; exit 0", limit())
    grandchild = int(channel.receive(limit()).stdout)
    child = channel.pid
    assert child
    started = time.monotonic()
    channel.stop()
    assert time.monotonic() - started < 20
    monkeypatch.setattr(local_channel, "PATIENCE", 0.5)
    assert (False, False) == (lives(child), ended_soon(grandchild))
    channel.start("sleep 30; sleep 30", limit())
    child = channel.pid
    assert child
    started = time.monotonic()
    channel.stop()
    assert 0.5 <= time.monotonic() - started < 20
    assert not lives(child)
    channel.start("echo again", limit())
    assert (b"again\n", b"", 0) == rest(channel)
    assert 3 == channel.counters.shells


def ended_soon(process: int) -> bool:
    """Whether it still runs after at most a second."""
    for _ in range(100):
        if not lives(process):
            return False
        time.sleep(0.01)
    return True


def test_a_child_has_its_own_process_session(channel: LocalChannel) -> None:
    """A Ctrl-C in the terminal of the worker does not reach it."""
    channel.start("cat", limit())
    assert channel.pid
    assert channel.pid == os.getsid(channel.pid) == os.getpgid(channel.pid)
    os.killpg(channel.pid, signal.SIGKILL)
    assert (b"", b"", -9) == rest(channel)


def test_a_local_powershell_gets_the_arguments_of_the_node() -> None:
    """Only the program differs."""
    assert ["/usr/bin/pwsh", "-NoProfile", "-EncodedCommand", "abc"] == pwsh("/usr/bin/pwsh")(
        "powershell.exe -NoProfile -EncodedCommand abc"
    )
