"""The operations and replies of the agent as values."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import AccessDenied, AgentFailed, Conflict, DeadlineExceeded, NodeError
from workers.winrm import operations as ops
from workers.winrm.greeting import hello_of
from workers.winrm.operations import Op, Reply
from workers.winrm.wire import json_line
from workers.winrm.writers import LARGEST_NUMBER, Writer, writer_of


def reply(**fields: Any) -> Reply:  # noqa: ANN401 - JSON
    """A reply to a read."""
    return Reply(ops.read("C:\\a"), fields)


@pytest.mark.parametrize(
    ("op", "wanted"),
    [
        (ops.hello(), {"op": "hello"}),
        (ops.stat("C:\\a", hashes=True), {"op": "stat", "path": "C:\\a", "hash": True}),
        (ops.list_folder("C:\\a", limit=5), {"op": "list", "path": "C:\\a", "hash": False, "limit": 5}),
        (ops.read("C:\\a", limit=9), {"op": "read", "path": "C:\\a", "limit": 9}),
        (ops.hash_of("C:\\a"), {"op": "hash", "path": "C:\\a"}),
        (
            ops.write("C:\\a", b"x", expect=ops.ABSENT),
            {"op": "write", "path": "C:\\a", "data": "eA==", "expect": "absent", "backup": None},
        ),
        (
            ops.spread("C:\\f", {"k": b"x"}, {"n": "k"}, backup="C:\\b"),
            {"op": "spread", "folder": "C:\\f", "blobs": {"k": "eA=="}, "files": {"n": "k"}, "backup": "C:\\b"},
        ),
        (ops.mkdir("C:\\a"), {"op": "mkdir", "path": "C:\\a", "backup": None}),
        (
            ops.remove("C:\\a", backup="C:\\b"),
            {"op": "remove", "path": "C:\\a", "expect": "any", "backup": "C:\\b"},
        ),
        (ops.service("S", action="stop"), {"op": "service", "name": "S", "action": "stop", "deadline": 60}),
        (ops.version("C:\\a"), {"op": "version", "path": "C:\\a"}),
        (ops.registry("HKLM\\X", "v"), {"op": "registry", "key": "HKLM\\X", "name": "v"}),
        (ops.tcp("h", 80), {"op": "tcp", "host": "h", "port": 80, "timeout": 5}),
        (ops.http("http://h/"), {"op": "http", "url": "http://h/", "timeout": 10, "limit": 65536}),
        (ops.clock(), {"op": "clock"}),
        (ops.touch("C:\\a"), {"op": "touch", "path": "C:\\a"}),
        (ops.run("C:\\p", ["x"]), {"op": "run", "program": "C:\\p", "args": ["x"], "deadline": 60}),
    ],
    ids=lambda value: value.name if isinstance(value, Op) else "",
)
def test_each_operation_has_the_fields_of_the_protocol(op: Op, wanted: dict[str, Any]) -> None:
    """Exactly the fields of docs/agent-protocol.md."""
    assert wanted == json.loads(json_line(op.as_json()))


def test_an_operation_shows_its_target_and_no_content() -> None:
    """The content may be a private key: neither `repr` nor `str` contain it."""
    op = ops.write("C:\\a.pvk", b"planted-secret", expect=ops.ANY)
    shown = f"{op!r} {op} {Reply(op, {'ok': True})!r}"
    assert "C:\\a.pvk" in str(op)
    assert "planted" not in shown
    assert base64.b64encode(b"planted-secret").decode() not in shown


@given(st.binary(max_size=300))
def test_bytes_survive_encoding_and_decoding(data: bytes) -> None:
    """`data_of` decodes what `write` encodes."""
    sent = json.loads(json_line(ops.write("C:\\a", data, expect=ops.ANY).as_json()))
    assert data == ops.data_of(reply(ok=True, data=sent["data"]))


def test_a_reply_gives_its_fields_and_names_a_missing_one() -> None:
    """Fields are read by name; a missing one is a failure of the agent, with the agent's message if there is one."""
    good, bad = reply(ok=True, hash="h"), reply(ok=False, error="not_found", message="gone", path="C:\\a")
    assert ("h", None, True, False) == (good["hash"], good.get("x"), "hash" in good, "x" in good)
    assert (False, "not_found", "gone", "C:\\a") == (bad.ok, bad.error, bad.message, bad.path)
    with pytest.raises(AgentFailed, match="has no 'size'"):
        good["size"]
    with pytest.raises(AgentFailed, match="gone") as caught:
        bad["hash"]
    assert ("not_found", "C:\\a") == (caught.value.reason, caught.value.file)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("conflict", Conflict),
        ("busy", Conflict),
        ("access_denied", AccessDenied),
        ("timeout", DeadlineExceeded),
        ("not_found", AgentFailed),
        ("invalid", AgentFailed),
        ("failed", AgentFailed),
        ("a code of a later agent", AgentFailed),
    ],
)
def test_each_error_code_of_the_agent_becomes_one_error(error: str, kind: type[NodeError]) -> None:
    """The error names node, operation and file."""
    found = ops.error_of(reply(ok=False, error=error, message="why", path="C:\\a"), "S1")
    assert kind is type(found)
    assert ("S1: read C:\\a: why", "C:\\a") == (found.message, found.file)


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [("2026-11-23T18:30:00.1234567Z", 123456), ("2026-11-23T18:30:00Z", 0), ("2026-11-23T18:30:00.5Z", 500000)],
)
def test_times_are_read_with_any_number_of_digits(text: str, microsecond: int) -> None:
    """0 to 7 digits; digits beyond microseconds are dropped."""
    assert datetime(2026, 11, 23, 18, 30, 0, microsecond, UTC) == ops.time_of(text)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-23"[:4], None])
