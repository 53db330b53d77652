"""The rules of a session, over a channel in this process."""

import itertools
import os
import time

import pytest

from tests.unit.workers.winrm.in_memory import MachineChannel
from workers.errors import AgentFailed, Cancelled, Conflict, DeadlineExceeded, NodeRefused, SessionLost
from workers.records import Endpoint
from workers.settings import Secret
from workers.winrm import operations as ops
from workers.winrm.channel import OPEN, Chunk, Counters, Gate, Limit
from workers.winrm.session import AgentSession, open_session, piece_size
from workers.winrm.wire import command_line, script_line

MISSING = ops.read("C:\\none")


def session_over(channel: MachineChannel, **options: object) -> AgentSession:
    """A session with a short patience."""
    return AgentSession(channel, "S1", **({"patience": 0.05} | options))  # type: ignore[arg-type]


def test_the_first_exchange_sends_script_hello_and_request_together() -> None:
    """One start, one send, one receive; later exchanges send only the request."""
    channel = MachineChannel()
    session = session_over(channel)
    (reply,) = session.ask([ops.stat("C:\\")], deadline=60)
    assert (True, "N1", "conversation") == (reply["exists"], session.hello().computer, session.way)
    assert Counters(2, 1, channel.sent[0], 0) == session.counters
    first = channel.sent[0]
    session.ask([ops.clock()], deadline=60)
    assert channel.sent[0] - first < 100 < len(script_line()) < first
    assert 1 == len(channel.commands)


def test_hello_alone_is_a_first_exchange() -> None:
    """hello() works on a new session."""
    assert "5.1.17763.1" == session_over(MachineChannel()).hello().powershell


def test_a_failed_operation_raises_or_is_returned() -> None:
    """Without keep_going the first failure raises its error; with it, every operation has a reply."""
    session = session_over(MachineChannel())
    with pytest.raises(AgentFailed, match="S1: read C:") as caught:
        session.ask([MISSING, ops.clock()], deadline=60)
    failed, clock = session.ask([MISSING, ops.clock()], deadline=60, keep_going=True)
    assert ("not_found", "C:\\none") == (caught.value.reason, caught.value.file)
    assert (False, "not_found", True) == (failed.ok, failed.error, clock.ok)


def test_a_conflict_leaves_the_session_usable() -> None:
    """A refusal of the agent is no problem of the connection."""
    session = session_over(MachineChannel())
    session.ask([ops.mkdir("C:\\f"), ops.write("C:\\f\\a", b"1", expect=ops.ABSENT)], deadline=60)
    with pytest.raises(Conflict):
        session.ask([ops.write("C:\\f\\a", b"2", expect=ops.ABSENT)], deadline=60)
    assert session.usable
    assert b"1" == ops.data_of(session.ask([ops.read("C:\\f\\a")], deadline=60)[0])


def test_noise_and_small_pieces_are_handled() -> None:
    """Lines that are not a reply are skipped; a reply may arrive in any number of pieces."""
    session = session_over(MachineChannel(noise=b"WARNING: profile\r\n{not json\r\n", piece=7))
    assert [True, True] == [reply.ok for reply in session.ask([ops.clock(), ops.stat("C:\\")], deadline=60)]


def test_a_long_request_is_sent_in_pieces() -> None:
    """Of 100 kB until the node has reported its limit, then as large as it accepts."""
    sent: list[int] = []

    class Recording(MachineChannel):
        def send(self, data: bytes, limit: Limit, *, end: bool = False) -> None:
            sent.append(len(data))
            super().send(data, limit, end=end)

    session = session_over(Recording())
    for name in ("a", "b"):
        data = os.urandom(1_000_000)  # it cannot be compressed
        session.ask([ops.write(f"C:\\{name}", data, expect=ops.ANY)], deadline=60)
        assert {100_000 if name == "a" else 240_000} == set(sent[:-1])
        sent.clear()


