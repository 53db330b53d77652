"""How many processes the commands start."""

import os

import pytest

from pipelines.local.services import _processes
from workers.settings import MOST_WORKERS, Settings


@pytest.mark.parametrize(
    ("kind", "asked", "cores", "number"),
    [("up", None, 4, 4), ("up", None, 128, MOST_WORKERS), ("up", 3, 128, 3), ("run", None, 4, 1)],
)
def test_esync_up_has_a_worker_a_core_and_no_more_than_a_user_may_ask_for(
    kind: str, asked: int | None, cores: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that serves only itself has one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert number == _processes(Settings(workers=asked), kind)
