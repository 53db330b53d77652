"""The rules of a session, over a channel in this process."""

import itertools
import time

import pytest

from tests.unit.workers.winrm.in_memory import MachineChannel
from workers.errors import AgentFailed, Cancelled, Conflict, DeadlineExceeded, NodeRefused, SessionLost
from workers.winrm import operations as ops
from workers.winrm.channel import Counters
from workers.winrm.session import AgentSession
from workers.winrm.wire import command_line, script_line

MISSING = ops.read("C:\\none")


def session_over(channel: MachineChannel, **options: object) -> AgentSession:
    """A session with a short patience."""
    return AgentSession(channel, "S1", **({"patience": 0.05} | options))  # type: ignore[arg-type]


def test_the_first_exchange_sends_script_hello_and_request_together() -> None:
    """One start, one send, one receive; later exchanges send only the request."""
    channel = MachineChannel()
    session = session_over(channel)
    (reply,) = session.ask([ops.stat("C:\\")], deadline=5)
    assert (True, "N1", "conversation") == (reply["exists"], session.hello().computer, session.way)
    assert Counters(2, 1, channel.sent[0], 0) == session.counters
    first = channel.sent[0]
    session.ask([ops.clock()], deadline=5)
    assert channel.sent[0] - first < 100 < len(script_line()) < first
    assert 1 == len(channel.commands)


def test_hello_alone_is_a_first_exchange() -> None:
    """hello() works on a new session."""
    assert "5.1.17763.1" == session_over(MachineChannel()).hello().powershell


def test_a_failed_operation_raises_or_is_returned() -> None:
    """Without keep_going the first failure raises its error; with it, every operation has a reply."""
    session = session_over(MachineChannel())
    with pytest.raises(AgentFailed, match="S1: read C:") as caught:
        session.ask([MISSING, ops.clock()], deadline=5)
    failed, clock = session.ask([MISSING, ops.clock()], deadline=5, keep_going=True)
    assert ("not_found", "C:\\none") == (caught.value.reason, caught.value.file)
    assert (False, "not_found", True) == (failed.ok, failed.error, clock.ok)


def test_a_conflict_leaves_the_session_usable() -> None:
    """A refusal of the agent is no problem of the connection."""
    session = session_over(MachineChannel())
    session.ask([ops.mkdir("C:\\f"), ops.write("C:\\f\\a", b"1", expect=ops.ABSENT)], deadline=5)
    with pytest.raises(Conflict):
        session.ask([ops.write("C:\\f\\a", b"2", expect=ops.ABSENT)], deadline=5)
    assert session.usable
    assert b"1" == ops.data_of(session.ask([ops.read("C:\\f\\a")], deadline=5)[0])


def test_noise_and_small_pieces_are_handled() -> None:
    """Lines that are not a reply are skipped; a reply may arrive in any number of pieces."""
    session = session_over(MachineChannel(noise=b"WARNING: profile\r\n{not json\r\n", piece=7))
    assert [True, True] == [reply.ok for reply in session.ask([ops.clock(), ops.stat("C:\\")], deadline=5)]


def test_a_long_request_is_sent_in_pieces() -> None:
    """No message exceeds the limit of WinRM."""
    channel = MachineChannel()
    session = session_over(channel)
    session.ask([ops.write("C:\\big", bytes(1_000_000), expect=ops.ANY)], deadline=5)
    assert 7 == channel.turns


@pytest.mark.parametrize("way", ["auto", "batch"])
def test_batch_starts_a_new_powershell_per_request(way: str) -> None:
    """If input arrives only at its end, `auto` ends it, gets the answer from the same process and stays batch."""
    channel = MachineChannel(delays=True)
    session = session_over(channel, way=way)
    for _ in range(3):
        session.ask([ops.clock()], deadline=5)
    assert "batch" == session.way
    first = [command_line(batch=way == "batch")]
    assert first + [command_line(batch=True)] * 2 == channel.commands
    assert session.usable


def test_a_powershell_that_read_nothing_is_replaced_by_one_in_batch() -> None:
    """Nothing ran in the first process, so nothing runs twice."""
    channel = MachineChannel(swallows=True)
    session = session_over(channel)
    (reply,) = session.ask([ops.write("C:\\a", b"1", expect=ops.ABSENT)], deadline=5)
    assert (True, "batch") == (reply["changed"], session.way)
    assert [command_line(), command_line(batch=True)] == channel.commands


def test_a_conversation_does_not_fall_back() -> None:
    """A fixed way stays; a silent PowerShell then ends in the deadline."""
    session = session_over(MachineChannel(delays=True), way="conversation")
    with pytest.raises(DeadlineExceeded, match=r"S1 did not answer within 0\.1 s"):
        session.ask([ops.clock()], deadline=0.1)


def test_a_deadline_ends_the_session() -> None:
    """It ends on time, and the session accepts no further request."""
    session = session_over(MachineChannel(silent=True), patience=0.01)
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        session.ask([ops.clock()], deadline=0.2)
    assert 0.2 <= time.monotonic() - started < 2
    with pytest.raises(SessionLost, match="S1 was closed after an error: S1 did not answer"):
        session.ask([ops.clock()], deadline=1)


def test_a_cancellation_is_noticed_during_the_wait() -> None:
    """The wait ends, and the session is closed."""
    turns = itertools.count()
    session = session_over(MachineChannel(silent=True))
    with pytest.raises(Cancelled, match="S1"):
        session.ask([ops.clock()], deadline=30, cancelled=lambda: next(turns) > 2)
    assert not session.usable


def test_a_powershell_that_dies_leaves_the_result_unknown() -> None:
    """The operations may have run; the message shows stderr if there was no answer yet."""
    session = session_over(MachineChannel(dies=9, stderr=b"'powershell.exe' is not recognized"))
    with pytest.raises(SessionLost, match=r"status 9 before it answered\. 'powershell.exe' is not recognized"):
        session.ask([ops.clock()], deadline=5)


def test_a_restricted_language_mode_is_a_refusal_of_the_node() -> None:
    """The bootstrap reports it by its exit status, because nothing else works in that mode."""
    with pytest.raises(NodeRefused, match="restricted language mode"):
        session_over(MachineChannel(dies=3)).ask([ops.clock()], deadline=5)


def test_a_closed_session_accepts_no_request() -> None:
    """The message names the session."""
    channel = MachineChannel()
    session = session_over(channel)
    session.close()
    with pytest.raises(SessionLost, match="the session with S1 is closed"):
        session.ask([ops.clock()], deadline=1)
    assert 1 == channel.closed
