"""Which worker may change a node: claims, cluster locks and the fence on the node, in any order, without a clock."""

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from lab.agent.session import Agent
from lab.machine.machine import Machine
from lab.machine.memory_disk import MemoryDisk
from lab.machine.paths import WindowsPath
from tasks.fence import Fence
from tests.claiming import claim
from tests.conftest import Clock
from tests.sampling import examples
from workers.errors import AgentFailed, ClusterLocked, Conflict, NodeRefused
from workers.records import RunRecord, RunState
from workers.store.memory import MemoryStore
from workers.winrm import operations as ops
from workers.winrm.operations import Guard, Op, Reply
from workers.winrm.wire import json_line
from workers.winrm.writers import Writer, writer_of

FILE = "C:\\ProgramData\\esync-rollout\\fence"
TTL = 10.0


class Node:
    """A node with the lab's agent."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self._agent = Agent(Machine("P1", self.disk))
        self._written = 0

    def ask(self, op: Op, guard: Guard | None = None) -> Reply:
        """One operation."""
        request: dict[str, Any] = {"v": 1, "id": "1", "ops": [op.as_json()]}
        line = json_line(request | ({"guard": guard.as_json()} if guard else {})).decode()
        (result,) = json.loads(self._agent.answer(line))["results"]
        return Reply(op, result)

    def newest(self) -> Writer:
        """The newest writer in the fence file."""
        return writer_of(self.ask(ops.read(FILE)), "P1")

    def changed(self, guard: Guard) -> Reply:
        """A change with a guard."""
        self._written += 1
        return self.ask(ops.write("C:\\a", b"%d" % self._written, expect=ops.ANY), guard)

    def holds(self, content: bytes) -> None:
        """Writes the content of the fence file."""
        file = WindowsPath.of(FILE)
        self.disk.make_folder(file.parent)
        self.disk.put(file, content)


def a_store(clock: Clock, *runs: str) -> MemoryStore:
    """A store with these runs of one cluster."""
    store = MemoryStore(clock)
    for run in runs:
        store.create(RunRecord(id=run, cluster="shop", spec={}))
    return store


def a_fence(store: MemoryStore, run: str, worker: str) -> Fence:
    """The fence of a claim on P1, which must succeed."""
    fence = claim(store, run, "P1", worker, TTL)
    assert fence is not None
    return Fence(store, run, "P1", fence)


def guard_of(fence: Fence, node: Node) -> Guard:
    """The guard of the next change."""
    return fence.guard(FILE, ("C:\\",), node.newest)


def test_an_older_claim_is_refused_on_the_node_at_once(clock: Clock) -> None:
    """The sleeping worker had its guard earlier; the newer worker neither waits nor tries twice."""
    store, node = a_store(clock, "r1"), Node()
    store.lock_servers(("shop:5986",), "r1", TTL)
    sleeper = guard_of(a_fence(store, "r1", "w1"), node)
    assert node.changed(sleeper).ok
    store.leases("r1")
    clock.passes(TTL)
    assert node.changed(guard_of(a_fence(store, "r1", "w2"), node)).ok
    refused = node.changed(sleeper)
    assert ("conflict", FILE) == (refused.error, refused.path)


@pytest.mark.parametrize("observed", [True, False])
def test_a_claim_that_the_store_has_lost_stops_no_later_one(observed: bool, clock: Clock) -> None:  # noqa: FBT001 - a parameter
    """A broker that was killed had given it; its claims grow by random steps, so the next one may be smaller."""
    store, node = a_store(clock, "r1"), Node()
    store.lock_servers(("shop:5986",), "r1", TTL)
    first = guard_of(a_fence(store, "r1", "w1"), node)
    forgotten = replace(first, claim=first.claim + 100_000)
    assert node.changed(forgotten).ok
    store.leases("r1")
    clock.passes(TTL)
    fence = a_fence(store, "r1", "w2")
    if observed:
        fence.observe(node.newest)
    else:
        assert "conflict" == node.changed(guard_of(fence, node)).error
        fence.lost()
    assert node.changed(guard_of(fence, node)).ok
    assert "conflict" == node.changed(forgotten).error


def test_a_claim_that_is_not_the_newest_gets_no_number(clock: Clock) -> None:
    """Also when it is smaller than that of the newest writer on the node."""
    store, node = a_store(clock, "r1"), Node()
    store.lock_servers(("shop:5986",), "r1", TTL)
    late = a_fence(store, "r1", "w1")
    store.leases("r1")
    clock.passes(TTL)
    assert node.changed(guard_of(a_fence(store, "r1", "w2"), node)).ok
    late.observe(node.newest)
    with pytest.raises(Conflict):
        guard_of(late, node)


@pytest.mark.parametrize("wrote", [True, False])
def test_a_run_that_lost_its_cluster_is_refused_on_the_node(wrote: bool, clock: Clock) -> None:  # noqa: FBT001 - a parameter
    """As soon as the next run has changed the node, whether the first run had changed it or not."""
    store, node = a_store(clock, "r1", "r2"), Node()
    store.lock_servers(("shop:5986",), "r1", TTL)
    fence = a_fence(store, "r1", "w1")
    sleeper = guard_of(fence, node)
    if wrote:
        assert node.changed(sleeper).ok
    store.lock_servers(("shop:5986",), "r2", TTL)
    clock.passes(TTL)
    assert store.lock_servers(("shop:5986",), "r2", TTL) is None
    assert node.changed(guard_of(a_fence(store, "r2", "w2"), node)).ok
    assert "conflict" == node.changed(sleeper).error
    fence.lost()
    with pytest.raises(ClusterLocked):
        guard_of(fence, node)


def test_a_run_that_gets_its_cluster_back_comes_after_the_run_that_held_it(clock: Clock) -> None:
    """Even if that run had requested a number and not yet changed anything."""
    store, node = a_store(clock, "r1", "r2"), Node()
    store.lock_servers(("shop:5986",), "r1", TTL)
    assert node.changed(guard_of(a_fence(store, "r1", "w1"), node)).ok
    late = None
    for run in ("r2", "r1"):
        store.leases(run)
        store.lock_servers(("shop:5986",), run, TTL)
        clock.passes(TTL)
        assert store.lock_servers(("shop:5986",), run, TTL) is None
        guard = guard_of(a_fence(store, run, f"{run} again"), node)
        late = late or guard
    assert node.changed(guard).ok
    assert late is not None
    assert "conflict" == node.changed(late).error


def test_runs_of_two_stores_take_turns_on_one_node(clock: Clock) -> None:
    """If a broker is replaced by an empty one, its runs come after those of the first, whatever its clock says."""
    node = Node()
    for run in ("r1", "r2", "r3"):
        store = a_store(clock, run)
        store.lock_servers(("shop:5986",), run, TTL)
        assert node.changed(guard_of(a_fence(store, run, "w1"), node)).ok
    assert Writer(3, "r3") == node.newest()


def test_two_stores_never_hold_a_node_at_the_same_time(clock: Clock) -> None:
    """Both saw the same writer: the first one to change the node gets it; the other one is refused and may follow."""
    node, stores = Node(), {run: a_store(clock, run) for run in ("r1", "r2")}
    fences = {}
    for run, store in stores.items():
        store.lock_servers(("shop:5986",), run, TTL)
        fences[run] = a_fence(store, run, "w1")
    first, second = (guard_of(fence, node) for fence in fences.values())
    assert node.changed(first).ok
    assert "conflict" == node.changed(second).error
    fences["r2"].lost()
    assert node.changed(guard_of(fences["r2"], node)).ok
    assert "conflict" == node.changed(first).error


def test_two_runs_by_different_addresses_take_turns(clock: Clock) -> None:
    """The second run is refused on the server itself, until the first has ended or its lock has lapsed."""
    store, node = a_store(clock, "r1", "r2"), Node()
    for number, run in enumerate(("r1", "r2"), 1):
        assert store.lock_servers((f"alias{number}:5986",), run, TTL) is None
    assert node.changed(guard_of(a_fence(store, "r1", "w1"), node)).ok
    other = a_fence(store, "r2", "w2")
    other.observe(node.newest)
    with pytest.raises(NodeRefused, match="run r1 works on this server") as caught:
        guard_of(other, node)
    assert "esync cancel r1" in caught.value.remedy
    clock.passes(TTL)
    assert node.changed(guard_of(other, node)).ok
    back = a_fence(store, "r1", "w1")
    back.lost()
    with pytest.raises(NodeRefused, match="run r2"):
        guard_of(back, node)
    store.save(store.run("r2").model_copy(update={"state": RunState.CONCLUDED}))
    assert node.changed(guard_of(back, node)).ok


@pytest.mark.parametrize("content", [b"%020d\n" % 1795659908000, b"%020d\n" % (2**63 - 2), b"7\r\n", b"", b"\0" * 21])
def test_numbering_continues_from_what_an_older_agent_left(content: bytes, clock: Clock) -> None:
    """A time in milliseconds, a number written by a person, an empty file: the next number is one larger."""
    store, node = a_store(clock, "r1"), Node()
    store.lock_servers(("shop:5986",), "r1", TTL)
    node.holds(content)
    before = node.newest().number
    assert node.changed(guard_of(a_fence(store, "r1", "w1"), node)).ok
    assert Writer(before + 1, "r1") == node.newest()


def test_a_node_that_accepts_no_further_writer_names_the_command(clock: Clock) -> None:
    """The largest number is refused with a remedy; so is a content that is not a number."""
    store, node = a_store(clock, "r1"), Node()
    store.lock_servers(("shop:5986",), "r1", TTL)
    node.holds(b"%020d\n" % (2**63 - 1))
    with pytest.raises(NodeRefused, match="P1: its fence file holds the largest possible number") as caught:
        guard_of(a_fence(store, "r1", "w1"), node)
    assert "esync cleanup --fence P1" in caught.value.remedy
    node.holds(b"99999999999999999999\n")
    with pytest.raises(AgentFailed, match="does not contain a fence number"):
        guard_of(a_fence(store, "r1", "w1"), node)


def test_an_unreadable_fence_file_does_not_disturb_a_run_that_only_reads(clock: Clock) -> None:
    """A plan beside a rollout takes no number; a damaged fence file is refused only when the node is changed."""
    store, node = a_store(clock, "r1"), Node()
    fence = a_fence(store, "r1", "w1")
    fence.observe(node.newest)
    store.lock_servers(("shop:5986",), "r1", TTL)
    node.holds(b"spoilt")
    fence.observe(node.newest)
    with pytest.raises(AgentFailed):
        guard_of(fence, node)


@dataclass
class Worker:
    """A worker that has claimed the node and may have its guard."""

    run: str
    claim: int
    fence: Fence
    guard: Guard | None = None
    tenure: int = 0


class Writers(RuleBasedStateMachine):
    """Two runs that take the cluster from each other, with any number of workers, each of which may sleep for any time.

    A guard that was issued while its run held the cluster belongs to that tenure. The node's changes never return to an
    earlier tenure or, within a run, to an earlier claim.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.node, self.tenure = Clock(), Node(), 0
        self.store = a_store(self.clock, "r1", "r2")
        self.has, self.workers = "", list[Worker]()
        self.newest = (0, 0)
        self.takes("r1")

    @rule(run=st.sampled_from(["r1", "r2"]))
    def takes(self, run: str) -> None:
        """A run gets the cluster because the other one was stalled for a long time."""
        self.store.lock_servers(("shop:5986",), run, TTL)
        self.clock.passes(TTL)
        assert self.store.lock_servers(("shop:5986",), run, TTL) is None
        if self.has != run:
            self.has, self.tenure = run, self.tenure + 1

    @rule(run=st.sampled_from(["r1", "r2"]))
    def claims(self, run: str) -> None:
        """A new worker of a run takes the node because the previous one is silent."""
        self.store.leases(run)
        self.clock.passes(TTL)
        fence = claim(self.store, run, "P1", f"w{len(self.workers)}", TTL)
        assert (fence is None) == (self.has != run and self._was(run))
        if fence is not None:
            self.workers.append(Worker(run, fence, Fence(self.store, run, "P1", fence)))

    def _was(self, run: str) -> bool:
        return run == "r1" or self.tenure > 1

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def asks(self, data: st.DataObject) -> None:
        """A worker gets the guard of its next change."""
        worker = data.draw(st.sampled_from(self.workers))
        newest = max(one.claim for one in self.workers if one.run == worker.run)
        known = worker.guard
        try:
            worker.guard = guard_of(worker.fence, self.node)
        except (Conflict, ClusterLocked):
            assert worker.claim < newest or self.has != worker.run
            return
        if known is None:
            assert (worker.claim, worker.run) == (newest, self.has)
            worker.tenure = self.tenure

    @precondition(lambda self: any(worker.guard for worker in self.workers))
    @rule(data=st.data())
    def changes(self, data: st.DataObject) -> None:
        """A worker changes the node, however old its guard is."""
        worker = data.draw(st.sampled_from([one for one in self.workers if one.guard]))
        assert worker.guard is not None
        if not self.node.changed(worker.guard).ok:
            worker.guard = None
            worker.fence.lost()
            return
        assert (worker.tenure, worker.claim) >= self.newest or worker.tenure > self.newest[0]
        self.newest = (worker.tenure, worker.claim)


TestWriters = Writers.TestCase
TestWriters.settings = settings(max_examples=examples(whole=2000, sample=20), stateful_step_count=30)


def test_the_end_of_a_run_unlocks_its_cluster(clock: Clock) -> None:
    """A late worker of a run that has ended gets no number, even if no other run holds the cluster."""
    store, node = a_store(clock, "r1"), Node()
    store.lock_servers(("shop:5986",), "r1", TTL)
    fence = a_fence(store, "r1", "w1")
    store.save(store.run("r1").model_copy(update={"state": RunState.CONCLUDED}))
    with pytest.raises(ClusterLocked):
        guard_of(fence, node)
    assert claim(store, "r1", "P1", "w1", TTL) is None
