"""What a node has to be, and one thing that it lacks, as values."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasks.ektron.editions import FACTORY_CLIENT, FACTORY_SERVER
from tasks.ektron.facts.values import OFF, ON, Fact

__all__ = ["RECYCLED", "Difference", "Target"]

RECYCLED = "the site is recycled"  #: what a touch of web.config does


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What one node has to be (design: what is written to a node).

    Attributes:
        node: its name.
        nodes: names of all nodes of the cluster.
        is_origin: whether this is the node whose family all nodes carry.
        hashes: SHA-256 of the family's files, by kind.
        thumbprint: SHA-256 of the family's client certificate.
        partners: servers outside the cluster that sync with it: their keys and files stay (ektron-facts 10).
        prune: keys and files of servers that are neither nodes nor partners have to go.
        retired: the node leaves the cluster: it has to be as after its installation, and to refuse all the others.
    """

    node: str
    nodes: Sequence[str]
    is_origin: bool
    hashes: Mapping[str, str]
    thumbprint: str
    partners: Sequence[str] = ()
    prune: bool = False
    retired: bool = False

    @property
    def flag(self) -> str:
        """The value of LoadBalanced."""
        return OFF if self.retired else ON

    @property
    def client_certificate(self) -> str:
        """Name of this node's own client certificate (ektron-facts 3.4); of the factory's on a retired one (2.3)."""
        return FACTORY_CLIENT if self.retired else f"{self.node}_SyncClient.pfx"

    @property
    def server_certificate(self) -> str:
        """Name of this node's own server certificate (ektron-facts 2.2); of the factory's on a retired one (3.1)."""
        return FACTORY_SERVER if self.retired else f"{self.node}_SyncServer.pfx"

    @property
    def trusted(self) -> Sequence[str]:
        """The nodes whose keys and files this node has to have."""
        return () if self.retired else self.nodes

    @property
    def removes(self) -> bool:
        """Whether anything may have to go from the node, apart from what the procedure forbids."""
        return self.prune or self.retired

    def keys(self, certificate: str) -> dict[str, str]:
        """The keys of all nodes, each with that encodedValue (ektron-facts 3.4)."""
        return {f"{name}_SyncClient.cer": certificate for name in self.trusted}

    def unwanted(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of the servers whose keys and files have to go. Case does not matter.

        On a retired node these are the cluster's nodes and partners: what it shares with others is not ours. A node
        that stays loses those of all other servers, if the run prunes.
        """
        there = tuple(names)
        if not (there and self.removes):
            return ()
        ours = {name.casefold() for name in (*self.nodes, *self.partners)}
        return tuple(name for name in there if (name.casefold() in ours) is self.retired)

    def partner_keys(self, certificate: str) -> dict[str, str]:
        """The keys of all partners, with the encodedValue of those that get the family."""
        return {} if self.retired else {f"{name}_SyncClient.cer": certificate for name in self.partners}


class Difference(Fact):
    """One thing to change on a node.

    Attributes:
        what: the setting or the files, for people.
        file: the file or folder it is in.
        before: what is there now, shortened; empty when there is nothing.
        after: what will be there.
        read_at_start: the service reads it when it starts, so the change makes a restart necessary.
    """

    what: str
    file: str
    before: str = ""
    after: str = ""
    read_at_start: bool = False
