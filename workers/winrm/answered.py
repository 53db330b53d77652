"""A question to a node and the error that its answer becomes; the last resort for an answer that is not known."""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from workers.errors import (
    AccessDenied,
    ConnectionLost,
    DeadlineExceeded,
    EsyncError,
    InputRefused,
    LogonRefused,
    NodeRefused,
    SessionLost,
    Unreachable,
)
from workers.records import Endpoint
from workers.texts import cleaned, escaped
from workers.winrm.answers import text_of
from workers.winrm.known_answers import Kind, Known

__all__ = ["LOG", "QUOTED", "Asked", "Phase", "failed", "log_unknown", "quoted", "unknown"]

QUOTED = 200  #: characters of a foreign text that go into a message
LOG = "see `unknown answer` in the log of the worker (logs/worker.log in the state folder, or its stderr)"
#: Errors whether a shell is open or not, and those before it is open.
_CERTAIN: Mapping[Kind, type[EsyncError]] = {
    Kind.REFUSED: AccessDenied,
    Kind.LOGON: LogonRefused,
    Kind.INPUT: InputRefused,
    Kind.UNFIT: NodeRefused,
    Kind.GONE: SessionLost,
}
_OPENING: Mapping[Kind, type[EsyncError]] = {
    Kind.BROKEN: NodeRefused,
    Kind.BUSY: Unreachable,
    Kind.LATE: DeadlineExceeded,
}
#: What cannot be reached at a logon cannot be reached in an open session either: only what has run is not known.
_TALKING: Mapping[Kind, type[SessionLost]] = {Kind.BUSY: ConnectionLost}

log = logging.getLogger(__name__)


class Phase(StrEnum):
    """Whether a shell is open. Before that, nothing has run on the node; afterwards, anything may have."""

    OPENING = "opening"
    TALKING = "talking"


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked, of whom, and what came back.

    Attributes:
        what: completes "when asked ...".
        came: the latest answer of the node; empty if there was none.
    """

    at: Endpoint
    phase: Phase
    what: str
    came: Callable[[], bytes]

    def __str__(self) -> str:
        return f"{self.at.node} ({self.at.host}:{self.at.port})"

    def filled(self, text: str) -> str:
        """A text of the table with the names of this endpoint."""
        names = {"user": self.at.user, "transport": self.at.transport.value, "url": self.url}
        return re.sub(r"\{(user|transport|url)\}", lambda found: names[found[1]], text)

    @property
    def url(self) -> str:
        """The address of WinRM there."""
        host = f"[{self.at.host}]" if ":" in self.at.host else self.at.host
        return f"{self.at.scheme}://{host}:{self.at.port}/wsman"


def unknown(asked: Asked, error: Exception, problem: str = "", came: bytes | str | None = None) -> EsyncError:
    """The last resort: what was asked, what came, and that nothing more is known."""
    text = text_of(came) if isinstance(came, bytes) else came
    answer = "" if text is None else f": {escaped(text, QUOTED)}" if text else ": nothing"
    log_unknown(asked, error, answer)
    told = problem or f"sent an answer that esync does not know ({type(error).__name__})"
    remedy = f"esync cannot tell what kind of failure this is; {LOG}"
    return failed(Known(kind=Kind.BROKEN, says=f"{told}, when asked {asked.what}{answer}", remedy=remedy), asked)


def log_unknown(asked: Asked, error: Exception, answer: str = "") -> None:
    """Writes what is known about an unknown answer to the log, with the traceback."""
    seen = {"node": asked.at.node, "asked": asked.what, "answer": answer}
    log.warning("unknown answer", exc_info=error, extra=seen)


def failed(row: Known, asked: Asked, more: str = "") -> EsyncError:
    """The error of a row. Before a shell is open nothing has run; later it is unknown what has run."""
    message, remedy = f"{asked} {asked.filled(row.says)}{more}", asked.filled(row.remedy)
    kind = _CERTAIN.get(row.kind) or (_OPENING.get(row.kind) if asked.phase is Phase.OPENING else None)
    if kind is not None:
        return kind(message, remedy=remedy)
    lost = _TALKING.get(row.kind, SessionLost)
    return lost(f"{message}; the request may or may not have been carried out", remedy=remedy)


def quoted(text: object) -> str:
    """A foreign text as part of one line. The libraries put no credentials into their messages."""
    return " ".join(cleaned(str(text), 4 * QUOTED).split())[:QUOTED]
