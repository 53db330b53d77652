"""The command line, the script, requests and replies as bytes."""

import base64
import gzip
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import SessionLost
from workers.winrm import operations as ops
from workers.winrm import wire
from workers.winrm.wire import (
    COMMAND_LIMIT,
    ReplyReader,
    agent_script,
    command_line,
    encoded_request,
    readable,
    script_line,
)


@pytest.mark.parametrize("batch", [False, True])
def test_the_command_line_is_short_and_contains_the_bootstrap(batch: bool) -> None:  # noqa: FBT001 - a parameter
    """Far below the limit of cmd.exe, and without a variable argument."""
    line = command_line(batch=batch)
    script = base64.b64decode(line.rpartition(" ")[2]).decode("utf-16-le")
    assert len(line) < COMMAND_LIMIT / 2
    assert line.startswith("powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand ")
    assert batch == ("$input" in script)
    assert "#" not in script


def test_the_script_is_sent_as_one_line_of_base64() -> None:
    """Line 1 of stdin is the agent."""
    line = script_line()
    assert line.endswith(b"\n")
    assert 1 == line.count(b"\n")
    assert agent_script() == base64.b64decode(line).decode("ascii")


@given(st.text(), st.booleans())
def test_a_request_is_one_line_of_ascii(text: str, keep_going: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    """For any text in it."""
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
def test_a_reply_is_found_in_any_pieces_and_among_noise(cuts: list[int], noise: list[bytes]) -> None:
    """Noise and replies to other requests are skipped; pieces may end anywhere."""
    stream = b"".join(noise) + reply_line("1", n=1) + b"WARNING: x\n" + reply_line("2", n=2)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    reader, found = ReplyReader(), None
    for start, end in pairwise(edges):
        found = reader.feed(stream[start:end], "2") or found
    assert [{"ok": True, "n": 2}] == found


def packed_line(text: bytes) -> bytes:
    """A reply with compressed results."""
    return json.dumps({"v": 1, "id": "1", "gzip": base64.b64encode(gzip.compress(text)).decode()}).encode() + b"\n"


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none())))
def test_a_compressed_reply_has_the_same_results(results: list[dict[str, object]]) -> None:
    """For any results."""
    plain = json.dumps({"v": 1, "id": "1", "results": results}).encode() + b"\n"
    assert ReplyReader().feed(plain, "1") == ReplyReader().feed(packed_line(json.dumps(results).encode()), "1")


@given(st.data())
def test_a_damaged_compressed_reply_ends_the_session(data: st.DataObject) -> None:
    """Truncated, or with a changed byte, it is never read as another reply."""
    results = [{"ok": True, "text": "x" * 50}]
    packed = gzip.compress(json.dumps(results).encode())
    place = data.draw(st.integers(10, len(packed) - 1))  # the bytes before are the format and the time
    other = data.draw(st.sampled_from([b"", bytes([packed[place] ^ 255]) + packed[place + 1 :]]))
    line = json.dumps({"v": 1, "id": "1", "gzip": base64.b64encode(packed[:place] + other).decode()}).encode()
    with pytest.raises(SessionLost, match="version"):
        ReplyReader().feed(line + b"\n", "1")


def test_a_decompression_bomb_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small line cannot fill the memory."""
    monkeypatch.setattr("workers.winrm.wire.REPLY_LIMIT", 1000)
    with pytest.raises(SessionLost, match="more than 1000 bytes"):
        ReplyReader().feed(packed_line(b"[" + b" " * 1000 + b"]"), "1")


def test_a_reply_of_another_version_ends_the_session() -> None:
    """It cannot be read, and the operations may have run."""
    with pytest.raises(SessionLost, match="version"):
        ReplyReader().feed(b'{"v":2,"id":"1","results":[]}\n', "1")


def test_an_endless_line_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that prints without end does not fill the memory."""
    monkeypatch.setattr("workers.winrm.wire.REPLY_LIMIT", 100)
    with pytest.raises(SessionLost, match="without a line end"):
        ReplyReader().feed(b"x" * 101, "1")


def test_the_stderr_of_powershell_becomes_one_short_line() -> None:
    """CLIXML, its escapes and colours are removed."""
    stderr = b'#< CLIXML\r\n<Objs><S S="Error">_x001B_[31;1mAccess denied_x000D__x000A_</S></Objs>' + b" x" * 400
    line = readable(stderr)
    assert len(line) <= 300
    assert "<" not in line
    assert "Access denied" in readable(stderr[:90] + b"</S></Objs>")


def test_a_guard_is_sent_only_with_operations_that_change_something() -> None:
    """A request that only reads does not get longer."""
    guard = ops.Guard(7, "C:\\f", ("C:\\a",))
    changing = json.loads(encoded_request("1", [ops.clock(), ops.touch("C:\\a\\b")], keep_going=False, guard=guard))
    reading = json.loads(encoded_request("1", [ops.clock(), ops.service("S")], keep_going=False, guard=guard))
    unguarded = json.loads(encoded_request("1", [ops.touch("C:\\a\\b")], keep_going=False))
    assert guard.as_json() == changing["guard"]
    assert ("guard" in reading, "guard" in unguarded) == (False, False)


def test_a_bootstrap_that_is_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """cmd.exe would fail silently; exactly its limit is allowed."""
    length = len(command_line())
    monkeypatch.setattr(wire, "COMMAND_LIMIT", length)
    command_line.cache_clear()
    assert length == len(command_line())
    monkeypatch.setattr(wire, "COMMAND_LIMIT", length - 1)
    command_line.cache_clear()
    with pytest.raises(ValueError, match=f"{length} characters; cmd.exe accepts {length - 1}"):
        command_line()
    assert 8180 == COMMAND_LIMIT


