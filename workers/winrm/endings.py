"""Why a PowerShell ended before it answered: from its exit status and what was printed. No input or output."""

from dataclasses import dataclass

from workers.errors import AccessDenied, NodeRefused, SessionLost
from workers.texts import escaped
from workers.winrm.known_answers import Kind, known

__all__ = ["AUTORUN", "NOTHING_READ", "Ending"]

RESTRICTED, NOTHING_READ = 3, 4  #: exit statuses of the bootstraps; the agent has not run
NOT_ACCEPTED, AGENT_FAILED = 13, 14  #: PowerShell did not run the agent; the agent ended with an error
_LARGEST_OWN = 65_535  #: larger and negative statuses are of processes that were ended or crashed
_QUOTED = 300  #: characters
AUTORUN = (
    "see what cmd.exe runs at each start there (AutoRun): "
    r'reg query "HKLM\Software\Microsoft\Command Processor" /v AutoRun (and HKCU of the account); '
    "test it with: winrs -r:HOST powershell -NoProfile -Command 1"
)


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a PowerShell process without a reply.

    Attributes:
        node: its name.
        status: the exit status of cmd.exe, which passes on that of PowerShell.
        first: whether it had not answered any request.
        printed: what was printed instead of a reply, as one line each: stderr, stdout.
    """

    node: str
    status: int
    first: bool
    printed: tuple[str, str] = ("", "")

    def error(self) -> AccessDenied | NodeRefused | SessionLost:
        """The error: a refusal where another attempt would end in the same way, else a session that was lost."""
        if not self.first or not self._by_itself:
            return self._lost()
        if self.status == RESTRICTED:
            why = "PowerShell runs in a restricted language mode (AppLocker, WDAC)"
            return NodeRefused(f"{self.node}: {why}", remedy="allow full language mode for scripts of this account")
        row = next((row for text in self.printed if text and (row := known().of_start(text))), None)
        if row is not None:
            kind = AccessDenied if row.kind is Kind.REFUSED else NodeRefused
            return kind(f"{self.node}: {row.says}{self._seen}", remedy=row.remedy)
        if self.status == NOTHING_READ:
            return NodeRefused(f"{self.node}: PowerShell received no input{self._seen}", remedy=AUTORUN)
        if self.status == NOT_ACCEPTED:
            remedy = "see the event log Windows PowerShell there; esync needs PowerShell 3.0 or newer"
            return NodeRefused(f"{self.node}: PowerShell did not run the agent{self._seen}", remedy=remedy)
        why = f"the command ended with status {self.status} before PowerShell answered"
        return NodeRefused(f"{self.node}: {why}{self._seen}", remedy=AUTORUN)

    @property
    def _by_itself(self) -> bool:
        """Whether it did not run the request. A process that is ended from outside often has status 1."""
        if self.status == 1:
            return any(self.printed)
        return 0 <= self.status <= _LARGEST_OWN and self.status != AGENT_FAILED

    @property
    def _seen(self) -> str:
        texts = [escaped(text, _QUOTED) for text in self.printed if text]
        return f" (status {self.status}); it printed {' and '.join(texts)}" if texts else f" (status {self.status})"

    def _lost(self) -> SessionLost:
        row = known().of_exit(self.status)
        why = f"PowerShell ended with status {self.status} before it answered"
        if row is not None:
            return SessionLost(f"{self.node}: {why}: it {row.says}.", remedy=row.remedy)
        return SessionLost(f"{self.node}: {why}. {self.printed[0] if self.first else ''}".rstrip())
