"""Holds the leases of the nodes that this process works on: one thread renews them all."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from workers.errors import StoreUnavailable

if TYPE_CHECKING:
    from workers.store.port import RunStore

__all__ = ["LeaseKeeper"]


class LeaseKeeper:
    """Claims nodes for this process and renews each lease three times per lifetime, in one background thread.

    Args:
        store: holds the leases.
        holder: a unique name of this process.
        ttl: seconds until a lease lapses after its last renewal.
    """

    def __init__(self, store: "RunStore", holder: str, ttl: float) -> None:
        self._store = store
        self.holder = holder
        self._ttl = ttl
        self._held: set[tuple[str, str]] = set()
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def held(self, run_id: str, node: str, *, limit: int = 0) -> Iterator[int | None]:
        """Holds the node's lease while the block runs; yields the claim, or None when another worker holds the lease.

        Args:
            run_id: the run.
            node: the node.
            limit: the number of nodes of the run that may be leased at a time; 0 is no limit.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        if not self._take(run_id, node):
            yield None
            return
        try:
            claim = self._store.claim(run_id, node, self.holder, self._ttl, limit=limit)
            try:
                yield claim
            finally:
                if claim is not None:
                    with suppress(StoreUnavailable):
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
        while not self._stop.wait(self._ttl / 3):
            with self._guard:
                held = tuple(self._held)
            for run_id, node in held:
                with suppress(StoreUnavailable):
                    self._store.renew(run_id, node, self.holder, self._ttl)
