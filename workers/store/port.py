"""The port: the interface of a run store for all other code.

Two adapters implement it, and one suite tests both (tests/contract/test_store.py): `RedisStore` is shared by all
processes, `MemoryStore` belongs to one process.

Words. A *lease* names the worker that works on a node of a run. It carries a *fence*, a count of the claims of the node
in that run: a holder that missed the end of its lease can record nothing any more. The *number* of a run on a node
identifies the run's writers to the node itself (docs/agent-protocol.md): one more than the node had seen when the run
first claimed it. The *active index* has the runs that are not concluded.

Only the observer's clock counts. No end of a lease, a cluster lock or a leadership is written anywhere: a store object
takes them as lapsed when it has itself seen them without a renewal for their whole duration, on its own monotonic
clock. At its first look it knows nothing yet. All times are seconds.

Errors of all methods: `StoreUnavailable` when the store does not answer; `RunUnknown` when something is written to a
run that does not exist or was forgotten (a late writer cannot bring a forgotten run back); `RecordRefused` when the
data of a run was not written by this installation or cannot be read. The history, documents, flags and leases of a run
that does not exist are empty.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from workers.errors import RecordRefused
from workers.records import Event, RunRecord, StepOutcome
from workers.store.chain import Chain, event_position

__all__ = ["EVENT_CAP", "Holds", "RunStore", "event_position", "ignore_refused", "in_order"]

EVENT_CAP = 20_000  #: events kept of one run: twice as many as 1,000 nodes with five steps, each begun and ended


def in_order(outcomes: Iterable[StepOutcome]) -> tuple[StepOutcome, ...]:
    """The outcomes in the order the steps ended."""
    return tuple(sorted(outcomes, key=lambda kept: (kept.ended, kept.turn, kept.node, kept.step)))


def ignore_refused(refused: RecordRefused) -> None:
    """Ignores a run that cannot be read."""
    del refused


class _Runs(Protocol):
    """Runs and their transitions."""

    def create(self, record: RunRecord) -> RunRecord:
        """Stores a new run and notes `run.created`, atomically; returns the stored run.

        When the id exists, or a non-empty (cluster, key), the first run is returned and nothing is stored.
        """

    def keyed(self, cluster: str, key: str) -> str:
        """The id of the run with this non-empty idempotency key of a cluster; empty when there is none."""

    def run(self, run_id: str) -> RunRecord:
        """The run in its present state. One small read when it did not change since this process read it.

        Raises:
            RunUnknown: there is no such run.
            RecordRefused: it was not written by this installation, or cannot be read.
        """

    def runs(self, limit: int = 20, refused: Callable[[RecordRefused], None] = ignore_refused) -> tuple[RunRecord, ...]:
        """The newest runs, newest first; `refused` is called for each that cannot be read."""

    def active(self) -> tuple[str, ...]:
        """Ids of the runs that are not concluded, sorted."""

    def save(self, record: RunRecord, *events: Event) -> RunRecord | None:
        """Replaces a run if its version is still `record.version`, and notes the events, atomically.

        Returns:
            The stored record, its version one higher; None when another writer was faster: read again and decide
            again.

        Raises:
            RunUnknown: there is no such run.
        """

    def forget(self, run_id: str) -> None:
        """Removes all data of a run, and its cluster lock. Nothing happens when there is no such run."""

    def progress(self, run_id: str) -> float:
        """Seconds for which this process saw no progress of the run: nothing saved, recorded, noted, put or claimed.

        It looks at each call; the first call returns 0.

        Raises:
            RunUnknown: there is no such run.
        """

    def flag(self, run_id: str, name: str, value: str = "1") -> None:
        """Sets a flag such as `cancel` or `pause`; an empty value removes it. Flags are read between steps."""

    def flags(self, run_id: str) -> dict[str, str]:
        """The flags that are set, with their values."""


class _History(Protocol):
    """The history of a run."""

    def record(self, outcome: StepOutcome, fence: int) -> StepOutcome:
        """Stores an outcome and notes `step.ended` with its digest, atomically.

        The first outcome of a (run, turn, node, step) is never replaced, and is returned.

        Args:
            outcome: of the step.
            fence: from the claim of the node; 0 for a node that was never claimed.

        Raises:
            Conflict: the node was claimed again since, and has no outcome yet; nothing was stored.
        """

    def outcome(self, run_id: str, turn: str, node: str, step: str) -> StepOutcome | None:
        """The stored outcome, if there is one."""

    def outcomes(self, run_id: str, turn: str | None = None) -> tuple[StepOutcome, ...]:
        """All outcomes of a run or of one turn, in the order the steps ended."""

    def note(self, run_id: str, event: Event) -> Event:
        """Appends an event to the history, and sets its id and its link. Beyond the limit, the oldest are removed.

        After a lost reply the same event can be appended twice.
        """

    def events(self, run_id: str, after: str = "", limit: int = 1000) -> tuple[Event, ...]:
        """Events after the one with id `after` (all events when it is empty), oldest first.

        Raises:
            InputRefused: `after` is not an event id.
        """

    def chain(self, run_id: str) -> Chain:
        """The beginning and end of the history, for checking that it is complete."""

    def put(self, run_id: str, kind: str, name: str, document: str) -> None:
        """Stores a small text document (facts, plan, findings) by kind and name; a later one replaces it."""

    def document(self, run_id: str, kind: str, name: str) -> str | None:
        """One document."""

    def documents(self, run_id: str, kind: str) -> dict[str, str]:
        """All documents of a kind, by name."""


class Holds(Protocol):
    """Leases, cluster locks and leadership."""

    def claim(self, run_id: str, node: str, holder: str, ttl: float, *, limit: int = 0) -> int | None:
        """Takes the lease on a node; it lapses `ttl` seconds after its last renewal.

        Args:
            run_id: the run.
            node: the node.
            holder: the worker.
            ttl: seconds.
            limit: of nodes of the run with a lease at the same time; 0 is no limit.

        Returns:
            The fence: how many times the node got a new holder in this run. A claim by the present holder renews the
            lease and keeps its fence. None: another worker holds the node, the limit is reached, or the run lost the
            lock on its cluster.
        """

    def renew(self, run_id: str, node: str, holder: str, ttl: float) -> bool:
        """Renews a lease. False: it was released, or another worker took it after it lapsed; stop when it is safe."""

    def release(self, run_id: str, node: str, holder: str) -> None:
        """Releases a lease. Nothing happens when another worker holds it."""

    def leases(self, run_id: str) -> dict[str, str]:
        """Node -> holder of the leases that this process has not seen lapse."""

    def reap(self, run_id: str) -> tuple[str, ...]:
        """Removes the leases that this process has seen lapse; returns their nodes, sorted."""

    def number(self, run_id: str, node: str, fence: int, seen: int | None = None) -> int:
        """The number of a run on a node, for the holder of the newest fence, while the run has its cluster lock.

        Args:
            run_id: the run.
            node: the node.
            fence: from the claim.
            seen: the largest number that the node has seen of any other run, read after the claim. The result is larger
                than that, and than every number given to another run before. None: only read the present number.

        Returns:
            The number; 0 when the run has none there yet, or another run got one since.

        Raises:
            Conflict: another worker claimed the node since.
            ClusterLocked: the run does not have the lock on its cluster.
        """

    def lock_cluster(self, cluster: str, run_id: str, ttl: float) -> str | None:
        """Takes or renews the lock on a cluster for `ttl` seconds: None; or the id of the other run that has it.

        A run that is concluded or unknown gets no lock. Saving a run as concluded releases its lock.
        """

    def elect(self, name: str, holder: str, ttl: float) -> bool:
        """Whether `holder` leads for the next `ttl` seconds: the first caller does, until it stops calling.

        With a `ttl` of 0 it resigns, and nothing of it is stored.
        """


class RunStore(_Runs, _History, Holds, Protocol):
    """All data of runs: the single source of truth for all processes."""
