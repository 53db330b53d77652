"""The one tree of errors. An error is data: a slug, the file concerned, and a remedy.

In brackets is the failure class (`Failure`) of a step that ends with the error; `failed` where there are none.

EsyncError
|-- InputRefused            the cluster file, a setting or an argument is wrong; nothing was touched
|   `-- Misused             wrong usage: a value that an option does not accept, or options that do not fit together
|-- SecretUnavailable       a secret reference names nothing that can be read
|-- FileTrouble             a file or folder of this machine cannot be used: disk full, no rights, not a folder
|-- ServiceLost             a worker or broker that this command started ended repeatedly
|-- StoreUnavailable        the run store or broker does not answer
|-- RunUnknown              there is no such run
|-- RecordRefused           the record of one run was not written by this installation, or cannot be read
|-- ClusterLocked           another run is active on this cluster
|-- TooManyRuns             the limit of active runs is reached
|-- NotLoggedOn             a server does not know who asks
|-- NotAllowed              a server knows who asks, and that role may not do this
|-- NotFound                a server has nothing of that name, or the caller may not see it
|-- KeyReused               an idempotency key was used for another request
|-- TooManyRequests         a caller asks too often
|-- Cancelled               an operator asked the run to stop [no failure]
|-- BundleRefused           a bundle is damaged, was changed, or its evidence does not support its claims
`-- NodeError               a problem with one node
    |-- Unreachable         no connection; nothing ran [unreachable]
    |-- LogonRefused        the node answered and refused the credentials [refused]
    |-- AccessDenied        logged on, but not allowed to do this [refused]
    |-- Conflict            a file has changed since it was read [conflict]
    |-- Stale               the node has changed since the plan was made [stale]
    |-- SessionLost         the session broke; observe again in a new one [unreachable]
    |   `-- ConnectionLost  the node itself did not answer any more [unreachable]
    |-- DeadlineExceeded    the node did not finish in time [timeout]
    |-- NodeRefused         the node does not fit the step: missing file, wrong build
    |   `-- MethodRefused   the node does not accept this way to log on [refused]
    |-- NotEditable         a planned change is impossible there; found before anything is written
    |-- BalancerFailed      the balancer of its pool did not answer, or refused
    |-- PoolTooSmall        too few other servers of its pool get requests to take it out [timeout]
    |-- LeftDrained         it gets no requests: it was taken out of its balancer and not put back
    `-- AgentFailed         the agent on the node reported a failure
"""

from enum import StrEnum
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

__all__ = [
    "AccessDenied",
    "AgentFailed",
    "BalancerFailed",
    "BundleRefused",
    "Cancelled",
    "ClusterLocked",
    "Conflict",
    "ConnectionLost",
    "DeadlineExceeded",
    "EsyncError",
    "Failure",
    "FileTrouble",
    "InputRefused",
    "KeyReused",
    "LeftDrained",
    "LogonRefused",
    "MethodRefused",
    "Misused",
    "NodeError",
    "NodeRefused",
    "NotAllowed",
    "NotEditable",
    "NotFound",
    "NotLoggedOn",
    "PoolTooSmall",
    "Problem",
    "RecordRefused",
    "RunUnknown",
    "SecretUnavailable",
    "ServiceLost",
    "SessionLost",
    "Stale",
    "StoreUnavailable",
    "TooManyRequests",
    "TooManyRuns",
    "Unreachable",
]


class Failure(StrEnum):
    """Why a step failed, as a class: operators check it first, and retries are counted by it."""

    UNREACHABLE = "unreachable"  #: no connection, or one that broke and could not be opened again
    REFUSED = "refused"  #: the node refused the logon or an access; not retried, because accounts get locked
    STALE = "stale"  #: the node has changed since the plan was made; not retried, because it needs a new plan
    CONFLICT = "conflict"  #: a file was changed, or held open, by another program meanwhile
    TIMEOUT = "timeout"  #: the node did not finish in time
    FAILED = "failed"  #: anything else: the node does not fit, or reported a failure


