"""A session's own rules, over a channel in this process."""

import itertools
import time

import pytest

from tests.unit.workers.winrm.in_memory import MachineChannel
from workers.errors import AgentFailed, Cancelled, Conflict, DeadlineExceeded, NodeRefused, SessionLost
from workers.winrm import agent as ops
from workers.winrm.channel import Counters
from workers.winrm.session import AgentSession
from workers.winrm.wire import command_line, script_line

MISSING = ops.read("C:\\none")


def session_over(channel: MachineChannel, **options: object) -> AgentSession:
    """A session with a short patience."""
    return AgentSession(channel, "S1", **({"patience": 0.05} | options))  # type: ignore[arg-type]


def test_the_first_exchange_carries_script_greeting_and_request_together() -> None:
    """One start, one send, one receive; afterwards only the request travels."""
    channel = MachineChannel()
    session = session_over(channel)
    (reply,) = session.ask([ops.stat("C:\\")], deadline=60)
    assert (True, "N1", "conversation") == (reply["exists"], session.hello().computer, session.way)
    assert Counters(2, 1, channel.sent[0], 0) == session.counters
    first = channel.sent[0]
    session.ask([ops.clock()], deadline=60)
    assert channel.sent[0] - first < 100 < len(script_line()) < first
    assert 1 == len(channel.commands)


def test_a_greeting_alone_is_asked_where_nothing_was_asked_before() -> None:
    """hello() works on a session that has just been opened."""
    assert "5.1.17763.1" == session_over(MachineChannel()).hello().powershell


def test_a_failed_operation_raises_or_stands_in_its_place() -> None:
    """Without keep_going the first failure raises as the error of its kind; with it all have a reply."""
    session = session_over(MachineChannel())
    with pytest.raises(AgentFailed, match="S1: read C:") as caught:
        session.ask([MISSING, ops.clock()], deadline=60)
    failed, clock = session.ask([MISSING, ops.clock()], deadline=60, keep_going=True)
    assert ("not_found", "C:\\none") == (caught.value.reason, caught.value.file)
    assert (False, "not_found", True) == (failed.ok, failed.error, clock.ok)


def test_a_conflict_leaves_the_session_usable() -> None:
    """What the agent refuses is no doubt about the conversation."""
    session = session_over(MachineChannel())
    session.ask([ops.mkdir("C:\\f"), ops.write("C:\\f\\a", b"1", expect=ops.ABSENT)], deadline=60)
    with pytest.raises(Conflict):
        session.ask([ops.write("C:\\f\\a", b"2", expect=ops.ABSENT)], deadline=60)
    assert session.usable
    assert b"1" == ops.data_of(session.ask([ops.read("C:\\f\\a")], deadline=60)[0])


def test_noise_and_small_pieces_do_not_matter() -> None:
    """Lines that are no reply are skipped, a reply may come in any number of turns."""
    session = session_over(MachineChannel(noise=b"WARNING: profile\r\n{not json\r\n", piece=7))
    assert [True, True] == [reply.ok for reply in session.ask([ops.clock(), ops.stat("C:\\")], deadline=60)]


def test_a_long_request_travels_in_pieces() -> None:
    """No message is larger than WinRM takes."""
    channel = MachineChannel()
    session = session_over(channel)
    session.ask([ops.write("C:\\big", bytes(1_000_000), expect=ops.ANY)], deadline=60)
    assert 7 == channel.turns


@pytest.mark.parametrize("way", ["auto", "batch"])
def test_batch_asks_a_new_powershell_each_time(way: str) -> None:
    """Where input is held back until its end, auto ends it, gets its answer from the same process, and goes on so."""
    channel = MachineChannel(delays=True)
    session = session_over(channel, way=way)
    for _ in range(3):
        session.ask([ops.clock()], deadline=60)
    assert "batch" == session.way
    first = [command_line(batch=way == "batch")]
    assert first + [command_line(batch=True)] * 2 == channel.commands
    assert session.usable


def test_a_powershell_that_was_given_nothing_is_followed_by_one_that_takes_all() -> None:
    """Nothing ran in the first, so nothing is done twice."""
    channel = MachineChannel(swallows=True)
    session = session_over(channel)
    (reply,) = session.ask([ops.write("C:\\a", b"1", expect=ops.ABSENT)], deadline=60)
    assert (True, "batch") == (reply["changed"], session.way)
    assert [command_line(), command_line(batch=True)] == channel.commands


def test_a_conversation_does_not_fall_back() -> None:
    """The policy may fix the way; then a silent PowerShell is a deadline."""
    session = session_over(MachineChannel(delays=True), way="conversation")
    with pytest.raises(DeadlineExceeded, match=r"S1 did not answer within 0\.1 s"):
        session.ask([ops.clock()], deadline=0.1)


def test_a_deadline_is_ours_and_ends_the_session() -> None:
    """It comes when it was said, and the session is not asked again."""
    session = session_over(MachineChannel(mute=True), patience=0.01)
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        session.ask([ops.clock()], deadline=0.2)
    assert 0.2 <= time.monotonic() - started < 60
    with pytest.raises(SessionLost, match="of no more use"):
        session.ask([ops.clock()], deadline=1)


def test_a_cancel_is_seen_at_the_next_turn() -> None:
    """The wait is left, and the session with it."""
    turns = itertools.count()
    session = session_over(MachineChannel(mute=True))
    with pytest.raises(Cancelled, match="S1"):
        session.ask([ops.clock()], deadline=30, cancelled=lambda: next(turns) > 2)
    assert not session.usable


def test_a_powershell_that_dies_is_doubt() -> None:
    """What was asked may have happened; its last words are told where it never answered."""
    session = session_over(MachineChannel(dies=9, stderr=b"'powershell.exe' is not recognized"))
    with pytest.raises(SessionLost, match=r"status 9 before it answered\. 'powershell.exe' is not recognized"):
        session.ask([ops.clock()], deadline=60)


def test_a_restricted_language_mode_is_the_nodes_refusal() -> None:
    """The bootstrap says so by its exit status, because nothing else works there."""
    with pytest.raises(NodeRefused, match="restricted language mode"):
        session_over(MachineChannel(dies=3)).ask([ops.clock()], deadline=60)


def test_closing_twice_is_closing_once() -> None:
    """And a closed session is not asked."""
    channel = MachineChannel()
    session = session_over(channel)
    session.close()
    with pytest.raises(SessionLost):
        session.ask([ops.clock()], deadline=1)
    assert 1 == channel.closed
