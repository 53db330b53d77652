"""The session and the agent over a real PowerShell on this machine."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.local_channel import LocalChannel, pwsh
from tests.sampling import EXHAUSTIVE, examples
from workers.errors import Cancelled, Conflict, SessionLost
from workers.winrm import operations as ops
from workers.winrm.operations import digest
from workers.winrm.session import AgentSession, Way
from workers.winrm.wire import command_line, script_line

pytestmark = pytest.mark.powershell

REQUESTS, HOSTS, WRITES = examples(1000, 60), examples(300, 60), examples(60, 20)


@pytest.fixture(scope="module")
def program() -> str:
    """A PowerShell of this machine."""
    found = shutil.which("pwsh")
    return found or pytest.skip("no pwsh on PATH: the session is tried on a real PowerShell where there is one")


def opened(program: str, way: Way = "auto") -> tuple[AgentSession, LocalChannel]:
    """A session and its process."""
    channel = LocalChannel(pwsh(program))
    return AgentSession(channel, "here", way=way), channel


@pytest.fixture(scope="module")
def session(program: str) -> Iterator[AgentSession]:
    """A conversation, which every test leaves open."""
    session, _ = opened(program)
    yield session
    session.close()


@pytest.fixture(scope="module")
def another(program: str) -> Iterator[AgentSession]:
    """A second one, for tests of two."""
    session, _ = opened(program)
    yield session
    session.close()


def test_many_requests_are_answered_by_one_process(session: AgentSession, tmp_path: Path) -> None:
    """One start; each reply belongs to its request."""
    names = [str(tmp_path / f"n{number}") for number in range(REQUESTS)]
    for name in names[::2]:
        Path(name).touch()
    there = [session.ask([ops.stat(name)], deadline=30)[0]["exists"] for name in names]
    assert [number % 2 == 0 for number in range(REQUESTS)] == there
    assert ("conversation", 1) == (session.way, session.counters.shells)


@pytest.mark.parametrize("way", ["conversation", "batch"])
def test_both_ways_have_the_same_results(program: str, way: Way, tmp_path: Path) -> None:
    """Also for text that is not ASCII."""
    session, channel = opened(program, way)
    path = str(tmp_path / "gr\u00fc\u00dfe \u4f60.txt")
    session.ask([ops.write(path, b"1", expect=ops.ABSENT)], deadline=60)
    (reply,) = session.ask([ops.list_folder(str(tmp_path))], deadline=60)
    session.close()
    assert [Path(path).name] == [entry["name"] for entry in reply["entries"]]
    assert (2 if way == "batch" else 1) == channel.counters.shells


def test_a_large_reply_arrives_completely(session: AgentSession, tmp_path: Path) -> None:
    """More than 150 KB, which WinRM sends in pieces."""
    data = os.urandom(1_000_000)
    (tmp_path / "big").write_bytes(data)
    (reply,) = session.ask([ops.read(str(tmp_path / "big"))], deadline=60)
    assert digest(data) == digest(ops.data_of(reply))


def test_six_blobs_become_many_files_in_seconds(session: AgentSession, tmp_path: Path) -> None:
    """The files for many servers; the second time nothing is written."""
    blobs = {f"k{kind}": os.urandom(1500) for kind in range(6)}
    files = {f"HOST{host:03d}_{kind}": kind for host in range(HOSTS) for kind in blobs}
    spread = ops.spread(str(tmp_path), blobs, files)
    started = time.monotonic()
    (first,) = session.ask([spread], deadline=120)
    (again,) = session.ask([spread], deadline=120)
    (listed,) = session.ask([ops.list_folder(str(tmp_path), hashes=True)], deadline=120)
    assert time.monotonic() - started < 200
    assert (6 * HOSTS, 0, 6 * HOSTS) == (len(first["written"]), len(again["written"]), len(listed["entries"]))


def test_a_cancelled_wait_ends_powershell_and_its_child_processes(program: str) -> None:
    """Closing the session leaves no process."""
    session, channel = opened(program)
    session.hello()
    pid = channel.pid
    started = time.monotonic()
    with pytest.raises(Cancelled):
        session.ask([ops.run("/bin/sleep", ["97"])], deadline=60, cancelled=lambda: time.monotonic() - started > 0.5)
    session.close()
    assert time.monotonic() - started < 60
    group = [one for one in psutil.process_iter(["status"]) if one.pid and os.getpgid(one.pid) == pid]
    assert [] == [one for one in group if one.info["status"] != psutil.STATUS_ZOMBIE]


def test_killing_powershell_during_a_write_leaves_old_or_new_bytes(program: str, tmp_path: Path) -> None:
    """At any moment: never a mixture, and the next write removes temporary files."""
    path, old, new = tmp_path / "web.config", b"o" * 400_000, b"n" * 400_000
    for pause in (0.1, 0.2, 0.35, 0.5, 0.8, 1.2) if EXHAUSTIVE else (0.1, 0.5):
        path.write_bytes(old)
        session, channel = opened(program, "conversation")
        session.hello()
        pid = channel.pid
        assert pid is not None
        writes = [ops.write(str(path), data, expect=ops.ANY) for _ in range(40) for data in (new, old)]
        killer = subprocess.Popen(["/bin/sh", "-c", f"sleep {pause}; kill -9 {pid}"])
        with pytest.raises(SessionLost):
            _for_ever(session, writes)
        killer.wait()
        session.close()
        assert path.read_bytes() in {old, new}
    session, _ = opened(program)
    session.ask([ops.write(str(path), b"last", expect=ops.ANY)], deadline=60)
    session.close()
    assert ["web.config"] == os.listdir(tmp_path)  # noqa: PTH208 - only the names are needed
    assert b"last" == path.read_bytes()


def _for_ever(session: AgentSession, writes: list[ops.Op]) -> None:
    while True:
        session.ask(writes, deadline=60)


def test_a_reader_never_sees_an_incomplete_file(session: AgentSession, tmp_path: Path) -> None:
    """Every read returns all old bytes or all new bytes."""
    path, contents = tmp_path / "keys.config", (b"a" * 300_000, b"b" * 200_000)
    path.write_bytes(contents[0])
    writes = [ops.write(str(path), data, expect=ops.ANY) for _ in range(WRITES // 2) for data in contents]
    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(session.ask, writes, deadline=60)
        seen = {digest(path.read_bytes())}
        while not writing.done():
            seen.add(digest(path.read_bytes()))
            time.sleep(0.001)
    assert all(reply["changed"] for reply in writing.result()[1:])
    assert seen <= {digest(data) for data in contents}


@pytest.mark.parametrize(
    ("sent", "status", "lines"),
    [
        (b"", 4, 0),
        (script_line(), 0, 0),
        (script_line() + b'{"v":1,"id":"a","stop":true}\n{"v":1,"id":"b","ops":[]}\n', 0, 1),
        (script_line() + b'{"v":1,"id":"a","ops":[]}\n{"v":1,"id":"b","ops":[]}', 0, 2),
        (script_line() + b'\n  \n{"v":1,"id":"a","ops":[{"op":"clo', 0, 1),
    ],
    ids=["nothing", "no-request", "stop", "no-last-line-end", "cut-off"],
)
def test_the_end_of_input_ends_powershell(program: str, sent: bytes, status: int, lines: int) -> None:
    """Earlier requests are answered; a broken connection leaves no process."""
    done = subprocess.run(pwsh(program)(command_line()), input=sent, capture_output=True, check=False, timeout=300)
    assert (status, lines) == (done.returncode, len(done.stdout.splitlines()))


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        (script_line()[1:], 13, "FormatException: "),
        (base64.b64encode(b"if ("), 13, "ParseException: "),
        (base64.b64encode(b"throw 'ScriptContainedMaliciousContent'"), 13, "ScriptContainedMaliciousContent: "),
        (base64.b64encode(b"$ProtocolVersion = 1; throw 'odd'"), 14, "odd: odd"),
    ],
    ids=["cut", "no script", "blocked", "ended"],
)
def test_an_agent_that_does_not_run_is_told_from_one_that_ended(
    program: str,
    line: bytes,
    status: int,
    says: str,
    batch: bool,  # noqa: FBT001 - a parameter
) -> None:
    """By the exit status; the error of PowerShell is on stderr as plain text, with its id."""
    command = pwsh(program)(command_line(batch=batch))
    done = subprocess.run(command, input=line + b"\n", capture_output=True, check=False, timeout=300)
    assert (status, b"") == (done.returncode, done.stdout)
    assert done.stderr.decode().startswith(says)


def test_an_outdated_writer_is_refused(session: AgentSession, another: AgentSession, tmp_path: Path) -> None:
    """Two agents: after the first change of the newer one, the older one changes nothing."""
    path, fence = str(tmp_path / "web.config"), str(tmp_path / "fence" / "writer")
    older, newer = (ops.Guard(number, fence, (str(tmp_path),)) for number in (3, 4))
    session.ask([ops.write(path, b"3", expect=ops.ANY)], deadline=60, guard=older)
    another.ask([ops.write(path, b"4", expect=ops.ANY)], deadline=60, guard=newer)
    with pytest.raises(Conflict, match=r"newer writer \(4\).*\(3\) is outdated") as caught:
        session.ask([ops.write(path, b"late", expect=ops.ANY)], deadline=60, guard=older)
    assert (fence, b"4") == (caught.value.file, Path(path).read_bytes())
    another.ask([ops.write(path, b"5", expect=digest(b"4"))], deadline=60, guard=newer)


def test_two_agents_with_one_fence_never_change_files_at_the_same_time(
    session: AgentSession, another: AgentSession, tmp_path: Path
) -> None:
    """No write is lost between a read and a change, and none fails."""
    guard = ops.Guard(3, str(tmp_path / "fence"), (str(tmp_path),))
    backup = str(tmp_path / "kept")

    def write(one: AgentSession, name: str) -> list[ops.Reply]:
        writes = [
            ops.write(str(tmp_path / "shared"), f"{name}{at}".encode(), expect=ops.ANY, backup=backup)
            for at in range(WRITES)
        ]
        return one.ask(writes, deadline=120, guard=guard)

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(write, (session, another), ("a", "b")))
    lines = [json.loads(line) for line in (tmp_path / "kept" / "manifest.jsonl").read_text("ascii").splitlines()]
    assert [WRITES, WRITES] == [sum(reply["changed"] for reply in replies) for replies in results]
    assert [None, *(line["after"] for line in lines[:-1])] == [line["before"] for line in lines]
    assert 2 * WRITES == len(lines)


_CONFIG = """<cfg:Config xmlns:cfg="http://schemas.microsoft.com/wbem/wsman/1/config">
<cfg:MaxEnvelopeSizekb>500</cfg:MaxEnvelopeSizekb><cfg:MaxTimeoutms>60000</cfg:MaxTimeoutms>
<cfg:Client><cfg:NetworkDelayms>5000</cfg:NetworkDelayms></cfg:Client>
<cfg:Service><cfg:MaxConcurrentOperationsPerUser>1500</cfg:MaxConcurrentOperationsPerUser></cfg:Service>
<cfg:Winrs><cfg:IdleTimeout Source="GPO"> 7200000 </cfg:IdleTimeout><cfg:MaxShellsPerUser>30</cfg:MaxShellsPerUser>
<cfg:MaxMemoryPerShellMB>1024</cfg:MaxMemoryPerShellMB></cfg:Winrs></cfg:Config>"""
_QUOTAS = {
    "MaxEnvelopeSizekb": "500",
    "MaxTimeoutms": "60000",
    "MaxConcurrentOperationsPerUser": "1500",
    "IdleTimeout": "7200000",
    "MaxShellsPerUser": "30",
    "MaxMemoryPerShellMB": "1024",
}


_CASES: dict[str, tuple[str, object]] = {
    "config": (_CONFIG, _QUOTAS),
    "entities": ('<!DOCTYPE a [<!ENTITY b "1">]><a><MaxShellsPerUser>&b;</MaxShellsPerUser></a>', "refused"),
    "nothing known": ("<a/>", None),
    "no XML": ("no XML", "refused"),
}


def test_the_quotas_are_read_from_winrms_configuration(program: str, tmp_path: Path) -> None:
    """The known names only; XML with entities is refused."""
    script = base64.b64decode(script_line()).decode("ascii")
    calls = [
        f"""
try {{ $text = ConvertTo-JsonLine (ConvertFrom-WinrmConfig '{config}') }} catch {{ $text = '"refused"' }}
[Console]::Out.Write($text + "`n")"""
        for config, _ in _CASES.values()
    ]
    file = tmp_path / "quotas.ps1"
    file.write_text(script + "".join(calls))
    done = subprocess.run(
        [program, "-NoProfile", "-File", str(file)], input=b"", capture_output=True, check=True, timeout=300
    )
    found = map(json.loads, done.stdout.splitlines())
    assert {name: wanted for name, (_, wanted) in _CASES.items()} == dict(zip(_CASES, found, strict=True))
