"""Files that a session does not transfer again."""

import hashlib

from tests.unit.workers.winrm.in_memory import MachineChannel
from workers.records import Endpoint
from workers.remembered import Remembered
from workers.winrm import operations as ops
from workers.winrm.channel import TURN, Chunk, Limit
from workers.winrm.remembered import FilesOfNode, KnownFile
from workers.winrm.session import AgentSession

AT = Endpoint(node="S1", host="s1", user="u", secret="env:x")
LARGE = b"<add key='a'/>" * 4000


def _sessions(files: Remembered[KnownFile], sent: list[int]) -> tuple[AgentSession, AgentSession]:
    """Two sessions with the same node; `sent` gets the length of each output."""

    class Recording(MachineChannel):
        def receive(self, limit: Limit, *, turn: float = TURN) -> Chunk:
            chunk = super().receive(limit, turn=turn)
            sent.append(len(chunk.stdout))
            return chunk

    channel = Recording()
    found = AgentSession(channel, "S1"), AgentSession(channel, "S1")
    for session in found:
        session.files = FilesOfNode(files, AT)
    return found


def test_a_file_that_did_not_change_is_not_transferred_again_and_one_that_did_is() -> None:
    """Also by the next session; the bytes are those on the node in every case."""
    sent: list[int] = []
    session, _ = _sessions(Remembered(10_000), sent)
    path = "C:\\a.config"
    for content in (LARGE, LARGE, LARGE + b" ", LARGE + b" "):
        session.ask([ops.write(path, content, expect=ops.ANY)], deadline=60)
        (reply,) = session.ask([ops.read(path, remembered=True)], deadline=60)
        assert content == ops.data_of(reply)
    first, second, third, fourth = sent[1::2]
    assert second < 400 < first
    assert fourth < 400 < third


def test_what_a_node_claims_of_a_file_is_not_remembered_for_another_content() -> None:
    """The hash of remembered bytes is computed here: a node with a wrong hash gets no other content accepted."""
    files: Remembered[KnownFile] = Remembered(1000)
    of_node = FilesOfNode(files, AT)
    op = ops.read("C:\\a", remembered=True)
    of_node.completed(op, {"ok": True, "data": "eA==", "hash": ops.digest(b"other")})
    assert ops.digest(b"x") == of_node.recalled(op).fields["known"]
    assert "data" not in of_node.completed(op, {"ok": False, "error": "busy"})


def test_files_weigh_what_they_take_in_memory() -> None:
    """Compressed: two large files with little in them fit where a small one that cannot be compressed does not."""
    files: Remembered[KnownFile] = Remembered(900)
    of_node = FilesOfNode(files, AT)
    random = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(30))
    for path, data in {"C:\\0": LARGE, "C:\\1": LARGE + b" ", "C:\\2": random}.items():
        of_node.completed(ops.read(path, remembered=True), {"ok": True, "data": data})
    assert [LARGE, LARGE + b" "] == [known.data for path in ("C:\\0", "C:\\1") if (known := files.get((AT, path)))]
    assert files.get((AT, "C:\\2")) is None


def test_what_a_step_leaves_is_there_once_and_only_until_the_next_exchange() -> None:
    """And under its own name, and not after its time."""
    session = AgentSession(MachineChannel(), "S1")
    session.leave("look", 1, 9)
    assert (1, None) == (session.found("look"), session.found("look"))
    session.leave("look", 1, 9)
    session.ask([ops.clock()], deadline=60)
    assert session.found("look") is None
    session.leave("look", 1, 9)
    assert session.found("other") is None
    session.leave("look", 1, -1)
    assert session.found("look") is None


def test_what_is_asked_after_the_operations_may_fail_alone() -> None:
    """Its replies come last; a failure there is a reply, as with `keep_going`."""
    session = AgentSession(MachineChannel(), "S1")
    write = ops.write("C:\\a", b"x", expect=ops.ABSENT)
    done, missing, read = session.ask([write], look=[ops.read("C:\\none"), ops.read("C:\\a")], deadline=60)
    assert (True, "not_found", b"x") == (done["changed"], missing.error, ops.data_of(read))
