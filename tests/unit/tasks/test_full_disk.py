"""A full disk: what a step needs there is said beside what is free there now, in one unit."""

from collections.abc import Sequence
from typing import Any

import pytest

from tasks.step import Work
from tasks.step_values import Purpose
from tests.unit.pipelines.report.sample_run import cluster_of
from workers.errors import AgentFailed, NodeError, SessionLost
from workers.winrm import operations as ops
from workers.winrm.greeting import Hello
from workers.winrm.operations import Op, Reply

FILE = r"C:\site\a.config"
HELLO: dict[str, Any] = {
    "agent": 1, "powershell": "5.1", "edition": "Desktop", "language_mode": "FullLanguage", "clr": "4.0", "os": "Win",
    "computer": "P1", "admin": True, "code_page": 437, "program_data": r"C:\ProgramData", "system_drive": "C:",
    "drives": [{"name": "C:", "free": 1_500_000}],
}  # fmt: skip


class FullNode:
    """A session with a node on which every change fails; a question about the node is answered or fails."""

    def __init__(self, error: NodeError, answer: NodeError | None = None) -> None:
        self.error = error
        self.answer = answer

    def hello(self) -> Hello:
        """The first answer."""
        return Hello.model_validate({**HELLO, "drives": ()})

    def ask(self, requests: Sequence[Op], **_: object) -> list[Reply]:
        """Only `hello` succeeds."""
        if [request.name for request in requests] != ["hello"]:
            raise self.error
        if self.answer:
            raise self.answer
        return [Reply(requests[0], {"ok": True, **HELLO})]


class NoFence:
    """A claim that is never checked."""

    def guard(self, *_: object) -> None:
        """No guard."""


def failed(error: NodeError, answer: NodeError | None = None) -> NodeError:
    """How the change of two files ends."""
    cluster = cluster_of()
    parts: dict[str, Any] = {
        "run": "r", "purpose": Purpose.PLAN, "node": cluster.node("P1"), "cluster": cluster, "documents": None,
        "session": FullNode(error, answer), "fence": NoFence(), "cancelled": bool, "report_phase": str, "steps": {},
    }  # fmt: skip
    changes = [
        ops.write(FILE, b"x" * 3000, expect=ops.ANY),
        ops.spread("C:\\site", {"one": b"y" * 600}, {"a.pfx": "one", "b.pfx": "one"}),
        ops.mkdir("C:\\other"),
    ]
    with pytest.raises(type(error)) as raised:
        Work(**parts).change(changes, folders=())
    return raised.value


@pytest.mark.parametrize("words", ["There is not enough space on the disk", "Nicht genug Speicherplatz (error 112)"])
def test_what_is_needed_stands_beside_what_is_free(words: str) -> None:
    """Both in a readable unit, in every language of the node; the remedy names the drive and the node."""
    error = failed(AgentFailed(f"P1: write: {words}", file=FILE))
    assert error.message.endswith(f"{words}: 4.2 kB and room for backups needed, 1.5 MB free on C:")
    assert error.remedy == "free space on C: of P1, then retry"


def test_other_failures_stay_as_they_are() -> None:
    """Another error, a file without a drive, and a node that does not answer the question."""
    full = "there is not enough space on the disk"
    assert failed(AgentFailed("P1: write: no", file=FILE)).message == "P1: write: no"
    assert failed(SessionLost(full, file=FILE)).message == full
    assert failed(AgentFailed(full, file="site")).message == full
    assert failed(AgentFailed(full, file=FILE), SessionLost("gone")).message == full
