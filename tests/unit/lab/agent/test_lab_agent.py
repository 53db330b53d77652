"""The lab's implementation of the agent's protocol."""

import asyncio
import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.agent.session import Agent
from lab.machine.binaries import program_file
from lab.machine.machine import Machine
from lab.machine.memory_disk import MemoryDisk
from lab.machine.paths import WindowsPath
from lab.machine.services import ServiceState, StartType

BACKUP = "C:\\ProgramData\\esync-rollout\\r1"


def digest(data: bytes) -> str:
    """Lower-case SHA-256."""
    return hashlib.sha256(data).hexdigest()


def b64(data: bytes) -> str:
    """Bytes as text in base64."""
    return base64.b64encode(data).decode()


class Bench:
    """An empty machine with its agent."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.machine = Machine("N1", self.disk)
        self.agent = Agent(self.machine)

    def do(self, op: str, **fields: object) -> dict[str, Any]:
        """The result of one operation."""
        return self.ask({"v": 1, "id": "7", "ops": [{"op": op, **fields}]})["results"][0]  # type: ignore[no-any-return]

    def ask(self, request: object) -> dict[str, Any]:
        """The reply to one request."""
        return json.loads(self.agent.answer(json.dumps(request)))  # type: ignore[no-any-return]

    def put(self, path: str, data: bytes) -> None:
        """Writes a file on the machine, with its folders."""
        where = WindowsPath.of(path)
        self.disk.make_folder(where.parent)
        self.disk.put(where, data)

    def read(self, path: str) -> bytes:
        """The bytes of a file of the machine."""
        return self.disk.read(WindowsPath.of(path))


@pytest.fixture
def bench() -> Bench:
    """A new machine."""
    return Bench()


def test_results_stop_at_the_first_failure(bench: Bench) -> None:
    """Without keep_going the list ends with the failure; with it every operation has a result."""
    ops = [{"op": "clock"}, {"op": "read", "path": "C:\\x"}, {"op": "clock"}]
    stopped = bench.ask({"v": 1, "id": "1", "ops": ops})["results"]
    going = bench.ask({"v": 1, "id": "1", "ops": ops, "keep_going": True})["results"]
    assert ([True, False], [True, False, True]) == ([r["ok"] for r in stopped], [r["ok"] for r in going])
    assert {"ok": False, "error": "not_found", "path": "C:\\x"} == {k: stopped[1][k] for k in ("ok", "error", "path")}


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("nonsense", None),
        ("[]", None),
        ('{"v":1,"ops":[]}', None),
        ('{"v":1,"id":7,"ops":[]}', None),
        ('{"v":2,"id":"a","ops":[]}', "a"),
        ('{"v":true,"id":"a","ops":[]}', "a"),
        ('{"id":"a","ops":[]}', "a"),
        ('{"v":1,"id":"a"}', "a"),
        ('{"v":1,"id":"a","ops":[{"path":"C:\\\\x"}]}', "a"),
        ('{"v":1,"id":"a","ops":["clock"]}', "a"),
        ('{"v":1,"id":"a","ops":[],"x":NaN}', None),
    ],
)
def test_an_invalid_line_gets_an_invalid_reply(bench: Bench, line: str, known: str | None) -> None:
    """The reply has the id if it could be read."""
    reply = json.loads(bench.agent.answer(line))
    assert (known, "invalid") == (reply["id"], reply["results"][0]["error"])


@given(st.text())
def test_any_line_gets_a_reply(line: str) -> None:
    """One ASCII line of JSON."""
    reply = Bench().agent.answer(line)
    assert reply.isascii()
    assert "\n" not in reply
    assert json.loads(reply)["v"] == 1


def test_a_stop_request_gets_an_empty_reply(bench: Bench) -> None:
    """Then the agent ends."""
    assert {"v": 1, "id": "x", "results": []} == bench.ask({"v": 1, "id": "x", "stop": True})


@pytest.mark.parametrize(
    ("op", "fields"),
    [
        ("format", {}),
        ("read", {}),
        ("read", {"path": 7}),
        ("read", {"path": "C:\\x", "limit": True}),
        ("read", {"path": "C:\\x", "limit": -1}),
        ("stat", {"path": "C:\\x", "hash": "yes"}),
        ("write", {"path": "C:\\x", "data": "?", "expect": "any"}),
        ("write", {"path": "C:\\x", "data": "", "expect": "perhaps"}),
        ("write", {"path": "C:\\x", "data": "", "expect": "any", "backup": "relative"}),
        ("spread", {"folder": "C:\\", "blobs": {}, "files": {"a": "1"}}),
        ("spread", {"folder": "C:\\", "blobs": {"1": ""}, "files": {"a\\b": "1"}}),
        ("service", {"name": "x", "action": "query", "deadline": "soon"}),
        ("registry", {"key": "SOFTWARE\\x", "name": "y"}),
        ("tcp", {"host": "x", "port": 70000}),
        ("http", {"url": "ftp://x/"}),
        ("run", {"program": "hostname.exe"}),
    ],
)
def test_a_wrong_operation_is_invalid(bench: Bench, op: str, fields: dict[str, object]) -> None:
    """Unknown operations, and fields that are missing or of the wrong type."""
    bench.machine.install_service("x", "X", "C:\\x.exe")
    assert "invalid" == bench.do(op, **fields)["error"]


def test_hello_describes_the_machine(bench: Bench) -> None:
    """Name, version and drives."""
    result = bench.do("hello")
    assert ("N1", 1, "FullLanguage", ["C:"]) == (
        result["computer"],
        result["agent"],
        result["language_mode"],
        [drive["name"] for drive in result["drives"]],
    )


def test_stat_and_list_describe_files_and_folders(bench: Bench) -> None:
    """Kinds, sizes and hashes; a missing file is a result, not a failure."""
    bench.put("C:\\d\\b.txt", b"abc")
    bench.put("C:\\d\\A.txt", b"")
    assert {"ok": True, "exists": False} == bench.do("stat", path="C:\\no")
    entry = bench.do("stat", path="c:\\D\\B.TXT", hash=True)
    assert ("file", 3, digest(b"abc"), False) == (entry["kind"], entry["size"], entry["hash"], entry["readonly"])
    listed = bench.do("list", path="C:\\d", limit=1)
    assert (["A.txt"], True) == ([e["name"] for e in listed["entries"]], listed["truncated"])
    assert "invalid" == bench.do("list", path="C:\\d\\b.txt")["error"]


def test_read_returns_bytes_up_to_the_limit(bench: Bench) -> None:
    """Larger files are refused, folders too."""
    bench.put("C:\\x", b"\x00\xff")
    result = bench.do("read", path="C:\\x", limit=2)
    assert (b64(b"\x00\xff"), 2, digest(b"\x00\xff")) == (result["data"], result["size"], result["hash"])
    assert ["invalid"] * 2 == [bench.do("read", path=p, limit=1)["error"] for p in ("C:\\x", "C:\\")]


def test_write_creates_replaces_and_skips(bench: Bench) -> None:
    """With `absent`, with the expected hash, and with equal content."""
    made = bench.do("write", path="C:\\x", data=b64(b"1"), expect="absent")
    replaced = bench.do("write", path="C:\\x", data=b64(b"2"), expect=digest(b"1"))
    equal = bench.do("write", path="C:\\x", data=b64(b"2"), expect="absent")
    assert [(True, None), (True, digest(b"1")), (False, digest(b"2"))] == [
        (result["changed"], result["before"]) for result in (made, replaced, equal)
    ]
    assert b"2" == bench.read("C:\\x")


@pytest.mark.parametrize("expect", ["absent", digest(b"other")])
def test_write_refuses_unexpected_content(bench: Bench, expect: str) -> None:
    """A conflict writes nothing, not even a backup."""
    bench.put("C:\\x", b"old")
    assert "conflict" == bench.do("write", path="C:\\x", data=b64(b"new"), expect=expect, backup=BACKUP)["error"]
    assert (b"old", None) == (bench.read("C:\\x"), bench.disk.stat(WindowsPath.of(BACKUP)))


def test_write_keeps_the_old_bytes_with_a_manifest_line(bench: Bench) -> None:
    """Kept files are numbered, and the manifest has a line for each change."""
    bench.put("C:\\x", b"one")
    first = bench.do("write", path="C:\\x", data=b64(b"two"), expect="any", backup=BACKUP)
    bench.do("write", path="C:\\x", data=b64(b"three"), expect="any", backup=BACKUP)
    bench.do("write", path="C:\\y", data=b64(b"new"), expect="any", backup=BACKUP)
    lines = [json.loads(line) for line in bench.read(f"{BACKUP}\\manifest.jsonl").splitlines()]
    assert f"{BACKUP}\\files\\1" == first["backup"]
    assert (b"one", b"two") == (bench.read(f"{BACKUP}\\files\\1"), bench.read(f"{BACKUP}\\files\\2"))
    assert [("C:\\x", digest(b"one"), "files\\1"), ("C:\\x", digest(b"two"), "files\\2"), ("C:\\y", None, None)] == [
        (line["path"], line["before"], line["kept"]) for line in lines
    ]


def test_write_names_the_obstacle(bench: Bench) -> None:
    """Read-only, locked, no folder, a folder."""
    bench.put("C:\\ro", b"")
    bench.put("C:\\busy", b"")
    bench.disk.set_readonly(WindowsPath.of("C:\\ro"))
    bench.disk.lock(WindowsPath.of("C:\\busy"))
    wrong = [
        bench.do("write", path=path, data=b64(b"x"), expect="any")["error"]
        for path in ("C:\\ro", "C:\\busy", "C:\\no\\x", "C:\\")
    ]
    assert ["access_denied", "busy", "not_found", "invalid"] == wrong


def test_write_removes_temporary_files_of_dead_agents(bench: Bench) -> None:
    """That of a running process stays."""
    bench.put("C:\\x.esync-99999.tmp", b"half")
    bench.put(f"C:\\y.esync-{bench.agent.pid}.tmp", b"half")
    bench.do("write", path="C:\\x", data=b64(b"x"), expect="any")
    assert {"x", f"y.esync-{bench.agent.pid}.tmp"} == set(bench.disk.names(WindowsPath.of("C:\\")))


def test_spread_writes_files_that_differ(bench: Bench) -> None:
    """Equal files are not written."""
    bench.put("C:\\d\\b.cer", b"B")
    files = {"a.cer": "1", "B.CER": "2", "c.cer": "1"}
    result = bench.do("spread", folder="C:\\d", blobs={"1": b64(b"A"), "2": b64(b"B")}, files=files)
    assert (["a.cer", "c.cer"], 1) == (result["written"], result["unchanged"])
    assert (b"A", b"B", b"A") == tuple(bench.read(f"C:\\d\\{name}") for name in files)


def test_spread_writes_nothing_if_one_file_cannot_be_written(bench: Bench) -> None:
    """All files are checked before the first byte is written."""
    bench.put("C:\\d\\z.cer", b"old")
    bench.disk.set_readonly(WindowsPath.of("C:\\d\\z.cer"))
    result = bench.do("spread", folder="C:\\d", blobs={"1": b64(b"A")}, files={"a.cer": "1", "z.cer": "1"})
    assert ("access_denied", ["z.cer"]) == (result["error"], bench.disk.names(WindowsPath.of("C:\\d")))


def test_mkdir_and_remove_may_be_repeated(bench: Bench) -> None:
    """The second time nothing changes; both leave lines in the manifest."""
    changed = [bench.do("mkdir", path="C:\\a\\b", backup=BACKUP)["changed"] for _ in range(2)]
    removed = [bench.do("remove", path="C:\\a\\b", backup=BACKUP)["changed"] for _ in range(2)]
    lines = [json.loads(line) for line in bench.read(f"{BACKUP}\\manifest.jsonl").splitlines()]
    assert ([True, False], [True, False]) == (changed, removed)
    assert [(None, "folder"), (None, "folder"), ("folder", None)] == [(line["before"], line["after"]) for line in lines]


def test_a_folder_with_content_is_not_removed(bench: Bench) -> None:
    """It fails and stays."""
    bench.put("C:\\d\\x", b"")
    assert "failed" == bench.do("remove", path="C:\\d")["error"]


def test_touch_sets_the_time_to_now(bench: Bench) -> None:
    """By the machine's own clock."""
    bench.put("C:\\x", b"")
    bench.machine.clock.skew = 400
    before = bench.do("clock")["now"]
    touched = bench.do("touch", path="C:\\x")["mtime"]
    assert before <= touched == bench.do("stat", path="C:\\x")["mtime"]


