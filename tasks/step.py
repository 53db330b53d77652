"""What a step gets: the work on one node; and what it gives (`Done`)."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tasks.cluster import Cluster, Node
from tasks.documents import NO_FAMILY, RETIRE, FamilyDigests, RunDocuments, target_of
from tasks.ektron.certificates.family import Family
from tasks.ektron.desired.target import Target
from tasks.ektron.wording import sized
from tasks.fence import FENCE_FILE, Fence, free_node
from tasks.marks import Balancing
from tasks.step_values import Done, Purpose, Step
from workers.errors import AgentFailed, NodeError
from workers.records import now
from workers.settings import Secret
from workers.sites.port import Address, OpenSite, Site
from workers.winrm import operations
from workers.winrm.greeting import hello_of
from workers.winrm.operations import Op, Reply
from workers.winrm.writers import Writer, writer_of

if TYPE_CHECKING:
    from workers.winrm.session import Session

__all__ = ["APPLYING", "Done", "Work", "own_folder"]

#: The phase in which a step changes a node: a step that fails in it leaves the node touched.
APPLYING = "applying"


_FULL = ("not enough space", "(error 112)")  #: a full disk, in English and in every language


def own_folder(program_data: str) -> str:
    """The folder on a node that belongs to this product."""
    return f"{program_data}\\esync-rollout"


def _no_site(address: Address) -> Site:
    raise AssertionError(f"{address.node}: outside of a run no site is asked")


def _no_secret(reference: str) -> Secret:
    raise AssertionError(f"outside of a run {reference} is not revealed")


def _unnoted(kind: str, message: str) -> None:
    """Outside of a run there is no history."""
    del kind, message


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The input of a step: one node of one run, and an open session with it.

    Attributes:
        fence: our claim on this node: the node refuses changes by an earlier claim or an earlier run.
        purpose: why the node is observed.
        cancelled: whether the run is cancelled; called at every turn of a wait that may end early.
        report_phase: reports the phase of the step (`observing`, `applying`) to Flower.
        open_site: opens the web site of a node.
        reveal: the secret that a reference of the cluster file names.
        note: adds an event of this step to the history of the run: kind and message.
        turn: the name of the turn.
        parent: the run that this one rolls back.
        options: see `RunRecord.options`.
        steps: every step there is, by name: they tell what earlier runs could do.
        balancing: what operates the balancer of the node's pool; None where nothing may.
        time: the time by the clock with which those of all nodes are compared.
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
    steps: Mapping[str, Step]
    balancing: Balancing | None = None
    open_site: OpenSite = _no_site
    reveal: Callable[[str], Secret] = _no_secret
    note: Callable[[str, str], None] = _unnoted
    turn: str = ""
    time: Callable[[], datetime] = now

    @property
    def is_origin(self) -> bool:
        """Whether this node is the origin of the certificate family."""
        return self.cluster.is_origin(self.node.name)

    @property
    def retires(self) -> bool:
        """Whether the run takes this node out of the cluster; then it needs no certificate family."""
        return RETIRE in self.options

    def target(self, family: Family | None) -> Target:
        """What this node has to be in this run.

        Args:
            family: what the run distributes, if it is known.
        """
        digests = FamilyDigests.of(family) if family is not None and not self.retires else NO_FAMILY
        return target_of(self.cluster, self.node.name, digests, self.options)

    def required_family(self) -> Family | None:
        """The family that this run distributes; None for a run that takes the node out of the cluster.

        Raises:
            NodeRefused: the run has none.
        """
        return None if self.retires else self.documents.required_family()

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
        self,
        ops: Sequence[Op],
        *,
        folders: Sequence[str],
        deadline: float = 0,
        keep_going: bool = False,
        look: Sequence[Op] = (),
    ) -> list[Reply]:
        """Changes the node, as `Session.ask` does. A cancel does not interrupt it.

        Args:
            ops: the operations.
            folders: of the product, that may be written to in addition to our own.
            deadline: seconds for all operations; the deadline of a step when 0.
            keep_going: continue after a failed operation.
            look: what is asked afterwards in the same exchange; the replies come last.

        Raises:
            Conflict: a newer writer has claimed this node, or a file is not as expected.
            ClusterLocked: another run has locked the cluster.
            NodeError: as `Session.ask`.
        """
        file, allowed = self.fence_file, (*folders, self.session.hello().program_data)
        try:
            guard = self.fence.guard(file, allowed, self._newest_writer)
            self.report_phase(APPLYING)
            replies = self.session.ask(
                ops, deadline=deadline or self.deadline, keep_going=keep_going, guard=guard, look=look
            )
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
        if not (
            isinstance(error, AgentFailed)
            and any(one in error.message.casefold() for one in _FULL)
            and drive.endswith(":")
        ):
            return
        with suppress(NodeError):
            (reply,) = self.session.ask([operations.hello()], deadline=self.deadline)
            free = {one.name[:2].upper(): one.free for one in hello_of(reply).drives}
            if drive in free:
                needed = sum(request.size for request in requests)
                error.message += f": {sized(needed)} and room for backups needed, {sized(free[drive])} free on {drive}"
                error.remedy = f"free space on {drive} of {self.node.name}, then retry"

    def _newest_writer(self) -> Writer:
        read = [operations.read(self.fence_file)]
        (reply,) = self.session.ask(read, deadline=self.deadline, keep_going=True)
        return writer_of(reply, self.node.name)

    def _check_fence(self, path: str, error: NodeError | None = None) -> None:
        """If an operation failed at the fence file, nothing was changed: the number has to be requested again."""
        if path != self.fence_file:
            return
        self.fence.lost()
        if isinstance(error, AgentFailed):
            error.remedy = free_node(self.node.name)
