"""The shape of a step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.cluster import Cluster, Node
from tasks.documents import RunDocuments
from tasks.fence import FENCE_FILE, Fence, freeing
from workers.errors import AgentFailed, NodeError
from workers.records import Change, Turn
from workers.winrm import operations
from workers.winrm.operations import Op, Reply, Writer

if TYPE_CHECKING:
    from workers.winrm.session import Session

__all__ = [
    "APPLYING",
    "CERT_COPY",
    "CLEANUP",
    "CONFIG_EDIT",
    "INSTALL_CHECK",
    "KEEPING",
    "ROLLBACK",
    "ROLLBACK_CHECK",
    "SERVICE_RESTART",
    "Done",
    "Step",
    "Work",
    "own_folder",
]

INSTALL_CHECK = "install_check"
CONFIG_EDIT = "config_edit"
CERT_COPY = "cert_copy"
SERVICE_RESTART = "service_restart"
ROLLBACK_CHECK = "rollback_check"
ROLLBACK = "rollback"
CLEANUP = "cleanup"

KEEPING = frozenset({CONFIG_EDIT, CERT_COPY, ROLLBACK})  #: steps that keep what they replace, and note it before

APPLYING = "applying"  #: said before a step first changes a node: what ends the step from then on leaves it touched


def own_folder(program_data: str) -> str:
    """The one folder on a node that is ours."""
    return f"{program_data}\\esync-rollout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a step gets: one node of one run, and an open session with it.

    Attributes:
        fence: our claim on this node: there, a change of an earlier one, or of an earlier run, is refused.
        turn: the turn of the run this belongs to; its stage says what an `install_check` is for.
        cancelled: whether an operator asked to stop; asked at every turn of a wait that may be left.
        say: names the phase for those who watch (`observing`, `applying`).
        parent: the run that this one undoes.
        options: what was asked for besides: see `RunRecord.options`.
    """

    run: str
    turn: Turn
    node: Node
    cluster: Cluster
    session: "Session"
    documents: RunDocuments
    cancelled: Callable[[], bool]
    say: Callable[[str], None]
    fence: Fence
    parent: str = ""
    options: tuple[str, ...] = ()

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


Step = Callable[[Work], Done]
