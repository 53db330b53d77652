"""A node that replies with values of wrong types: the result is one sentence or facts, never a crash."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.integration.generated_clusters import SITES, Shape, made
from tests.integration.one_process import Esync, families_known
from tests.sampling import examples
from workers.records import Status, Verdict
from workers.texts import cleaned
from workers.winrm import operations as ops
from workers.winrm.operations import Reply
from workers.winrm.session import AgentSession

BIDI = "\x1b[31mx\nJOINED: all\u202e\0\u2028"
OTHERS: list[object] = [
    None, True, False, 0, -1, 10**400, -(2**70), 1.5, float("nan"), float("inf"), "", "x", "NaN",
    "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", BIDI, "\ud800", [], [[]], {}, {"a": {}},
    ["x", 1, None], [{}], [{"name": 1}], "A" * 100_000, [[[]]] * 100,
    [{"name": "S1_SyncClient.cer", "kind": "file", "mtime": 5, "hash": 7}],
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with families_known():
        yield


@pytest.fixture(scope="module")
def esync() -> Iterator[Esync]:
    """One server, joined."""
    found = made(Shape("8.0", SITES[0], ("S1",), 0, "all", joined=True, wounds=((),)))
    yield found
    found.close()


def played(esync: Esync, lie: tuple[int, int, object], kind: str) -> str:
    """Does a run with one replaced value in the replies of the server; returns everything that was stored, as text."""
    place, field, other = lie

    def asked(self: AgentSession, requests: Sequence[ops.Op], **named: Any) -> list[Reply]:  # noqa: ANN401 - passed on
        replies = truly(self, requests, **named)
        at = place % max(1, len(requests))
        if len(requests) > at:
            replies[at] = Reply(requests[at], _other(dict(replies[at]), field, other))
        return replies

    truly = AgentSession.ask
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AgentSession, "ask", asked)
        done = esync.rollout(kind=kind)
    for outcome in done.outcomes:
        if outcome.status is Status.FAILED:
            assert outcome.slug in {"agent_failed", "node_refused", "conflict", "access_denied", "timeout"}, outcome
            assert outcome.message
    facts = esync.engine.documents(done.record).all_facts("observed")
    return json.dumps([f.model_dump(mode="json") for f in facts.values()], ensure_ascii=False)


def test_a_clock_that_cannot_be_read_is_not_taken_for_a_right_one(esync: Esync) -> None:
    """The node is not verified; the reason is its own."""

    def asked(self: AgentSession, requests: Sequence[ops.Op], **named: Any) -> list[Reply]:  # noqa: ANN401 - passed on
        broken = {"ok": False, "error": "failed", "message": "the management service does not answer"}
        replies = truly(self, requests, **named)
        return [Reply(one.op, broken) if one.op.name == "clock" else one for one in replies]

    truly = AgentSession.ask
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AgentSession, "ask", asked)
        done = esync.rollout(kind="verify")
    assert done.record.verdict is Verdict.FAILED
    assert "the management service does not answer" in done.record.summary


def _other(fields: dict[str, Any], field: int, other: object) -> Mapping[str, Any]:
    names = sorted(fields)
    return {**fields, names[field % len(names)]: other} if names else fields


@settings(max_examples=examples(whole=2000, sample=20))
@given(
    lie=st.tuples(st.integers(0, 60), st.integers(0, 9), st.sampled_from(OTHERS)),
    kind=st.sampled_from(["plan", "doctor", "verify", "rollout"]),
)
@example(lie=(2, 4, 10**400), kind="plan")
@example(lie=(0, 0, "9999-12-31T23:59:59-14:00"), kind="plan")
def test_any_value_of_a_conversation_may_be_a_lie(esync: Esync, lie: tuple[int, int, object], kind: str) -> None:
    """The run ends, its failures are our own errors, and no stored text of the node has an unprintable character."""
    told = played(esync, lie, kind)
    assert all(text == cleaned(text, 10**7) for text in told.splitlines() or [""])
    assert len(told.splitlines()) <= 1