def test_an_invalid_time_is_a_failure_of_the_agent(text: Any) -> None:  # noqa: ANN401 - any JSON value
    """Not an exception of the parser."""
    with pytest.raises(AgentFailed):
        ops.time_of(text)


def test_invalid_base64_is_a_failure_of_the_agent() -> None:
    """Not an exception of the decoder."""
    with pytest.raises(AgentFailed, match="not base64"):
        ops.data_of(reply(ok=True, data="*"))


def test_a_digest_is_the_hash_of_the_agent() -> None:
    """SHA-256, lower-case hex."""
    assert "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" == ops.digest(b"")


@pytest.mark.parametrize(
    ("op", "changes"),
    [
        (ops.write("C:\\a", b"", expect=ops.ANY), True),
        (ops.spread("C:\\a", {}, {}), True),
        (ops.mkdir("C:\\a"), True),
        (ops.remove("C:\\a"), True),
        (ops.touch("C:\\a"), True),
        (ops.service("S", action="stop"), True),
        (ops.service("S", action="start"), True),
        (ops.service("S"), False),
        (Op("service", {"name": "S"}), False),
        (ops.read("C:\\a"), False),
        (ops.stat("C:\\a"), False),
        (ops.run("C:\\p"), False),
        (ops.hello(), False),
    ],
    ids=str,
)
def test_an_operation_knows_whether_it_changes_the_node(op: Op, changes: bool) -> None:  # noqa: FBT001 - a parameter
    """Files and services; programs do not count."""
    assert changes == op.changes


def test_a_guard_has_the_fields_of_the_protocol() -> None:
    """The fence and the folders."""
    guard = ops.Guard(7, "C:\\f", ("C:\\a", "D:\\b"))
    assert {"fence": {"file": "C:\\f", "number": 7}, "folders": ["C:\\a", "D:\\b"]} == guard.as_json()
    named = ops.Guard(7, "C:\\f", (), run="r1", claim=3)
    assert {"file": "C:\\f", "number": 7, "run": "r1", "claim": 3} == named.as_json()["fence"]


@pytest.mark.parametrize(
    ("content", "number", "run"),
    [
        (b"", 0, ""),
        (b"\0" * 97, 0, ""),
        (b"00000000001795659908\n", 1795659908, ""),
        (b"7\r\n", 7, ""),
        (b"00000000000000000007 0000000002 20261123-shop-7f3a".ljust(96) + b"\n", 7, "20261123-shop-7f3a"),
        (b"%020d" % (2**63 - 1), 2**63 - 1, ""),
    ],
)
def test_a_fence_file_names_the_newest_writer(content: bytes, number: int, run: str) -> None:
    """Also if an older agent or a person wrote it; an empty file names no writer."""
    data = base64.b64encode(content).decode()
    assert Writer(number, run) == writer_of(reply(ok=True, data=data), "S1")


def test_no_fence_file_is_no_writer_yet() -> None:
    """Any number is newer."""
    assert Writer(0) == writer_of(reply(ok=False, error="not_found", message="there is no such file"), "S1")