def test_a_request_allows_compression_and_names_its_version() -> None:
    """`keep_going` is sent only if it is set; there are no spaces."""
    line = encoded_request("7", [ops.clock()], keep_going=False)
    assert b'{"v":1,"id":"7","gzip":true,"ops":[{"op":"clock"}]}\n' == line
    assert json.loads(encoded_request("7", [], keep_going=True))["keep_going"] is True


@pytest.mark.parametrize("before", [b"", b" \t", b"\xef\xbb\xbf"])
def test_a_reply_may_follow_blanks_or_a_byte_order_mark(before: bytes) -> None:
    """A console may print them first."""
    assert [{"ok": True}] == ReplyReader().feed(before + reply_line("1"), "1")


def test_a_reply_is_found_only_once_its_line_has_ended() -> None:
    """The rest stays for the next request; `clear` drops an incomplete line."""
    reader = ReplyReader()
    line = reply_line("1", n=1)
    assert reader.feed(line[:-1], "1") is None
    assert [{"ok": True, "n": 1}] == reader.feed(line[-1:] + reply_line("2", n=2), "1")
    assert [{"ok": True, "n": 2}] == reader.feed(b"", "2")
    reader.feed(b'{"v":1, ', "3")
    reader.clear()
    assert [{"ok": True}] == reader.feed(reply_line("3"), "3")


@pytest.mark.parametrize(
    "line",
    [
        b'{"id":"1","results":[]}',
        b'{"v":1,"id":"1"}',
        b'{"v":1,"id":"1","results":{}}',
        b'{"v":1,"id":"1","results":[1]}',
        b'{"v":1,"id":"1","results":[{},"x"]}',
        b'{"v":1,"id":"1","results":[],"gzip":"x"}',
        b'{"v":1,"id":"1","gzip":7}',
    ],
)
def test_a_reply_that_does_not_follow_the_protocol_ends_the_session(line: bytes) -> None:
    """It has the id of the request."""
    with pytest.raises(SessionLost, match="version 1"):
        ReplyReader().feed(line + b"\n", "1")


@pytest.mark.parametrize(
    "line",
    [b'{"v":1,"id":"1","results":[NaN]}', b"{" + b"[" * 100_000, b'{"v":1,"id":1,"results":[]}', b'["id"]', b"{\xff}"],
)
def test_a_line_that_is_no_reply_is_noise(line: bytes) -> None:
    """Also one that is nested too deeply, or has a constant that JSON does not have."""
    assert ReplyReader().feed(line + b"\n", "1") is None


def test_a_reply_has_a_limited_number_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small values need the most memory. Exactly as many as allowed are read."""
    line = reply_line("1", n=[1, 2])
    count = sum(line.count(bytes([mark])) for mark in b",[{:")
    monkeypatch.setattr(wire, "_MEMBERS", count)
    assert [{"ok": True, "n": [1, 2]}] == ReplyReader().feed(line, "1")
    monkeypatch.setattr(wire, "_MEMBERS", count - 1)
    with pytest.raises(SessionLost, match="too many values"):
        ReplyReader().feed(line, "1")


def test_a_line_and_a_compressed_reply_may_have_exactly_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """12 MB in production."""
    assert 12 * 2**20 == wire.REPLY_LIMIT
    text = b'[{"ok":true}]'
    monkeypatch.setattr(wire, "REPLY_LIMIT", len(text) + 1)
    assert [{"ok": True}] == ReplyReader().feed(packed_line(text), "1")
    monkeypatch.setattr(wire, "REPLY_LIMIT", len(text) - 1)
    with pytest.raises(SessionLost):
        ReplyReader().feed(packed_line(text), "1")
    monkeypatch.setattr(wire, "REPLY_LIMIT", 5)
    reader = ReplyReader()
    assert reader.feed(b"12345", "1") is None
    with pytest.raises(SessionLost, match="6 bytes without a line end"):
        reader.feed(b"6", "1")


def test_texts_are_cleaned_by_the_kind_of_their_field() -> None:
    """Bytes stay, the output of a program keeps its lines up to a limit, any other text is one line."""
    data, odd, output = "QUJD" * 1000, "QUJD\x1b", "one\ntwo\x1b\n" + "x" * 70_000
    line = reply_line("1", data=data, body=odd, stdout=output, stderr=output, message=output, name=data)
    (result,) = ReplyReader().feed(line, "1") or []
    assert (data, "QUJD ") == (result["data"], result["body"])
    assert isinstance(result["stdout"], str)
    assert ["one", "two "] == result["stdout"].split("\n")[:2]
    assert 65_536 >= len(result["stdout"]) > 1000
    assert result["stdout"] == result["stderr"]
    assert isinstance(result["message"], str)
    assert "\n" not in result["message"]
    assert result["name"] != data


def test_stderr_is_cut_to_its_last_300_characters() -> None:
    """The end has the error."""
    assert "b" * 299 + "c" == readable(b"a" * 500 + b"b" * 299 + b"c")
    assert "colour\u00fc end" == readable(b"\x1b[31;1mcolour\x81\x1b[0m end")
    assert "\u5185\u90e8" == readable("\u5185\u90e8".encode("cp932"), 932)


def test_noise_is_kept_for_messages_and_dropped_with_its_process() -> None:
    """The end of it, with an incomplete line; a reply is no noise."""
    reader = ReplyReader()
    reader.feed(b"x" * 9000 + b"\nfirst\nse", "1")
    reader.feed(b"cond", "1")
    assert (4096, b"\nfirst\nsecond") == (len(reader.noise), reader.noise[-13:])
    reader.clear()
    assert b"" == reader.noise
    assert [{"ok": True}] == reader.feed(b'C:\\> {"v":1,"id":"0","results":[]} ' + reply_line("1"), "1")
    assert b"" == reader.noise
