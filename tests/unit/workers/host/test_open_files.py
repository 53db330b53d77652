"""What a limit of open files is enough for."""

import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.host.open_files import PER_THREAD, RESERVED, room_for

SOFT_64 = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
from workers.host.open_files import raised
print(raised(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_soft_limit_is_raised_as_far_as_it_may_be() -> None:
    """1,024 is usual, and too low for 1,000 nodes."""
    said = subprocess.run([sys.executable, "-c", SOFT_64], capture_output=True, text=True, check=True).stdout
    limit, soft, hard = map(int, said.split())
    assert limit == soft
    assert 64 < soft <= hard
    assert hard == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@given(st.integers(1, 500), st.integers(0, 5000))
def test_threads_and_sessions_fit_into_the_limit(threads: int, limit: int) -> None:
    """Where at least one thread does; every thread may have a session."""
    room = room_for(threads, limit)
    assert 1 <= room.threads <= threads
    assert room.sessions >= room.threads
    if limit >= RESERVED + PER_THREAD:
        assert RESERVED + (PER_THREAD - 1) * room.threads + room.sessions <= limit


@pytest.mark.parametrize(("limit", "threads", "sessions"), [(1024, 32, 896), (90, 8, 10), (160, 32, 32), (20, 1, 1)])
def test_a_low_limit_takes_threads_first(limit: int, threads: int, sessions: int) -> None:
    """So that what is begun can be finished."""
    room = room_for(32, limit)
    assert (threads, sessions) == (room.threads, room.sessions)
