"""The result of a run for each node: computed from its outcomes, never stored. Reads the store, never writes."""

from pydantic import model_validator

from pipelines.run.kinds import Kind
from pipelines.run.node_state import DescribedState, NodeState, node_state
from pipelines.run.plan import NodePlan
from pipelines.run.snapshot import Snapshot
from workers.errors import Problem
from workers.records import DocumentKind, Record, Status, StepOutcome

__all__ = ["NOT_SELECTED", "WAITING", "NodeResult", "results"]

WAITING = "waiting for a turn"  #: why a node of a run that has not ended has no result yet
NOT_SELECTED = "not selected in this run"


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


_NOT_SELECTED = NodeResult(node="", status=Status.SKIPPED, problem=Problem(message=NOT_SELECTED))


def results(snapshot: Snapshot, kind: Kind) -> tuple[NodeResult, ...]:
    """One result for each node of the cluster, in the order of the cluster file."""
    run = _IndexedRun(snapshot, kind)
    return tuple(_result(run, node) for node in snapshot.cluster.node_names)


class _IndexedRun:
    """A run, indexed by node: a cluster may have thousands of nodes.

    Attributes:
        needed: node -> its part of the plan.
        idle: the nodes on which the plan has nothing to do; in a renewal every node has its waves.
        missing: node -> what was still missing when the node was last observed; only for nodes that ended early.
        left_alone: the nodes to which the run has given no turn for a reason of its own.
        turns: node -> the last turn in which it could be changed, if it had one.
        attempts: name of a turn in which nodes could be changed -> the stage whose work it does, at first or again.
    """

    def __init__(self, snapshot: Snapshot, kind: Kind) -> None:
        self.kind = kind
        self.record = snapshot.record
        self.selected = snapshot.selected
        self.outcomes: dict[str, list[StepOutcome]] = {}
        for outcome in snapshot.outcomes:
            self.outcomes.setdefault(outcome.node, []).append(outcome)
        self.ended = snapshot.ended()
        self.needed = snapshot.plan.parts() if snapshot.plan else {}
        self.idle = snapshot.plan.idle if snapshot.plan and not kind.whole else frozenset()
        self.turns = {node: turn for turn in kind.changing_turns(snapshot.record) for node in turn.nodes}
        stages = {turn.name: kind.stage_of(turn) for turn in kind.changing_turns(snapshot.record)}
        self.attempts = {turn: stage.follows or stage.name for turn, stage in stages.items()}
        self.left_alone = kind.left_alone(snapshot) if kind.left_alone and snapshot.record.verdict else {}
        self.missing = self._missing(snapshot) if kind.verifies and self.ended else {}

    def changes_of(self, node: str) -> dict[str, StepOutcome]:
        """The outcome of each step that could change the node: of several attempts, the one that says most.

        A later attempt finds done what an earlier one changed, or does not come as far.
        """
        found: dict[str, StepOutcome] = {}
        stage = self.attempts[self.turns[node].name] if node in self.turns else None
        for outcome in self.outcomes.get(node, ()):
            if stage is None or self.attempts.get(outcome.turn) != stage:
                continue
            before = found.get(outcome.step)
            less = outcome.status is Status.SKIPPED or (
                outcome.status is Status.UNCHANGED and before is not None and before.status is Status.CHANGED
            )
            if before is None or not less:
                found[outcome.step] = outcome
        return found

    def _missing(self, snapshot: Snapshot) -> dict[str, NodePlan]:
        family = snapshot.documents.family_digests()
        if family is None:
            return {}
        observed = ((node, snapshot.documents.facts(DocumentKind.VERIFIED, node)) for node in self.ended)
        seen = {node: facts for node, facts in observed if facts}
        from pipelines.run.planning import make_plan  # noqa: PLC0415 - most runs end without failed nodes

        return make_plan(snapshot.cluster, seen, family, snapshot.record.options).parts()


def _result(run: _IndexedRun, node: str) -> NodeResult:
    result = _outcome_of(run, node)
    by_batch = any(outcome.way == "batch" for outcome in run.outcomes.get(node, ()))
    if run.kind.read_only:
        return result.model_copy(update={"by_batch": by_batch})
    described = _described(run, node)
    return result.model_copy(update={"by_batch": by_batch, "state": described.state, "description": described.sentence})


def _outcome_of(run: _IndexedRun, node: str) -> NodeResult:
    """The outcome that ended the node's part; else whether a step changed it; else why nothing was done."""
    ended, record = run.ended.get(node), run.record
    if run.kind.read_only and node not in run.selected:
        return _NOT_SELECTED.model_copy(update={"node": node})
    if ended is not None:
        return NodeResult(node=node, status=ended.status, problem=ended.problem, step=ended.step)
    part = run.needed.get(node)
    if run.kind.ends_with_plan and part is not None:
        return NodeResult(node=node, status=Status.UNCHANGED if part.empty else Status.WOULD_CHANGE)
    only_observes = run.kind.read_only and not run.kind.ends_with_plan
    counted = run.outcomes.get(node, ()) if only_observes else tuple(run.changes_of(node).values())
    if counted or node in run.idle:
        changed = any(outcome.status is Status.CHANGED for outcome in counted)
        return NodeResult(node=node, status=Status.CHANGED if changed else Status.UNCHANGED)
    if node not in run.selected:
        return _NOT_SELECTED.model_copy(update={"node": node})
    reason = f"not started, the run ended first: {record.verdict.value}" if record.verdict else WAITING
    return NodeResult(node=node, status=Status.SKIPPED, problem=run.left_alone.get(node, Problem(message=reason)))


def _described(run: _IndexedRun, node: str) -> DescribedState:
    if node not in run.selected:
        return DescribedState(NodeState.UNTOUCHED, "untouched: not selected in this run")
    turn = run.turns.get(node)
    steps = tuple(step for step in run.kind.stage_of(turn).steps if step.changes) if turn else ()
    return node_state(steps, run.changes_of(node), needed=run.needed.get(node), missing=run.missing.get(node))
