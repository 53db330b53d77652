"""What a step is: a value with a name, a function and what the rest of the product may ask about it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tasks.cluster import Cluster, Node
from tasks.documents import RunDocuments
from tasks.fence import FENCE_FILE, Fence, freeing
from workers.errors import AgentFailed, NodeError
from workers.records import Change
from workers.winrm import operations
from workers.winrm.operations import Op, Reply, Writer

if TYPE_CHECKING:
    from workers.winrm.session import Session

__all__ = ["APPLYING", "Done", "Purpose", "Step", "Work", "own_folder"]

#: The phase in which a step changes a node: a step that fails in it leaves the node touched.
APPLYING = "applying"


class Purpose(StrEnum):
    """What a look at a node is for. The stage decides it; the step does not know the stages."""

    PLAN = "plan"  #: facts to plan from, before anything is written
    CONFIRM = "confirm"  #: whether the node still is as the plan saw it
    VERIFY = "verify"  #: evidence for the verdict
    EXAMINE = "examine"  #: whether a rollout could begin


def own_folder(program_data: str) -> str:
    """The one folder on a node that is ours."""
    return f"{program_data}\\esync-rollout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a step gets: one node of one run, and an open session with it.

    Attributes:
        fence: our claim on this node: there, a change of an earlier one, or of an earlier run, is refused.
        purpose: what a look at the node is for.
        cancelled: whether an operator asked to stop; asked at every turn of a wait that may be left.
        say: names the phase for those who watch (`observing`, `applying`).
        parent: the run that this one undoes.
        options: what was asked for besides: see `RunRecord.options`.
        steps: every step there is, by name: what earlier runs did is judged by them.
    """

    run: str
    purpose: Purpose
    node: Node
    cluster: Cluster
    session: "Session"
    documents: RunDocuments
    cancelled: Callable[[], bool]
    say: Callable[[str], None]
    fence: Fence
    parent: str = ""
    options: tuple[str, ...] = ()
    steps: "Mapping[str, Step]"

    @property
    def is_origin(self) -> bool:
        """Whether this node is the origin of the certificate family."""
        return self.cluster.is_origin(self.node.name)

    @property
    def deadline(self) -> float:
        """Seconds one exchange with the node may take."""
        return self.cluster.policy.deadlines.step

    @property
    def own_folder(self) -> str:
        """The one folder on the node that is ours."""
        return own_folder(self.session.hello().program_data)

    @property
    def fence_file(self) -> str:
        """Where the node keeps its newest writer."""
        return f"{self.own_folder}\\{FENCE_FILE}"

    def backup_folder(self, run: str = "") -> str:
        """Where a run keeps what it replaces on the node; this one when empty."""
        return f"{self.own_folder}\\{run or self.run}"

    def change(
        self, ops: Sequence[Op], *, folders: Sequence[str], deadline: float = 0, keep_going: bool = False
    ) -> list[Reply]:
        """Has something changed on the node, as `Session.ask` does; never waits less than asked, so no cancelling.

        Args:
            ops: what to do.
            folders: of the product, that may be written to besides our own.
            deadline: seconds for all of it; that of a step when 0.
            keep_going: go on behind a failure.

        Raises:
            Conflict: a newer writer has taken this node, or a file is not what was expected.
            ClusterLocked: another run has taken over the cluster.
            NodeError: as `Session.ask`.
        """
        file, allowed = self.fence_file, (*folders, self.session.hello().program_data)
        try:
            guard = self.fence.guard(file, allowed, self._newest_writer)
            self.say(APPLYING)
            replies = self.session.ask(ops, deadline=deadline or self.deadline, keep_going=keep_going, guard=guard)
        except NodeError as error:
            self._minded(error.file, error)
            raise
        for reply in replies:
            self._minded(reply.path)
        return replies

    def _newest_writer(self) -> Writer:
        look = [operations.read(self.fence_file)]
        return operations.writer_of(*self.session.ask(look, deadline=self.deadline, keep_going=True))

    def _minded(self, path: str, error: NodeError | None = None) -> None:
        """What failed at the fence itself, and so was not done."""
        if path == self.fence_file:
            self.fence.lost()
        if path == self.fence_file and isinstance(error, AgentFailed):
            error.remedy = freeing(self.node.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a step did. No changes is `unchanged`; `message` says why there was nothing to do, or what was done.

    `failed` is for a step that has something to show besides its error: `changes` are then what it would not do.
    """

    changes: tuple[Change, ...] = ()
    message: str = ""
    failed: NodeError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that is done to one node, and everything that other code asks about it.

    Attributes:
        name: the same in Celery (`esync.<name>`), the store, events, JSON and documents.
        run: does it; returns what was done, raises `NodeError`.
        heading: of its column in the live view and the report.
        changes: whether it may change the node; a step that does not only reads.
        keeps_backups: whether it backs up what it replaces and notes it in the manifest.
        restarts: whether it restarts the service: until it is done, a restart may be owed.
        completed: what is true of a node after all changing steps of its turn, where this is the last of them.
        always: whether it also runs after an earlier step of its turn failed, or after the run was cancelled.
    """

    name: str
    run: Callable[[Work], Done]
    heading: str
    changes: bool = False
    keeps_backups: bool = False
    restarts: bool = False
    completed: str = "done: everything the plan asked for"
    always: bool = False
