"""Why a node is not joined: explained from the newest run that checked the cluster, or from a new one."""

from collections.abc import Callable
from contextlib import suppress

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.explained import NodeAnswer
from pipelines.run.identity import of_cluster
from pipelines.run.summary import RunSummary
from pipelines.usecases.naming import LAST, newest_run, one_node, run_named
from pipelines.usecases.run_views import summary
from tasks.cluster import Cluster
from tasks.ektron.rules.explain import Answer, explain
from workers.errors import InputRefused, RunUnknown
from workers.records import RunRecord, RunState, Status

__all__ = ["explain_node", "newest_check", "newest_check_of"]

_BACK = 200  #: how many runs are searched for one of the cluster


def newest_check(engine: Engine, target: str) -> RunRecord:
    """The run of that id; or the newest run that checked the whole cluster of that name, or any cluster for `last`.

    Raises:
        RunUnknown: there is none.
        InputRefused: several clusters have that name.
    """
    recent = engine.store.runs(_BACK)
    with suppress(RunUnknown):
        if target == LAST or any(of_cluster(record, target) for record in recent):
            return newest_check_of(engine, target)
    try:
        return run_named(engine, target)
    except RunUnknown as unknown:
        nothing = "no run so far has checked a whole cluster"
        what = nothing if target == "last" else f"{unknown}, and no run that checked a cluster of that name"
        advice = "" if target == "last" else f". {unknown.remedy}"
        raise RunUnknown(
            what, remedy=f"give the cluster file instead: then the cluster is checked now{advice}"
        ) from None


def newest_check_of(
    engine: Engine, target: Cluster | str, sees: Callable[[RunRecord], bool] = lambda _: True
) -> RunRecord:
    """The newest run that checked the whole of a cluster, or of any cluster for `last`.

    Args:
        engine: where to search.
        target: the cluster.
        sees: the runs that the caller may see; others are as if they were not there.

    Raises:
        RunUnknown: there is none.
        InputRefused: several clusters have that name.
    """

    def fits(record: RunRecord) -> bool:
        return sees(record) and _checked_all(engine, record)

    return newest_run(engine, target, fits, any_cluster=target == LAST)


def _checked_all(engine: Engine, record: RunRecord) -> bool:
    kind = kind_of(record.kind, record.id)
    return (
        kind.verifies
        and not (kind.read_only and record.only)
        and record.state is RunState.CONCLUDED
        and summary(engine, record.id).findings is not None
    )


def explain_node(engine: Engine, run_id: str, node: str) -> NodeAnswer:
    """The explanation for one node, from the findings of a run.

    Raises:
        InputRefused: the cluster has no such node; or the run ended before it checked the cluster, and the
            prerequisites do not explain why this node is not joined.
    """
    known = summary(engine, run_id)
    name = one_node(known.cluster, node)
    found = explain(name, known.findings) if known.findings else None
    if found is None or (_early(known) and found.answer in {Answer.JOINED, Answer.ELSEWHERE}):
        raise InputRefused(
            f"run {run_id} did not check the whole cluster: {known.record.summary or 'it has not ended'}",
            remedy="give the cluster file instead: then the cluster is checked now",
        )
    record = known.record
    return NodeAnswer(**dict(found), run=record.id, kind=record.kind, ended=record.ended, outcome=_failure(known, name))


def _early(known: RunSummary) -> bool:
    """Whether the findings are about the prerequisites of a change only: too few to call a node correct."""
    kind = kind_of(known.record.kind, known.record.id)
    return not kind.verifies or kind.checked_early(turn.stage for turn in known.record.turns)


def _failure(known: RunSummary, node: str) -> str:
    """The result of a run on a node, for people; empty when it was a success."""
    result = {result.node: result for result in known.nodes}[node]
    if result.status in {Status.CHANGED, Status.UNCHANGED, Status.WOULD_CHANGE}:
        return ""
    problem, failure = result.problem, result.problem.failure
    remedy = f"; Fix: {problem.remedy}" if problem.remedy else ""
    step = f" in {result.step}" if result.step else ""
    kind = f" ({failure.value})" if failure and failure.value != result.status.value else ""
    about = f"; the node reported: {problem.about}" if problem.about else ""
    return f"result of that run on this node: {result.status.value}{kind}{step}: {problem.message}{remedy}{about}"
