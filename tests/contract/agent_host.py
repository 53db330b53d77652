r"""The agent's cases on a Windows host over the product's WinRM channel, below one folder and one registry key.

`C:\case` of a case is `C:\ProgramData\esync-agent-cases\<token>\<n>\case` on the host, a new one for each case.
Services and registry values have their own names too.
"""

import base64
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from tests.contract.agent_cases import Json, content_of
from tests.contract.agent_machines import translated
from tests.contract.agent_site import ANSWERS, LATE, filled
from workers.records import Endpoint
from workers.settings import Secret
from workers.winrm.channel import Channel, Limit
from workers.winrm.remote import WinRMChannel
from workers.winrm.session import PIECE, AgentSession
from workers.winrm.wire import command_line, script_line

__all__ = ["HostMachine", "HostSite"]

ALL = r"C:\ProgramData\esync-agent-cases"
KEY = r"SOFTWARE\EsyncAgentCases"
_ANSWER = 120.0
_SHELL_MAY_END = 100.0  #: seconds since the last use; the host ends a shell after 180 s
_SERVICES_KEY = re.compile(r"(?i)SYSTEM\\CurrentControlSet\\Services(?=\\EsyncCase)")
_OURS = re.compile(r"(?i)(?:Esync ?Practice|EsyncNeeds|EsyncCase)\d*")
_PLACE = re.compile(r"(?i)C:(\\(?:case|svc\d?)\d*)(?=[\\\"]|$)")
_RAW_PLACE = re.compile(r"(?i)C:\\(\\case\d*)(?=[\\\"])")
#: The behaviour of a service in a case, as a setting of the practice service.
_BEHAVIOUR = {"start_seconds": "start_ms={:.0f}", "stop_seconds": "stop_ms={:.0f}"}


def _send(channel: Channel, data: bytes, *, end: bool = False) -> None:
    """In pieces that a server accepts."""
    for start in range(0, len(data), PIECE):
        last = start + PIECE >= len(data)
        channel.send(data[start : start + PIECE], Limit("node", _ANSWER), end=end and last)


class _Lines:
    """The output lines of a PowerShell on the host, without noise."""

    def __init__(self, channel: Channel, marks: bytes) -> None:
        self._channel = channel
        self._marks = marks
        self._pending = bytearray()

    def next(self) -> str:
        """The next line that starts with one of the marks."""
        until = time.monotonic() + _ANSWER
        while time.monotonic() < until:
            while (end := self._pending.find(b"\n")) >= 0:
                line = bytes(self._pending[:end]).rstrip(b"\r").removeprefix(b"\xef\xbb\xbf")
                del self._pending[: end + 1]
                if line[:1] in self._marks and line:
                    return line.decode("ascii")
            chunk = self._channel.receive(Limit("node", _ANSWER))
            self._pending += chunk.stdout
            if chunk.exit_status is not None and b"\n" not in self._pending:
                raise RuntimeError(f"PowerShell ended with {chunk.exit_status}: {chunk.stderr!r}")
        raise RuntimeError(f"no answer from PowerShell in {_ANSWER:g} s")


