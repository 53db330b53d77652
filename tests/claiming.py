"""Claims of nodes, as a worker makes them when it begins a step."""

from workers.store.port import Beginning, RunStore

__all__ = ["claim"]


def claim(store: RunStore, run: str, node: str, holder: str, ttl: float, *, limit: int = 0) -> int | None:
    """The fence of the node; None when the store does not give it to this holder."""
    begun = store.begin(
        Beginning(
            run=run, version=store.run(run).version, turn="claims", node=node, step="claim", earlier="", holder=holder,
            ttl=ttl, limit=limit, waiting="", ending="",
        )
    )  # fmt: skip
    return begun.claim if begun else None
