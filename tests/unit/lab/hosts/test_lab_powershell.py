"""PowerShell as other clients start it: which script a command line has, and its bounds in a real process."""

import asyncio
import base64
import time
from pathlib import Path

import pytest

from lab.hosts import powershell
from lab.hosts.powershell import InvalidArguments, reads_agent, run_really, script_of
from lab.winrm.shells import Streams
from tests.places import ROOT
from tests.stand_in_pwsh import stand_in_pwsh

HOSTNAME = base64.b64encode("hostname".encode("utf-16-le")).decode()


@pytest.mark.parametrize(
    ("arguments", "script"),
    [
        (f"-EncodedCommand {HOSTNAME}", "hostname"),
        (f"-encodedcommand {HOSTNAME}", "hostname"),
        (f"-NoProfile -NonInteractive -ExecutionPolicy Unrestricted -EncodedCommand {HOSTNAME}", "hostname"),
        (f"/nop -ex Bypass -e {HOSTNAME}", "hostname"),
        (f'-ec "{HOSTNAME}"', "hostname"),
        ("-Command hostname", "hostname"),
        ("-NoLogo -c Get-Date  -Format o", "Get-Date  -Format o"),
        ('-command "& { \\"a b\\" }"', '& { "a b" }'),
        ('-Command "a" + "b"', '"a" + "b"'),
        ("hostname", "hostname"),
        ("-Version 5.1 Get-Date", "Get-Date"),
    ],
)
def test_the_script_of_a_command_line(arguments: str, script: str) -> None:
    """Parameters are found in any case and shortened, and the script is what follows."""
    assert script_of(arguments) == script


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("", "no script"),
        ("-NoProfile", "no script"),
        ("-", "no script"),
        ("-Command -", "no script"),
        ("-Command", "no script"),
        ("-EncodedCommand", "not valid"),
        ("-EncodedCommand ?", "not valid"),
        ("-EncodedCommand YQ==", "not valid"),
        (r"-File C:\x.ps1", "-File is not supported"),
    ],
)
def test_a_command_line_without_a_script(arguments: str, reason: str) -> None:
    """Each gets the reason; none waits for stdin."""
    with pytest.raises(InvalidArguments, match=reason):
        script_of(arguments)


@pytest.mark.parametrize("name", ["bootstrap.ps1", "batch.ps1"])
def test_both_bootstraps_are_the_agents(name: str) -> None:
    """The scripts that start the agent are recognised, and a script of another client is not."""
    assert reads_agent((ROOT / "workers" / "winrm" / name).read_text())
    assert not any(map(reads_agent, ("hostname", "$input | sort", "[Convert]::FromBase64String('YQ==')")))


def really(script: str) -> tuple[int, bytes, str]:
    """Exit status, stdout and stderr of a script."""
    streams = Streams()
    status = asyncio.run(asyncio.wait_for(run_really(script, streams), 30))
    out = {name: b"".join(c.data for c in streams.output if c.stream == name) for name in ("stdout", "stderr")}
    return status, out["stdout"], out["stderr"].decode()


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in place of PowerShell, which runs the script as Python."""
    monkeypatch.setenv("PATH", str(stand_in_pwsh(tmp_path)))


@pytest.mark.usefixtures("stand_in")
def test_a_script_runs_with_its_output_and_status() -> None:
    """Both streams and the exit status are the program's; its input has ended."""
    script = "print(repr(sys.stdin.read())); sys.stderr.write('no'); sys.exit(3)"
    assert (3, b"''\n", "no") == really(script)


@pytest.mark.usefixtures("stand_in")
def test_a_script_is_bounded_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that does not end is ended, with the reason on stderr, status 1, and the output so far."""
    monkeypatch.setattr(powershell, "SECONDS", 1.5)
    begun = time.monotonic()
    status, out, err = really("import time; print('begun', flush=True); time.sleep(600)")
    assert (1, "powershell: the script was ended: not ended after 2 seconds\r\n") == (status, err)
    assert out in {b"", b"begun\n"}
    assert time.monotonic() - begun < 25


@pytest.mark.usefixtures("stand_in")
def test_a_script_is_bounded_in_output() -> None:
    """Of endless output the client gets the first million bytes and the reason."""
    status, out, err = really("while True: sys.stdout.write('x' * 10_000)")
    assert (1, powershell.OUTPUT) == (status, len(out))
    assert "more than 1000000 bytes" in err


def test_without_powershell_the_reason_is_on_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pwsh is not on PATH: a clear error and exit status 1."""
    monkeypatch.setenv("PATH", "")
    status, out, err = really("hostname")
    assert (1, b"") == (status, out)
    assert "put pwsh on PATH of the lab" in err
