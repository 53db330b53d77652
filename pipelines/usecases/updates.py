"""What is new about a run since the last look, and its progress so far: for a terminal and for a page."""

from collections.abc import Callable
from typing import NamedTuple

from pipelines.rollout import kind_of
from pipelines.run.progress import Progress
from pipelines.run.snapshot import Reading
from pipelines.run.summary import findings_of
from pipelines.run.waves import left_of_hold
from tasks.steering import Steering
from workers.errors import RunUnknown
from workers.records import Event, RunRecord, RunState
from workers.store.port import RunStore

__all__ = ["Feed", "RunUpdate", "is_planned", "nodes_done", "progress_of", "seen_run", "take", "updates_of"]

_FEED_LIMIT = 5000


class RunUpdate(NamedTuple):
    """The current record of a run, its events since the last update, and the nodes that its final check refuted.

    `waiting` says that the run waits for a worker; it is empty while one answers. `idle` are the nodes on which its
    plan has nothing to do; none as long as there is no plan. `begins_in` are the seconds until a held run begins by
    itself.
    """

    record: RunRecord
    events: tuple[Event, ...]
    refuted: frozenset[str] = frozenset()
    waiting: str = ""
    idle: frozenset[str] = frozenset()
    begins_in: float | None = None


Feed = Callable[[str], RunUpdate]  #: takes the id of the last event received, empty at first


def seen_run(store: RunStore, run_id: str) -> RunRecord:
    """The record of a run that the caller has seen before.

    Raises:
        RunUnknown: the store has lost it; the message says what that means.
    """
    try:
        return store.run(run_id)
    except RunUnknown:
        raise RunUnknown(
            f"the run store has lost run {run_id}: its server was emptied or replaced, or has started without its data",
            remedy="what the run has changed on its servers stays, and no file is half-written: start it again, and it "
            "does what is missing; `appendonly yes` keeps the data of the server",
        ) from None


def updates_of(store: RunStore, run_id: str) -> Feed:
    """Reads a run from the store.

    The record is read before the events: when it is concluded, no event that led to it can be missing.
    """
    idle: frozenset[str] | None = None

    def update(after: str) -> RunUpdate:
        nonlocal idle
        record = seen_run(store, run_id)
        if idle is None and is_planned(record):  # a plan does not change any more
            idle = _idle(store, record)
        events = store.events(run_id, after, _FEED_LIMIT)
        left = _begins_in(store, record)
        return RunUpdate(record, events, _refuted(store, record), idle=idle or frozenset(), begins_in=left)

    return update


def is_planned(record: RunRecord) -> bool:
    """Whether the plan of a run is made, and what follows it has begun."""
    turn = record.turn
    return bool(record.plan_fingerprint and turn and not kind_of(record.kind, record.id).stage_of(turn).plans)


def _begins_in(store: RunStore, record: RunRecord) -> float | None:
    if record.state is RunState.CONCLUDED or not record.spec.get("policy", {}).get("hold_for"):
        return None
    return left_of_hold(record, Steering.of(store, record.id))


def _idle(store: RunStore, record: RunRecord) -> frozenset[str]:
    """The nodes on which the plan has nothing to do; in a renewal every node has its waves."""
    plan = None if kind_of(record.kind, record.id).whole else Reading(store, record.id).plan
    return plan.idle if plan else frozenset()


def _refuted(store: RunStore, record: RunRecord) -> frozenset[str]:
    """The nodes that the final check of a run names in errors; none while the run lasts."""
    early = kind_of(record.kind, record.id).checked_early(turn.stage for turn in record.turns)
    findings = None if early or record.state is not RunState.CONCLUDED else findings_of(store, record.id)
    return frozenset(node for one in findings.refuted_errors for node in one.nodes) if findings else frozenset()


def nodes_done(store: RunStore, record: RunRecord) -> int:
    """How many nodes have done all steps of the present turn of a run.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    turn = record.turn
    if turn is None:
        return 0
    return sum(count >= len(turn.steps) for count in store.counts(record.id, turn.name).values())


def progress_of(store: RunStore, record: RunRecord) -> Progress:
    """The progress of a run, from all its events so far.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    progress, updates, after = Progress(record, kind_of(record.kind, record.id)), updates_of(store, record.id), ""
    while (update := updates(after)).events:
        take(progress, update)
        after = update.events[-1].id
    take(progress, update)
    return progress


def take(progress: Progress, update: RunUpdate) -> None:
    """Adds an update to the progress of its run."""
    progress.take(update.record, update.events)
    progress.know_idle(update.idle)
    progress.refuted = update.refuted
    progress.begins_in = update.begins_in
