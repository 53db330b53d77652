"""The port: what the rest of the product may ask of a run store.

Two adapters keep this contract, held by one suite (tests/contract/test_store.py): `RedisStore` for everything that
spans processes, `MemoryStore` for one process.

Words. A *lease* says who works on a node of a run; it carries a *fence*, a count of the node's claims in that run, so
that a holder who slept through the end of his lease can record nothing any more. The *number* of a run on a node is
what the node itself knows a run's writers by (docs/agent-protocol.md): one more than it had seen when the run first
took it. The *active index* holds the runs that are not concluded.

No clock but the observer's. A lease, a cluster's lock and a leadership have no end that is written anywhere: a store,
as one process has it, takes them for lapsed when it has itself seen them without a renewal for as long as they last, on
its own monotonic clock. Who looks for the first time knows nothing yet. All times are seconds.

Errors, the same everywhere: `StoreUnavailable` when the store does not answer; `RunUnknown` when anything is written to
a run that does not exist or was forgotten (a late writer cannot bring a forgotten run back); `RecordRefused` when what
is there of a run was not written by this installation or cannot be read. Reading the history, documents, flags or
leases of a run that does not exist gives nothing.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from workers.errors import RecordRefused
from workers.records import Event, RunRecord, StepOutcome
from workers.store.chain import Chain, event_position

__all__ = ["EVENT_CAP", "Holds", "RunStore", "event_position", "in_order", "overlook"]

EVENT_CAP = 20_000  #: events kept of one run at least: 1,000 nodes with five steps, begun and ended, twice over


def in_order(outcomes: Iterable[StepOutcome]) -> tuple[StepOutcome, ...]:
    """The outcomes in the order the steps ended."""
    return tuple(sorted(outcomes, key=lambda kept: (kept.ended, kept.turn, kept.node, kept.step)))


def overlook(refused: RecordRefused) -> None:
    """Says nothing of a run that cannot be read."""
    del refused


class _Runs(Protocol):
    """Runs and their transitions."""

    def create(self, record: RunRecord) -> RunRecord:
        """Keeps a new run and notes `run.created`, atomically. The run that stands is returned.

        The same non-empty (cluster, key) twice gives the first run; so does the same id.
        """

    def keyed(self, cluster: str, key: str) -> str:
        """The id of the run that stands for a non-empty idempotency key of a cluster; empty when there is none."""

    def run(self, run_id: str) -> RunRecord:
        """The run as it stands. One small read when it has not changed since this process last read it.

        Raises:
            RunUnknown: there is none.
            RecordRefused: it was not written by this installation, or cannot be read.
        """

    def runs(self, limit: int = 20, refused: Callable[[RecordRefused], None] = overlook) -> tuple[RunRecord, ...]:
        """The newest runs, newest first; `refused` is told of each that cannot be read."""

    def active(self) -> tuple[str, ...]:
        """Ids of the runs that are not concluded, sorted."""

    def save(self, record: RunRecord, *events: Event) -> RunRecord | None:
        """Replaces a run if nobody else has since `record.version`; only then, and in one go, notes the events.

        Returns:
            The record as it now stands, its version one higher; None when another was faster: read again and decide
            again.

        Raises:
            RunUnknown: there is none.
        """

    def forget(self, run_id: str) -> None:
        """Removes everything of a run, its cluster lock included. Nothing happens when there is none."""

    def progress(self, run_id: str) -> float:
        """Seconds for which this process has seen nothing of the run: nothing saved, recorded, noted or put, no claim.

        It looks each time it is asked; the first time it has seen nothing yet, and says 0.

        Raises:
            RunUnknown: there is none.
        """

    def flag(self, run_id: str, name: str, value: str = "1") -> None:
        """Raises a flag such as `cancel` or `pause`; an empty value takes it down. Flags are read between steps."""

    def flags(self, run_id: str) -> dict[str, str]:
        """The flags that are up."""


class _History(Protocol):
    """What happened in a run."""

    def record(self, outcome: StepOutcome, fence: int) -> StepOutcome:
        """Keeps an outcome and notes `step.ended` with its digest, in one go.

        The first one of a (run, turn, node, step) stands for ever, and is returned.

        Args:
            outcome: what the step did.
            fence: the number the claim on the node gave; nodes never claimed take 0.

        Raises:
            Conflict: the node has changed hands since that claim and no outcome stands yet; nothing was kept.
        """

    def outcome(self, run_id: str, turn: str, node: str, step: str) -> StepOutcome | None:
        """The outcome that stands, if there is one."""

    def outcomes(self, run_id: str, turn: str | None = None) -> tuple[StepOutcome, ...]:
        """All outcomes of a run or of one turn, in the order the steps ended."""

    def note(self, run_id: str, event: Event) -> Event:
        """Appends to the run's history; gives the event its id and its link. The oldest go when there are very many.

        A reply lost on the way can put the same event in twice.
        """

    def events(self, run_id: str, after: str = "", limit: int = 1000) -> tuple[Event, ...]:
        """Events after the one with id `after` (from the beginning when empty), oldest first.

        Raises:
            InputRefused: `after` is not an event id.
        """

    def chain(self, run_id: str) -> Chain:
        """Where the history begins and ends, for telling whether it is whole."""

    def put(self, run_id: str, kind: str, name: str, document: str) -> None:
        """Keeps a small text document (facts, plan, findings) under a kind and a name; the last one stands."""

    def document(self, run_id: str, kind: str, name: str) -> str | None:
        """One document."""

    def documents(self, run_id: str, kind: str) -> dict[str, str]:
        """All documents of a kind, by name."""


class Holds(Protocol):
    """Who works on what."""

    def claim(self, run_id: str, node: str, holder: str, ttl: float, *, limit: int = 0) -> int | None:
        """Takes the lease on a node; it outlives its last renewal by `ttl` seconds.

        Args:
            run_id: the run.
            node: the node.
            holder: who takes it.
            ttl: seconds.
            limit: at most this many nodes of the run may be held at a time; 0 is no limit.

        Returns:
            The fence: how many times the node has changed hands in this run. The same holder claiming again renews and
            keeps its fence. None: another holds it, as many nodes are held as may be, or the run had taken its cluster
            and has it no more.
        """

    def renew(self, run_id: str, node: str, holder: str, ttl: float) -> bool:
        """Prolongs a lease. False: it was released, or another took it after it lapsed; stop at the next safe point."""

    def release(self, run_id: str, node: str, holder: str) -> None:
        """Gives a lease back. Nothing happens when another holds it."""

    def leases(self, run_id: str) -> dict[str, str]:
        """Node -> holder of the leases that have not lapsed, as far as this process has seen."""

    def reap(self, run_id: str) -> tuple[str, ...]:
        """Takes away the leases that this process has seen lapse, and names their nodes, sorted."""

    def number(self, run_id: str, node: str, fence: int, seen: int | None = None) -> int:
        """The run's number on a node, for the one who holds its newest fence while the run has its cluster.

        Args:
            run_id: the run.
            node: the node.
            fence: what the claim gave.
            seen: the largest number that the node has seen of any other run, looked up after the claim. The number is
                larger than that, and than every number that was given to another run before. None: as it is.

        Returns:
            The number; 0 when the run has none there yet, or another run was given one since.

        Raises:
            Conflict: the node has changed hands since that claim.
            ClusterLocked: the run does not have its cluster, or has it no more.
        """

    def lock_cluster(self, cluster: str, run_id: str, ttl: float) -> str | None:
        """Takes or renews the lock on a cluster for `ttl` seconds: None; or the id of the other run that holds it.

        A run that is concluded or unknown takes nothing. Saving a run as concluded gives its lock back.
        """

    def elect(self, name: str, holder: str, ttl: float) -> bool:
        """Whether `holder` leads for the next `ttl` seconds: the first to ask does, until it stops asking.

        With a `ttl` of 0 it gives the leadership back, and nothing is kept of it.
        """


class RunStore(_Runs, _History, Holds, Protocol):
    """Everything about runs, as the one truth that all processes share."""
