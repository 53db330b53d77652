"""A balancer in this process, for tests of what uses one."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from workers.balancers.port import Balancer, Seen, ServerState
from workers.errors import BalancerFailed

__all__ = ["MemoryBalancer"]


class MemoryBalancer(Balancer):
    """Its servers are ready at first.

    Args:
        servers: their names.

    Attributes:
        seen: server -> its state; a test may change it.
        asked: what was asked that changes something, in order.
    """

    def __init__(self, servers: Iterable[str]) -> None:
        self.seen = {name: Seen(ServerState.READY, 0) for name in servers}
        self.asked: list[tuple[str, str]] = []

    def drain(self, server: str) -> None:
        """Drains at once; open sessions stay."""
        self._set("drain", server, ServerState.DRAINING)

    def undrain(self, server: str) -> None:
        """Is ready at once."""
        self._set("undrain", server, ServerState.READY)

    def state(self, server: str) -> Seen:
        """Its state.

        Raises:
            BalancerFailed: there is no such server.
        """
        try:
            return self.seen[server]
        except KeyError:
            raise BalancerFailed(f"the balancer has no server {server!r}") from None

    def healthy(self, servers: Sequence[str]) -> frozenset[str]:
        """Those that are ready."""
        return frozenset(name for name in servers if self.state(name).state is ServerState.READY)

    def _set(self, verb: str, server: str, state: ServerState) -> None:
        before = self.state(server)
        self.asked.append((verb, server))
        if (before.state is ServerState.DRAINING) != (state is ServerState.DRAINING):
            self.seen[server] = replace(before, state=state)
