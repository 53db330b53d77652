"""The port: what the steps ask of a balancer. Every adapter passes tests/contract/test_balancers.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

__all__ = ["Balancer", "Seen", "ServerState"]


class ServerState(StrEnum):
    """What a balancer does with a server."""

    READY = "ready"  #: it gets new requests
    DRAINING = "draining"  #: taken out on purpose: no new requests; those that are open may end
    DOWN = "down"  #: it gets none for another reason, such as a failed health check


@dataclass(frozen=True, slots=True)
class Seen:
    """A server as its balancer sees it; `sessions` are those that are open, None where the balancer does not say."""

    state: ServerState
    sessions: int | None = None


class Balancer(Protocol):
    """One pool of one balancer. A request that was fulfilled before changes nothing; each has its deadline.

    `server` is the name that the balancer has for it. All methods raise `BalancerFailed` when the balancer does not
    answer in time, refuses, or does not know the server.
    """

    def drain(self, server: str) -> None:
        """Asks that the server gets no new requests."""

    def undrain(self, server: str) -> None:
        """Asks that it gets requests again."""

    def state(self, server: str) -> Seen:
        """What the balancer does with it now."""

    def healthy(self, servers: Sequence[str]) -> frozenset[str]:
        """Those of these servers that get requests now."""
