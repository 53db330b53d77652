"""The facts of a whole cluster: the input of the invariants."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from tasks.ektron.certificates.family import CLIENT_CER, KINDS

if TYPE_CHECKING:  # for the start of a reason it need not be loaded
    from tasks.ektron.facts.node import NodeFacts

__all__ = ["NOT_SEEN", "ClusterFacts"]

NOT_SEEN = "not seen: "  #: start of the reason for a node without facts


@dataclass(frozen=True, kw_only=True)
class ClusterFacts:
    """All nodes, the facts of the nodes that were seen, and why the others were not seen.

    Attributes:
        nodes: names of all nodes, in the order of the cluster file.
        origin: the node whose family all nodes hold.
        seen: node -> facts.
        reasons: node -> why it has no facts.
        family: kind -> SHA-256 of the family that this run distributes; empty when it distributes none.
        family_thumbprint: SHA-256 of the client certificate of that family; empty when unknown.
        pools: node -> its pool; a node that is not in it is in one pool with all others that are not. A pool is a
            load-balance cluster: its servers share one database (ektron-facts 10).
        hosts: node -> host name or address in the cluster file.
        partners: servers outside the cluster that sync with it.
        shared_database: whether all pools use one database on purpose.
        edition: `major.minor` as declared in the cluster file; empty when unknown.
        drained: node -> who took it out of its balancer and did not put it back; without the other nodes.
        weaker_ways: node -> what of the way to it is weaker than https with TLS 1.2; without the other nodes.
    """

    nodes: tuple[str, ...]
    origin: str
    seen: "Mapping[str, NodeFacts]"
    reasons: Mapping[str, str] = field(default_factory=dict)
    family: Mapping[str, str] = field(default_factory=dict)
    family_thumbprint: str = ""
    pools: Mapping[str, str] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)
    partners: tuple[str, ...] = ()
    shared_database: bool = False
    edition: str = ""
    weaker_ways: Mapping[str, str] = field(default_factory=dict)
    drained: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def facts(self) -> "dict[str, NodeFacts]":
        """Facts of the nodes that were seen, in the order of the cluster file."""
        return {name: facts for name in self.nodes if (facts := self.of(name)) is not None}

    @cached_property
    def pool_members(self) -> dict[str, tuple[str, ...]]:
        """Pool -> its nodes, both in the order of the cluster file."""
        members: dict[str, list[str]] = {}
        for node in self.nodes:
            members.setdefault(self.pool_of(node), []).append(node)
        return {pool: tuple(nodes) for pool, nodes in members.items()}

    def pool_of(self, node: str) -> str:
        """The pool of a node; empty when it is in none. Case does not matter."""
        return self._folded_pools.get(node.casefold(), "")

    @cached_property
    def _folded_pools(self) -> dict[str, str]:
        return {name.casefold(): pool for name, pool in self.pools.items()}

    @cached_property
    def unseen(self) -> tuple[str, ...]:
        """Nodes without facts."""
        return tuple(name for name in self.nodes if name not in self.facts)

    @cached_property
    def _folded(self) -> "dict[str, NodeFacts]":
        return {name.casefold(): facts for name, facts in self.seen.items()}

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        """Kind -> SHA-256 that all family files must have: from the run, else from the origin; empty when unknown."""
        if self.family:
            return self.family
        origin = self.of(self.origin)
        if origin is None:
            return {}
        own = {kind: origin.service_family[kind].value(origin.node) for kind in KINDS if kind in origin.service_family}
        return origin.origin_family or {kind: value for kind, value in own.items() if value}

    @cached_property
    def thumbprint(self) -> str:
        """SHA-256 of the client certificate that all keys must hold; empty when unknown."""
        if self.family_thumbprint:
            return self.family_thumbprint
        origin = self.of(self.origin)
        if origin is not None and origin.client is not None:
            return origin.client.thumbprint
        return self.hashes.get(CLIENT_CER, "")

    def of(self, node: str) -> "NodeFacts | None":
        """Facts of a node, or None when it was not seen. Case does not matter."""
        return self._folded.get(node.casefold())

    def is_origin(self, facts: "NodeFacts") -> bool:
        """Whether these are the origin's facts."""
        return facts.node.casefold() == self.origin.casefold()

    def why_unseen(self, node: str) -> str:
        """Why a node has no facts, for people."""
        return f"{NOT_SEEN}{self.reasons.get(node) or 'the reason is unknown'}"
