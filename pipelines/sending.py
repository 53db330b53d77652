"""Sends the steps of a turn: to which worker, in which order, with the join as the body of the chord."""

import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING

from pipelines.engine import Engine
from pipelines.run.snapshot import Reading
from tasks.cluster import Cluster
from workers.broker.names import CONTROL_QUEUE, own_queue
from workers.errors import EsyncError
from workers.records import RunRecord, Turn
from workers.redis.connection import errors_mapped

if TYPE_CHECKING:  # loaded by those that send: most commands only read
    from celery.canvas import Signature

    from workers.broker.chords import Call

__all__ = ["send", "workers_near"]

_SMALL = 8  #: nodes of a cluster that one worker does as a whole
#: Nodes of a turn -> priority of the first step of each node, and of the steps that follow it, as the broker has them:
#: 0 is taken first. So a small cluster does not wait behind a large one, and a node that was begun with is finished
#: before the next: it waits as short as possible between its changes and its restart.
_PRIORITIES = ((_SMALL, (3, 0)), (100, (6, 3)))
_LAST = (9, 3)  #: of larger turns


def workers_near(engine: Engine, record: RunRecord, nodes: Sequence[str], read: Reading) -> dict[str, str]:
    """Node -> the own queue of the worker that did its last step, where that worker lives.

    A small cluster stays with one worker as a whole: what its nodes have in common is then known to it.
    """
    if not nodes:
        return {}
    with suppress(EsyncError), errors_mapped():
        served = engine.own_queues.served()
        common, small = _common_queues(engine, record, nodes), len(Cluster.of_run(record).nodes) <= _SMALL
        last = _last_workers(record, nodes, read, one_by_one=not small and len(nodes) <= _SMALL)
        most = Counter(last.values()).most_common(1)
        usual = most[0][0] if small and most else ""
        near = {node: own_queue(common[node], last.get(node, usual)) for node in nodes}
        return {node: queue for node, queue in near.items() if queue in served}
    return {}


def _common_queues(engine: Engine, record: RunRecord, nodes: Sequence[str]) -> dict[str, str]:
    """Node -> the queue of all workers that are near to it. A turn may be sent node by node: only of these nodes."""
    cluster = Cluster.of_run(record)
    return {node: engine.queue_of(cluster.node(node)) for node in nodes}


def _last_workers(record: RunRecord, nodes: Sequence[str], read: Reading, *, one_by_one: bool) -> dict[str, str]:
    """Node -> the worker that did its last step. A turn may be sent node by node: then not all outcomes are read."""
    if not one_by_one:
        return {outcome.node: outcome.worker for outcome in read.outcomes}
    turns = {node: turn for turn in record.turns[:-1] for node in turn.nodes}
    last = ((node, turns[node]) for node in nodes if node in turns)
    found = (read.store.outcome(record.id, turn.name, node, turn.steps[-1]) for node, turn in last if turn.steps)
    return {outcome.node: outcome.worker for outcome in found if outcome is not None}


def send(
    engine: Engine,
    record: RunRecord,
    turn: Turn,
    nodes: Sequence[str],
    *finished: str,
    near: Mapping[str, str] = MappingProxyType({}),
    begun: Collection[str] = (),
) -> None:
    """Sends a chord: one chain per node, and the join.

    Args:
        engine: where.
        record: the run.
        turn: of it.
        nodes: of the turn.
        finished: the node, in a turn that has a chord for each; the join gets it.
        near: node -> the queue of its first step, where it is not the common one.
        begun: the nodes that have done some of their steps in this turn.

    Raises:
        OperationalError: the broker does not accept a message; those before it were sent.
    """
    from workers.broker.chords import send_chord  # noqa: PLC0415 - only those who send messages load it

    if not nodes:
        return
    queues = _common_queues(engine, record, nodes)
    first, later = next((found for most, found in _PRIORITIES if len(turn.nodes) <= most), _LAST)
    urgency = {node: (later if node in begun else first, later) for node in nodes}
    chains = [_steps(record.id, turn, node, (near.get(node), queues[node]), urgency[node]) for node in nodes]
    body = _join(engine, record.id, turn.name, *finished)
    body.on_error(_join(engine, record.id, turn.name, *finished))
    send_chord(engine.app, chains, body)


def _steps(
    run_id: str, turn: Turn, node: str, queues: tuple[str | None, str], priorities: tuple[int, int]
) -> "list[Call]":
    """The steps of a node: the first by the workers of the queue, those after it by the worker of the one before."""
    from workers.broker.chords import Call  # noqa: PLC0415 - see above

    (near, common), (first, later) = queues, priorities
    return [
        Call(
            f"esync.{step}",
            str(uuid.uuid5(uuid.NAMESPACE_URL, f"esync/{run_id}/{turn.name}/{step}/{node}")),
            (run_id, turn.name, node),
            {"queue": own_queue(common), "priority": later} if number else {"queue": near or common, "priority": first},
        )
        for number, step in enumerate(turn.steps)
    ]


def _join(engine: Engine, run_id: str, turn: str, *finished: str) -> "Signature":
    signature = engine.app.signature("esync.join_and_verify", args=(run_id, turn, *finished), immutable=True)
    return signature.set(queue=CONTROL_QUEUE, ignore_result=True)