@pytest.mark.parametrize(
    "content", [b"x", b"7 8", b"7\n8", b"7 1 a b", b"-1", b"%d" % 2**63, b"9" * 30, b"7 1 " + b"r" * 65]
)
def test_an_invalid_fence_file_is_rejected(content: bytes) -> None:
    """The last writer is unknown."""
    data = base64.b64encode(content).decode()
    with pytest.raises(AgentFailed, match="does not contain a fence number"):
        writer_of(reply(ok=True, data=data, path="C:\\f"), "S1")


def test_the_conflict_of_an_outdated_writer_names_the_newer_one() -> None:
    """With the message of the node and the fence file."""
    message = "a newer writer (8) has changed this node; this request (7) is outdated"
    found = ops.error_of(reply(ok=False, error="conflict", message=message, path="C:\\f"), "S1")
    assert (Conflict, f"S1: read C:\\a: {message}", "C:\\f") == (type(found), found.message, found.file)


@pytest.mark.parametrize(
    ("winrm", "wanted", "shown"),
    [
        ({"MaxShellsPerUser": "30", "IdleTimeout": "7200000"}, None, "WinRM IdleTimeout 7200000, MaxShellsPerUser 30"),
        (None, {}, "WinRM quotas not readable"),
    ],
)
def test_a_hello_shows_the_quotas_if_they_can_be_read(winrm: Any, wanted: Any, shown: str) -> None:  # noqa: ANN401 - JSON
    """Reports show this text for a failed node."""
    fields = {
        "ok": True,
        "agent": 1,
        "powershell": "5.1.1",
        "edition": "Desktop",
        "language_mode": "FullLanguage",
        "clr": "4.0",
        "os": "Windows",
        "computer": "S1",
        "admin": True,
        "code_page": 437,
        "program_data": "C:\\ProgramData",
        "system_drive": "C:",
        "drives": [],
    }
    hello = hello_of(Reply(ops.hello(), {**fields, "winrm": winrm}))
    assert (winrm or wanted) == hello.winrm
    assert str(hello).endswith(shown)
    assert {} == hello_of(Reply(ops.hello(), fields)).winrm


def test_a_reply_is_a_mapping_of_its_fields() -> None:
    """With defaults for missing ones; a failure without error and message has both."""
    good, bad = reply(ok=True, size=3), reply(ok=False)
    assert (2, ["ok", "size"], 7) == (len(good), list(good), good.get("x", 7))
    assert ("", "", "") == (good.error, good.message, good.path)
    assert ("failed", "no reason was given") == (bad.error, bad.message)
    assert not reply(ok=1).ok
    assert ("Reply(read C:\\a: ok)", "Reply(read C:\\a: failed)") == (repr(good), repr(bad))


@pytest.mark.parametrize(
    ("op", "target", "spoken"),
    [
        (ops.clock(), "", "clock"),
        (ops.spread("C:\\f", {}, {}), "C:\\f", "copy files to C:\\f"),
        (ops.mkdir("C:\\f"), "C:\\f", "make the folder C:\\f"),
        (ops.stat("C:\\f"), "C:\\f", "look at C:\\f"),
        (ops.tcp("h", 80), "h", "tcp h"),
        (ops.http("http://h/"), "http://h/", "http http://h/"),
        (ops.run("C:\\p"), "C:\\p", "run C:\\p"),
        (ops.registry("HKLM\\X", "v"), "v", "registry v"),
        (ops.service("S"), "S", "service S"),
    ],
    ids=str,
)
def test_an_operation_names_its_target(op: Op, target: str, spoken: str) -> None:
    """In messages, in words that people use."""
    assert (target, spoken) == (op.target, str(op))


def test_defaults_of_the_operations_are_those_of_the_protocol() -> None:
    """Limits in bytes and entries, times in seconds."""
    assert (4_194_304, 10_000) == (ops.read("x").fields["limit"], ops.list_folder("x").fields["limit"])
    assert (60, "query") == (ops.service("S").fields["deadline"], ops.service("S").fields["action"])
    assert (False, False, False) == (
        ops.stat("x").fields["hash"], ops.list_folder("x").fields["hash"], ops.read("x").changes,
    )  # fmt: skip
    assert 2**63 - 1 == LARGEST_NUMBER