def test_version_and_registry_are_read(bench: Bench) -> None:
    """A program's version, none for other files, and a registry value in any case."""
    bench.put("C:\\x.dll", program_file("x.dll", "8.0.1.87", 9000))
    bench.put("C:\\y.txt", b"FileVersion")
    bench.machine.install_service("Svc", "Service", '"C:\\x.exe"')
    assert ["8.0.1.87", None] == [bench.do("version", path=p)["version"] for p in ("C:\\x.dll", "C:\\y.txt")]
    key = "hklm\\system\\CurrentControlSet\\services\\SVC"
    assert '"C:\\x.exe"' == bench.do("registry", key=key, name="imagepath")["value"]
    assert "not_found" == bench.do("registry", key=key, name="other")["error"]


def test_a_service_is_started_and_stopped_once(bench: Bench) -> None:
    """The second time nothing changes."""
    bench.machine.install_service("Svc", "Service", "C:\\x.exe")
    results = [bench.do("service", name="svc", action=action) for action in ("start", "start", "stop", "stop", "query")]
    assert [True, False, True, False, False] == [result["changed"] for result in results]
    assert ["running", "running", "stopped", "stopped", "stopped"] == [result["state"] for result in results]
    assert (True, 0, None) == (results[0]["pid"] > 0, results[2]["pid"], results[2]["started"])


