"""What an outcome says of a failure: its class, how far the step had got, and what the node said of itself."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from pipelines.rollout import purpose_of
from tasks.execution.leases import LeaseKeeper
from tasks.execution.runner import StepRunner
from tasks.step import APPLYING, Done, Work
from tasks.steps.registry import CONFIG_EDIT
from tests.unit.pipelines.audit.bundled_run import the_cluster
from tests.unit.workers.winrm.in_memory import MachineChannel
from workers.errors import (
    Cancelled,
    Conflict,
    DeadlineExceeded,
    EsyncError,
    Failure,
    LogonRefused,
    NodeRefused,
    SessionLost,
    Stale,
    Unreachable,
)
from workers.records import Endpoint, RunRecord, Status, StepOutcome, Turn
from workers.secrets.vault import Vault
from workers.settings import Secret
from workers.store.memory import MemoryStore
from workers.winrm import operations as ops
from workers.winrm.pool import SessionPool
from workers.winrm.session import AgentSession, Way

SECRET = Secret("planted-s3cret")


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the cluster's reference leads."""
    monkeypatch.setenv("SHOP_PASSWORD", SECRET.reveal())


@dataclass
class Node:
    """A node in this process; from the session `gone_after` on it takes no connection."""

    delays: bool = False
    gone_after: int = 99
    opened: list[MachineChannel] = field(default_factory=list)

    def __call__(
        self, endpoint: Endpoint, secret: Secret, *, deadline: float, way: Way, cancelled: Callable[[], bool]
    ) -> AgentSession:
        """As `open_session`."""
        assert (SECRET, True, False) == (secret, deadline > 0, cancelled())
        if len(self.opened) >= self.gone_after:
            raise Unreachable(f"{endpoint.node} refused the connection")
        self.opened.append(MachineChannel(delays=self.delays))
        return AgentSession(self.opened[-1], endpoint.node, way=way, patience=0.05)


def outcome_of(step: Callable[[Work], Done], node: Node | None = None, **retries: int) -> StepOutcome:
    """Runs a step on a node of a run."""
    store = MemoryStore()
    cluster = the_cluster().model_dump(mode="json")
    cluster["policy"]["retries"] |= {"backoff": 0, **retries}
    turn = Turn(name="wave-1", stage="wave", steps=(CONFIG_EDIT.name,), nodes=("P1",))
    store.create(RunRecord(id="r1", cluster="shop", spec=cluster, turns=(turn,)))
    vault = Vault(store, None)
    leases = LeaseKeeper(store, "w1", 60)
    runner = StepRunner(
        {CONFIG_EDIT.name: replace(CONFIG_EDIT, run=step)},
        purpose_of=purpose_of,
        store=store,
        vault=vault,
        sessions=SessionPool(node or Node()),
        leases=leases,
    )
    try:
        return runner.run("r1", "wave-1", "P1", CONFIG_EDIT.name)
    finally:
        leases.close()


def raising(error: EsyncError, *, asking: bool = True, applying: bool = False) -> Callable[[Work], Done]:
    """A step that asks the node something, perhaps begins to change it, and then fails."""

    def step(work: Work) -> Done:
        if asking:
            work.session.ask([ops.clock()], deadline=5)
        if applying:
            work.say(APPLYING)
        raise error

    return step


@pytest.mark.parametrize(
    ("error", "failure", "status"),
    [
        (Unreachable("gone"), Failure.UNREACHABLE, Status.UNREACHABLE),
        (SessionLost("broke"), Failure.UNREACHABLE, Status.FAILED),
        (LogonRefused("no"), Failure.REFUSED, Status.FAILED),
        (Stale("other"), Failure.STALE, Status.FAILED),
        (Conflict("other"), Failure.CONFLICT, Status.FAILED),
        (DeadlineExceeded("late"), Failure.TIMEOUT, Status.FAILED),
        (NodeRefused("unfit"), Failure.FAILED, Status.FAILED),
    ],
)
def test_a_failure_has_its_class_and_what_the_node_said(error: EsyncError, failure: Failure, status: Status) -> None:
    """Each failed outcome carries its class and one line about the node, in which there is nothing secret."""
    outcome = outcome_of(raising(error))
    assert (status, failure, error.slug) == (outcome.status, outcome.failure, outcome.slug)
    for part in ("PowerShell", ".NET", "administrator", "code page", "MiB free", "WinRM"):
        assert part in outcome.about
    assert "\n" not in outcome.about
    assert SECRET.reveal() not in outcome.to_json()


def test_a_node_that_fails_what_it_is_asked_first_has_said_who_it_is() -> None:
    """The greeting comes with the first reply, also when the first request failed; nothing more is asked for it."""
    node = Node()

    def step(work: Work) -> Done:
        work.session.ask([ops.read(r"C:\nothing.txt")], deadline=5)
        return Done()

    outcome = outcome_of(step, node)
    assert (Failure.FAILED, True) == (outcome.failure, "PowerShell" in outcome.about)
    assert [1] == [len(channel.sent) for channel in node.opened]


def test_a_node_that_never_answered_has_said_nothing() -> None:
    """Nobody speaks for a node that took no connection."""
    assert "" == outcome_of(raising(NodeRefused("never")), Node(gone_after=0)).about


def test_what_was_said_before_a_session_broke_is_kept() -> None:
    """The conversation breaks while the step changes the node, and no other can be had: what was said stays known."""
    outcome = outcome_of(raising(SessionLost("broke"), applying=True), Node(gone_after=1))
    assert (Status.UNREACHABLE, True) == (outcome.status, outcome.touched)
    assert "PowerShell" in outcome.about


@pytest.mark.parametrize("applying", [False, True])
def test_an_outcome_says_whether_the_node_was_touched(applying: bool) -> None:  # noqa: FBT001 - a parameter
    """From the moment the step says that it applies."""
    assert applying is outcome_of(raising(NodeRefused("no"), applying=applying)).touched


def test_what_went_well_or_was_cancelled_is_no_failure() -> None:
    """Only failures have a class and words about the node."""
    for outcome in (outcome_of(raising(Cancelled("stop"))), outcome_of(lambda _: Done(message="fine"))):
        assert (None, "") == (outcome.failure, outcome.about)


@pytest.mark.parametrize(
    ("error", "tries"),
    [(Conflict("x"), 4), (SessionLost("x"), 2), (DeadlineExceeded("x"), 3), (NodeRefused("x"), 5), (Stale("x"), 1)],
)
def test_a_class_is_tried_as_often_as_the_policy_says(error: EsyncError, tries: int) -> None:
    """Each class has its own number in the policy; what is stale has none."""
    assert tries == outcome_of(raising(error), conflict=4, unreachable=2, timeout=3, failed=5).attempt


@pytest.mark.parametrize(("delays", "way"), [(False, "conversation"), (True, "batch")])
def test_an_outcome_says_how_the_node_was_spoken_to(delays: bool, way: str) -> None:  # noqa: FBT001 - a parameter
    """By batch, where PowerShell there gets its input only when it ends."""

    def step(work: Work) -> Done:
        work.session.ask([ops.clock()], deadline=5)
        work.session.ask([ops.clock()], deadline=5)
        return Done()

    outcome = outcome_of(step, Node(delays=delays))
    assert (Status.UNCHANGED, way) == (outcome.status, outcome.way)
    assert (2 if delays else 1) == outcome.shells
