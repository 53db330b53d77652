"""The one tree of errors. An error is data first: a slug, where it happened, and what to do.

In brackets the failure class (`Failure`) a step ends with that is ended by the error; `failed` where none is given.

EsyncError
|-- InputRefused            the cluster file, a setting or an argument is wrong; nothing was touched
|-- SecretUnavailable       a secret reference leads nowhere
|-- FileTrouble             a file or folder of this machine cannot be used: full disk, rights, a file for a folder
|-- ServiceLost             a worker or broker that we started died again and again
|-- StoreUnavailable        the run store or broker does not answer
|-- RunUnknown              no such run
|-- RecordRefused           what the store has of one run was not written by this installation, or cannot be read
|-- ClusterLocked           another run works on this cluster
|-- TooManyRuns             as many runs are going on as may
|-- Cancelled               an operator asked the run to stop [no failure]
|-- BundleRefused           a bundle is damaged, was changed, or does not bear out what it says
`-- NodeError               something about one node
    |-- Unreachable         no connection; nothing ran [unreachable]
    |-- LogonRefused        the node answered and refused the credentials [refused]
    |-- AccessDenied        logged on, but not allowed to do this [refused]
    |-- Conflict            a file is not what it was when we looked [conflict]
    |-- Stale               the node changed since the plan was made [stale]
    |-- SessionLost         the conversation broke; observe again in a new one [unreachable]
    |-- DeadlineExceeded    a wait of ours ended [timeout]
    |-- NodeRefused         the node is not fit: missing file, wrong build
    |-- NotEditable         a change that is planned cannot be made there; found before anything is written
    `-- AgentFailed         the agent on the node reported a failure
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

__all__ = [
    "AccessDenied",
    "AgentFailed",
    "BundleRefused",
    "Cancelled",
    "ClusterLocked",
    "Conflict",
    "DeadlineExceeded",
    "EsyncError",
    "Failure",
    "FileTrouble",
    "InputRefused",
    "LogonRefused",
    "NodeError",
    "NodeRefused",
    "NotEditable",
    "Problem",
    "RecordRefused",
    "RunUnknown",
    "SecretUnavailable",
    "ServiceLost",
    "SessionLost",
    "Stale",
    "StoreUnavailable",
    "TooManyRuns",
    "Unreachable",
    "in_file",
]


class Failure(StrEnum):
    """Why a step failed, as a class: what whoever runs the cluster looks at first, and what retries are counted by."""

    UNREACHABLE = "unreachable"  #: no connection, or one that broke and could not be taken up again
    REFUSED = "refused"  #: the node refused the logon, or the access to something; tried once, accounts get locked
    STALE = "stale"  #: the node is not what the plan was made for; tried once, it takes a new plan
    CONFLICT = "conflict"  #: a file changed, or was held open, under our hands
    TIMEOUT = "timeout"  #: a wait of ours ended before the node was done
    FAILED = "failed"  #: anything else: the node is not fit, or says that it could not do it


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

    model_config = ConfigDict(frozen=True, extra="forbid")

    failure: Failure | None = None
    slug: str = ""
    message: str = ""
    file: str = ""
    remedy: str = ""
    about: str = ""


class EsyncError(Exception):
    """Something went wrong that an operator can read about.

    Attributes:
        slug: stable identifier, the same in JSON, logs and documentation.
        failure: the class of a step's failure that this error ends it with; None for what is no failure.
        message: what happened, one sentence, without secrets.
        remedy: what to do about it, one sentence; may be empty.
        file: the file concerned, on the node or here; may be empty.
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


class SecretUnavailable(EsyncError):
    """A secret reference leads nowhere: the variable, file or key is missing."""

    slug = "secret_unavailable"


class FileTrouble(EsyncError):
    """A file or folder of this machine cannot be read, written or made."""

    slug = "file_error"


class ServiceLost(EsyncError):
    """A worker or broker that we started died again and again, and is not started any more."""

    slug = "service_lost"


class StoreUnavailable(EsyncError):
    """The run store or the broker does not answer."""

    slug = "store_unavailable"


class RunUnknown(EsyncError):
    """The run store holds no run of that id."""

    slug = "run_unknown"


class RecordRefused(EsyncError):
    """What the run store has of one run was not written by this installation, or cannot be read.

    That run is left alone; it harms no other.

    Attributes:
        run: its id.
    """

    slug = "record_refused"

    def __init__(self, run: str, message: str, *, remedy: str = "") -> None:
        remedy = remedy or (
            "start a new run; give every worker and command the same ESYNC_SEAL_KEY, after a change as NEW,OLD"
        )
        super().__init__(message, remedy=remedy)
        self.run = run


class ClusterLocked(EsyncError):
    """Another run works on this cluster."""

    slug = "cluster_locked"
    exit_code = 7


class TooManyRuns(EsyncError):
    """As many runs are going on as may; nothing was started."""

    slug = "too_many_runs"


class Cancelled(EsyncError):
    """An operator asked the run to stop."""

    slug = "cancelled"
    failure = None
    exit_code = 130


class BundleRefused(EsyncError):
    """A bundle is damaged, was changed, or its evidence does not bear out what it says."""

    slug = "bundle_refused"
    exit_code = 5


class NodeError(EsyncError):
    """Something about one node."""

    slug = "node_error"
    exit_code = 2


class Unreachable(NodeError):
    """No connection to the node; nothing ran there."""

    slug = "unreachable"
    failure = Failure.UNREACHABLE
    exit_code = 4


class LogonRefused(NodeError):
    """The node answered and refused the credentials. Never tried again by itself: accounts get locked."""

    slug = "logon_refused"
    failure = Failure.REFUSED


class AccessDenied(NodeError):
    """Logged on, but the account may not do this, or the file is read-only."""

    slug = "access_denied"
    failure = Failure.REFUSED


class Conflict(NodeError):
    """A file is not what it was when we looked; nothing was written."""

    slug = "conflict"
    failure = Failure.CONFLICT


class Stale(NodeError):
    """The node changed since the plan was made; nothing was written."""

    slug = "stale"
    failure = Failure.STALE


class SessionLost(NodeError):
    """The conversation with the node broke; what was asked may or may not have happened."""

    slug = "session_lost"
    failure = Failure.UNREACHABLE


class DeadlineExceeded(NodeError):
    """A wait of ours ended before the node was done."""

    slug = "timeout"
    failure = Failure.TIMEOUT


class NotEditable(NodeError):
    """A change that is planned cannot be made on the node. Found before anything is written anywhere."""

    slug = "not_editable"


class NodeRefused(NodeError):
    """The node is not fit for the step: a missing file, a wrong build, a configuration we will not edit."""

    slug = "node_refused"


class AgentFailed(NodeError):
    """The agent on the node reported a failure.

    Attributes:
        reason: the agent's own word for it: `not_found`, `invalid` or `failed` (docs/agent-protocol.md).
    """

    slug = "agent_failed"

    def __init__(self, message: str, *, remedy: str = "", file: str = "", reason: str = "failed") -> None:
        super().__init__(message, remedy=remedy, file=file)
        self.reason = reason


@contextmanager
def in_file(path: str) -> Iterator[None]:
    """Names the file in any EsyncError that passes and names none yet."""
    try:
        yield
    except EsyncError as error:
        error.file = error.file or path
        raise
