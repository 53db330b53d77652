"""What the contract suites of the run stores share."""

import pytest

from tests.conftest import Clock
from workers.store.memory import MemoryStore
from workers.store.port import RunStore


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest, clock: Clock) -> RunStore:
    """Both adapters, empty."""
    if request.param == "memory":
        return MemoryStore(clock)
    found: RunStore = request.getfixturevalue("redis_store")
    return found
