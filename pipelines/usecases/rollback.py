"""Taking a run back, and removing what runs left on the nodes: the use cases all ways in share."""

from collections.abc import Collection
from typing import Any

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.usecases.runs import RunSummary, start, summary
from tasks.cluster import Cluster
from tasks.steps.cleanup import ALL, FREE
from tasks.undo.backups import FORCE
from workers.errors import InputRefused
from workers.records import RunRecord, RunState, Turn

__all__ = ["cleanup", "free", "rollback", "wrote"]


def rollback(
    engine: Engine,
    run_id: str,
    nodes: Collection[str] = (),
    *,
    force: bool = False,
    **asked: Any,  # noqa: ANN401 - Asked checks them
) -> RunRecord:
    """Starts a run that takes an earlier one back: bytes, names and the service's state.

    Args:
        engine: where.
        run_id: the earlier run; it must have ended.
        nodes: on these nodes only; on all it may have written to when empty. Case does not count.
        force: overwrite files that were changed since.
        asked: the fields of `Asked`: who, reason, key.

    Raises:
        InputRefused: the run goes on, wrote nothing, or not on such a node; the reason is named.
        RunUnknown: there is no such run.
    """
    known = summary(engine, run_id)
    if known.record.state is not RunState.CONCLUDED:
        raise InputRefused(
            f"run {run_id} still goes on",
            remedy=f"see its end: esync watch {run_id}; or stop it: esync cancel {run_id}",
        )
    written = _written(known)
    wanted = {name.upper() for name in nodes}
    unknown = wanted - {name.upper() for name in written}
    if unknown:
        raise InputRefused(
            f"run {run_id} wrote nothing on {', '.join(sorted(unknown))}", remedy=f"it may have on {', '.join(written)}"
        )
    only = tuple(name for name in written if not wanted or name.upper() in wanted)
    options = (FORCE,) if force else ()
    return start(engine, known.cluster, kind="rollback", parent=run_id, only=only, options=options, **asked)


def _written(known: RunSummary) -> tuple[str, ...]:
    """The nodes a run may have written to: those that began a step that writes, however it ended.

    A worker may die between a change and its record, so that what counts is what the run set out to do.
    """
    record = known.record
    names = {node for turn in _writing_turns(record) for node in turn.nodes}
    if known.plan is not None and known.plan.empty:
        raise InputRefused(f"there is nothing to roll back: the plan of run {record.id} was empty")
    if not names:
        raise InputRefused(
            f"there is nothing to roll back: run {record.id} ({record.kind}) wrote to no node: {record.summary}"
        )
    return tuple(name for name in known.cluster.node_names if name in names)


def wrote(record: RunRecord) -> bool:
    """Whether a run set out to write to a node."""
    return bool(_writing_turns(record))


def _writing_turns(record: RunRecord) -> list[Turn]:
    kind = kind_of(record.kind, record.id)
    return [turn for turn in record.turns if any(step.keeps_backups for step in kind.stage_of(turn).steps)]


def cleanup(engine: Engine, cluster: Cluster, *, everything: bool = False, **asked: Any) -> RunRecord:  # noqa: ANN401 - Asked checks them
    """Starts a run that removes expired backups from the nodes, or all of them, and proves it.

    Args:
        engine: where.
        cluster: whose nodes; its policy says how long backups are kept.
        everything: remove those that are not expired too; their runs cannot be rolled back any more.
        asked: the fields of `Asked`: who, reason, key.
    """
    return start(engine, cluster, kind="cleanup", options=(ALL,) if everything else (), **asked)


def free(engine: Engine, cluster: Cluster, nodes: Collection[str], **asked: Any) -> RunRecord:  # noqa: ANN401 - Asked checks them
    """Starts a run that frees nodes for the next writer: it removes their fence files, and nothing else.

    Like every run that changes nodes it begins only when no other one works on the cluster.

    Args:
        engine: where.
        cluster: whose nodes.
        nodes: which ones; case does not count.
        asked: the fields of `Asked`: who, reason, key.

    Raises:
        InputRefused: the cluster has no such node.
    """
    wanted = {name.upper() for name in nodes}
    unknown = wanted - {name.upper() for name in cluster.node_names}
    if unknown:
        raise InputRefused(
            f"cluster {cluster.name} has no node {', '.join(sorted(unknown))}",
            remedy=f"its nodes are {', '.join(cluster.node_names[:12])}",
        )
    only = tuple(name for name in cluster.node_names if name.upper() in wanted)
    return start(engine, cluster, kind="cleanup", only=only, options=(FREE,), **asked)
