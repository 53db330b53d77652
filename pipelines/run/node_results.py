"""What a run means for each node: computed from its outcomes, never stored. Pure but for reading the store."""

from pydantic import model_validator

from pipelines.run.abandoned import CHANGING
from pipelines.run.kinds import LOOKING
from pipelines.run.node_state import DescribedState, NodeState, stand
from pipelines.run.plan import NodePlan, make_plan
from pipelines.run.snapshot import Snapshot
from tasks.documents import VERIFIED
from tasks.step import CLEANUP, ROLLBACK
from workers.errors import Problem
from workers.records import Record, Status, StepOutcome

__all__ = ["NodeResult", "results"]


class NodeResult(Record):
    """The result of a run on one node (docs/status-schema.json).

    Attributes:
        problem: what ended the node's part in the run; of a skipped node its message says why.
        step: the step that ended it; empty when no step did.
        by_batch: whether every request needed its own PowerShell process there.
        state: the state the node is in now; None for a run that only reads.
        description: the state in one sentence.
    """

    node: str
    status: Status
    problem: Problem = Problem()
    step: str = ""
    by_batch: bool = False
    state: NodeState | None = None
    description: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_version_1(cls, data: object) -> object:
        """Reads schema version 1, which had the problem's fields beside the others and older names for three."""
        if not isinstance(data, dict) or "reason" not in data:
            return data
        names = {"reason": "message", "standing": "state", "now": "description"}
        renamed = {names.get(name, name): value for name, value in data.items()}
        problem = {name: renamed.pop(name) for name in Problem.model_fields if name in renamed}
        return {**renamed, "problem": problem}


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
        facts = self._view.documents.facts(VERIFIED, node)
        return make_plan(self._view.cluster, {node: facts}, self._family).of(node) if facts else None


def _result(known: _Known, node: str) -> NodeResult:
    came = _came_to(known, node)
    by_batch = any(outcome.way == "batch" for outcome in known.outcomes.get(node, ()))
    if known.record.kind in LOOKING:
        return came.model_copy(update={"by_batch": by_batch})
    stands = _stand(known, node)
    return came.model_copy(update={"by_batch": by_batch, "state": stands.state, "description": stands.sentence})


def _came_to(known: _Known, node: str) -> NodeResult:
    """The outcome that ended the node; else whether any step changed it; else why nothing was done."""
    ended, record = known.ended.get(node), known.record
    if ended is not None:
        return NodeResult(node=node, status=ended.status, problem=ended.problem, step=ended.step)
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
        why = "this run was not asked to change it"
        return NodeResult(node=node, status=Status.SKIPPED, problem=Problem(message=why))
    before = f"the run ended before its turn: {record.verdict.value}" if record.verdict else "not its turn yet"
    return NodeResult(node=node, status=Status.SKIPPED, problem=Problem(message=before))


def _stand(known: _Known, node: str) -> DescribedState:
    if known.record.only and node not in known.record.only:
        return DescribedState(NodeState.UNTOUCHED, "untouched: this run was not asked to change it")
    turn = known.turns.get(node)
    steps = tuple(step for step in turn.steps if step in CHANGING) if turn else ()
    mine = {o.step: o for o in known.outcomes.get(node, ()) if turn and o.turn == turn.name}
    return stand(steps, mine, needed=known.needed.get(node), missing=known.missing(node))
