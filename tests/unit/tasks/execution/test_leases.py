"""Leases of a process while the store refuses what they need."""

import threading
from collections.abc import Collection

import pytest
from typing_extensions import override

from tasks.execution.leases import LeaseKeeper
from tests.waiting import wait_until
from workers.errors import EsyncError, RecordRefused, RunUnknown, StoreUnavailable
from workers.store.memory import MemoryStore

ERRORS = (StoreUnavailable("it is full"), RecordRefused("r1", "it cannot be read"), RunUnknown("it is gone"))


class Refusing(MemoryStore):
    """A store that refuses everything about the leases of one run."""

    def __init__(self, error: EsyncError) -> None:
        super().__init__()
        self._error = error
        self.renewed = threading.Event()  #: the leases of another run were

    @override
    def renew(self, run_id: str, nodes: Collection[str], holder: str, ttl: float) -> frozenset[str]:
        if run_id == "r1":
            raise self._error
        self.renewed.set()
        return frozenset(nodes)

    @override
    def release(self, run_id: str, node: str, holder: str) -> None:
        if run_id == "r1":
            raise self._error


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.slug)
def test_a_node_whose_lease_could_not_be_released_can_be_taken_again(error: EsyncError) -> None:
    """The store lets the lease lapse; this process must not keep the node from itself until it ends."""
    leases = LeaseKeeper(Refusing(error), "w1", 60)
    for _ in range(2):
        with leases.of("r1", "S1") as lease:
            assert lease is not None
    leases.close()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.slug)
def test_leases_of_other_runs_are_renewed_beside_one_that_is_refused(error: EsyncError) -> None:
    """In every round."""
    store = Refusing(error)
    leases = LeaseKeeper(store, "w1", 0.03)
    with leases.of("r1", "S1"), leases.of("r2", "S1"):
        for _ in range(2):
            store.renewed.clear()
            wait_until(store.renewed.is_set)
    leases.close()
