"""The names in the broker that belong to esync."""

__all__ = [
    "CONTROL_QUEUE",
    "NODES_QUEUE",
    "OWN",
    "STARTS_QUEUE",
    "common_queue",
    "holder_of",
    "is_nodes_queue",
    "nodes_queue",
    "own_queue",
]

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


def own_queue(common: str, holder: str = "") -> str:
    """The queue of one worker, beside the common one of all workers of its site.

    Args:
        common: the queue of the site.
        holder: the worker; without one, the worker that sends the message.
    """
    return f"{common}@{holder}"


def common_queue(name: str) -> str:
    """The queue of all workers of a site; of a worker's own queue, the common one beside it."""
    return name.partition("@")[0]


def holder_of(own: str) -> str:
    """The worker whose own queue it is."""
    return own.partition("@")[2]


def is_nodes_queue(name: str) -> bool:
    """Whether it is a queue of steps: of any site, or a worker's own."""
    common = common_queue(name)
    return common == NODES_QUEUE or common.startswith(f"{NODES_QUEUE}.")
