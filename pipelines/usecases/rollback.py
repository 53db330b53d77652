"""Rolling back a run, and removing backups from the nodes: the use cases that all ways in share."""

from collections.abc import Collection
from typing import Unpack

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.decisions_rollback import ALL_AT_ONCE
from pipelines.run.plan import fewest_waves
from pipelines.usecases.last_seen import down_when_last_seen
from pipelines.usecases.naming import selected_nodes
from pipelines.usecases.origin import Origin
from pipelines.usecases.runs import RunSummary, ended_run, start
from tasks.cluster import Cluster
from tasks.documents import FORCE
from tasks.steps.cleanup import ALL, FREE
from workers.errors import InputRefused
from workers.records import RunRecord, Status, Turn, Verdict

__all__ = ["changed_a_node", "cleanup", "free", "nodes_to_undo", "require_not_half_undone", "rollback", "waves_to_undo"]

_OTHER = "choose another run: esync runs"
#: How a step ends that has written nothing.
_WROTE_NOTHING = frozenset({Status.UNCHANGED, Status.SKIPPED, Status.CANCELLED})


def rollback(
    engine: Engine,
    run_id: str,
    nodes: Collection[str] = (),
    *,
    force: bool = False,
    all_at_once: bool = False,
    **origin: Unpack[Origin],
) -> RunRecord:
    """Starts a run that rolls back an earlier one: file contents, file names and the state of the service.

    Args:
        engine: where.
        run_id: the earlier run; it must have ended.
        nodes: the nodes to roll back, as names or patterns (see `selected_nodes`); when empty, all nodes that the run
            may have written to.
        force: overwrite files that were changed since.
        all_at_once: restore all nodes together, instead of at most half of a pool at a time.
        origin: who requests the rollback, from where and why.

    Raises:
        InputRefused: the run has not ended, wrote nothing, or not on such a node; the message gives the reason.
        RunUnknown: there is no such run.
    """
    known = ended_run(engine, run_id)
    only = _to_undo(known, nodes)
    options = (*((FORCE,) if force else ()), *((ALL_AT_ONCE,) if all_at_once else ()))
    down = _down_elsewhere(engine, known.cluster, only)
    return start(engine, known.cluster, kind="rollback", parent=run_id, only=only, options=options, down=down, **origin)


def nodes_to_undo(engine: Engine, run_id: str, nodes: Collection[str] = ()) -> tuple[str, ...]:
    """The nodes that a rollback of a run would change; see `rollback` for arguments and errors. Contacts no server."""
    return _to_undo(ended_run(engine, run_id), nodes)


def require_not_half_undone(record: RunRecord) -> None:
    """Passes unless a run that was not named by its id is a rollback that did not restore everything.

    To undo it would bring back what the operator wanted to be rid of; what is meant then is to finish it.

    Raises:
        InputRefused: it is such a rollback.
    """
    if kind_of(record.kind, record.id).restores and record.verdict not in {None, Verdict.RESTORED}:
        raise InputRefused(
            f"the newest run that changed a node is {record.id}, a rollback that ended as {record.verdict}; no server "
            "was contacted",
            remedy=f"to finish it: esync rollback {record.parent}; to undo it: esync rollback {record.id}",
        )


def waves_to_undo(engine: Engine, run_id: str, nodes: Collection[str]) -> tuple[tuple[str, ...], ...]:
    """The waves in which a rollback of a run restores these nodes if all of them work. Contacts no server.

    Of the others those count as working that were not down when they were last seen.

    Raises:
        InputRefused: the run has not ended.
        RunUnknown: there is no such run.
    """
    cluster = ended_run(engine, run_id).cluster
    down = _down_elsewhere(engine, cluster, nodes)
    working = [name for name in cluster.node_names if name not in down]
    return fewest_waves(cluster, [name for name in working if name in nodes], working)