@pytest.mark.parametrize("kilobytes", [32, 150, 500, 8192])
def test_a_piece_of_input_fits_the_limit_of_the_node(kilobytes: int) -> None:
    """A message of WinRM with the piece in base64 stays below MaxEnvelopeSizekb, also with its encryption."""
    hello = session_over(MachineChannel()).hello().model_copy(update={"winrm": {"MaxEnvelopeSizekb": str(kilobytes)}})
    size = piece_size(hello)
    assert size * 4 / 3 + 8000 < kilobytes * 1024
    assert size > kilobytes * 500 or size == 240_000


@pytest.mark.parametrize("reported", [{}, {"MaxEnvelopeSizekb": "many"}, {"MaxEnvelopeSizekb": ""}])
def test_without_a_known_limit_a_piece_fits_the_oldest_default(reported: dict[str, str]) -> None:
    """WinRM 2.0 accepts messages of 150 KiB."""
    hello = session_over(MachineChannel()).hello().model_copy(update={"winrm": reported})
    assert piece_size(None) == piece_size(hello) == 100_000
    assert piece_size(hello) * 4 / 3 + 8000 < 150 * 1024


@pytest.mark.parametrize("way", ["auto", "batch"])
def test_batch_starts_a_new_powershell_per_request(way: str) -> None:
    """If input arrives only at its end, `auto` ends it, gets the answer from the same process and stays batch."""
    channel = MachineChannel(delays=True)
    session = session_over(channel, way=way)
    for _ in range(3):
        session.ask([ops.clock()], deadline=60)
    assert "batch" == session.way
    first = [command_line(batch=way == "batch")]
    assert first + [command_line(batch=True)] * 2 == channel.commands
    assert 2 * len(channel.commands) == channel.stopped  # before each start, and after each reply
    assert session.usable


def test_a_powershell_that_read_nothing_is_replaced_by_one_in_batch() -> None:
    """Nothing ran in the first process, so nothing runs twice."""
    channel = MachineChannel(swallows=True)
    session = session_over(channel)
    (reply,) = session.ask([ops.write("C:\\a", b"1", expect=ops.ABSENT)], deadline=60)
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
    assert 0.2 <= time.monotonic() - started < 60
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
    session = session_over(MachineChannel(dies=-1, stderr=b"a last word"))
    with pytest.raises(SessionLost, match=r"status -1 before it answered\. a last word"):
        session.ask([ops.clock()], deadline=60)


def test_a_command_that_fails_before_powershell_answers_is_a_refusal() -> None:
    """Nothing has run, so there is no second attempt; what was printed is shown."""
    session = session_over(MachineChannel(dies=9, stderr=b"something else", noise=b""))
    with pytest.raises(NodeRefused, match=r"status 9 before PowerShell answered.*'something else'") as caught:
        session.ask([ops.clock()], deadline=60)
    assert "AutoRun" in caught.value.remedy


def test_a_reply_is_found_behind_text_without_a_line_end() -> None:
    """AutoRun of cmd.exe may print such a text at each start."""
    session = session_over(MachineChannel(noise=b"Welcome to SRV1> "), patience=60)
    assert [True] == [reply.ok for reply in session.ask([ops.clock()], deadline=60)]
    assert "conversation" == session.way


def test_what_is_printed_instead_of_the_first_answer_is_named() -> None:
    """At the deadline; decoded without replacement characters."""

    class Printing(MachineChannel):
        def receive(self, limit: Limit, *, turn: float = 0) -> Chunk:
            super().receive(limit, turn=turn)
            return Chunk("Dr\u00fccken Sie eine Taste . . .".encode("cp850") if self.turns == 2 else b"")

    session = session_over(Printing(silent=True), way="conversation")
    with pytest.raises(DeadlineExceeded, match=r"it printed 'Dr.cken Sie eine Taste") as caught:
        session.ask([ops.clock()], deadline=0.2)
    assert "AutoRun" in caught.value.remedy


def test_a_restricted_language_mode_is_a_refusal_of_the_node() -> None:
    """The bootstrap reports it by its exit status, because nothing else works in that mode."""
    with pytest.raises(NodeRefused, match="restricted language mode"):
        session_over(MachineChannel(dies=3)).ask([ops.clock()], deadline=60)


