"""What a run means for each node: computed from its outcomes, never stored. Pure but for reading the store."""

from collections.abc import Sequence

from pipelines.run.kinds import Kind
from pipelines.run.node_state import DescribedState, NodeState, stand
from pipelines.run.plan import NodePlan, make_plan
from pipelines.run.snapshot import Snapshot
from tasks.documents import VERIFIED
from workers.errors import Failure
from workers.records import Record, Status, StepOutcome

__all__ = ["NodeResult", "results"]


class NodeResult(Record):
    """What a run means for one node.

    Attributes:
        slug: of the error that ended the node's part; `failure` is its class.
        about: what the node had said of itself when it failed.
        by_batch: whether PowerShell there had to be started for every request.
        standing: what is true of the node now; None of a run that only looks. `now` says it in a sentence.
    """

    node: str
    status: Status
    reason: str = ""
    file: str = ""
    remedy: str = ""
    slug: str = ""
    failure: Failure | None = None
    step: str = ""
    about: str = ""
    by_batch: bool = False
    standing: NodeState | None = None
    now: str = ""


def results(snapshot: Snapshot, kind: Kind) -> tuple[NodeResult, ...]:
    """One for each node of the cluster, in the order of its file."""
    known = _Known(snapshot, kind)
    return tuple(_result(known, node) for node in snapshot.cluster.node_names)


class _Known:
    """A run, sorted by node: a cluster may have thousands."""

    def __init__(self, snapshot: Snapshot, kind: Kind) -> None:
        self.kind = kind
        self.record = snapshot.record
        self.outcomes: dict[str, list[StepOutcome]] = {}
        for outcome in snapshot.outcomes:
            self.outcomes.setdefault(outcome.node, []).append(outcome)
        self.ended = snapshot.ended()
        self.needed = {part.node: part for part in snapshot.plan.nodes} if snapshot.plan else {}
        #: the one turn in which a node may be changed, if it had that turn
        self.turns = {node: turn for turn in kind.changing_turns(snapshot.record) for node in turn.nodes}
        self._snapshot = snapshot
        self._family = snapshot.documents.family_digests()

    @property
    def looks_only(self) -> bool:
        """Whether any look at a node is all that this kind of run does with it."""
        return self.kind.read_only and not self.kind.ends_with_plan

    def in_its_turn(self, node: str) -> Sequence[StepOutcome]:
        """The outcomes of the one turn in which the node may be changed."""
        turn = self.turns.get(node)
        return [o for o in self.outcomes.get(node, ()) if turn is not None and o.turn == turn.name]

    def missing(self, node: str) -> NodePlan | None:
        """What a rollout's last look at a node says is still to do; asked of those whose steps cannot tell."""
        if not self.kind.verifies or node not in self.ended or self._family is None:
            return None
        facts = self._snapshot.documents.facts(VERIFIED, node)
        return make_plan(self._snapshot.cluster, {node: facts}, self._family).parts()[node] if facts else None


def _result(known: _Known, node: str) -> NodeResult:
    came = _came_to(known, node)
    by_batch = any(outcome.way == "batch" for outcome in known.outcomes.get(node, ()))
    if known.kind.read_only:
        return came.model_copy(update={"by_batch": by_batch})
    stands = _stand(known, node)
    return came.model_copy(update={"by_batch": by_batch, "standing": stands.standing, "now": stands.sentence})


def _came_to(known: _Known, node: str) -> NodeResult:
    """The outcome that ended the node; else whether any step changed it; else why nothing was done."""
    ended, record = known.ended.get(node), known.record
    if ended is not None:
        return NodeResult(
            node=node, status=ended.status, reason=ended.message, file=ended.file, remedy=ended.remedy,
            slug=ended.slug, failure=ended.failure, step=ended.step, about=ended.about,
        )  # fmt: skip
    outcomes = known.outcomes.get(node, ())
    part = known.needed.get(node)
    if known.kind.ends_with_plan and part is not None:
        return NodeResult(node=node, status=Status.UNCHANGED if part.empty else Status.WOULD_CHANGE)
    counted = outcomes if known.looks_only else known.in_its_turn(node)
    if counted:
        changed = any(outcome.status is Status.CHANGED for outcome in counted)
        return NodeResult(node=node, status=Status.CHANGED if changed else Status.UNCHANGED)
    if record.only and node not in record.only:
        return NodeResult(node=node, status=Status.SKIPPED, reason="this run was not asked to change it")
    before = f"the run ended before its turn: {record.verdict.value}" if record.verdict else "not its turn yet"
    return NodeResult(node=node, status=Status.SKIPPED, reason=before)


def _stand(known: _Known, node: str) -> DescribedState:
    if known.record.only and node not in known.record.only:
        return DescribedState(NodeState.UNTOUCHED, "untouched: this run was not asked to change it")
    turn = known.turns.get(node)
    steps = tuple(step for step in known.kind.stage_of(turn).steps if step.changes) if turn else ()
    mine = {outcome.step: outcome for outcome in known.in_its_turn(node)}
    return stand(steps, mine, needed=known.needed.get(node), missing=known.missing(node))
