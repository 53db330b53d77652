"""The rules of the pool: one session in use per node, kept while usable, closed after an unclear error."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from tests.unit.workers.winrm.in_memory import MachineChannel
from workers.errors import Cancelled, Conflict, DeadlineExceeded, EsyncError, LogonRefused, SessionLost
from workers.records import Endpoint
from workers.settings import Secret
from workers.winrm import operations as ops
from workers.winrm.channel import OPEN, Gate
from workers.winrm.pool import SessionPool
from workers.winrm.session import AgentSession, Way

SECRET = Secret("planted")


def endpoint(node: str = "S1") -> Endpoint:
    """An endpoint that is never contacted."""
    return Endpoint(node=node, host="127.0.0.1", user="u", secret="env:X")


@dataclass
class Opener:
    """Opens sessions in this process and records them."""

    channels: list[MachineChannel] = field(default_factory=list)
    ways: list[Way] = field(default_factory=list)
    delays: bool = False
    refuse: EsyncError | None = None

    def __call__(
        self,
        endpoint: Endpoint,
        secret: Secret,
        *,
        gate: Gate,
        deadline: float,
        way: Way,
        cancelled: Callable[[], bool],
    ) -> AgentSession:
        """As `open_session`."""
        assert (SECRET, True, False) == (secret, deadline > 0, cancelled())
        if self.refuse:
            raise self.refuse
        self.channels.append(MachineChannel(delays=self.delays))
        self.ways.append(way)
        gate.admit()
        return AgentSession(self.channels[-1], endpoint.node, way=way, patience=0.05)


def test_a_usable_session_is_lent_again() -> None:
    """It is fresh the first time only."""
    opener = Opener()
    pool = SessionPool(opener)
    with pool.session(endpoint(), SECRET) as first:
        first.ask([ops.clock()], deadline=60)
        assert first.fresh
    with pool.session(endpoint(), lambda: pytest.fail("the secret is not needed")) as second:
        assert second is first
        assert not second.fresh
    assert (1, 1) == (len(opener.channels), len(pool))


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (Conflict("x"), True),
        (SessionLost("x"), False),
        (DeadlineExceeded("x"), False),
        (Cancelled("x"), False),
        (RuntimeError("x"), False),
        (KeyboardInterrupt(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_unclear_error_closes_the_session(error: BaseException, kept: bool) -> None:  # noqa: FBT001 - a parameter
    """An error about files of the node does not."""
    opener = Opener()
    pool = SessionPool(opener)
    with pytest.raises(type(error)), pool.session(endpoint(), SECRET):
        raise error
    assert (int(kept), not kept) == (len(pool), opener.channels[0].closed > 0)


def test_a_session_that_cannot_be_closed_leaves_the_node_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the error is, such as no memory: no later step waits for that session."""
    pool = SessionPool(Opener())
    with monkeypatch.context() as patched:
        patched.setattr(AgentSession, "close", lambda _: (_ for _ in ()).throw(MemoryError()))
        with pytest.raises(MemoryError), pool.session(endpoint(), SECRET):
            raise SessionLost("x")
    with pool.session(endpoint(), SECRET, deadline=1) as session:
        assert session.usable


def test_a_session_that_cannot_be_opened_leaves_the_node_free() -> None:
    """The next caller may try at once."""
    opener = Opener(refuse=LogonRefused("no"))
    pool = SessionPool(opener)
    for _ in range(2):
        with pytest.raises(LogonRefused), pool.session(endpoint(), SECRET):
            pass
    opener.refuse = None
    with pool.session(endpoint(), SECRET) as session:
        assert session.usable


def test_a_node_that_needed_batch_gets_batch_again() -> None:
    """The pool remembers the way of a node after its session is closed."""
    opener = Opener(delays=True)
    pool = SessionPool(opener)
    with pool.session(endpoint(), SECRET) as session:
        session.ask([ops.clock()], deadline=60)
        session.close()
    with pool.session(endpoint(), SECRET) as session:
        session.ask([ops.clock()], deadline=60)
    assert ["auto", "batch"] == opener.ways


def test_one_session_in_use_per_node_and_any_number_of_nodes() -> None:
    """Threads wait for each other at the same node only."""
    pool = SessionPool(Opener())
    inside: dict[str, int] = {}
    worst: list[int] = []
    guard = threading.Lock()

    def use(number: int) -> None:
        node = f"N{number % 3}"
        with pool.session(endpoint(node), SECRET) as session:
            with guard:
                inside[node] = inside.get(node, 0) + 1
                worst.append(inside[node])
            session.ask([ops.clock()], deadline=60)
            time.sleep(0.002)
            with guard:
                inside[node] -= 1

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(use, range(60)))
    assert (1, 3) == (max(worst), len(pool))


def test_waiting_for_a_node_can_be_cancelled_and_has_a_deadline() -> None:
    """The node stays usable after both."""
    pool = SessionPool(Opener())
    with pool.session(endpoint(), SECRET):
        with pytest.raises(Cancelled), pool.session(endpoint(), SECRET, cancelled=lambda: True):
            pass
        with (
            pytest.raises(DeadlineExceeded, match="did not answer within"),
            pool.session(endpoint(), SECRET, deadline=0.1),
        ):
            pass
    with pool.session(endpoint(), SECRET) as session:
        assert session.usable


