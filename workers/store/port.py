"""The port: the interface of a run store for all other code.

Two adapters implement it, and one suite tests both (tests/contract/test_store.py): `RedisStore` is shared by all
processes, `MemoryStore` belongs to one process.

Words. A *lease* names the worker that works on a node of a run. It carries a *fence*, a number that grows with each
claim of the node in that run: a holder that missed the end of its lease can record nothing any more. The *number* of a
run on a node identifies the run's writers to the node itself (docs/agent-protocol.md): one more than the node had seen
when the run first claimed it. The *active index* has the runs that are not concluded.

Only the observer's clock counts. No end of a lease, a lock on servers or a leadership is written anywhere: a store
object takes them as lapsed when it has itself seen them without a renewal for their whole duration, on its own
monotonic clock. At its first look it knows nothing yet. All times are seconds.

Errors of all methods: `StoreUnavailable` when the store does not answer; `RunUnknown` when something is written to a
run that does not exist or was forgotten (a late writer cannot bring a forgotten run back); `RecordRefused` when the
data of a run was not written by this installation or cannot be read. The history, documents, flags and leases of a run
that does not exist are empty.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from workers.errors import RecordRefused
from workers.records import DocumentKind, Event, RunRecord, StepOutcome
from workers.store.chain import Chain, event_position
from workers.store.kept import Kept

__all__ = [
    "ANY_CLAIM",
    "EVENT_CAP",
    "MEASURED",
    "Beginning",
    "Begun",
    "Documents",
    "Finished",
    "Finishing",
    "Holds",
    "Look",
    "Place",
    "RunStore",
    "event_position",
    "ignore_refused",
    "in_order",
]

Place = tuple[str, str]  #: kind and name of a document
ANY_CLAIM = 2**53  #: in place of a fence: larger than any, and the largest number that a script can count
#: The documents that measure a run from outside, as long as it is active: one that stands still has them, too.
MEASURED = frozenset({DocumentKind.AVAILABILITY})
EVENT_CAP = 20_000  #: events kept of one run: twice as many as 1,000 nodes with five steps, each begun and ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What a worker names to begin a step of a node.

    Attributes:
        version: of the record of the run that the worker knows.
        earlier: the step before it in its turn; empty for the first one.
        holder: the worker.
        ttl: seconds of the lease.
        limit: of nodes of the run in work at the same time: from the begin of their first to the end of their last step
            in the turn; 0 is no limit. Only a first step waits for it.
        waiting: the flag with which no step begins.
        ending: the flag that outweighs it; with it, and after an earlier step that ended the node, a step ends untried.
        always: whether this step is tried even then.
        documents: kind and name of the documents that are read too.
    """

    run: str
    version: int
    turn: str
    node: str
    step: str
    earlier: str
    holder: str
    ttl: float
    limit: int
    waiting: str
    ending: str
    always: bool = False
    documents: tuple[Place, ...] = ()

    @property
    def event(self) -> Event:
        """The event of its begin."""
        return Event(kind="step.started", turn=self.turn, node=self.node, step=self.step)

    def tried(self, flags: dict[str, str], before: StepOutcome | None) -> bool:
        """Whether the step is tried, and its begin noted."""
        return self.always or not (self.ending in flags or (before is not None and before.status.ends_node))

    def ready(self, begun: "Begun") -> bool:
        """Whether the node is claimed: the step has no outcome, need not wait, and the one before it has ended."""
        waits = self.waiting in begun.flags and self.ending not in begun.flags
        return begun.outcome is None and not waits and not (self.earlier and begun.before is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What a worker has to know of a step when it begins.

    Attributes:
        flags: those of the run.
        before: the outcome of the earlier step.
        outcome: its own; then there is nothing to do.
        claim: the fence of the lease that was taken; None when none was. It grows with each new holder of the node in
            this run; the present holder renews its lease and keeps its fence.
        number: of the run on the node, from `RunStore.number`; 0 for none. Void when another run got one since.
        documents: the documents that were named, None for one that does not exist.
        waits: whether too many nodes are in work. The end of another one says when this one may begin.
    """

    flags: dict[str, str] = field(default_factory=dict)
    before: StepOutcome | None = None
    outcome: StepOutcome | None = None
    claim: int | None = None
    number: int = 0
    documents: dict[Place, str | None] = field(default_factory=dict)
    waits: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finishing:
    """What a worker names to end a step of a node.

    Attributes:
        outcome: of the step.
        fence: from the claim of the node; 0 for a node that was never claimed; ANY_CLAIM for any holder.
        holder: the worker whose lease on the node is released with it; empty keeps any lease.
        documents: kept together with the outcome.
        of: outcomes that the turn has when it is complete; 0 does not ask for that.
        more: whether the node has more steps in the turn: it stays in work.
    """

    outcome: StepOutcome
    fence: int
    holder: str = ""
    documents: Mapping[Place, str] = field(default_factory=dict)
    of: int = 0
    more: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of it.

    Attributes:
        outcome: the stored one: the first outcome of a step is never replaced.
        complete: whether the turn has all of its outcomes; False when that was not asked.
        following: a node of the turn that had to wait, and may begin in place of this one; empty for none. Who gets it
            has to send its steps.
    """

    outcome: StepOutcome
    complete: bool = False
    following: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """A run, and what decides whether it can continue.

    Attributes:
        flags: that are set, with their values.
        counts: node -> number of its outcomes in the present turn; for nodes that have one at least.
        idle: seconds without progress, as `RunStore.progress` counts them.
    """

    record: RunRecord
    flags: dict[str, str]
    counts: dict[str, int]
    idle: float = 0.0


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

        When the id exists, or a non-empty (scope, key), the first run is returned and nothing is stored.
        """

    def keyed(self, scope: str, key: str) -> str:
        """The id of the run with this non-empty idempotency key in a scope (`RunRecord.scope`); empty if none has."""

    def run(self, run_id: str) -> RunRecord:
        """The run in its present state. One small read when it did not change since this process read it.

        Raises:
            RunUnknown: there is no such run.
            RecordRefused: it was not written by this installation, or cannot be read.
        """

    def look(self, run_id: str) -> Look:
        """The run with its flags and the state of its present turn, in one small request.

        Raises:
            RunUnknown: there is no such run.
            RecordRefused: it was not written by this installation, or cannot be read.
        """

    def runs(self, limit: int = 20, refused: Callable[[RecordRefused], None] = ignore_refused) -> tuple[RunRecord, ...]:
        """The newest runs, newest first; `refused` is called for each that cannot be read."""

    def names(self, limit: int = 1000) -> tuple[str, ...]:
        """Ids of the newest runs, newest first; cheaper than `runs`."""

    def time_of_day(self) -> datetime:
        """The time by the clock of the store: one clock for all processes."""

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
        """Removes all data of a run, and its locks. Nothing happens when there is no such run."""

    def progress(self, run_id: str) -> float:
        """Seconds for which this process saw no progress of the run: nothing saved, recorded, noted, put or claimed.

        It looks at each call; the first call returns 0.

        Raises:
            RunUnknown: there is no such run.
        """

    def flag(self, run_id: str, name: str, value: str = "1", *events: Event) -> None:
        """Sets a flag such as `cancel` or `pause`, and notes the events that say so: all at once.

        An empty value removes it. Nothing is noted if the flag has that value: of several who set it, one is first; and
        nothing after the verdict.
        Flags are read between steps.
        """

    def flags(self, run_id: str) -> dict[str, str]:
        """The flags that are set, with their values."""


class _History(Protocol):
    """The history of a run."""

    def begin(self, beginning: Beginning) -> Begun | None:
        """Reads what a step needs, takes the lease on its node, and notes `step.started`: all at once.

        The node is not claimed when the step has an outcome, when the earlier step has none, or while the run waits;
        and while another worker holds it, the limit is reached, or the run has lost the locks on its servers. At the
        limit, the node is remembered as one that waits. The lease lapses `ttl` seconds after its last renewal. Nothing
        is noted for a step that ends untried.

        Returns:
            None when the run has another version: read it again.
        """

    def finish(self, finishing: Finishing) -> Finished:
        """Stores an outcome and its documents, releases the lease, and notes `step.ended` with its digest: all at once.

        Nothing is stored when the step has an outcome.

        Raises:
            Conflict: the node was claimed again since, or the server has lost that claim, and the step has no outcome
                yet; nothing was stored.
        """

    def record(self, outcome: StepOutcome, fence: int, holder: str = "") -> StepOutcome:
        """The same for an outcome alone; returns the stored one."""
        return self.finish(Finishing(outcome=outcome, fence=fence, holder=holder)).outcome

    def outcome(self, run_id: str, turn: str, node: str, step: str) -> StepOutcome | None:
        """The stored outcome, if there is one."""

    def outcomes(self, run_id: str, turn: str | None = None) -> tuple[StepOutcome, ...]:
        """All outcomes of a run or of one turn, in the order the steps ended."""

    def counts(self, run_id: str, turn: str) -> dict[str, int]:
        """Node -> number of its outcomes in a turn, without reading them; for nodes that have one at least."""

    def note(self, run_id: str, event: Event) -> Event:
        """Appends an event to the history, and sets its id and its link. Beyond the limit, the oldest are removed.

        The verdict ends the history: what a worker that was stopped for long notes afterwards comes back without an id.
        After a lost reply the same event can be appended twice.
        """

    def events(self, run_id: str, after: str = "", limit: int = 1000) -> tuple[Event, ...]:
        """Events after the one with id `after` (all events when it is empty), oldest first.

        Raises:
            InputRefused: `after` is not an event id.
        """

    def chain(self, run_id: str) -> Chain:
        """The beginning and end of the history, for checking that it is complete."""


class Documents(Protocol):
    """The documents of a run: small texts by kind and name."""

    def put(self, run_id: str, kind: str, name: str, document: str) -> None:
        """Stores a small text document (facts, plan, findings) by kind and name; a later one replaces it.

        It is progress, unless its kind is one of `MEASURED`.
        """

    def document(self, run_id: str, kind: str, name: str) -> str | None:
        """One document."""

    def documents(self, run_id: str, kind: str) -> dict[str, str]:
        """All documents of a kind, by name."""

    def documents_of(self, run_id: str, kinds: Iterable[str]) -> dict[str, dict[str, str]]:
        """The same for several kinds, in one request."""


class Holds(Protocol):
    """Leases, locks on servers and leadership."""

    def renew(self, run_id: str, nodes: Collection[str], holder: str, ttl: float) -> frozenset[str]:
        """Renews leases. Returns the nodes that the holder still has: the others were released, or taken by another."""

    def release(self, run_id: str, node: str, holder: str) -> None:
        """Releases a lease. Nothing happens when another worker holds it."""

    def leases(self, run_id: str) -> dict[str, str]:
        """Node -> holder of the leases that this process has not seen lapse."""

    def reap(self, run_id: str) -> tuple[str, ...]:
        """Removes the leases that this process has seen lapse; returns their nodes, sorted."""

    def number(self, run_id: str, node: str, fence: int, seen: int | None = None) -> int:
        """The number of a run on a node, for the holder of the newest fence, while the run has its servers.

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
            ClusterLocked: the run does not have the locks on its servers.
        """

    def lock_servers(self, servers: Sequence[str], run_id: str, ttl: float) -> str | None:
        """Takes or renews the locks on all of these servers for `ttl` seconds: None; or another run that has one.

        A run gets all locks or none, in one operation. One that takes a server of a run whose locks have lapsed takes
        all locks from that run. A run that is concluded or unknown gets none. Saving a run as concluded releases its
        locks.

        Args:
            servers: names of servers, each in one spelling; the same server may be part of several clusters.
            run_id: the run.
            ttl: seconds.
        """

    def has_servers(self, run_id: str) -> bool:
        """Whether a run has the locks on its servers, and this process has not seen them lapse."""

    def elect(self, name: str, holder: str, ttl: float) -> bool:
        """Whether `holder` leads for the next `ttl` seconds: the first caller does, until it stops calling.

        With a `ttl` of 0 it resigns, and nothing of it is stored.
        """


class RunStore(_Runs, _History, Documents, Holds, Kept, Protocol):
    """All data of runs: the single source of truth for all processes."""
