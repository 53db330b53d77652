"""Two processes observe one store, each with its own clock, which may run at any speed."""

from typing import cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from redis import Redis

from tests.claiming import claim
from tests.conftest import Clock
from tests.contract.test_store import a_run, an_outcome
from tests.sampling import examples
from workers.errors import Conflict
from workers.secrets.seal import Seal
from workers.secrets.vault import new_seal_key
from workers.store.memory import MemoryStore
from workers.store.port import RunStore
from workers.store.redis_store import RedisStore

TTL = 6.0
#: Seconds that add up without rounding: a lease lapses exactly at its end.
EXACT = st.integers(0, 3 * int(TTL) * 8).map(lambda eighths: eighths / 8)
Pair = tuple[tuple[RunStore, Clock], tuple[RunStore, Clock]]


@pytest.fixture(params=["memory", "redis"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """The same store, as two processes use it."""
    clocks = Clock(), Clock()
    if request.param == "memory":
        first = MemoryStore(clocks[0])
        return (first, clocks[0]), (MemoryStore(clocks[1], beside=first), clocks[1])
    valkey, seal = cast("Redis", request.getfixturevalue("valkey")), Seal(new_seal_key())
    one, two = (RedisStore(valkey, seal, clock=clock) for clock in clocks)
    return (one, clocks[0]), (two, clocks[1])


def test_a_leader_that_resigns_can_be_replaced_at_once(pair: Pair) -> None:
    """By every process, whatever its clock is; no process can resign for another."""
    (one, _), (two, _) = pair
    assert one.elect("place", "w1", TTL)
    assert not two.elect("place", "w2", 0)
    assert one.elect("place", "w1", 0)
    assert two.elect("place", "w2", TTL)
    assert not one.elect("place", "w1", TTL)


def test_each_process_uses_its_own_clock(pair: Pair) -> None:
    """An hour on one clock does not affect the other process; each must observe for the duration of the lease."""
    (one, _), (two, clock) = pair
    one.create(a_run())
    assert claim(one, "r1", "S1", "w1", TTL)
    clock.passes(3600)
    assert {"S1": "w1"} == two.leases("r1") == one.leases("r1")
    clock.passes(TTL)
    assert ({}, {"S1": "w1"}) == (two.leases("r1"), one.leases("r1"))
    assert claim(two, "r1", "S1", "w2", TTL)
    with pytest.raises(Conflict):
        one.record(an_outcome(), 1)


def test_a_process_that_sees_renewals_sees_no_lapse(pair: Pair) -> None:
    """Leases, lock, leadership and progress: a hold that is renewed between two reads has not lapsed."""
    (one, _), (two, clock) = pair
    for run in ("r1", "r2"):
        one.create(a_run(run))
    for _ in range(4):
        one.lock_servers(("shop:5986",), "r1", TTL)
        assert claim(one, "r1", "S1", "w1", TTL)
        assert one.elect("reconciler", "w1", TTL)
        assert "r1" == two.lock_servers(("shop:5986",), "r2", TTL)
        assert claim(two, "r1", "S1", "w2", TTL) is None
        assert not two.elect("reconciler", "w2", TTL)
        assert 0 == two.progress("r1")
        assert () == two.reap("r1")
        clock.passes(3600)


def test_an_outage_of_the_server_does_not_count(valkey: Redis) -> None:
    """After an outage every holder has the full duration to renew again."""
    clock, seal = Clock(), Seal(new_seal_key())
    one, two = (RedisStore(valkey, seal, clock=clock, patience=0) for _ in range(2))
    one.create(a_run())
    claim(one, "r1", "S1", "w1", TTL)
    two.leases("r1")
    broken = RedisStore(Redis(host="127.0.0.1", port=1), seal, clock=clock, patience=0)
    broken._observer = two._observer
    with pytest.raises(Exception, match="cannot be reached"):
        broken.active()
    clock.passes(TTL)
    assert {"S1": "w1"} == two.leases("r1")
    clock.passes(TTL)
    assert {} == two.leases("r1")


class Observers(RuleBasedStateMachine):
    """Two workers on one node, each with its own observations and clock; either may sleep for any time."""

    def __init__(self) -> None:
        super().__init__()
        self.clocks = Clock(), Clock()
        first = MemoryStore(self.clocks[0])
        self.stores = first, MemoryStore(self.clocks[1], beside=first)
        first.create(a_run())
        first.lock_servers(("shop:5986",), "r1", TTL)
        self.fences: list[int] = [0, 0]
        self.newest = 0
        self.renewed = [0.0, 0.0]  # when the lease was last taken or renewed, by each clock

    def _beat(self) -> None:
        self.renewed = [clock() for clock in self.clocks]

    @rule(who=st.sampled_from([0, 1]), seconds=EXACT)
    def time_passes(self, who: int, seconds: float) -> None:
        """On one of the clocks."""
        self.clocks[who].passes(seconds)

    @rule(who=st.sampled_from([0, 1]))
    def claims(self, who: int) -> None:
        """A worker claims the node, also after the other one lost it."""
        holder = self.stores[who].leases("r1").get("S1")
        fence = claim(self.stores[who], "r1", "S1", f"w{who}", TTL)
        if fence is None:
            assert holder == f"w{1 - who}"
            return
        if fence > self.newest and self.newest and self.fences[1 - who] == self.newest:
            assert self.clocks[who]() - self.renewed[who] >= TTL or holder is None
        self.newest = max(self.newest, fence)
        self.fences[who] = fence
        self._beat()

    @rule(who=st.sampled_from([0, 1]))
    def renews(self, who: int) -> None:
        """A renewal after a sleep succeeds exactly when the other worker did not claim the node since."""
        renewed = self.stores[who].renew("r1", ["S1"], f"w{who}", TTL)
        if renewed:
            assert self.fences[who] == self.newest
            self._beat()

    @rule(who=st.sampled_from([0, 1]))
    def dies_and_is_detected(self, who: int) -> None:
        """Without a renewal: one read, the duration of the lease, one read."""
        self.stores[who].leases("r1")
        self.clocks[who].passes(TTL)
        assert {} == self.stores[who].leases("r1")

    @invariant()
    def only_the_newest_claim_gets_a_number(self) -> None:
        """Whatever the workers observe, the store gives a number only to the newest claim."""
        for store, fence in zip(self.stores, self.fences, strict=True):
            if fence and fence < self.newest:
                with pytest.raises(Conflict):
                    store.number("r1", "S1", fence, seen=0)
            elif fence:
                assert store.number("r1", "S1", fence, seen=0)


TestObservers = Observers.TestCase
TestObservers.settings = settings(max_examples=examples(whole=2000, sample=25), stateful_step_count=30)
