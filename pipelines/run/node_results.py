"""The result of a run for each node: computed from its outcomes, never stored. Pure, apart from reading the store."""

from collections.abc import Sequence

from pydantic import model_validator

from pipelines.run.kinds import Kind
from pipelines.run.node_state import DescribedState, NodeState, node_state
from pipelines.run.plan import NodePlan, make_plan
from pipelines.run.snapshot import Snapshot
from workers.errors import Problem
from workers.records import DocumentKind, Record, Status, StepOutcome

__all__ = ["NodeResult", "results"]


class NodeResult(Record):
    """The result of a run for one node (docs/status-schema.json).

    Attributes:
        problem: what ended the node's part in the run; for a skipped node its message says why.
        step: the step that ended it; empty when no step did.
        by_batch: whether each request needed its own PowerShell process (the fallback).
        state: the state of the node now; None for a run that only reads.
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


def results(snapshot: Snapshot, kind: Kind) -> tuple[NodeResult, ...]:
    """One for each node of the cluster, in the order of its file."""
    known = _Known(snapshot, kind)
    return tuple(_result(known, node) for node in snapshot.cluster.node_names)


class _Known:
    """A run, indexed by node: a cluster may have thousands."""

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
        """What was still missing on a node at the last look; only for nodes whose steps did not all succeed."""
        if not self.kind.verifies or node not in self.ended or self._family is None:
            return None
        facts = self._snapshot.documents.facts(DocumentKind.VERIFIED, node)
        return make_plan(self._snapshot.cluster, {node: facts}, self._family).parts()[node] if facts else None


def _result(known: _Known, node: str) -> NodeResult:
    result = _outcome_of(known, node)
    by_batch = any(outcome.way == "batch" for outcome in known.outcomes.get(node, ()))
    if known.kind.read_only:
        return result.model_copy(update={"by_batch": by_batch})
    described = _described(known, node)
    return result.model_copy(update={"by_batch": by_batch, "state": described.state, "description": described.sentence})


def _outcome_of(known: _Known, node: str) -> NodeResult:
    """The outcome that ended the node's part; else whether a step changed it; else why nothing was done."""
    ended, record = known.ended.get(node), known.record
    if ended is not None:
        return NodeResult(node=node, status=ended.status, problem=ended.problem, step=ended.step)
    outcomes = known.outcomes.get(node, ())
    part = known.needed.get(node)
    if known.kind.ends_with_plan and part is not None:
        return NodeResult(node=node, status=Status.UNCHANGED if part.empty else Status.WOULD_CHANGE)
    counted = outcomes if known.looks_only else known.in_its_turn(node)
    if counted:
        changed = any(outcome.status is Status.CHANGED for outcome in counted)
        return NodeResult(node=node, status=Status.CHANGED if changed else Status.UNCHANGED)
    if record.only and node not in record.only:
        return NodeResult(node=node, status=Status.SKIPPED, problem=Problem(message="not selected in this run"))
    before = f"not started, the run ended first: {record.verdict.value}" if record.verdict else "waiting for its turn"
    return NodeResult(node=node, status=Status.SKIPPED, problem=Problem(message=before))


def _described(known: _Known, node: str) -> DescribedState:
    if known.record.only and node not in known.record.only:
        return DescribedState(NodeState.UNTOUCHED, "untouched: not selected in this run")
    turn = known.turns.get(node)
    steps = tuple(step for step in known.kind.stage_of(turn).steps if step.changes) if turn else ()
    mine = {outcome.step: outcome for outcome in known.in_its_turn(node)}
    return node_state(steps, mine, needed=known.needed.get(node), missing=known.missing(node))