class _Inspector:
    """A second PowerShell on the host, independent of the agent: sets up, inspects and cleans up."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lines = _Lines(channel, b"+-")
        script = (Path(__file__).parent / "agent_inspector.ps1").read_bytes()
        channel.start(command_line(), Limit("node", _ANSWER))
        _send(channel, base64.b64encode(script) + b"\n")

    def do(self, *statements: str) -> str:
        """Runs the statements in PowerShell; returns the result of the last one as text.

        Raises:
            RuntimeError: one of them failed.
        """
        _send(self._channel, base64.b64encode("\n".join(["$null = 0", *statements]).encode()) + b"\n")
        answer = self._lines.next()
        text = base64.b64decode(answer[1:]).decode()
        if answer[0] == "-":
            raise RuntimeError(f"the host could not be set up or inspected: {text}")
        return text

    def close(self) -> None:
        """Ends the process."""
        self._channel.close()


def _text(value: str) -> str:
    """Any text as a PowerShell expression."""
    return f"(ConvertFrom-Base64 '{base64.b64encode(value.encode()).decode()}')"


class HostMachine:
    """A Windows host, with the agent in a session of the product.

    Args:
        endpoint, secret: address, account and password.
        practice: path of the practice service's program on the host (docs/testing.md); if empty, cases with services
            are skipped.
    """

    def __init__(self, endpoint: Endpoint, secret: Secret, practice: str = "") -> None:
        self._endpoint = endpoint
        self._secret = secret
        self._practice = practice
        self._token = secrets.token_hex(4)
        self._case = 0
        self._home = f"{ALL}\\{self._token}"
        self._links: list[str] = []
        self._services: list[str] = []
        self._begin()
        self._inspector = _Inspector(WinRMChannel(endpoint, secret))
        self._inspector.do(f"[IO.Directory]::CreateDirectory({_text(self._home)})")
        self.platform = "wine" if self._is_true("Test-Path HKCU:\\Software\\Wine") else "windows"
        self._makes_links = self._can_link()

    def _begin(self) -> None:
        """Opens a session of the product; after its hello, lines of any kind go to the same PowerShell."""
        self._channel = WinRMChannel(self._endpoint, self._secret)
        self._session = AgentSession(self._channel, self._endpoint.node, way="conversation")
        self._session.hello()
        self._lines = _Lines(self._channel, b"{")
        self._asked = time.monotonic()

    def _is_true(self, condition: str) -> bool:
        return self._inspector.do(condition) == "True"

    def _can_link(self) -> bool:
        link, target = _text(f"{self._home}\\link"), _text(self._home)
        try:
            self._inspector.do(f"New-Link {link} {target}", f"Remove-Link {link}")
        except RuntimeError:
            return False
        return True

    def missing(self, wanted: Json) -> str:
        """Why a case cannot be set up on this host; empty if it can."""
        given = wanted.get("given", {})
        if given.get("services") and not self._practice:
            return "no WINDOWS_TEST_SERVICE_PROGRAM: services of the host itself are never stopped (docs/testing.md)"
        if given.get("links") and not self._makes_links:
            return "this host cannot create junctions or links"
        return ""

    def local(self, value: Json) -> Json:
        """The value with the folder, key and names of this host."""
        return translated(value, self._local)

    def _local(self, text: str) -> str:
        text = _PLACE.sub(lambda found: self._home + f"\\{self._case}" + found[1], text)
        text = _SERVICES_KEY.sub(lambda _: f"{KEY}\\{self._token}", text)
        return _OURS.sub(lambda found: f"{found[0]}_{self._token}_{self._case}", text)

    def set_up(self, given: Json, root: str) -> None:
        """Creates the initial state of a case in one request; services one by one."""
        here = self.local(given)
        self._links += here.get("links", {})
        self._inspector.do(f"[IO.Directory]::CreateDirectory({_text(self._local(root))})", *_statements(here))
        for service in here.get("services", []):
            self._install(service)

    def _install(self, given: Json) -> None:
        name, image = given["name"], given["image_path"]
        found = re.match(r'"([^"]+)"|(.+?\.exe)', image)
        program = (found[1] or found[2]) if found else image
        stem = program.removesuffix(".exe")
        needs = "".join(f" -DependsOn {other}" for other in given.get("depends_on", ()))
        start_type = "Disabled" if given.get("disabled") else "Manual" if given.get("manual") else "Automatic"
        self._inspector.do(
            f"[IO.Directory]::CreateDirectory([IO.Path]::GetDirectoryName({_text(program)}))",
            f"[IO.File]::Copy({_text(self._practice)}, {_text(program)}, $true)",
            *([f"[IO.File]::Delete({_text(program)})"] if given.get("no_program") else []),
            f"[IO.File]::WriteAllText({_text(f'{stem}.ini')}, {_text(_behaviour(given))})",
            f"$null = New-Service {name} -DisplayName {_text(given['display'])} -BinaryPathName {_text(image)}"
            f" -StartupType {start_type}{needs}",
        )
        self._services.append(name)  # from here on it must be removed
        self._inspector.do(
            *([f"Start-Service {name}"] if given.get("running") else []),
            *([f"Stop-Process -Force -Id (Get-ProcessOf {name})"] if given.get("died") else []),
            *([f"Start-Killer {_text(f'{stem}.log')}"] if given.get("dies_on_start") else []),
        )

    def ask(self, line: str) -> str:
        """Sends one line to the agent of the session, unchanged except for the folder."""
        if time.monotonic() - self._asked > _SHELL_MAY_END:
            self._session.close()
            self._begin()
        self._asked = time.monotonic()
        _send(self._channel, self._raw(line))
        return self._lines.next()

    def ask_in_batch(self, lines: Sequence[str]) -> list[str]:
        """Sends all lines and the end of input to a new agent in batch."""
        with closing(WinRMChannel(self._endpoint, self._secret)) as channel:
            channel.start(command_line(batch=True), Limit("node", _ANSWER))
            _send(channel, script_line() + b"".join(map(self._raw, lines)), end=True)
            answers = _Lines(channel, b"{")
            return [answers.next() for _ in lines]

    def _raw(self, line: str) -> bytes:
        home = self._home.replace("\\", "\\\\") + f"\\\\{self._case}\\"
        return _RAW_PLACE.sub(lambda found: home + found[1], line).encode("ascii") + b"\n"

    def state(self, path: str) -> bytes | str | None:
        """The content of a file, `folder`, or None."""
        text = self._inspector.do(f"Get-State {_text(self._local(path))}")
        return {"folder": "folder", "nothing": None}[text] if text in {"folder", "nothing"} else base64.b64decode(text)

    def names(self, path: str) -> list[str]:
        """The names in a folder."""
        entries = f"[IO.Directory]::GetFileSystemEntries({_text(self._local(path))})"
        return sorted(
            name.rpartition("\\")[2] for name in self._inspector.do(f"{entries} -join '|'").split("|") if name
        )

    def hidden(self, path: str) -> bool | None:
        """Whether a file is hidden."""
        return self._is_true(f"([IO.File]::GetAttributes({_text(self._local(path))}) -band 2) -ne 0")

    def clear(self) -> None:
        """Closes files, removes services and links; the next case has another folder."""
        links = [f"Remove-Link {_text(path)}" for path in self._links]
        services = [f"Remove-OurService {name}" for name in reversed(self._services)]
        self._links.clear()
        self._services.clear()
        place = _text(f"{self._home}\\{self._case}")
        self._inspector.do("Clear-Held", *services, *links, f"Remove-Tree {place}")
        self._case += 1

    def leftovers(self) -> str:
        """The remaining files and services, in one line; empty after `clear`."""
        return self._inspector.do(
            f"$files = [IO.Directory]::GetFileSystemEntries({_text(self._home)})",
            f"$services = Get-Service -Name '*_{self._token}_*' | ForEach-Object {{ $_.Name }}",
            "@($files) + @($services) -join '|'",
        )

    @contextmanager
    def site(self) -> Iterator["HostSite"]:
        """A site for `tcp` and `http` on the host itself."""
        yield HostSite(self._inspector.do(_site_statement()))

    def close(self) -> None:
        """Removes everything that was created, and ends both PowerShells.

        Raises:
            RuntimeError: something could not be removed.
        """
        self._session.close()
        hive, key = "[Microsoft.Win32.Registry]::LocalMachine", f"{KEY}\\{self._token}"
        try:
            self._inspector.do(
                f"Remove-Tree {_text(self._home)}",
                f"$others = [IO.Directory]::GetFileSystemEntries({_text(ALL)})",
                f"if (-not $others) {{ [IO.Directory]::Delete({_text(ALL)}) }}",
                f"{hive}.DeleteSubKeyTree({_text(key)}, $false)",
                f"$key = {hive}.OpenSubKey({_text(KEY)})",
                "$empty = $key -and -not $key.SubKeyCount",
                "if ($key) { $key.Dispose() }",
                f"if ($empty) {{ {hive}.DeleteSubKey({_text(KEY)}) }}",
            )
        finally:
            self._inspector.close()


class HostSite:
    """The ports of a site on the host, for cases."""

    def __init__(self, ports: str) -> None:
        self._open, self._closed = map(int, ports.split())

    def filled(self, value: Json) -> Json:
        """The value with the placeholders for ports and large data replaced."""
        return filled(value, self._open, self._closed)


def _statements(given: Json) -> Iterable[str]:
    """PowerShell statements that create folders, files, links, attributes and values, and hold files open."""
    for path in given.get("folders", []):
        yield f"$null = [IO.Directory]::CreateDirectory({_text(path)})"
    for path, content in given.get("files", {}).items():
        yield f"Write-Bytes {_text(path)} '{base64.b64encode(content_of(content)).decode()}'"
    for path, count in given.get("many", {}).items():
        yield f"Write-Many {_text(path)} {count}"
    for path, target in given.get("links", {}).items():
        yield f"New-Link {_text(path)} {_text(target)}"
    for attribute in ("readonly", "hidden"):
        yield from (f"Add-Attribute {_text(path)} '{attribute}'" for path in given.get(attribute, []))
    yield from (f"Add-Held {_text(path)}" for path in given.get("locked", []))
    for value in given.get("values", []):
        key = value["key"].replace("HKLM", "HKEY_LOCAL_MACHINE")
        yield f"[Microsoft.Win32.Registry]::SetValue({_text(key)}, {_text(value['name'])}, {_text(value['value'])})"


def _behaviour(given: Json) -> str:
    """The settings file of the practice service."""
    lines = [line.format(given[what] * 1000) for what, line in _BEHAVIOUR.items() if given.get(what)]
    lines += ["stop=ignore"] if given.get("never_stops") else []
    lines += ["start_ms=9000"] if given.get("dies_on_start") else []
    return "\r\n".join(["[service]", *lines, ""])


def _site_statement() -> str:
    answers = "; ".join(
        f"'{path}' = @{{ Wait = {LATE if path == '/slow' else 0}; "
        f"Bytes = [Convert]::FromBase64String('{base64.b64encode(answer).decode()}') }}"
        for path, answer in ANSWERS.items()
    )
    return f"Start-Site @{{ {answers} }}"
