"""The pool's rules: one session in use per node, kept while sound, thrown away on doubt."""

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
from workers.winrm import agent as ops
from workers.winrm.pool import SessionPool
from workers.winrm.session import AgentSession, Way

SECRET = Secret("planted")


def endpoint(node: str = "S1") -> Endpoint:
    """Where a node would listen."""
    return Endpoint(node=node, host="127.0.0.1", user="u", secret="env:X")


@dataclass
class Opener:
    """Opens sessions in this process and remembers them."""

    channels: list[MachineChannel] = field(default_factory=list)
    ways: list[Way] = field(default_factory=list)
    delays: bool = False
    refuse: EsyncError | None = None

    def __call__(
        self, endpoint: Endpoint, secret: Secret, *, deadline: float, way: Way, cancelled: Callable[[], bool]
    ) -> AgentSession:
        """As `open_session`."""
        assert (SECRET, True, False) == (secret, deadline > 0, cancelled())
        if self.refuse:
            raise self.refuse
        self.channels.append(MachineChannel(delays=self.delays))
        self.ways.append(way)
        return AgentSession(self.channels[-1], endpoint.node, way=way, patience=0.05)


def test_a_sound_session_is_lent_again() -> None:
    """It is fresh the first time only."""
    opener = Opener()
    pool = SessionPool(opener)
    with pool.session(endpoint(), SECRET) as first:
        first.ask([ops.clock()], deadline=60)
        assert first.fresh
    with pool.session(endpoint(), lambda: pytest.fail("not asked for")) as second:
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
def test_doubt_throws_a_session_away(error: BaseException, kept: bool) -> None:  # noqa: FBT001 - a parameter
    """An error about the node's files does not."""
    opener = Opener()
    pool = SessionPool(opener)
    with pytest.raises(type(error)), pool.session(endpoint(), SECRET):
        raise error
    assert (int(kept), not kept) == (len(pool), opener.channels[0].closed > 0)


def test_a_session_that_cannot_be_opened_leaves_the_node_free() -> None:
    """The next may try at once."""
    opener = Opener(refuse=LogonRefused("no"))
    pool = SessionPool(opener)
    for _ in range(2):
        with pytest.raises(LogonRefused), pool.session(endpoint(), SECRET):
            pass
    opener.refuse = None
    with pool.session(endpoint(), SECRET) as session:
        assert session.usable


def test_a_node_that_needed_batch_gets_batch_again() -> None:
    """What was learnt about a node is kept when its session goes."""
    opener = Opener(delays=True)
    pool = SessionPool(opener)
    with pool.session(endpoint(), SECRET) as session:
        session.ask([ops.clock()], deadline=60)
        session.close()
    with pool.session(endpoint(), SECRET) as session:
        session.ask([ops.clock()], deadline=60)
    assert ["auto", "batch"] == opener.ways


def test_one_session_in_use_per_node_and_any_number_of_nodes() -> None:
    """Threads wait for each other at one node, and at no other."""
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


def test_waiting_for_a_node_can_be_cancelled_and_has_an_end() -> None:
    """Neither leaves anything behind."""
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


def test_reap_closes_what_is_idle_and_nothing_in_use() -> None:
    """Counted in seconds since its last use."""
    opener = Opener()
    pool = SessionPool(opener, idle=1)
    with pool.session(endpoint("A"), SECRET):
        pass
    assert 0 == pool.reap()
    time.sleep(1.1)
    with pool.session(endpoint("B"), SECRET):
        assert (1, 1) == (pool.reap(), len(pool))
    assert [1, 0] == [channel.closed for channel in opener.channels]


def test_close_closes_all() -> None:
    """Every node is let go of."""
    opener = Opener()
    pool = SessionPool(opener)
    for node in "ABC":
        with pool.session(endpoint(node), SECRET):
            pass
    pool.close()
    assert (0, [1, 1, 1]) == (len(pool), [channel.closed for channel in opener.channels])
