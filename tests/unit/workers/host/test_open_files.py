"""The work that a limit of open files allows."""

import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.host.open_files import PER_THREAD, RESERVED, capacity_for

SOFT_64 = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
from workers.host.open_files import raise_limit
print(raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_soft_limit_is_raised_as_far_as_it_may_be() -> None:
    """1,024 is a usual limit, and too low for 1,000 nodes."""
    output = subprocess.run([sys.executable, "-c", SOFT_64], capture_output=True, text=True, check=True).stdout
    limit, soft, hard = map(int, output.split())
    assert limit == soft
    assert 64 < soft <= hard
    assert hard == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


@given(st.integers(1, 500), st.integers(0, 5000))
def test_threads_and_sessions_fit_into_the_limit(threads: int, limit: int) -> None:
    """When at least one thread fits; every thread can have a session."""
    capacity = capacity_for(threads, limit)
    assert 1 <= capacity.threads <= threads
    assert capacity.sessions >= capacity.threads
    if limit >= RESERVED + PER_THREAD:
        assert RESERVED + (PER_THREAD - 1) * capacity.threads + capacity.sessions <= limit


@pytest.mark.parametrize(("limit", "threads", "sessions"), [(1024, 32, 896), (90, 8, 10), (160, 32, 32), (20, 1, 1)])
def test_a_low_limit_reduces_sessions_before_threads(limit: int, threads: int, sessions: int) -> None:
    """Threads come first, so that the steps that began can finish."""
    capacity = capacity_for(32, limit)
    assert (threads, sessions) == (capacity.threads, capacity.sessions)
