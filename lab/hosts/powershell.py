"""PowerShell as other WinRM clients start it: their command lines, and a real PowerShell that runs their scripts."""

import asyncio
import base64
import re
import shutil
from contextlib import suppress

from lab.hosts.process import ProcessHost
from lab.machine.condition import Condition
from lab.winrm.shells import CommandLine, Streams

__all__ = ["InvalidArguments", "reads_agent", "run_really", "script_of"]

SECONDS = 60.0  #: until a script is ended
OUTPUT = 1_000_000  #: bytes of output, after which a script is ended
_PROGRAM = "pwsh"
_FAILED = 1
#: Parameters that have a value. PowerShell accepts every beginning of a name that is unique.
_WITH_VALUE = ("executionpolicy", "ep", "inputformat", "outputformat", "windowstyle", "version", "psconsolefile")
_WORD = re.compile(r"\s*(\"[^\"]*\"|\S+)\s*")


class InvalidArguments(Exception):
    """The arguments name no script that can be run here."""


def script_of(arguments: str) -> str:
    """The script in the arguments of `powershell`: of `-EncodedCommand`, of `-Command`, or the arguments themselves.

    Raises:
        InvalidArguments: there is none, it is not valid, or it would be read from a file or from stdin.
    """
    rest = arguments.strip()
    while rest:
        found = _WORD.match(rest)
        word = found[1] if found else rest
        if word[0] not in "-/":
            return _unquoted(rest)
        rest, name = rest[found.end() if found else 0 :], word[1:].lower()
        if name and ("encodedcommand".startswith(name) or name == "ec"):
            return _decoded(rest)
        if name and "command".startswith(name):
            break
        if name and "file".startswith(name):
            raise InvalidArguments("-File is not supported: send the script with -EncodedCommand")
        if name and any(known.startswith(name) for known in _WITH_VALUE):
            rest = _WORD.sub("", rest, count=1)
    if rest in {"", "-"}:
        raise InvalidArguments("it has no script: send one with -EncodedCommand or -Command")
    return _unquoted(rest)


def reads_agent(script: str) -> bool:
    """Whether a script is a bootstrap of the agent's protocol: it runs what stdin contains in base64."""
    small = script.lower()
    return "frombase64string" in small and ("[console]::in" in small or "$input" in small)


def _decoded(argument: str) -> str:
    try:
        script = base64.b64decode(argument.strip().strip('"'), validate=True).decode("utf-16-le")
    except ValueError:
        script = ""
    if not script:
        raise InvalidArguments("the encoded command is not valid")
    return script


def _unquoted(command: str) -> str:
    """The command without the quotes around the whole of it, which the program never sees."""
    whole = re.fullmatch(r'"((?:[^"\\]|\\.)*)"', command, re.DOTALL)
    return (whole[1] if whole else command).replace('\\"', '"')


class _Bounded(Streams):
    """The streams of a script: no input, and output up to a limit, which goes to the client at once."""

    def __init__(self, client: Streams) -> None:
        super().__init__()
        self._client = client
        self._room = OUTPUT
        self.full = asyncio.Event()
        self.feed(b"", end=True)

    def write(self, data: bytes, stream: str = "stdout") -> None:
        """Passes on what still fits."""
        self._client.write(data[: self._room], stream)
        if len(data) > self._room:
            self.full.set()
        self._room = max(0, self._room - len(data))


async def run_really(script: str, streams: Streams) -> int:
    """Runs a script in a real PowerShell on this computer, where `pwsh` is on PATH; returns its exit status.

    It is not the simulated machine that the script sees. Without `pwsh`, and when the script takes too long or writes
    too much, the reason is on stderr and the status is 1.
    """
    program = shutil.which(_PROGRAM)
    if program is None:
        return _refused(
            streams,
            "this simulated server runs scripts of other clients in a real PowerShell: put pwsh on PATH of the lab",
        )
    encoded = base64.b64encode(script.encode("utf-16-le", "surrogatepass")).decode()
    host = ProcessHost((program, "-NoProfile", "-NonInteractive", "-EncodedCommand"), Condition())
    bounded = _Bounded(streams)
    running = asyncio.create_task(host.run(CommandLine(encoded), bounded))
    full = asyncio.create_task(bounded.full.wait())
    try:
        await asyncio.wait({running, full}, timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if running.done() and not bounded.full.is_set():
            return running.result()
    finally:
        full.cancel()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    why = f"more than {OUTPUT} bytes of output" if bounded.full.is_set() else f"not ended after {SECONDS:.0f} seconds"
    return _refused(streams, f"the script was ended: {why}")


def _refused(streams: Streams, message: str) -> int:
    streams.write(f"powershell: {message}\r\n".encode(), "stderr")
    return _FAILED
