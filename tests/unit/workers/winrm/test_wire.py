"""What travels between us and the agent."""

import base64
import gzip
import json
import re
from importlib.resources import files
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import SessionLost
from workers.winrm import agent as ops
from workers.winrm.wire import COMMAND_LIMIT, ReplyReader, command_line, encoded_request, readable, script_line

SCRIPTS = ("agent.ps1", "bootstrap.ps1", "batch.ps1")


@pytest.mark.parametrize("batch", [False, True])
def test_the_command_line_is_short_fixed_and_holds_the_bootstrap(batch: bool) -> None:  # noqa: FBT001 - a parameter
    """Far below what cmd.exe takes, and without an argument that varies."""
    line = command_line(batch=batch)
    script = base64.b64decode(line.rpartition(" ")[2]).decode("utf-16-le")
    assert len(line) < COMMAND_LIMIT / 2
    assert line.startswith("powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand ")
    assert batch == ("$input" in script)
    assert "#" not in script


def test_only_the_batch_bootstrap_takes_stdin_as_a_whole() -> None:
    """Elsewhere that name, even in a comment, would make PowerShell wait for the end of input before anything runs."""
    holding = [name for name in SCRIPTS if "$input" in (files("workers.winrm") / name).read_text("ascii").lower()]
    assert ["batch.ps1"] == holding


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_scripts_are_ascii_without_a_here_string(name: str) -> None:
    """They are sent without comments and indentation, which a text of several lines would not survive."""
    text = (files("workers.winrm") / name).read_text("ascii")
    assert [] == re.findall(r"@['\"]\s*$|<#|`\s*$", text, re.MULTILINE)


def test_the_script_travels_as_one_line_of_base64() -> None:
    """Line 1 of stdin is the agent."""
    line = script_line()
    script = base64.b64decode(line).decode("ascii")
    assert line.endswith(b"\n")
    assert 1 == line.count(b"\n")
    assert script.startswith("Set-StrictMode")


@given(st.text(), st.booleans())
def test_a_request_is_one_line_of_ascii(text: str, keep_going: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    """Whatever it carries."""
    line = encoded_request("7", [ops.registry("HKLM\\X", text)], keep_going=keep_going)
    assert 1 == line.count(b"\n")
    request = json.loads(line.decode("ascii"))
    assert (1, "7", text) == (request["v"], request["id"], request["ops"][0]["name"])
    assert keep_going == request.get("keep_going", False)


def reply_line(request_id: str, **fields: object) -> bytes:
    """A reply with one result."""
    return json.dumps({"v": 1, "id": request_id, "results": [{"ok": True, **fields}]}).encode() + b"\r\n"


@given(
    st.lists(st.integers(0, 400), max_size=8), st.lists(st.sampled_from([b"noise\n", b"{broken\n", b"[1]\n", b"\n"]))
)
def test_a_reply_is_found_however_it_is_cut_and_whatever_is_around_it(cuts: list[int], noise: list[bytes]) -> None:
    """Noise and replies to other requests are skipped; pieces may end anywhere."""
    stream = b"".join(noise) + reply_line("1", n=1) + b"WARNING: x\n" + reply_line("2", n=2)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    reader, found = ReplyReader(), None
    for start, end in pairwise(edges):
        found = reader.feed(stream[start:end], "2") or found
    assert [{"ok": True, "n": 2}] == found


def packed_line(text: bytes) -> bytes:
    """A reply whose results come packed."""
    return json.dumps({"v": 1, "id": "1", "gzip": base64.b64encode(gzip.compress(text)).decode()}).encode() + b"\n"


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none())))
def test_a_packed_reply_is_the_same_reply(results: list[dict[str, object]]) -> None:
    """Whatever is in it."""
    plain = json.dumps({"v": 1, "id": "1", "results": results}).encode() + b"\n"
    assert ReplyReader().feed(plain, "1") == ReplyReader().feed(packed_line(json.dumps(results).encode()), "1")


@given(st.data())
def test_a_damaged_packed_reply_ends_the_session(data: st.DataObject) -> None:
    """Cut short, or with a byte changed, it is never taken for another reply."""
    results = [{"ok": True, "text": "x" * 50}]
    packed = gzip.compress(json.dumps(results).encode())
    place = data.draw(st.integers(10, len(packed) - 1))  # before that lies what names the format and the time
    other = data.draw(st.sampled_from([b"", bytes([packed[place] ^ 255]) + packed[place + 1 :]]))
    line = json.dumps({"v": 1, "id": "1", "gzip": base64.b64encode(packed[:place] + other).decode()}).encode()
    with pytest.raises(SessionLost, match="version"):
        ReplyReader().feed(line + b"\n", "1")


def test_a_reply_that_unpacks_without_end_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small line cannot fill our memory either."""
    monkeypatch.setattr("workers.winrm.wire.REPLY_LIMIT", 1000)
    with pytest.raises(SessionLost, match="version"):
        ReplyReader().feed(packed_line(b"[" + b" " * 1000 + b"]"), "1")


def test_a_reply_of_another_version_ends_the_session() -> None:
    """It cannot be understood, and what was asked may have happened."""
    with pytest.raises(SessionLost, match="version"):
        ReplyReader().feed(b'{"v":2,"id":"1","results":[]}\n', "1")


def test_a_line_without_end_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that prints for ever does not fill our memory."""
    monkeypatch.setattr("workers.winrm.wire.REPLY_LIMIT", 100)
    with pytest.raises(SessionLost, match="without the end"):
        ReplyReader().feed(b"x" * 101, "1")


def test_what_powershell_says_on_stderr_becomes_one_short_line() -> None:
    """CLIXML, its escapes and colours are taken off."""
    said = b'#< CLIXML\r\n<Objs><S S="Error">_x001B_[31;1mAccess denied_x000D__x000A_</S></Objs>' + b" x" * 400
    line = readable(said)
    assert len(line) <= 300
    assert "<" not in line
    assert "Access denied" in readable(said[:90] + b"</S></Objs>")


def test_a_guard_travels_where_something_changes_and_nowhere_else() -> None:
    """A request that only looks is no longer for it."""
    guard = ops.Guard(7, "C:\\f", ("C:\\a",))
    changing = json.loads(encoded_request("1", [ops.clock(), ops.touch("C:\\a\\b")], keep_going=False, guard=guard))
    looking = json.loads(encoded_request("1", [ops.clock(), ops.service("S")], keep_going=False, guard=guard))
    unguarded = json.loads(encoded_request("1", [ops.touch("C:\\a\\b")], keep_going=False))
    assert guard.as_json() == changing["guard"]
    assert ("guard" in looking, "guard" in unguarded) == (False, False)
