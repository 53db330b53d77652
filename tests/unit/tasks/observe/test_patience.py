"""A site that was just changed may have to compile its pages before it answers."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.ektron.facts.machine import ProbeFacts
from tasks.observe.probes import asked_patiently
from tasks.step import Work
from workers.winrm.operations import Op, Reply

URL = "http://P1/ContentWS.asmx"


class _Site:
    """A session with a node whose site gives one answer."""

    def __init__(self, answer: dict[str, object]) -> None:
        self._answer = answer
        self.asked: list[Op] = []

    def ask(self, questions: Sequence[Op], **_: object) -> list[Reply]:
        """The answer."""
        self.asked += questions
        return [Reply(one, self._answer) for one in questions]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"ok": True, "status": 200}, ProbeFacts(ws_url=URL, ws_status=200)),
        ({"ok": True, "status": 500}, ProbeFacts(ws_url=URL, ws_status=500)),
        ({"ok": False, "error": "failed"}, ProbeFacts(ws_url=URL, ws_status=0, ws_problem="no answer within 10 s")),
    ],
)
def test_a_site_without_an_answer_is_asked_once_more_for_longer(
    answer: dict[str, object], expected: ProbeFacts
) -> None:
    """What it answers then counts; a closed port is as closed as before."""
    site = _Site(answer)
    work = cast("Work", cast("Any", SimpleNamespace(session=site, deadline=300)))
    seen = ProbeFacts(ws_url=URL, ws_status=0, ws_problem="no answer within 10 s")
    assert asked_patiently(work, seen) == expected
    (question,) = site.asked
    assert question.fields["timeout"] == 60


@pytest.mark.parametrize("status", [200, 401, 503, None])
def test_an_answer_is_not_asked_for_again(status: int | None) -> None:
    """Also an error, and what was never asked."""
    site = _Site({})
    work = cast("Work", cast("Any", SimpleNamespace(session=site, deadline=300)))
    seen = ProbeFacts(ws_url=URL, ws_status=status)
    assert (asked_patiently(work, seen), site.asked) == (seen, [])
