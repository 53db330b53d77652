"""Everything about a run as one value: for the command line, messages and a web page.

Apart from `pipelines.usecases.runs`: what looks at a run loads nothing that starts or moves one.
"""

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.snapshot import Reading, Snapshot
from pipelines.run.summary import RunSummary, summary_of
from pipelines.run.waves import left_of_hold
from pipelines.usecases.status import RunStatus
from pipelines.usecases.updates import nodes_done
from tasks.steering import Steering
from workers.errors import InputRefused
from workers.records import RunState, now

__all__ = ["ended_run", "status", "status_of", "summary"]


def summary(engine: Engine, run_id: str) -> RunSummary:
    """Everything about a run, as it is now.

    Raises:
        RunUnknown: there is no such run.
    """
    record = engine.store.run(run_id)
    return summary_of(
        Snapshot(record, Reading(engine.store, run_id), engine.documents(record)), kind_of(record.kind, run_id)
    )


def ended_run(engine: Engine, run_id: str) -> RunSummary:
    """The summary of a run that has ended.

    Raises:
        InputRefused: the run has not ended.
        RunUnknown: there is no such run.
    """
    known = summary(engine, run_id)
    if known.record.state is not RunState.CONCLUDED:
        from pipelines.coordinator import watch_or_cancel  # noqa: PLC0415 - what moves runs is loaded only to refuse

        raise InputRefused(f"run {run_id} has not ended", remedy=watch_or_cancel(run_id))
    return known


def status(engine: Engine, run_id: str) -> RunStatus:
    """The status of a run, for a program.

    Raises:
        RunUnknown: there is no such run.
    """
    return status_of(engine, summary(engine, run_id))


def status_of(engine: Engine, known: RunSummary) -> RunStatus:
    """The same, of a run whose summary is known."""
    record = known.record
    steering = Steering() if record.ended else Steering.of(engine.store, record.id)
    turn = None if record.ended else record.turn
    return RunStatus(
        run=record.id,
        cluster=record.cluster,
        kind=record.kind,
        state=record.state,
        turn=record.turn.name if record.turn else "",
        turn_done=nodes_done(engine.store, record) if turn else 0,
        turn_nodes=len(turn.nodes) if turn else 0,
        verdict=record.verdict,
        exit_code=record.verdict.exit_code if record.verdict else None,
        summary=record.summary,
        paused=steering.paused,
        cancelling=steering.cancelled,
        held=steering.held,
        unapproved=steering.unapproved,
        begins_in=left_of_hold(record, steering),
        budget=known.budget,
        seconds=round(record.seconds(now()), 1),
        nodes={result.node: result for result in known.nodes},
    )