def test_a_service_that_hangs_times_out(bench: Bench) -> None:
    """The message names the current state."""
    service = bench.machine.install_service("Svc", "Service", "C:\\x.exe")
    service.request_start()
    service.never_stops = True
    service.stop_seconds = 0.01
    result = bench.do("service", name="Svc", action="stop", deadline=0.05)
    assert ("timeout", True) == (result["error"], "stop_pending" in result["message"])


def test_a_service_waits_for_its_pending_states(bench: Bench) -> None:
    """Within the deadline."""
    service = bench.machine.install_service("Svc", "Service", "C:\\x.exe")
    service.start_seconds = 0.05
    assert "running" == bench.do("service", name="Svc", action="start", deadline=5)["state"]


def test_services_that_cannot_start_are_errors(bench: Bench) -> None:
    """Disabled, ending during the start, unknown."""
    service = bench.machine.install_service("Svc", "Service", "C:\\x.exe")
    service.dies_on_start = True
    dying = bench.do("service", name="Svc", action="start")
    service.start_type = StartType.DISABLED
    disabled = bench.do("service", name="Svc", action="start")
    unknown = bench.do("service", name="Other", action="start")
    assert ["failed", "failed", "not_found"] == [result["error"] for result in (dying, disabled, unknown)]
    assert "disabled" in disabled["message"]


