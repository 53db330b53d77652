"""The table of known answers: what a server, a library or cmd.exe says, which failure that is, and what to do.

The rows are data, in `known_answers.toml`. Fault codes and their names are those of MS-WSMV and wsmerror.h.
"""

import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Kind", "Known", "Table", "known"]

_HTTP_SYS = "microsoft-httpapi"  #: Windows answers by itself, because no program has registered the address


class Kind(StrEnum):
    """What kind of failure an answer is; `faults` makes an error of it, by whether a shell is open."""

    REFUSED = "refused"
    LOGON = "logon"
    UNFIT = "unfit"
    INPUT = "input"
    BROKEN = "broken"
    BUSY = "busy"
    LATE = "late"
    GONE = "gone"


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Known(_Read):
    """One row.

    Attributes:
        kind: the kind of the failure.
        says: what happened; continues a sentence that begins with node and address. {user}, {transport} and {url} are
            replaced by those of the endpoint.
        remedy: what to do, with the same replacements; may be empty.
        code: of a fault or HTTP status.
        name, subcode: of a fault; the subcode counts for one without a code.
        text: what the answer contains (an HTTP status, a ticket), the name of an alert, or a regular expression (a
            banner, a start).
        system: only if Windows itself sent the answer.
    """

    kind: Kind
    says: str
    remedy: str
    code: int = 0
    name: str = ""
    subcode: str = ""
    text: str = ""
    system: bool = False


class Table(_Read):
    """All rows; of several that fit, the first one counts.

    Attributes:
        fault: faults of WS-Management, by code.
        status: HTTP statuses without a fault.
        banner: what other protocols send first.
        alert: alerts of TLS that end a handshake.
        ticket: errors of Kerberos on this machine.
        start: what is printed when PowerShell or the agent does not start.
        exit: exit statuses of a PowerShell that was ended or crashed.
    """

    fault: tuple[Known, ...]
    status: tuple[Known, ...]
    banner: tuple[Known, ...]
    alert: tuple[Known, ...]
    ticket: tuple[Known, ...]
    start: tuple[Known, ...]
    exit: tuple[Known, ...]

    def of_fault(self, code: int | None, subcode: str = "") -> Known | None:
        """The row of a fault, by the 32 bits of its code; without one by its subcode, such as `w:AccessDenied`."""
        if code is not None:
            return _by_code("fault").get(code % 2**32)
        name = subcode.rpartition(":")[2]
        return next((row for row in self.fault if name and row.subcode == name), None)

    def of_exit(self, status: int) -> Known | None:
        """The row of an exit status; negative numbers are the same 32 bits."""
        return _by_code("exit").get(status % 2**32)

    def of_status(self, status: int, body: str, server: str) -> Known | None:
        """The row of an HTTP status without a fault, by the body and the header `Server`."""
        system = _HTTP_SYS in server.lower()
        small = body.lower()
        rows = (row for row in self.status if row.code == status and row.text in small and (system or not row.system))
        return next(rows, None)

    def of_banner(self, sent: bytes) -> Known | None:
        """The row of the first bytes that a server sent."""
        text = sent.decode("latin-1")
        return next((row for row in self.banner if re.match(row.text, text)), None)

    def of_alert(self, reason: str) -> Known | None:
        """The row of an alert of TLS, by its name in OpenSSL, such as `TLSV1_ALERT_UNKNOWN_CA`."""
        return next((row for row in self.alert if reason.endswith(f"ALERT_{row.text}")), None)

    def of_ticket(self, error: str) -> Known | None:
        """The row of an error of the Kerberos library."""
        small = error.lower()
        return next((row for row in self.ticket if row.text in small), None)

    def of_start(self, printed: str) -> Known | None:
        """The row of what was printed by cmd.exe or PowerShell before the agent answered."""
        return next((row for row in self.start if re.search(row.text, printed, re.IGNORECASE)), None)


@cache
def known() -> Table:
    """The table; read once, and only after the first failure."""
    return Table.model_validate(tomllib.loads((files("workers.winrm") / "known_answers.toml").read_text("utf-8")))


@cache
def _by_code(name: Literal["fault", "exit"]) -> Mapping[int, Known]:
    table = known()
    return {row.code: row for row in (table.fault if name == "fault" else table.exit)}
