"""What a step is: a value with a name, a function, and the properties that the rest of the product needs."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tasks.cluster import Cluster, Node
from tasks.documents import RunDocuments
from tasks.fence import FENCE_FILE, Fence, free_node
from workers.errors import AgentFailed, NodeError
from workers.records import Change
from workers.winrm import operations
from workers.winrm.operations import Op, Reply, Writer

if TYPE_CHECKING:
    from workers.winrm.session import Session

__all__ = ["APPLYING", "Done", "Purpose", "Step", "Work", "own_folder"]

#: The phase in which a step changes a node: a step that fails in it leaves the node touched.
APPLYING = "applying"


_FULL = "not enough space"  #: how Windows begins to say, in English, that a disk is full


def _kb(size: int) -> str:
    return f"{size / 1000:,.1f} kB"


class Purpose(StrEnum):
    """Why a node is observed. Set by the stage; the step does not know the stages."""

    PLAN = "plan"  #: to get the facts that the plan is made from, before anything is written
    CONFIRM = "confirm"  #: to check that the node has not changed since the plan was made
    VERIFY = "verify"  #: to get the evidence for the verdict
    EXAMINE = "examine"  #: to find out whether a rollout could begin


def own_folder(program_data: str) -> str:
    """The folder on a node that belongs to this product."""
    return f"{program_data}\\esync-rollout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The input of a step: one node of one run, and an open session with it.

    Attributes:
        fence: our claim on this node: the node refuses changes by an earlier claim or an earlier run.
        purpose: why the node is observed.
        cancelled: whether the run is cancelled; called at every turn of a wait that may end early.
        report_phase: reports the phase of the step (`observing`, `applying`) to Flower.
        parent: the run that this one rolls back.
        options: see `RunRecord.options`.
        steps: every step there is, by name: they tell what earlier runs could do.
    """

    run: str
    purpose: Purpose
    node: Node
    cluster: Cluster
    session: "Session"
    documents: RunDocuments
    cancelled: Callable[[], bool]
    report_phase: Callable[[str], None]
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
        """Seconds that one request to the node may take."""
        return self.cluster.policy.deadlines.step

    @property
    def own_folder(self) -> str:
        """The folder on the node that belongs to this product."""
        return own_folder(self.session.hello().program_data)

    @property
    def fence_file(self) -> str:
        """The file in which the node keeps its newest writer."""
        return f"{self.own_folder}\\{FENCE_FILE}"

    def backup_folder(self, run: str = "") -> str:
        """The folder in which a run keeps its backups on the node; `run` is this run when empty."""
        return f"{self.own_folder}\\{run or self.run}"

    def change(
        self, ops: Sequence[Op], *, folders: Sequence[str], deadline: float = 0, keep_going: bool = False
    ) -> list[Reply]:
        """Changes the node, as `Session.ask` does. A cancel does not interrupt it.

        Args:
            ops: the operations.
            folders: of the product, that may be written to in addition to our own.
            deadline: seconds for all operations; the deadline of a step when 0.
            keep_going: continue after a failed operation.

        Raises:
            Conflict: a newer writer has claimed this node, or a file is not as expected.
            ClusterLocked: another run has locked the cluster.
            NodeError: as `Session.ask`.
        """
        file, allowed = self.fence_file, (*folders, self.session.hello().program_data)
        try:
            guard = self.fence.guard(file, allowed, self._newest_writer)
            self.report_phase(APPLYING)
            replies = self.session.ask(ops, deadline=deadline or self.deadline, keep_going=keep_going, guard=guard)
        except NodeError as error:
            self._check_fence(error.file, error)
            self._explain_full_disk(error, ops)
            raise
        for reply in replies:
            self._check_fence(reply.path)
        return replies

    def _explain_full_disk(self, error: NodeError, requests: Sequence[Op]) -> None:
        """Adds what is needed and what is free on the disk now: the node reported the free space at logon only."""
        drive = error.file[:2].upper()
        if not (isinstance(error, AgentFailed) and _FULL in error.message.casefold() and drive.endswith(":")):
            return
        with suppress(NodeError):
            (reply,) = self.session.ask([operations.hello()], deadline=self.deadline)
            free = {one.name[:2].upper(): one.free for one in operations.hello_of(reply).drives}
            if drive in free:
                needed = sum(request.size for request in requests)
                error.message += f": {_kb(needed)} and room for backups needed, {_kb(free[drive])} free on {drive}"
                error.remedy = f"free space on {drive} of {self.node.name}, then retry this run"

    def _newest_writer(self) -> Writer:
        read = [operations.read(self.fence_file)]
        return operations.writer_of(*self.session.ask(read, deadline=self.deadline, keep_going=True))

    def _check_fence(self, path: str, error: NodeError | None = None) -> None:
        """If an operation failed at the fence file, nothing was changed: the number has to be requested again."""
        if path != self.fence_file:
            return
        self.fence.lost()
        if isinstance(error, AgentFailed):
            error.remedy = free_node(self.node.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a step did. Without changes it is `unchanged`; `message` says what was done, or why nothing had to be done.

    `failed` is for a step that has something to show in addition to its error: `changes` are then what it did not do.
    """

    changes: tuple[Change, ...] = ()
    message: str = ""
    failed: NodeError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One action on one node, and every property of it that other code needs.

    Attributes:
        name: the same in Celery (`esync.<name>`), the store, events, JSON and documents.
        run: does it; returns what was done, raises `NodeError`.
        heading: of its column in the live view and the report.
        changes: whether it may change the node; other steps only read.
        keeps_backups: whether it backs up what it replaces and records that in the manifest.
        restarts: whether it restarts the service: until it has run, a restart may be owed.
        completed: the state of a node after all changing steps of its turn, when this is the last of them.
        always: whether it runs even after an earlier step of its turn failed or the run was cancelled.
    """

    name: str
    run: Callable[[Work], Done]
    heading: str
    changes: bool = False
    keeps_backups: bool = False
    restarts: bool = False
    completed: str = "done: all planned changes are made"
    always: bool = False
