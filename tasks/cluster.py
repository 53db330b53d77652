"""The cluster as one value: its servers, the product on them, how to reach them, how runs proceed.

`pipelines.cluster_file.loader` reads it from the cluster file (YAML); the run store keeps it as data. It contains
references to secrets, never secrets.
"""

import hashlib
from collections import Counter
from enum import StrEnum
from functools import cached_property, lru_cache
from ipaddress import ip_address
from typing import Annotated, Any, Literal, NamedTuple, Self, cast

from pydantic import Field, ValidationError, field_validator, model_validator

from tasks.balancer import Balancer
from tasks.connection import SYSTEM, Connection, ConnectionOverride, Part, Port, listener_port, text, weaker_way
from tasks.policy import FILE, POOL, Deadlines, Policy, PoolPolicy, Retries, Word
from tasks.sync_settings import SiteLogin, SyncSettings
from workers.errors import RecordRefused
from workers.records import Endpoint, RunRecord
from workers.remembered import Remembered
from workers.store.documents import place_in

__all__ = [
    "NODE",
    "PARTNER",
    "Cluster",
    "ClusterFile",
    "Connection",
    "Deadlines",
    "Node",
    "Policy",
    "Retries",
    "Role",
    "Site",
    "one_spelling",
]


# The descriptions say what a cluster file may contain: messages about mistakes and the JSON schema show them.
# A NetBIOS name may start with a digit and contain hyphens (ektron-facts 2.3).
NODE = r"[A-Za-z0-9][A-Za-z0-9_-]{0,14}"
NodeName = Annotated[str, text(rf"^{NODE}$", "a NetBIOS name: 1 to 15 letters, digits, '-' or '_'")]
PARTNER = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"  #: also in the names of certificate files
#: The relationship of a sync may know a server under its full name or its address, and its certificates then, too.
PartnerName = Annotated[
    str,
    text(
        rf"^{PARTNER}$",
        "a name as the certificate files have it, such as WEB7 or web7.corp.example: letters, digits, '.', '-' or '_'",
    ),
]
_BYTE = "(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
#: The last label of a name is no number: `1.2.3` and `256.0.0.1` are addresses with a mistake.
_LABELS = r"([A-Za-z0-9_][A-Za-z0-9_-]{0,62}\.)*([0-9]*[A-Za-z_][A-Za-z0-9_-]*|[0-9]+-[A-Za-z0-9_-]*)\.?"
_IPV6 = "[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9._-]+)?"
Host = Annotated[
    str,
    text(
        rf"^({_BYTE}(\.{_BYTE}){{3}}|{_LABELS}|{_IPV6})$",
        "a host name or an IP address, without scheme or port",
        longest=253,
    ),
]
#: A name on a node's disk; Windows drops dots and blanks at its end, so `..` is none.
_SEGMENT = r'[^\\/:*?"<>|\x00-\x1f]*[^\\/:*?"<>|\x00-\x1f. ]'
#: Windows PowerShell writes to no path of 260 characters. The longest one of ours below a folder has 92: the new file
#: beside `Utilities\Software\SecurityConfigurator\<node>_SyncClient.pfx`, with the number of a process in its name.
LONGEST_FOLDER = 160
WindowsPath = Annotated[
    str,
    text(
        rf"^[A-Za-z]:(\\+{_SEGMENT})+\\*$",
        r"an absolute Windows path such as C:\inetpub\wwwroot\site, without `..`, of 160 characters at most",
        longest=LONGEST_FOLDER,
    ),
]
Labels = Annotated[
    dict[Word, Word],
    Field(max_length=16, description="up to 16 words by name, such as {rack: r1}"),
]


