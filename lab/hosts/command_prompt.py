"""What cmd.exe prints in the code page of its console, and a PowerShell that does not start."""

from lab.machine.faults import Faults
from lab.winrm.shells import Streams

__all__ = ["NOT_ACCEPTED", "CommandPrompt"]

NOT_ACCEPTED = 13  #: exit status of a bootstrap whose PowerShell does not run the agent
_RESTRICTED = 3
_UTF8 = 65_001
#: What it prints about a program that it does not find, by the code page of the system's language.
_NOT_FOUND = {
    850: 'Der Befehl "{}" ist entweder falsch geschrieben oder\r\nkonnte nicht gefunden werden: Prüfen Sie ihn.\r\n',
    932: "'{}' は、内部コマンドまたは外部コマンドとして認識されていません。\r\n",
}
_NOT_FOUND_ENGLISH = "'{}' is not recognized as an internal or external command,\r\noperable program or batch file.\r\n"


class CommandPrompt:
    """The cmd.exe of one command line.

    Args:
        faults: of the node.
        streams: of the command.
    """

    def __init__(self, faults: Faults, streams: Streams) -> None:
        self._faults = faults
        self._streams = streams
        self._page = faults.code_page or _UTF8

    def print(self, text: str, stream: str = "stderr") -> None:
        """Prints a text in the code page of the console."""
        self._streams.write(text.encode(f"cp{self._page}", "replace"), stream)

    def not_found(self, program: str) -> int:
        """Prints that there is no such program; returns the exit status."""
        self.print(_NOT_FOUND.get(self._page, _NOT_FOUND_ENGLISH).format(program))
        return 1

    def failed_start(self, program: str) -> int:
        """The exit status of a PowerShell that a fault keeps from running the agent; 0 without such a fault."""
        match self._faults.powershell:
            case "missing":
                return self.not_found(program)
            case "blocked":
                self.print("This program is blocked by group policy. Contact your system administrator.\r\n")
                return 1
            case "restricted":
                return _RESTRICTED
            case "antivirus":
                self.print("ScriptContainedMaliciousContent: This script contains malicious content.\r\n")
                return NOT_ACCEPTED
        return 0
