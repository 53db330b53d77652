"""How an outcome describes a failure: its class, whether the node was touched, and what the node reported."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from pipelines.rollout import purpose_of
from tasks.ektron.refusals import EditionUnknown
from tasks.execution.leases import LeaseKeeper
from tasks.execution.runner import StepRunner
from tasks.step import APPLYING, Done, Work
from tasks.steps.registry import CONFIG_EDIT
from tests.unit.pipelines.audit.bundled_run import the_cluster
from tests.unit.workers.winrm.in_memory import MachineChannel
from workers.errors import (
    Cancelled,
    Conflict,
    ConnectionLost,
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
from workers.winrm.channel import Gate
from workers.winrm.pool import SessionPool
from workers.winrm.session import AgentSession, Way

SECRET = Secret("planted-s3cret")


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The password that the cluster refers to."""
    monkeypatch.setenv("SHOP_PASSWORD", SECRET.reveal())


@dataclass
class Node:
    """A node in this process; after `gone_after` sessions it accepts no connection."""

    delays: bool = False
    gone_after: int = 99
    opened: list[MachineChannel] = field(default_factory=list)

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
        if len(self.opened) >= self.gone_after:
            raise Unreachable(f"{endpoint.node} refused the connection")
        gate.admit()
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
    """A step that sends the node a request, may begin to change it, and then fails."""

    def step(work: Work) -> Done:
        if asking:
            work.session.ask([ops.clock()], deadline=5)
        if applying:
            work.report_phase(APPLYING)
        raise error

    return step


@pytest.mark.parametrize(
    ("error", "failure", "status"),
    [
        (Unreachable("gone"), Failure.UNREACHABLE, Status.UNREACHABLE),
        (ConnectionLost("gone"), Failure.UNREACHABLE, Status.UNREACHABLE),
        (SessionLost("broke"), Failure.UNREACHABLE, Status.FAILED),
        (LogonRefused("no"), Failure.REFUSED, Status.FAILED),
        (Stale("other"), Failure.STALE, Status.FAILED),
        (Conflict("other"), Failure.CONFLICT, Status.FAILED),
        (DeadlineExceeded("late"), Failure.TIMEOUT, Status.FAILED),
        (NodeRefused("unfit"), Failure.FAILED, Status.FAILED),
    ],
)
def test_a_failure_has_its_class_and_what_the_node_reported(
    error: EsyncError, failure: Failure, status: Status
) -> None:
    """Each failed outcome has its class and one line about the node, without any secret."""
    outcome = outcome_of(raising(error))
    assert (status, failure, error.slug) == (outcome.status, outcome.failure, outcome.slug)
    for part in ("PowerShell", ".NET", "administrator", "code page", "MiB free", "WinRM"):
        assert part in outcome.about
    assert "\n" not in outcome.about
    assert SECRET.reveal() not in outcome.to_json()


@pytest.mark.parametrize(
    ("error", "message", "remedy"),
    [
        (MemoryError(), "the worker ran out of memory in config_edit; nothing is wrong with the server", "more memory"),
        (KeyError("x"), "internal error in config_edit: KeyError", "the worker's log"),
    ],
)
def test_an_error_of_the_worker_is_not_blamed_on_the_server(error: Exception, message: str, remedy: str) -> None:
    """The step has failed, and the remedy is one for the worker."""

    def step(_: Work) -> Done:
        raise error

    outcome = outcome_of(step)
    assert (Status.FAILED, Failure.FAILED, message) == (outcome.status, outcome.failure, outcome.message)
    assert remedy in outcome.remedy


def test_a_refusal_of_product_knowledge_names_the_node() -> None:
    """It knows files only, not whose they are."""

    def step(_: Work) -> Done:
        raise EditionUnknown("the path belongs to no edition", remedy="correct `edition`")

    outcome = outcome_of(step)
    assert ("node_refused", "P1: the path belongs to no edition") == (outcome.slug, outcome.message)
    assert outcome.remedy == "correct `edition`"


def test_a_node_that_fails_its_first_request_has_reported_about_itself() -> None:
    """The greeting comes with the first reply, even if that request failed; no extra request is sent."""
    node = Node()

    def step(work: Work) -> Done:
        work.session.ask([ops.read(r"C:\nothing.txt")], deadline=5)
        return Done()

    outcome = outcome_of(step, node)
    assert (Failure.FAILED, True) == (outcome.failure, "PowerShell" in outcome.about)
    assert [1] == [len(channel.sent) for channel in node.opened]


def test_a_node_that_never_answered_has_reported_nothing() -> None:
    """There is no text about a node that accepted no connection."""
    assert "" == outcome_of(raising(NodeRefused("never")), Node(gone_after=0)).about


def test_a_report_from_a_session_that_broke_is_kept() -> None:
    """The session breaks during a change, and no new one can be opened: what the node reported is kept."""
    outcome = outcome_of(raising(SessionLost("broke"), applying=True), Node(gone_after=1))
    assert (Status.UNREACHABLE, True) == (outcome.status, outcome.touched)
    assert "PowerShell" in outcome.about


@pytest.mark.parametrize("applying", [False, True])
def test_an_outcome_says_whether_the_node_was_touched(applying: bool) -> None:  # noqa: FBT001 - a parameter
    """From the moment the step reports that it applies changes."""
    assert applying is outcome_of(raising(NodeRefused("no"), applying=applying)).touched


def test_a_success_and_a_cancel_are_no_failures() -> None:
    """Only failures have a class and a text about the node."""
    for outcome in (outcome_of(raising(Cancelled("stop"))), outcome_of(lambda _: Done(message="fine"))):
        assert (None, "") == (outcome.failure, outcome.about)


@pytest.mark.parametrize(
    ("error", "tries"),
    [(Conflict("x"), 4), (SessionLost("x"), 2), (DeadlineExceeded("x"), 3), (NodeRefused("x"), 5), (Stale("x"), 1)],
)
def test_a_class_is_tried_as_often_as_the_policy_says(error: EsyncError, tries: int) -> None:
    """Each class has its own number in the policy, except `stale`."""
    assert tries == outcome_of(raising(error), conflict=4, unreachable=2, timeout=3, failed=5).attempt


@pytest.mark.parametrize(("delays", "way"), [(False, "conversation"), (True, "batch")])
def test_an_outcome_names_the_way_of_the_session(delays: bool, way: str) -> None:  # noqa: FBT001 - a parameter
    """`batch`, if PowerShell on the node reads its input only when the input has ended."""

    def step(work: Work) -> Done:
        work.session.ask([ops.clock()], deadline=5)
        work.session.ask([ops.clock()], deadline=5)
        return Done()

    outcome = outcome_of(step, Node(delays=delays))
    assert (Status.UNCHANGED, way) == (outcome.status, outcome.way)
    assert (2 if delays else 1) == outcome.shells
