"""What a run means for each node: computed from its outcomes, never stored. Pure but for reading the store."""

from pipelines.run.abandoned import CHANGING
from pipelines.run.kinds import LOOKING
from pipelines.run.node_state import DescribedState, NodeState, stand
from pipelines.run.plan import NodePlan, make_plan
from pipelines.run.snapshot import Snapshot
from tasks.step import CLEANUP, ROLLBACK
from workers.errors import Failure
from workers.records import DocumentKind, Record, Status, StepOutcome

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


def results(snapshot: Snapshot) -> tuple[NodeResult, ...]:
    """One for each node of the cluster, in the order of its file."""
    known = _Known(snapshot)
    return tuple(_result(known, node) for node in snapshot.cluster.node_names)


class _Known:
    """A run, sorted by node: a cluster may have thousands."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.record = snapshot.record
        self.outcomes: dict[str, list[StepOutcome]] = {}
        for outcome in snapshot.outcomes:
            self.outcomes.setdefault(outcome.node, []).append(outcome)
        self.ended = snapshot.ended()
        self.needed = {part.node: part for part in snapshot.plan.nodes} if snapshot.plan else {}
        #: the one turn that changes a node, if it had it
        self.turns = {
            n: turn for turn in snapshot.record.turns if CHANGING.intersection(turn.steps) for n in turn.nodes
        }
        self._view = snapshot
        self._family = snapshot.documents.family_digests()

    def missing(self, node: str) -> NodePlan | None:
        """What a rollout's last look at a node says is still to do; asked of those whose steps cannot tell."""
        if self.record.kind != "rollout" or node not in self.ended or self._family is None:
            return None
        facts = self._view.documents.facts(DocumentKind.VERIFIED, node)
        return make_plan(self._view.cluster, {node: facts}, self._family).of(node) if facts else None


def _result(known: _Known, node: str) -> NodeResult:
    came = _came_to(known, node)
    by_batch = any(outcome.way == "batch" for outcome in known.outcomes.get(node, ()))
    if known.record.kind in LOOKING:
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
    waves = [o for o in outcomes if o.turn.startswith("wave") or o.step in {ROLLBACK, CLEANUP}]
    if any(o.status is Status.CHANGED for o in waves):
        return NodeResult(node=node, status=Status.CHANGED)
    if waves or (outcomes and record.kind in {"verify", "doctor"}):
        return NodeResult(node=node, status=Status.UNCHANGED)
    part = known.needed.get(node) if record.kind == "plan" else None
    if part is not None:
        return NodeResult(node=node, status=Status.UNCHANGED if part.empty else Status.WOULD_CHANGE)
    if record.only and node not in record.only:
        return NodeResult(node=node, status=Status.SKIPPED, reason="this run was not asked to change it")
    before = f"the run ended before its turn: {record.verdict.value}" if record.verdict else "not its turn yet"
    return NodeResult(node=node, status=Status.SKIPPED, reason=before)


def _stand(known: _Known, node: str) -> DescribedState:
    if known.record.only and node not in known.record.only:
        return DescribedState(NodeState.UNTOUCHED, "untouched: this run was not asked to change it")
    turn = known.turns.get(node)
    steps = tuple(step for step in turn.steps if step in CHANGING) if turn else ()
    mine = {o.step: o for o in known.outcomes.get(node, ()) if turn and o.turn == turn.name}
    return stand(steps, mine, needed=known.needed.get(node), missing=known.missing(node))