def test_a_closed_session_accepts_no_request() -> None:
    """The message names the session."""
    channel = MachineChannel()
    session = session_over(channel)
    session.close()
    with pytest.raises(SessionLost, match="the session with S1 is closed"):
        session.ask([ops.clock()], deadline=1)
    assert 1 == channel.closed


def test_an_open_session_is_not_opened_again() -> None:
    """The first request uses the process that `open` started."""
    channel = MachineChannel()
    session = session_over(channel)
    assert (True, None) == (session.fresh, session.greeting)
    session.open(deadline=5)
    session.open(deadline=5)
    session.ask([ops.clock()], deadline=5)
    assert 1 == len(channel.commands)
    assert session.greeting == session.hello()


def test_a_request_that_fails_still_greets() -> None:
    """A report can show what the node reported about itself."""
    session = session_over(MachineChannel())
    with pytest.raises(AgentFailed):
        session.ask([MISSING], deadline=5)
    assert session.greeting
    assert [True] == [reply.ok for reply in session.ask([ops.clock()], deadline=5)]


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_piece_is_as_long_as_allowed(extra: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the last piece of a batch ends the input."""
    sent: list[tuple[int, bool]] = []

    class Recording(MachineChannel):
        def send(self, data: bytes, limit: Limit, *, end: bool = False) -> None:
            sent.append((len(data), end))
            super().send(data, limit, end=end)

    session = session_over(Recording(), way="batch")
    session.ask([ops.clock()], deadline=5)
    ((length, end),) = sent
    assert end
    sent.clear()
    monkeypatch.setattr("workers.winrm.session.PIECE", length + extra)
    again = session_over(Recording(), way="batch")
    again.ask([ops.clock()], deadline=5)
    assert ([(length - 1, False), (1, True)] if extra < 0 else [(length, True)]) == sent
    sent.clear()
    session_over(Recording(), way="conversation").ask([ops.clock()], deadline=5)
    assert {False} == {end for _, end in sent}


def test_the_first_wait_is_no_longer_than_the_patience() -> None:
    """Later waits, and those of a fixed way, have the usual length."""
    turns: list[float] = []

    class Recording(MachineChannel):
        def receive(self, limit: Limit, *, turn: float = 0) -> Chunk:
            turns.append(turn)
            return super().receive(limit, turn=turn)

    for patience, way in ((0.25, "auto"), (60, "auto"), (0.25, "conversation"), (0.25, "batch")):
        session = session_over(Recording(), patience=patience, way=way)
        session.ask([ops.clock()], deadline=5)
    session = session_over(Recording(), patience=0.25)
    session.ask([ops.clock()], deadline=5)
    session.ask([ops.clock()], deadline=5)
    assert [0.25, 5, 5, 5, 0.25, 5] == turns


def test_a_slow_answer_within_the_patience_stays_a_conversation() -> None:
    """The input is closed only afterwards, and only once."""
    ends: list[bool] = []

    class Slow(MachineChannel):
        def send(self, data: bytes, limit: Limit, *, end: bool = False) -> None:
            ends.append(end)
            super().send(data, limit, end=end)

        def receive(self, limit: Limit, *, turn: float = 0) -> Chunk:
            time.sleep(0.02)
            return super().receive(limit, turn=turn) if limit.passed > 0.1 else Chunk()

    session = session_over(Slow(), patience=5)
    session.ask([ops.clock()], deadline=5)
    assert ("conversation", [False]) == (session.way, ends)
    ends.clear()
    session = session_over(Slow(), patience=0.03)
    session.ask([ops.clock()], deadline=5)
    assert ("batch", [False, True]) == (session.way, ends)


def test_a_later_process_that_ends_reports_no_stderr_of_an_earlier_one() -> None:
    """After the first answer, stderr is the output of the operations."""
    channel = MachineChannel(stderr=b"warning")
    session = session_over(channel)
    session.ask([ops.clock()], deadline=5)
    channel.dies = 3
    with pytest.raises(SessionLost) as caught:
        session.ask([ops.clock()], deadline=5)
    assert "S1: PowerShell ended with status 3 before it answered." == caught.value.message


@pytest.mark.parametrize("way", ["conversation", "batch"])
def test_a_powershell_without_input_is_a_refusal_of_a_fixed_way(way: str) -> None:
    """There is no other way to try."""
    with pytest.raises(NodeRefused, match="received no input") as caught:
        session_over(MachineChannel(dies=4), way=way).ask([ops.clock()], deadline=5)
    assert "winrs" in caught.value.remedy


def test_a_powershell_without_input_in_both_ways_is_a_refusal() -> None:
    """The second attempt is the last."""
    channel = MachineChannel(dies=4)
    with pytest.raises(NodeRefused, match="received no input"):
        session_over(channel).ask([ops.clock()], deadline=5)
    assert [command_line(), command_line(batch=True)] == channel.commands


def test_only_the_end_of_stderr_is_kept() -> None:
    """Of any length, over several chunks."""
    channel = MachineChannel(dies=-1, stderr=b"x" * 5000 + b" last words")
    with pytest.raises(SessionLost, match=r"last words$"):
        session_over(channel).ask([ops.clock()], deadline=5)


class Answering(MachineChannel):
    """Gives fixed results to every request."""

    results: str = "[]"
    count: int = 0

    def send(self, data: bytes, limit: Limit, *, end: bool = False) -> None:
        """Counts the requests."""
        super().send(data, limit, end=end)
        self.count += 1

    def receive(self, limit: Limit, *, turn: float = 5) -> Chunk:
        """One reply."""
        assert min(limit.left, turn) > 0
        return Chunk(f'{{"v":1,"id":"{self.count}","results":{self.results}}}\n'.encode())


@pytest.mark.parametrize(
    ("results", "count"), [('[{"ok":true,"a":1}]', 1), ('[{"ok":true},{"ok":true},{"ok":true}]', 3), ("[]", 0)]
)
def test_a_wrong_number_of_results_closes_the_session(results: str, count: int) -> None:
    """Too few without a failure, or too many: the reply cannot be assigned to the operations."""
    channel = Answering()
    session = session_over(channel)
    session._hello = session_over(MachineChannel()).hello()
    channel.results = results
    with pytest.raises(SessionLost, match=f"S1 returned {count} results for 2 operations"):
        session.ask([ops.clock(), ops.clock()], deadline=5)
    with pytest.raises(SessionLost, match="closed after an error: the number of results was wrong"):
        session.ask([], deadline=5)


def test_an_incomplete_reply_with_keep_going_raises_its_failure() -> None:
    """The node ended the list although it should continue."""
    channel = Answering()
    session = session_over(channel)
    session._hello = session_over(MachineChannel()).hello()
    channel.results = '[{"ok":false,"error":"busy","message":"why"}]'
    with pytest.raises(Conflict, match="S1: clock: why"):
        session.ask([ops.clock(), ops.clock()], deadline=5, keep_going=True)
    assert session.usable


def test_a_node_without_a_hello_has_no_greeting() -> None:
    """The first result must be a valid report."""
    channel = Answering()
    channel.results = '[{"ok":false,"error":"failed","message":"why"}]'
    session = session_over(channel)
    with pytest.raises(AgentFailed, match="S1: hello: why"):
        session.hello()
    assert session.greeting is None


@pytest.mark.parametrize("fails", [True, False])
def test_opening_a_session_closes_the_channel_only_after_an_error(
    fails: bool,  # noqa: FBT001 - a parameter
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No shell is left behind on the node."""
    channel = MachineChannel()
    at = Endpoint(node="S1", host="h", user="u", secret="env:X")

    def made(endpoint: Endpoint, secret: Secret, gate: Gate) -> MachineChannel:
        assert (at, "planted", OPEN) == (endpoint, secret.reveal(), gate)
        return channel

    def start(_command: str, limit: Limit) -> None:
        limit.check()
        raise Cancelled("x")

    monkeypatch.setattr("workers.winrm.session.WinRMChannel", made)
    if fails:
        monkeypatch.setattr(channel, "start", start)
        with pytest.raises(Cancelled):
            open_session(at, Secret("planted"))
        assert 1 == channel.closed
        return
    session = open_session(at, Secret("planted"), way="conversation", patience=7)
    assert ("conversation", 7, 1, 0) == (session.way, session._patience, len(channel.commands), channel.closed)
