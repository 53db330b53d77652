"""Holds the leases of the nodes that this process works on: one thread renews them all."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from workers.errors import EsyncError

if TYPE_CHECKING:
    from workers.store.port import RunStore

__all__ = ["Lease", "LeaseKeeper"]


@dataclass(slots=True)
class Lease:
    """A lease that this process may have.

    Attributes:
        held: whether the store may have it.
    """

    held: bool = True


class LeaseKeeper:
    """Renews the leases of this process three times per lifetime, in one background thread, and releases them.

    Args:
        store: holds the leases.
        holder: a unique name of this process.
        ttl: seconds until a lease lapses after its last renewal.

    Attributes:
        holder: the name of this process.
        ttl: seconds.
    """

    def __init__(self, store: "RunStore", holder: str, ttl: float) -> None:
        self._store = store
        self.holder = holder
        self.ttl = ttl
        self._held: set[tuple[str, str]] = set()
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def of(self, run_id: str, node: str) -> Iterator[Lease | None]:
        """The lease on a node while the block runs; None while another thread of this process works on the node.

        The block claims the node by itself, and sets `Lease.held` to False when it has no lease any more; otherwise
        the lease is released at its end.
        """
        if not self._take(run_id, node):
            yield None
            return
        lease = Lease()
        try:
            yield lease
        finally:
            # In this order: the next thread of this process must not lose its lease to this release.
            try:
                if lease.held:
                    with suppress(EsyncError):
                        self._store.release(run_id, node, self.holder)
            finally:
                with self._guard:
                    self._held.discard((run_id, node))

    def close(self) -> None:
        """Stops renewing."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _take(self, run_id: str, node: str) -> bool:
        """Ensures that two threads of this process never hold the same node: the store sees them as one holder."""
        with self._guard:
            if (run_id, node) in self._held:
                return False
            self._held.add((run_id, node))
            if self._thread is None:
                self._thread = threading.Thread(target=self._renew, name="esync-leases", daemon=True)
                self._thread.start()
            return True

    def _renew(self) -> None:
        while not self._stop.wait(self.ttl / 3):
            with self._guard:
                held = sorted(self._held)
            for run_id, leases in groupby(held, key=itemgetter(0)):
                with suppress(EsyncError):  # of a run that cannot be read; the others are renewed all the same
                    self._store.renew(run_id, [node for _, node in leases], self.holder, self.ttl)
