"""The result of a run for each node: computed from its outcomes, never stored. Reads the store, never writes."""

from collections.abc import Sequence

from pipelines.run.kinds import Kind
from pipelines.run.node_state import DescribedState, NodeState, node_state
from pipelines.run.plan import NodePlan, make_plan
from pipelines.run.snapshot import Snapshot
from tasks.documents import VERIFIED
from workers.errors import Failure
from workers.records import Record, Status, StepOutcome

__all__ = ["NodeResult", "results"]


class NodeResult(Record):
    """The result of a run for one node.

    Attributes:
        slug: of the error that ended the node's part; `failure` is its class.
        about: what the node had reported about itself before it failed.
        by_batch: whether each request needed its own PowerShell process (the fallback).
        standing: the state of the node now; None for a run that only reads. `now` is the same as a sentence.
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
    """One result for each node of the cluster, in the order of the cluster file."""
    run = _IndexedRun(snapshot, kind)
    return tuple(_result(run, node) for node in snapshot.cluster.node_names)


class _IndexedRun:
    """A run, indexed by node: a cluster may have thousands of nodes.

    Attributes:
        needed: node -> its part of the plan.
        missing: node -> what was still missing when the node was last observed; only for nodes that ended early.
        turns: node -> the one turn in which it may be changed, if it had that turn.
    """

    def __init__(self, snapshot: Snapshot, kind: Kind) -> None:
        self.kind = kind
        self.record = snapshot.record
        self.selected = snapshot.selected
        self.outcomes: dict[str, list[StepOutcome]] = {}
        for outcome in snapshot.outcomes:
            self.outcomes.setdefault(outcome.node, []).append(outcome)
        self.ended = snapshot.ended()
        self.needed = {part.node: part for part in snapshot.plan.nodes} if snapshot.plan else {}
        self.turns = {node: turn for turn in kind.changing_turns(snapshot.record) for node in turn.nodes}
        self.missing = self._missing(snapshot) if kind.verifies and self.ended else {}

    def in_its_turn(self, node: str) -> Sequence[StepOutcome]:
        """The outcomes of the one turn in which the node may be changed."""
        turn = self.turns.get(node)
        return [o for o in self.outcomes.get(node, ()) if turn is not None and o.turn == turn.name]

    def _missing(self, snapshot: Snapshot) -> dict[str, NodePlan]:
        family = snapshot.documents.family_digests()
        if family is None:
            return {}
        observed = ((node, snapshot.documents.facts(VERIFIED, node)) for node in self.ended)
        plan = make_plan(snapshot.cluster, {node: facts for node, facts in observed if facts}, family)
        return {part.node: part for part in plan.nodes}


def _result(run: _IndexedRun, node: str) -> NodeResult:
    result = _outcome_of(run, node)
    by_batch = any(outcome.way == "batch" for outcome in run.outcomes.get(node, ()))
    if run.kind.read_only:
        return result.model_copy(update={"by_batch": by_batch})
    described = _described(run, node)
    return result.model_copy(update={"by_batch": by_batch, "standing": described.state, "now": described.sentence})


def _outcome_of(run: _IndexedRun, node: str) -> NodeResult:
    """The outcome that ended the node's part; else whether a step changed it; else why nothing was done."""
    ended, record = run.ended.get(node), run.record
    if ended is not None:
        return NodeResult(
            node=node, status=ended.status, reason=ended.message, file=ended.file, remedy=ended.remedy,
            slug=ended.slug, failure=ended.failure, step=ended.step, about=ended.about,
        )  # fmt: skip
    part = run.needed.get(node)
    if run.kind.ends_with_plan and part is not None:
        return NodeResult(node=node, status=Status.UNCHANGED if part.empty else Status.WOULD_CHANGE)
    only_observes = run.kind.read_only and not run.kind.ends_with_plan
    counted = run.outcomes.get(node, ()) if only_observes else run.in_its_turn(node)
    if counted:
        changed = any(outcome.status is Status.CHANGED for outcome in counted)
        return NodeResult(node=node, status=Status.CHANGED if changed else Status.UNCHANGED)
    if node not in run.selected:
        return NodeResult(node=node, status=Status.SKIPPED, reason="not selected in this run")
    reason = f"not started, the run ended first: {record.verdict.value}" if record.verdict else "waiting for its turn"
    return NodeResult(node=node, status=Status.SKIPPED, reason=reason)


def _described(run: _IndexedRun, node: str) -> DescribedState:
    if node not in run.selected:
        return DescribedState(NodeState.UNTOUCHED, "untouched: not selected in this run")
    turn = run.turns.get(node)
    steps = tuple(step for step in run.kind.stage_of(turn).steps if step.changes) if turn else ()
    outcomes = {outcome.step: outcome for outcome in run.in_its_turn(node)}
    return node_state(steps, outcomes, needed=run.needed.get(node), missing=run.missing.get(node))
