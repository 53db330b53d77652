"""Waiting for a key distribution center: as long as a connection may take, and never longer than the caller."""

import threading
from collections.abc import Callable

import pytest

from workers.errors import Cancelled, DeadlineExceeded, EsyncError, Unreachable
from workers.records import Endpoint
from workers.winrm import kerberos
from workers.winrm.channel import Limit

AT = Endpoint(node="S1", host="host", user="esync", secret="env:X", kdc="kdc1:88", connect_timeout=0.3)


def silent(ended: threading.Event) -> Callable[[], str]:
    """A library that waits until the test ends."""

    def ask() -> str:
        ended.wait()
        return "late"

    return ask


@pytest.mark.parametrize(
    ("limit", "kind", "said"),
    [
        (Limit("S1", 86_400), Unreachable, r"no key distribution center answers within 0\.3 s \(kdc1:88\)"),
        (Limit("S1", 0.1), DeadlineExceeded, "S1 did not answer within 0.1 s"),
        (Limit("S1", 86_400, lambda: True), Cancelled, "the run was cancelled"),
    ],
)
def test_a_silent_center_is_given_up(limit: Limit, kind: type[EsyncError], said: str) -> None:
    """After the seconds of a connection, at the deadline of the step, or when the run is cancelled."""
    ended = threading.Event()
    with pytest.raises(kind, match=said):
        kerberos._answered(silent(ended), AT, limit)
    ended.set()


def test_what_the_library_returns_or_raises_arrives() -> None:
    """In the thread that asked."""
    assert "ticket" == kerberos._answered(lambda: "ticket", AT, Limit("S1", 60))
    with pytest.raises(ZeroDivisionError):
        kerberos._answered(lambda: str(1 // 0), AT, Limit("S1", 60))
