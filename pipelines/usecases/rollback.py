"""Rolling back a run, and removing backups from the nodes: the use cases that all ways in share."""

from collections.abc import Collection
from typing import Unpack

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.usecases.runs import Origin, RunSummary, ended_run, start
from tasks.cluster import Cluster
from tasks.ektron import wording
from tasks.steps.cleanup import ALL, FREE
from tasks.undo.backups import FORCE
from workers.errors import InputRefused
from workers.records import RunRecord, Turn

__all__ = ["cleanup", "free", "rollback", "wrote"]


def rollback(
    engine: Engine, run_id: str, nodes: Collection[str] = (), *, force: bool = False, **origin: Unpack[Origin]
) -> RunRecord:
    """Starts a run that rolls back an earlier one: file contents, file names and the state of the service.

    Args:
        engine: where.
        run_id: the earlier run; it must have ended.
        nodes: the nodes to roll back; when empty, all nodes that the run may have written to. Case does not count.
        force: overwrite files that were changed since.
        origin: who requests the rollback, from where and why.

    Raises:
        InputRefused: the run has not ended, wrote nothing, or not on such a node; the message gives the reason.
        RunUnknown: there is no such run.
    """
    known = ended_run(engine, run_id)
    written = _written(known)
    only, unknown = _selected(nodes, written)
    if unknown:
        raise InputRefused(f"run {run_id} wrote nothing on {unknown}", remedy=f"it may have on {', '.join(written)}")
    options = (FORCE,) if force else ()
    return start(engine, known.cluster, kind="rollback", parent=run_id, only=only, options=options, **origin)


def _selected(nodes: Collection[str], among: Collection[str]) -> tuple[tuple[str, ...], str]:
    """The nodes of `among` that an operator named, or all if none was named; and the names that are not there."""
    named = {name.upper() for name in nodes}
    unknown = named - {name.upper() for name in among}
    return tuple(name for name in among if not named or name.upper() in named), ", ".join(sorted(unknown))


def _written(known: RunSummary) -> tuple[str, ...]:
    """The nodes that a run may have written to: those that began a step that keeps backups, however it ended.

    A worker may die between a change and the record of it, so the intention of the run decides.
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
    """Whether a run may have written to a node."""
    return bool(_writing_turns(record))


def _writing_turns(record: RunRecord) -> list[Turn]:
    kind = kind_of(record.kind, record.id)
    return [turn for turn in record.turns if any(step.keeps_backups for step in kind.stage_of(turn).steps)]


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
        nodes: the nodes to free; case does not count.
        origin: who requests it, from where and why.

    Raises:
        InputRefused: the cluster has no such node.
    """
    only, unknown = _selected(nodes, cluster.node_names)
    if unknown:
        raise InputRefused(
            f"cluster {cluster.name} has no node {unknown}",
            remedy=f"its nodes are {wording.named(cluster.node_names)}",
        )
    return start(engine, cluster, kind="cleanup", only=only, options=(FREE,), **origin)
