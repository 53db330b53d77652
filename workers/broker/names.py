"""The names in the broker that belong to esync."""

__all__ = ["CONTROL_QUEUE", "NODES_QUEUE", "OWN", "STARTS_QUEUE", "is_nodes_queue", "nodes_queue"]

#: Begins the names of queues, exchanges and keys. It has a version: workers of releases that cannot work together use
#: different names.
OWN = "esync.v1"
# The version is in the queue's name: a worker of an older release discards a task that it does not know, and the chord
# of that task never ends. Releases with different tasks use different queues.
NODES_QUEUE = f"{OWN}.nodes"  #: steps on nodes that belong to no site
CONTROL_QUEUE = f"{OWN}.control"  #: queries, beginning and joining: taken before anything in the other queues
STARTS_QUEUE = f"{OWN}.starts"  #: starts by other programs; no query waits behind them, however many there are


def nodes_queue(site: str = "") -> str:
    """The queue of the steps on the nodes of a site, or on those without one."""
    return f"{NODES_QUEUE}.{site}" if site else NODES_QUEUE


def is_nodes_queue(name: str) -> bool:
    """Whether it is such a queue, of any site."""
    return name == NODES_QUEUE or name.startswith(f"{NODES_QUEUE}.")
