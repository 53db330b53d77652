"""The shape of a step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.cluster import Cluster, Node
from tasks.material import Material
from workers.errors import NodeError
from workers.records import Change, Turn

if TYPE_CHECKING:
    from workers.winrm.session import Session

__all__ = [
    "CERT_COPY",
    "CLEANUP",
    "CONFIG_EDIT",
    "INSTALL_CHECK",
    "ROLLBACK",
    "ROLLBACK_CHECK",
    "SERVICE_RESTART",
    "Done",
    "Step",
    "Work",
]

INSTALL_CHECK = "install_check"
CONFIG_EDIT = "config_edit"
CERT_COPY = "cert_copy"
SERVICE_RESTART = "service_restart"
ROLLBACK_CHECK = "rollback_check"
ROLLBACK = "rollback"
CLEANUP = "cleanup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a step gets: one node of one run, and an open session with it.

    Attributes:
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
    material: Material
    cancelled: Callable[[], bool]
    say: Callable[[str], None]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a step did. No changes is `unchanged`; `message` says why there was nothing to do, or what was done.

    `failed` is for a step that has something to show besides its error: `changes` are then what it would not do.
    """

    changes: tuple[Change, ...] = ()
    message: str = ""
    failed: NodeError | None = None


Step = Callable[[Work], Done]