def test_a_hello_shows_rights_and_free_space() -> None:
    """In MiB; unknown fields are ignored, a number may be a text in the quotas."""
    fields = {
        "ok": True,
        "agent": 1,
        "powershell": "5.1.1",
        "edition": "Desktop",
        "language_mode": "FullLanguage",
        "clr": "4.0",
        "os": "Windows",
        "computer": "S1",
        "admin": False,
        "code_page": 437,
        "program_data": "C:\\ProgramData",
        "system_drive": "C:",
        "drives": [{"name": "C:", "free": 5 * 2**20 + 7}],
        "winrm": {"Max": 5},
        "more": 1,
    }
    hello = hello_of(Reply(ops.hello(), fields))
    assert (
        "S1, Windows, PowerShell 5.1.1 Desktop FullLanguage, .NET 4.0, code page 437, not administrator, "
        "C: 5 MiB free at logon, WinRM Max 5"
    ) == str(hello)
    assert ", administrator, " in str(hello.model_copy(update={"admin": True}))


@pytest.mark.parametrize(
    ("fields", "names", "reason"),
    [
        ({"ok": True}, "admin, agent, clr, code_page", "failed"),
        ({"ok": False, "error": "busy", "message": "x"}, "admin, agent", "busy"),
    ],
)
def test_an_incomplete_hello_names_the_fields(fields: dict[str, Any], names: str, reason: str) -> None:
    """Sorted, each one once."""
    with pytest.raises(AgentFailed, match=f"the reply to hello has no valid {names}") as caught:
        hello_of(Reply(ops.hello(), fields))
    assert reason == caught.value.reason


def test_a_fence_file_that_cannot_be_read_is_an_error() -> None:
    """Only a missing one is no writer."""
    with pytest.raises(AccessDenied, match="S1: read C:"):
        writer_of(reply(ok=False, error="access_denied", message="why", path="C:\\f"), "S1")


def test_an_error_has_a_remedy_where_a_person_can_do_something() -> None:
    """A timeout has none; an unknown error keeps its code."""
    remedies = {
        error: ops.error_of(reply(ok=False, error=error), "S1").remedy for error in ("conflict", "busy", "timeout")
    }
    assert "find out what else writes the file" in remedies["conflict"]
    assert "close the program" in remedies["busy"]
    assert "" == remedies["timeout"]
    other = ops.error_of(reply(ok=False, error="odd"), "S1")
    assert isinstance(other, AgentFailed)
    assert ("odd", "") == (other.reason, other.remedy)


def test_a_change_names_the_service_that_reads_it() -> None:
    """The start record is a field of the operation; the rest of it is the same."""
    plain = ops.write("C:\\a", b"x", expect=ops.ANY, backup="C:\\b")
    op = ops.outdating(plain, "C:\\own\\start", "Svc")
    assert {**plain.as_json(), "start_record": {"file": "C:\\own\\start", "service": "Svc"}} == op.as_json()
    assert (plain.size, plain.target, True) == (op.size, op.target, op.changes)
    started = ops.start("Svc", "C:\\own\\start", {"a": "1"}, deadline=7)
    assert started.as_json() == {
        **ops.service("Svc", action="start", deadline=7).as_json(),
        "start_record": {"file": "C:\\own\\start", "loaded": {"a": "1"}},
    }
    assert started.changes


@pytest.mark.parametrize("code", [2, 5, 1053, 1058, 1067, 1068, 1069])
def test_a_service_that_does_not_start_has_a_remedy_for_its_error(code: int) -> None:
    """By the number, whatever the language of the server; the message keeps its words."""
    slug = "access_denied" if code == 5 else "failed"
    failed = Reply(ops.service("Svc", action="start"), {"ok": False, "error": slug, "message": "Nein", "code": code})
    error = ops.error_of(failed, "P1")
    assert (True, True) == (error.message.endswith("Nein"), "then retry" in error.remedy)
    assert error.remedy != ops.error_of(Reply(failed.op, {"ok": False, "error": slug, "message": "Nein"}), "P1").remedy


@pytest.mark.parametrize("code", [0, 9999, -1, "1069", None, 1069.5, [1069], True])
def test_an_unknown_error_of_a_service_has_no_remedy_of_its_own(code: object) -> None:
    """Also when the node replies anything else than a number."""
    failed = Reply(ops.service("Svc", action="start"), {"ok": False, "error": "failed", "message": "no", "code": code})
    assert "" == ops.error_of(failed, "P1").remedy


def test_a_service_is_named_once() -> None:
    """A message that says which service it is about needs no name before it."""
    op = ops.service("Svc", action="start")
    about = Reply(op, {"ok": False, "error": "timeout", "message": "the service Svc is still stopping after 60 s"})
    assert "P1: the service Svc is still stopping after 60 s" == ops.error_of(about, "P1").message
    bare = Reply(op, {"ok": False, "error": "failed", "message": "no"})
    assert "P1: service Svc: no" == ops.error_of(bare, "P1").message