@lru_cache(maxsize=10_000)
def one_spelling(host: str) -> str:
    """A host name in lower case without its final dot, or an IP address in its shortest form.

    An IPv4 address that is written as one of IPv6 (`::ffff:10.0.0.1`) is the same address.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return host.casefold().rstrip(".")
    return str(getattr(address, "ipv4_mapped", None) or address)


class Role(StrEnum):
    """What a node is for."""

    STAGING = "staging"
    PRODUCTION = "production"


class Node(Part):
    """One Windows server. `name` is its NetBIOS name, as the certificate files carry it (ektron-facts 2.3).

    `labels` say where it is or what it shares with others, such as `{rack: r1, site: ams}`: `policy.order` and
    `policy.at_most` refer to them. The label `site` names the site whose workers work on the node. `site_port` is the
    port of the web site on this node, where it is not that of the site's address.
    """

    name: NodeName
    host: Host
    role: Role
    pool: Word
    labels: Labels = Field(default_factory=dict)
    connection: ConnectionOverride = ConnectionOverride()
    site_port: Port | None = None

    @field_validator("labels")
    @classmethod
    def _own_names(cls, labels: dict[str, str]) -> dict[str, str]:
        if taken := sorted(labels.keys() & {FILE, POOL}):
            raise ValueError(f"a label cannot have the name {taken[0]}, which the policy uses itself")
        return labels

    def label(self, name: str) -> str:
        """The value of a label of this node, empty when it has none; `pool` is a label of every node."""
        return self.pool if name == POOL else self.labels.get(name, "")

    @property
    def site(self) -> str:
        """The site whose workers work on the node; empty for workers without a site."""
        return self.labels.get("site", "")

    @field_validator("host")
    @classmethod
    def _address(cls, host: str) -> str:
        if ":" in host:
            try:
                ip_address(host)
            except ValueError:
                raise ValueError("is not a valid IPv6 address; a port belongs in `connection`") from None
        return host


class Site(Part):
    """Where the parts of the product are installed. Only `path` has no default; the others follow from the edition.

    `database`: each pool has its own database, and eSync syncs two of them (ektron-facts 10); `shared` says that all
    pools use one on purpose.
    """

    path: WindowsPath
    service_folder: WindowsPath | None = None
    product_folder: WindowsPath | None = None
    database: Literal["per-pool", "shared"] = "per-pool"

    def below(self, relative: str) -> str:
        """The path of a file or folder in the site root."""
        return f"{self.path.rstrip(chr(92))}\\{relative}"


class ClusterFile(Part):
    """Servers that share one site, as a cluster file describes them.

    `edition` is the CMS version, read as `major.minor` in every form in which the vendor writes it: 7.6 and 8.0 have
    service 3.0, 8.5 to 9.x have service 4.0 (ektron-facts 1.1, 10).
    `balancers` says by pool how a server is taken out before its services restart, and put back.
    `partners` are servers outside the cluster that sync with it: their keys and certificates stay (ektron-facts 10).
    `site_login` and `sync` are for `esync sync` only.
    """

    name: Word
    edition: Annotated[
        str,
        text(
            r"^(7\.6|8\.0|8\.[5-7]|9\.[0-3])\d?(\.\d{1,4}){0,2}$",
            "7.6, 8.0, 8.5, 8.6, 8.7, 9.0, 9.1, 9.2, 9.3, or a release of one of them such as 8.02, 8.6.1 or 9.10",
        ),
    ]
    origin: Annotated[NodeName, Field(description="the name of one of the nodes")]
    site: Site
    partners: Annotated[
        tuple[PartnerName, ...],
        Field(max_length=100, description="names of other servers, as their certificate files have them"),
    ] = ()
    connection: Connection
    policy: Policy = Policy()
    balancers: Annotated[dict[Word, Balancer], Field(max_length=100, description="balancers by pool")] = Field(
        default_factory=dict
    )
    site_login: SiteLogin | None = None
    sync: SyncSettings = SyncSettings()
    nodes: Annotated[
        tuple[Node, ...],
        Field(min_length=1, max_length=5000, description="1 to 5000 nodes, each with name, host, role and pool"),
    ]

    @field_validator("edition")
    @classmethod
    def _release(cls, edition: str) -> str:
        """`8.02`, `8.6.1` and `9.10` as 8.0, 8.6 and 9.1: folders and the service depend on `major.minor` only."""
        return edition[:3]

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        names = Counter(node.name.upper() for node in self.nodes)
        if twice := sorted(name for name, count in names.items() if count > 1):
            raise ValueError(f"several nodes have the same name (ignoring case): {', '.join(twice)}")
        if self.origin.upper() not in names:
            raise ValueError(
                f"origin {self.origin!r} is not the name of a node: {', '.join(n.name for n in self.nodes[:12])}"
            )
        if both := sorted(name for name in self.partners if name.upper() in names):
            raise ValueError(f"a partner is a server outside the cluster; these are nodes: {', '.join(both)}")
        return self

    @model_validator(mode="after")
    def _labels_are_used(self) -> Self:
        known = {label for node in self.nodes for label in node.labels} | {FILE, POOL}
        if unknown := sorted({self.policy.order, *self.policy.at_most} - known):
            raise ValueError(f"policy: no node has a label {unknown[0]!r}")
        return self

    @model_validator(mode="after")
    def _pools_are_known(self) -> Self:
        pools = {node.pool for node in self.nodes}
        for key, named in (("balancers", self.balancers), ("policy.pools", self.policy.pools)):
            if unknown := sorted(named.keys() - pools):
                raise ValueError(f"{key}: no node is in a pool {unknown[0]!r}")
        names = {node.name for node in self.nodes}
        for pool, balancer in self.balancers.items():
            if unknown := sorted(balancer.servers.keys() - names):
                raise ValueError(f"balancers: {pool}: servers: {unknown[0]!r} is not the name of a node")
        return self

    @cached_property
    def node_names(self) -> tuple[str, ...]:
        """All names, in the order of the file."""
        return tuple(node.name for node in self.nodes)

    def node(self, name: str) -> Node:
        """The node of that name, ignoring case.

        Raises:
            KeyError: there is none.
        """
        return self._by_name[name.upper()]

    @cached_property
    def servers(self) -> tuple[str, ...]:
        """The WinRM address of each node as `host:port`, sorted. Files may name the same server."""
        return tuple(sorted({self.server(node.name) for node in self.nodes}))

    def server(self, name: str) -> str:
        """The WinRM address of a node, as in `servers`."""
        node = self.node(name)
        return f"{one_spelling(node.host)}:{self._port(node)}"

    def sync_host(self, name: str) -> str:
        """Under which name other nodes try to reach a node: its host, if that can lead them there.

        A host that several nodes have, or that is the own machine of everybody, is the end of a tunnel: it leads only
        esync to the node.
        """
        node = self.node(name)
        return node.name if one_spelling(node.host) in self._tunnels else node.host

    @cached_property
    def _tunnels(self) -> frozenset[str]:
        counts = Counter(one_spelling(node.host) for node in self.nodes)
        return frozenset({"localhost", "127.0.0.1", "::1", *(host for host, count in counts.items() if count > 1)})

    def _port(self, node: Node) -> object:
        ours, own = self.connection, node.connection
        return listener_port(ours.scheme, ours.port, own.scheme, own.port)

    def balancer(self, name: str) -> Balancer | None:
        """The balancer of a node's pool, if it has one."""
        return self.balancers.get(self.node(name).pool) if self.balancers else None

    def pool_members(self, pool: str) -> tuple[str, ...]:
        """The nodes of a pool, in the order of the file."""
        return tuple(node.name for node in self.nodes if node.pool == pool)

    def floor(self, pool: str) -> int:
        """How many servers of a pool have to get requests at every moment; 0 for a pool without a balancer."""
        if pool not in self.balancers:
            return 0
        return self.policy.pools.get(pool, PoolPolicy()).floor(len(self.pool_members(pool)))

    def weaker_way(self, name: str) -> str:
        """What of the way to a node is weaker than https with TLS 1.2; empty if nothing is."""
        ours, own = self.connection, self.node(name).connection
        transport = own.transport or ours.transport
        return weaker_way(own.scheme or ours.scheme, own.tls_minimum or ours.tls_minimum, transport)

    @property
    def digest(self) -> str:
        """Tells clusters of one name apart: 12 hex digits of SHA-256 over the addresses of the servers."""
        return hashlib.sha256("\n".join(self.servers).encode()).hexdigest()[:12]

    @cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name.upper(): node for node in self.nodes}

    @cached_property
    def _endpoints(self) -> dict[str, Endpoint]:
        return {}

    def __copy__(self) -> Self:
        """A copy without what follows from the nodes: `model_copy` may give it others."""
        copied = super().__copy__()
        for derived in ("_by_name", "_endpoints", "_tunnels", "node_names", "servers"):
            copied.__dict__.pop(derived, None)
        return copied

    def is_origin(self, name: str) -> bool:
        """Whether that node is the origin of the certificate family."""
        return name.upper() == self.origin.upper()

    def endpoint(self, name: str) -> Endpoint:
        """Where to log on to a node, and with which account: the cluster's connection with the node's own settings."""
        node = self.node(name)
        found = self._endpoints.get(node.name)
        if found is None:
            found = self._endpoints[node.name] = self._endpoint(node)
        return found

    def _endpoint(self, node: Node) -> Endpoint:
        own = node.connection.model_dump(exclude_none=True)
        ours = self.connection.model_dump(exclude_none=True)
        if "ca_file" in own or "fingerprint" in own:  # whom to trust is decided as a whole
            ours = {name: value for name, value in ours.items() if name not in {"ca_file", "fingerprint"}}
        known = {**ours, **own, "port": self._port(node)}
        if known.get("ca_file") == SYSTEM:
            del known["ca_file"]
        return Endpoint(node=node.name, host=node.host, connect_timeout=self.policy.deadlines.connect, **known)


