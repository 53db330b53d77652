"""The limit of an exchange: a time, and a cancellation."""

import pytest

from tests.unit.workers.winrm.clocks import clock_in
from workers.errors import Cancelled, DeadlineExceeded
from workers.winrm.channel import Chunk, Counters, Limit, never


def test_a_limit_ends_exactly_at_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before; the message names the node and the seconds."""
    clock = clock_in(monkeypatch, "channel")
    limit = Limit("S1", 30)
    clock.sleep(29.5)
    limit.check()
    assert (29.5, 0.5) == (limit.passed, limit.left)
    clock.sleep(0.5)
    with pytest.raises(DeadlineExceeded) as caught:
        limit.check()
    assert "S1 did not answer within 30 s" == caught.value.message
    assert "busy" in caught.value.remedy


def test_the_grace_extends_the_check_and_not_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer may still arrive, but nothing new is waited for."""
    clock = clock_in(monkeypatch, "channel")
    limit = Limit("S1", 10)
    clock.sleep(10.9)
    limit.check(1.0)
    assert 0.001 == limit.left
    clock.sleep(0.1)
    with pytest.raises(DeadlineExceeded):
        limit.check(1.0)


def test_a_cancellation_comes_before_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if both have occurred."""
    clock = clock_in(monkeypatch, "channel")
    cancelled = False
    limit = Limit("S1", 10, lambda: cancelled)
    limit.check()
    cancelled = True
    with pytest.raises(Cancelled, match="S1"):
        limit.check()
    clock.sleep(20)
    with pytest.raises(Cancelled):
        limit.check()


def test_counters_start_at_zero_and_a_chunk_is_empty() -> None:
    """Without a cancellation, `never` is used."""
    assert (0, 0, 0, 0) == (*(getattr(Counters(), name) for name in Counters.__slots__),)
    assert (b"", b"", None) == (Chunk().stdout, Chunk().stderr, Chunk().exit_status)
    assert not never()
