"""Why is this node not joined? From the newest look at its cluster, or from a new one."""

from dataclasses import dataclass
from pathlib import Path

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.usecases import runs as commands
from pipelines.usecases.runs import RunSummary
from tasks.ektron.rules.explain import Answer, Explanation, explain
from workers.errors import InputRefused, RunUnknown
from workers.records import RunRecord, RunState, Status, now

__all__ = ["Told", "is_file", "newest_look", "told"]

_BACK = 200  #: runs to look back for one of the cluster
_EXIT = {Answer.JOINED: 0, Answer.CAUSE: 5, Answer.ELSEWHERE: 5, Answer.UNKNOWN: 6}


@dataclass(frozen=True, slots=True)
class Told:
    """An answer and where it comes from."""

    explanation: Explanation
    run: RunRecord
    outcome: str = ""  #: what the run came to on this node, when it did not go well

    @property
    def exit_code(self) -> int:
        """0 joined, 5 not joined, 6 not known."""
        return _EXIT[self.explanation.answer]

    @property
    def seen_by(self) -> str:
        """The run, and how long ago it ended."""
        seconds = (now() - (self.run.ended or self.run.created)).total_seconds()
        return f"{self.run.kind} {self.run.id}, {seconds / 60:.0f} minutes ago"


def is_file(target: str) -> bool:
    """Whether a target names a cluster file rather than a run or a cluster."""
    return Path(target).suffix in {".yaml", ".yml"} or Path(target).is_file()


def newest_look(engine: Engine, target: str) -> RunRecord:
    """The run of that id, or the newest one that looked at the whole cluster of that name, or at any for `last`.

    Raises:
        RunUnknown: there is none.
    """
    for record in engine.store.runs(_BACK):
        if record.id == target:
            return record
        fits = target in {"last", record.cluster} and kind_of(record.kind, record.id).verifies
        if fits and record.state is RunState.CONCLUDED and commands.summary(engine, record.id).findings is not None:
            return record
    try:
        return engine.store.run(target)
    except RunUnknown:
        raise RunUnknown(
            f"{target!r} is no run, and no run has looked at a cluster of that name",
            remedy="give the cluster file instead: it is looked at now",
        ) from None


def told(engine: Engine, run_id: str, node: str) -> Told:
    """The answer about one node, from what a run saw.

    Raises:
        InputRefused: the cluster has no such node, or the run did not get as far as looking.
    """
    seen = commands.summary(engine, run_id)
    names = {name.upper(): name for name in seen.cluster.node_names}
    if node.upper() not in names:
        raise InputRefused(f"the cluster {seen.cluster.name} has no node {node!r}", remedy=f"one of {_some(names)}")
    if seen.findings is None:
        raise InputRefused(
            f"run {run_id} did not look at the whole cluster: {seen.record.summary or 'it has not ended'}",
            remedy="give the cluster file instead: it is looked at now",
        )
    return Told(explain(names[node.upper()], seen.findings), seen.record, _outcome(seen, names[node.upper()]))


def _outcome(seen: RunSummary, node: str) -> str:
    result = next(result for result in seen.nodes if result.node == node)
    if result.status in {Status.CHANGED, Status.UNCHANGED, Status.WOULD_CHANGE}:
        return ""
    problem = result.problem
    remedy = f"; Fix: {problem.remedy}" if problem.remedy else ""
    step = f" in {result.step}" if result.step else ""
    kind = f" ({problem.failure.value})" if problem.failure and problem.failure.value != result.status.value else ""
    about = f"; the node reported: {problem.about}" if problem.about else ""
    return f"that run's outcome here: {result.status.value}{kind}{step}: {problem.message}{remedy}{about}"


def _some(names: dict[str, str]) -> str:
    shown = list(names.values())[:12]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")