def test_reap_closes_idle_sessions_and_none_in_use() -> None:
    """Idle time starts at the last use."""
    opener = Opener()
    pool = SessionPool(opener, idle=600)
    with pool.session(endpoint("A"), SECRET):
        pass
    assert 0 == pool.reap()
    pool._idle = 0.0
    with pool.session(endpoint("B"), SECRET):
        assert (1, 1) == (pool.reap(), len(pool))
    assert [1, 0] == [channel.closed for channel in opener.channels]


def test_reap_leaves_a_session_that_was_in_its_first_use_a_moment_ago() -> None:
    """Otherwise the node would start PowerShell twice."""
    opener = Opener()
    pool = SessionPool(opener)
    done = threading.Event()

    def keep_reaping() -> None:
        while not done.is_set():
            pool.reap()

    with ThreadPoolExecutor(5) as threads:
        reaping = threads.submit(keep_reaping)
        list(threads.map(lambda number: used(pool, f"N{number}"), range(200)))
        done.set()
        reaping.result()
    assert (200, 0) == (len(pool), sum(channel.closed for channel in opener.channels))


def test_close_closes_all() -> None:
    """One session per node."""
    opener = Opener()
    pool = SessionPool(opener)
    for node in "ABC":
        with pool.session(endpoint(node), SECRET):
            pass
    pool.close()
    assert (0, [1, 1, 1]) == (len(pool), [channel.closed for channel in opener.channels])


def used(pool: SessionPool, node: str) -> None:
    """One use of a node."""
    with pool.session(endpoint(node), SECRET):
        time.sleep(0.002)


def opened_in_order(pool: SessionPool, nodes: str) -> None:
    """Uses the nodes one after the other."""
    for node in nodes:
        used(pool, node)


def test_above_the_maximum_the_longest_idle_session_is_closed() -> None:
    """One for one; a session that was used again is not idle."""
    opener = Opener()
    pool = SessionPool(opener, most=3)
    opened_in_order(pool, "ABC")
    assert (3, [0, 0, 0]) == (len(pool), [channel.closed for channel in opener.channels])
    opened_in_order(pool, "AD")
    assert (3, [0, 1, 0, 0]) == (len(pool), [channel.closed for channel in opener.channels])
    opened_in_order(pool, "E")
    assert (3, [0, 1, 1, 0, 0]) == (len(pool), [channel.closed for channel in opener.channels])


def test_sessions_in_use_stay_open_above_the_maximum() -> None:
    """The next idle one is closed instead; with none idle, the maximum is exceeded."""
    opener = Opener()
    pool = SessionPool(opener, most=2)
    with pool.session(endpoint("A"), SECRET):
        opened_in_order(pool, "BC")
        assert [0, 1, 0] == [channel.closed for channel in opener.channels]
        with pool.session(endpoint("C"), SECRET), pool.session(endpoint("D"), SECRET):
            assert (3, [0, 1, 0, 0]) == (len(pool), [channel.closed for channel in opener.channels])


def test_several_sessions_are_closed_to_get_below_the_maximum() -> None:
    """After a time in which all were in use."""
    opener = Opener()
    pool = SessionPool(opener, most=9)
    opened_in_order(pool, "ABCD")
    pool._most = 3
    opened_in_order(pool, "E")
    assert (3, [1, 1, 0, 0, 0]) == (len(pool), [channel.closed for channel in opener.channels])


def test_closing_skips_sessions_in_use() -> None:
    """A second close then has nothing to do but these."""
    opener = Opener()
    pool = SessionPool(opener)
    opened_in_order(pool, "A")
    with pool.session(endpoint("B"), SECRET):
        pool.close()
        assert (1, [1, 0]) == (len(pool), [channel.closed for channel in opener.channels])
    assert (1, 0) == (pool.reap() + len(pool), pool.reap())
    pool.close()
    assert (0, [1, 1]) == (len(pool), [channel.closed for channel in opener.channels])


def test_a_node_with_a_conversation_is_opened_with_auto_again() -> None:
    """Only batch is remembered."""
    opener = Opener()
    pool = SessionPool(opener)
    for _ in range(2):
        with pool.session(endpoint(), SECRET) as session:
            session.ask([ops.clock()], deadline=5)
            session.close()
    assert ["auto", "auto"] == opener.ways


def test_a_secret_function_is_called_once_and_a_session_has_the_time_that_is_left() -> None:
    """Only to open a session."""
    calls: list[Secret] = []
    deadlines: list[float] = []

    def open_it(
        endpoint: Endpoint, secret: Secret, *, gate: Gate, deadline: float, way: Way, cancelled: Callable[[], bool]
    ) -> AgentSession:
        assert (SECRET, False, OPEN) == (secret, cancelled(), gate)
        deadlines.append(deadline)
        return AgentSession(MachineChannel(), endpoint.node, way=way)

    def secret() -> Secret:
        calls.append(SECRET)
        return SECRET

    pool = SessionPool(open_it)
    for _ in range(2):
        with pool.session(endpoint(), secret, deadline=7):
            pass
    assert 1 == len(calls)
    assert 6 < deadlines[0] <= 7