def _down_elsewhere(engine: Engine, cluster: Cluster, nodes: Collection[str]) -> tuple[str, ...]:
    """The nodes beside these in their pools that were down when they were last seen."""
    pools = {cluster.node(name).pool for name in nodes}
    beside = [node.name for node in cluster.nodes if node.pool in pools and node.name not in nodes]
    return down_when_last_seen(engine, cluster, beside)


def _to_undo(known: RunSummary, nodes: Collection[str]) -> tuple[str, ...]:
    """The nodes to roll back: those named that the run may have written to, or all of these if none was named."""
    named = selected_nodes(known.cluster, nodes)
    written = _written(known)
    if not nodes:
        return written
    by_pattern = frozenset(name for name in named if name.upper() not in {given.upper() for given in nodes})
    untouched = [name for name in named if name not in written and name not in by_pattern]
    chosen = tuple(name for name in named if name in written)
    if untouched or not chosen:
        raise InputRefused(
            f"run {known.record.id} wrote nothing on {', '.join(untouched or named)}; no server was contacted",
            remedy=f"choose from the nodes that it may have written to: {', '.join(written)}",
        )
    return chosen


def _written(known: RunSummary) -> tuple[str, ...]:
    """The nodes that a run may have written to: those that began a step that keeps backups, however it ended.

    A worker may die between a change and the record of it, so the intention of the run decides.
    """
    record = known.record
    names = {node for turn in _writing_turns(record) for node in turn.nodes}
    if known.plan is not None and known.plan.empty:
        raise InputRefused(f"there is nothing to roll back: the plan of run {record.id} was empty", remedy=_OTHER)
    if not names:
        raise InputRefused(
            f"there is nothing to roll back: run {record.id} ({record.kind}) wrote to no node: {record.summary}",
            remedy=_OTHER,
        )
    return tuple(name for name in known.cluster.node_names if name in names)


def changed_a_node(engine: Engine, record: RunRecord) -> bool:
    """Whether a run changed a node, or may have: a step that writes and did not end well may have written before."""
    return any(
        (node, step) not in harmless
        for turn in _writing_turns(record)
        for harmless in [_harmless(engine, record.id, turn)]
        for node in turn.nodes
        for step in _writing_steps(record, turn)
    )


def _harmless(engine: Engine, run_id: str, turn: Turn) -> set[tuple[str, str]]:
    """The steps of a turn, each with its node, that are known to have written nothing."""
    return {(o.node, o.step) for o in engine.store.outcomes(run_id, turn.name) if o.status in _WROTE_NOTHING}


def _writing_steps(record: RunRecord, turn: Turn) -> list[str]:
    return [step.name for step in kind_of(record.kind, record.id).stage_of(turn).steps if step.keeps_backups]


def _writing_turns(record: RunRecord) -> list[Turn]:
    return [turn for turn in record.turns if _writing_steps(record, turn)]


def cleanup(engine: Engine, cluster: Cluster, *, everything: bool = False, **origin: Unpack[Origin]) -> RunRecord:
    """Starts a run that removes expired backups from the nodes, or all backups, and checks the result.

    Args:
        engine: where.
        cluster: whose nodes; its policy says how long backups are kept.
        everything: also remove backups that are not expired; their runs can no longer be rolled back.
        origin: who requests the cleanup, from where and why.
    """
    return start(engine, cluster, kind="cleanup", options=(ALL,) if everything else (), **origin)


def free(engine: Engine, cluster: Cluster, nodes: Collection[str], **origin: Unpack[Origin]) -> RunRecord:
    """Starts a run that frees nodes for the next writer: it removes their fence files, and nothing else.

    Like every run that changes nodes, it begins only when no other such run works on the cluster.

    Args:
        engine: where.
        cluster: whose nodes.
        nodes: the nodes to free, as names or patterns (see `selected_nodes`).
        origin: who requests it, from where and why.

    Raises:
        InputRefused: the cluster has no such node.
    """
    only = selected_nodes(cluster, nodes)
    return start(engine, cluster, kind="cleanup", only=only, options=(FREE,), **origin)
