"""Faults that begin at a moment: defined by an operation, not by a time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import ValidationError

from lab.machine.condition import Condition
from lab.machine.faults import Faults, Later, Moment


def faults(**later: Any) -> Faults:  # noqa: ANN401 - JSON, as in the control interface
    """Faults that begin later, and no current ones."""
    return Faults.model_validate({"later": [{"faults": {"disk_free": 7}, **later}]})


async def began(condition: Condition, *happened: tuple[str, str, bool]) -> list[bool]:
    """Whether faults begin with each of some operations."""
    return [await condition.reached(operation, target, after=after) for operation, target, after in happened]


def scene(play: Callable[[Condition, list[Later]], Awaitable[None]], present: Faults) -> None:
    """A condition with a node that records what begins."""

    async def run() -> None:
        noted: list[Later] = []
        condition = Condition()

        async def begin(later: Later) -> None:
            noted.append(later)

        condition.begin = begin
        condition.set(present)
        await play(condition, noted)

    asyncio.run(run())


def test_the_nth_operation_of_a_name_on_a_path() -> None:
    """Other operations do not count; the case of the path is ignored; it begins once, before the operation."""
    at = {"operation": "write", "target": r"C:\a.config", "nth": 2}

    async def play(condition: Condition, noted: list[Later]) -> None:
        found = await began(
            condition,
            ("write", r"C:\a.config", False),
            ("read", r"C:\a.config", False),
            ("write", r"C:\b.config", False),
            ("write", r"C:\A.config", True),
            ("write", r"C:\A.config", False),
            ("write", r"C:\a.config", False),
        )
        assert [False, False, False, False, True, False] == found
        assert ([7], 1) == ([later.faults.disk_free for later in noted], condition.begun)

    scene(play, faults(at=at))


def test_any_operation_of_the_agent_counts_if_none_is_named() -> None:
    """Messages of WinRM do not count."""

    async def play(condition: Condition, noted: list[Later]) -> None:
        del noted
        found = await began(
            condition, ("hello", "", True), ("Send", "", True), ("clock", "", False), ("clock", "", True)
        )
        assert [False, False, False, True] == found

    scene(play, faults(at={"nth": 2, "after": True}))


def test_a_message_of_winrm_is_a_moment_too() -> None:
    """By the last part of its action."""

    async def play(condition: Condition, noted: list[Later]) -> None:
        del noted
        assert [False, True] == await began(condition, ("Send", "", False), ("Send", "", True))

    scene(play, faults(at={"operation": "Send", "after": True}))


def test_new_faults_replace_those_that_begin_later() -> None:
    """Clearing all faults also clears later ones."""

    async def play(condition: Condition, noted: list[Later]) -> None:
        condition.set(Faults())
        assert [False] == await began(condition, ("clock", "", False))
        assert [] == noted

    scene(play, faults(at={"operation": "clock"}))


def test_a_beginning_fault_keeps_other_counts() -> None:
    """Only the counts of the named faults restart."""
    condition = Condition()
    condition.set(Faults(reset_replies=2))
    assert condition.happens("reset_replies")
    more = condition.faults.with_those_of(Faults(lose_requests=1))
    condition.change(more, frozenset({"lose_requests"}))
    assert [True, False] == [condition.happens("reset_replies") for _ in range(2)]
    assert [True, False] == [condition.happens("lose_requests") for _ in range(2)]


def test_operations_are_recorded_in_order() -> None:
    """A run without faults shows at which moments a fault can begin."""

    async def play(condition: Condition, noted: list[Later]) -> None:
        del noted
        await began(condition, ("Send", "", False), ("read", r"C:\x", False), ("read", r"C:\x", True))
        assert [("Send", ""), ("read", r"C:\x")] == [(one.operation, one.target) for one in condition.counters.latest]

    scene(play, Faults())


def test_later_faults_are_not_nested() -> None:
    """The first operation is number 1."""
    with pytest.raises(ValidationError, match="cannot contain"):
        Later(at=Moment(), faults=faults(at={}))
    with pytest.raises(ValidationError, match="nth"):
        Moment(nth=0)