class Problem(BaseModel):
    """What went wrong, as one value: it stays whole from where it happened to the terminal, page, JSON and bundle.

    Attributes:
        failure: class of a step's failure; None where nothing failed, such as a step that was skipped or cancelled.
        slug: stable identifier of the error; empty when there was none.
        message: what happened, one sentence, without secrets.
        file: the file concerned, on the node or on this machine; may be empty.
        remedy: what to do about it, one sentence; may be empty.
        about: what the node had reported about itself before the failure; empty when it had not answered.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    failure: Failure | None = None
    slug: str = ""
    message: str = ""
    file: str = ""
    remedy: str = ""
    about: str = ""


class EsyncError(Exception):
    """An error that is reported to the operator.

    Attributes:
        slug: stable identifier, the same in JSON, logs and documentation.
        failure: the class of the failure of a step that ends with this error; None when that is no failure.
        message: what happened, one sentence, without secrets.
        remedy: what the operator can do, one sentence; may be empty.
        file: the file concerned, on the node or on this machine; may be empty.
    """

    slug: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    failure: ClassVar[Failure | None] = Failure.FAILED

    def __init__(self, message: str, *, remedy: str = "", file: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.file = file

    @property
    def problem(self) -> Problem:
        """The error as a value that can be stored and shown."""
        return Problem(failure=self.failure, slug=self.slug, message=self.message, file=self.file, remedy=self.remedy)

    def __str__(self) -> str:
        where = f" ({self.file})" if self.file and self.file not in self.message else ""
        return f"{self.message}{where}"


class InputRefused(EsyncError):
    """The cluster file, a setting or an argument is wrong; nothing was touched."""

    slug = "input_refused"


class Misused(InputRefused):
    """Wrong usage: an argument is missing, an option does not accept the value, or options do not fit together."""

    slug = "usage"
    exit_code = 64


class SecretUnavailable(EsyncError):
    """A secret reference names nothing that can be read: the variable, file or key is missing."""

    slug = "secret_unavailable"


class FileTrouble(EsyncError):
    """A file or folder of this machine cannot be read, written or created."""

    slug = "file_error"


class ServiceLost(EsyncError):
    """A worker or broker that this command started ended repeatedly, and is not restarted any more."""

    slug = "service_lost"


class StoreUnavailable(EsyncError):
    """The run store or the broker does not answer."""

    slug = "store_unavailable"


class RunUnknown(EsyncError):
    """The run store has no run with that id."""

    slug = "run_unknown"


class RecordRefused(EsyncError):
    """The record of one run in the store was not written by this installation, or cannot be read.

    This run is left alone; other runs are not affected.

    Attributes:
        run: its id.
    """

    slug = "record_refused"

    def __init__(self, run: str, message: str, *, remedy: str = "") -> None:
        remedy = remedy or (
            "start a new run; give every worker and command the same ESYNC_SEAL_KEY, after a change of the key NEW,OLD"
        )
        super().__init__(message, remedy=remedy)
        self.run = run


class ClusterLocked(EsyncError):
    """Another run is active on this cluster."""

    slug = "cluster_locked"
    exit_code = 7


class TooManyRuns(EsyncError):
    """The limit of active runs is reached; nothing was started."""

    slug = "too_many_runs"


class NotLoggedOn(EsyncError):
    """A server does not know who asks: no token, or one that is unknown, expired or revoked."""

    slug = "not_logged_on"


class NotAllowed(EsyncError):
    """A server knows who asks, and that role may not do this; nothing was done."""

    slug = "not_allowed"


class NotFound(EsyncError):
    """A server has nothing of that name, or nothing that the caller may see."""

    slug = "not_found"


class KeyReused(EsyncError):
    """An idempotency key was used for another request; nothing was done."""

    slug = "key_reused"


class TooManyRequests(EsyncError):
    """A caller asks more often than the server allows; nothing was done."""

    slug = "too_many_requests"


class Cancelled(EsyncError):
    """An operator asked the run to stop."""

    slug = "cancelled"
    failure = None
    exit_code = 130


class BundleRefused(EsyncError):
    """A bundle is damaged, was changed, or its evidence does not support its claims."""

    slug = "bundle_refused"
    exit_code = 5


class NodeError(EsyncError):
    """A problem with one node."""

    slug = "node_error"
    exit_code = 2


class Unreachable(NodeError):
    """No connection to the node; nothing ran there."""

    slug = "unreachable"
    failure = Failure.UNREACHABLE
    exit_code = 4


class LogonRefused(NodeError):
    """The node answered and refused the credentials. Never retried automatically, because accounts get locked."""

    slug = "logon_refused"
    failure = Failure.REFUSED


class AccessDenied(NodeError):
    """Logged on, but the account may not do this, or the file is read-only."""

    slug = "access_denied"
    failure = Failure.REFUSED


class Conflict(NodeError):
    """A file has changed since it was read; nothing was written."""

    slug = "conflict"
    failure = Failure.CONFLICT


class Stale(NodeError):
    """The node has changed since the plan was made; nothing was written."""

    slug = "stale"
    failure = Failure.STALE


class SessionLost(NodeError):
    """The session with the node broke; the request may have been executed or not."""

    slug = "session_lost"
    failure = Failure.UNREACHABLE


class ConnectionLost(SessionLost):
    """The node did not answer any more in an open session; the request may have been executed or not."""

    slug = "connection_lost"
    exit_code = 4


class DeadlineExceeded(NodeError):
    """The node did not finish in time."""

    slug = "timeout"
    failure = Failure.TIMEOUT


class NotEditable(NodeError):
    """A planned change is impossible on the node. Found before anything is written on any node."""

    slug = "not_editable"


class BalancerFailed(NodeError):
    """The balancer of the node's pool did not answer in time, refused, or does not know the server."""

    slug = "balancer_failed"


class PoolTooSmall(NodeError):
    """Too few other servers of the pool get requests to take the node out; nothing was changed on it."""

    slug = "pool_too_small"
    failure = Failure.TIMEOUT


class LeftDrained(NodeError):
    """The node was taken out of its balancer and is not back: it gets no requests."""

    slug = "left_drained"


class NodeRefused(NodeError):
    """The node does not fit the step: a missing file, a wrong build, a configuration that esync does not edit."""

    slug = "node_refused"


class MethodRefused(NodeRefused):
    """The node does not accept the logon method, so it judged no credentials. Another method may work."""

    slug = "method_refused"
    failure = Failure.REFUSED


class AgentFailed(NodeError):
    """The agent on the node reported a failure.

    Attributes:
        reason: the agent's code for it: `not_found`, `invalid` or `failed` (docs/agent-protocol.md).
    """

    slug = "agent_failed"

    def __init__(self, message: str, *, remedy: str = "", file: str = "", reason: str = "failed") -> None:
        super().__init__(message, remedy=remedy, file=file)
        self.reason = reason
