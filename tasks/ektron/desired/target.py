"""What a node has to be, and one thing that it lacks, as values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.ektron.facts import Fact

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
    """

    node: str
    nodes: Sequence[str]
    is_origin: bool
    hashes: Mapping[str, str]
    thumbprint: str

    @property
    def client_certificate(self) -> str:
        """Name of this node's own client certificate (ektron-facts 3.4)."""
        return f"{self.node}_SyncClient.pfx"

    @property
    def server_certificate(self) -> str:
        """Name of this node's own server certificate (ektron-facts 2.2)."""
        return f"{self.node}_SyncServer.pfx"

    def keys(self, certificate: str) -> dict[str, str]:
        """The keys of all nodes, each with that encodedValue (ektron-facts 3.4)."""
        return {f"{name}_SyncClient.cer": certificate for name in self.nodes}


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