def _as_it_was(spec: dict[str, Any]) -> dict[str, Any]:
    """The cluster of a run; of one that an earlier version wrote with the meaning that its policy had there."""
    policy = spec.get("policy")
    if not isinstance(policy, dict) or "whole_pool" in policy:
        return spec
    return spec | {"policy": Policy.of_earlier_versions() | policy}


class Cluster(ClusterFile):
    """Servers that share one site.

    Attributes:
        folder: that of the cluster file, set by the reader of the file: secret files may be below it. May be empty.
    """

    folder: str = ""

    @classmethod
    def of_run(cls, record: RunRecord) -> Self:
        """The cluster of a run, as its record has it.

        Raises:
            RecordRefused: a version of esync with another description of clusters wrote it.
        """
        known = _clusters.get(record.id)
        if known is not None and known.spec == record.spec:
            return cast("Self", known.cluster)
        try:
            read = cls.model_validate(_as_it_was(record.spec))
        except ValidationError as error:
            place = place_in(error)
            why = f"the cluster of run {record.id} cannot be read ({place}): another version of esync wrote it"
            raise RecordRefused(record.id, why) from None
        _clusters.put(record.id, _Read(record.spec, read), len(read.nodes))
        return read


class _Read(NamedTuple):
    """A cluster, and the data that it was read from."""

    spec: dict[str, Any]
    cluster: Cluster


_clusters: Remembered[_Read] = Remembered(10_000)  #: by run; the weight is the number of nodes