def test_running_dependents_keep_a_service_from_stopping(bench: Bench) -> None:
    """They are named, and nothing is stopped."""
    service = bench.machine.install_service("Svc", "Service", "C:\\x.exe")
    other = bench.machine.install_service("Dep", "Dependent", "C:\\y.exe", depends_on=("svc",))
    service.request_start()
    other.request_start()
    result = bench.do("service", name="Svc", action="stop")
    assert ("failed", True) == (result["error"], "Dep" in result["message"])
    assert ServiceState.RUNNING is service.state()
    other.request_stop()
    assert bench.do("service", name="Svc", action="stop")["changed"]


def test_a_simulated_machine_has_one_program(bench: Bench) -> None:
    """`hostname`; a missing program is not_found, any other one is failed."""
    bench.put("C:\\tool.exe", b"MZ")
    result = bench.do("run", program="C:\\Windows\\System32\\hostname.exe")
    assert (0, "N1\r\n") == (result["exit"], result["stdout"])
    assert ["not_found", "failed"] == [bench.do("run", program=p)["error"] for p in ("C:\\no.exe", "C:\\tool.exe")]


def test_no_address_outside_this_host_is_contacted(bench: Bench) -> None:
    """Unknown names and foreign addresses are unreachable at once."""
    outside = [bench.do("tcp", host=host, port=80) for host in ("example.org", "192.0.2.1", "127.0.0.1")]
    assert [False, False] == [result["reachable"] for result in outside[:2]]
    assert "failed" == bench.do("http", url="http://192.0.2.1/")["error"]


def test_a_change_waits_until_another_process_releases_the_fence(bench: Bench) -> None:
    """It runs as soon as the file is free."""
    fence = WindowsPath.of("C:\\f\\writer")
    bench.put(fence.text, b"")
    bench.disk.lock(fence)
    touch = {"op": "mkdir", "path": "C:\\d"}
    line = json.dumps({"v": 1, "id": "1", "guard": {"fence": {"file": fence.text, "number": 3}}, "ops": [touch]})

    async def asked() -> tuple[bool, str]:
        asking = asyncio.ensure_future(bench.agent.reply(line))
        await asyncio.sleep(0.15)
        waited = not asking.done()
        bench.disk.unlock(fence)
        return waited, (await asking).text

    waited, text = asyncio.run(asked())
    assert waited
    assert json.loads(text)["results"][0]["changed"]
    assert b"00000000000000000003".ljust(96) + b"\n" == bench.read(fence.text)
    assert [] == bench.disk.names(WindowsPath.of("C:\\d"))


writers = st.tuples(st.integers(0, 3), st.sampled_from(["r1", "r2"]), st.integers(1, 3))


@given(st.lists(writers, min_size=1, max_size=12))
def test_in_any_order_only_newer_writers_change_a_node(asking: list[tuple[int, str, int]]) -> None:
    """A write succeeds if its number is larger than all before, or its claim is not earlier in the same run."""
    bench, newest = Bench(), (-1, "", 0)
    for at, (number, run, claim) in enumerate(asking):
        write = {"op": "write", "path": "C:\\a", "data": "eA==" if at % 2 else "eQ==", "expect": "any"}
        guard = {"fence": {"file": "C:\\f\\writer", "number": number, "run": run, "claim": claim}}
        (result,) = bench.ask({"v": 1, "id": "1", "ops": [write], "guard": guard})["results"]
        may = number > newest[0] or (newest[:2] == (number, run) and claim >= newest[2])
        assert may == result["ok"]
        newest = (number, run, claim) if may else newest
    assert f"{newest[0]:020d} {newest[2]:010d} {newest[1]}" == bench.read("C:\\f\\writer").decode().strip()
