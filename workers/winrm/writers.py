"""The fence file of a node: which run has written there last (docs/agent-protocol.md). No input or output."""

import re
from dataclasses import dataclass, field

from workers.errors import AgentFailed
from workers.winrm.operations import Reply, data_of, error_of

__all__ = ["LARGEST_NUMBER", "Writer", "writer_of"]

LARGEST_NUMBER = 2**63 - 1  #: largest number in a fence file
_WRITER = re.compile(rb"([0-9]{1,20})(?: ([0-9]{1,10}) ([A-Za-z0-9._-]{1,64}))?")


@dataclass(frozen=True, slots=True)
class Writer:
    """The newest writer that a node has seen: number, run, and claim of that run. An older agent wrote no run."""

    number: int
    run: str = ""
    claim: int = field(default=0, compare=False)


def writer_of(reply: Reply, node: str) -> Writer:
    """The newest writer in the fence file that was read; number 0 without a run if there is none yet.

    Raises:
        AgentFailed: the file has other content.
        NodeError: the file cannot be read.
    """
    if reply.error == "not_found":
        return Writer(0)
    if not reply.ok:
        raise error_of(reply, node)
    text = data_of(reply).strip(b"\0\r\n ")
    if not text:
        return Writer(0)
    match = _WRITER.fullmatch(text)
    if match is None or int(match[1]) > LARGEST_NUMBER:
        raise AgentFailed(f"{node}: the fence file does not contain a fence number", file=reply.path)
    return Writer(int(match[1]), (match[3] or b"").decode(), int(match[2] or 0))
