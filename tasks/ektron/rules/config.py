"""Invariants about the configuration files: flags, keys, names of certificates."""

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.editions import FACTORY_CLIENT
from tasks.ektron.facts.configuration import AssetFacts, ServiceConfigFacts, WebFacts
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.values import ON
from tasks.ektron.rules.findings import (
    Decision,
    Invariant,
    InvariantState,
    Judged,
    Unknown,
    Violated,
    all_agree,
    decided,
    each_node,
    each_node_in,
    only_origin,
    warning,
)
from tasks.ektron.wording import counted, named

__all__ = ["CONFIG_RULES"]

#: From these follows which certificate is the right one (`ClusterFacts.thumbprint`).
_OF_FAMILY = ("node", "client", "service_family", "origin_family", "cluster.family", "cluster.family_thumbprint")
_SETTINGS, _MODEL = "appSettings", "ektron.serviceModel"
_CONTRACTS = (  #: of the endpoints that the product is known to have; the last one from 9.1 on (ektron-facts 2.3)
    "SyncCommunicationScheduleServiceReference.SyncCommunicationSchedule",
    "SyncScheduleServiceReference.IScheduleService",
    "SiteCommunicationServiceReference.ISiteCommunication",
    "Ektron.Sync.Entities.ISyncQueueService",
)


def _unread(part: AssetFacts | ServiceConfigFacts | WebFacts, section: str = "") -> Unknown | None:
    """The values of a file or section that cannot be read are unknown. Another rule reports it, the cause."""
    file = part.file
    if not file.exists:
        return Unknown(f"{file.path} is missing")
    if section and not isinstance(part, AssetFacts) and section in part.encrypted:
        return Unknown(f"the section {section} of {file.path} is encrypted")
    return Unknown(f"{file.path} cannot be read: {file.problem}") if file.problem else None


def _flag(config: AssetFacts | ServiceConfigFacts) -> Judged:
    unread, value = _unread(config, _SETTINGS), config.load_balanced
    if unread or value == ON:
        return unread
    return Violated("LoadBalanced is not set" if value is None else f"LoadBalanced is {value!r}")


def _library_count(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    """Matters only where library load balancing is on. The number of servers in its pool (ektron-facts 10)."""
    config = facts.service_config
    pool = cluster.pool_of(facts.node)
    right = len(cluster.pool_members.get(pool, cluster.nodes))
    if config.library_load_balanced != ON or config.load_bal_server_count == str(right):
        return None
    owner = f"pool {pool}" if pool else "the cluster"
    return Violated(f"LoadBalServerCount is {config.load_bal_server_count!r}, {owner} has {counted(right, 'node')}")


def _web_endpoints(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    if not facts.web.endpoints:
        if not facts.web.service_model:
            return _unread(facts.web, _MODEL) or Unknown(f"web.config has no section {_MODEL}")
        return _unread(facts.web) or Violated("web.config has no eSync endpoints")
    own = f"{facts.node}_SyncClient.pfx"
    foreign = sorted(
        {e.client_certificate or "none" for e in facts.web.endpoints if not _same(e.client_certificate, own)}
    )
    if not foreign:
        return None
    factory = ", the factory certificate" if FACTORY_CLIENT in foreign else ""
    clients = {f"{node}_SyncClient.pfx".casefold(): node for node in cluster.nodes}
    others = [clients[name.casefold()] for name in foreign if name.casefold() in clients]
    origin = f": the file was copied from {named(others)}, or is shared with it" if others else ""
    return Violated(f"endpoints name {named(foreign)}{factory} instead of {own}{origin}")


def _all_contracts(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    """Endpoints are compared between the nodes: which of the known ones exist depends on the version."""
    unread = _unread(facts.web)
    if unread or not facts.web.endpoints:
        return unread  # another rule reports a file without endpoints
    there = {endpoint.contract for one in cluster.facts.values() for endpoint in one.web.endpoints}
    own = {endpoint.contract for endpoint in facts.web.endpoints}
    missing = [contract for contract in _CONTRACTS if contract in there - own]
    return Violated(f"web.config lacks the endpoints {named(missing)}, which other nodes have") if missing else None


def _user_domain(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    """The name of the machine or of a domain; a file that was copied names the machine it comes from."""
    if unread := _unread(facts.asset):
        return unread
    value = (facts.asset.user_domain or "").casefold()
    if value == facts.node.casefold():
        return None
    other = next((node for node in cluster.nodes if node.casefold() == value and node != facts.node), None)
    return Violated(f"UserDomain names {other}: the file was copied from there") if other else None


def _storage(cluster: ClusterFacts) -> Decision:
    r"""Only network paths such as `\\nas\assets` can be compared: each machine has local folders of its own."""
    users: dict[str, dict[str, list[str]]] = {}
    for node, facts in cluster.facts.items():
        path = (facts.asset.storage_location or "").replace("/", "\\").rstrip("\\").casefold()
        if path.startswith("\\\\"):
            users.setdefault(path, {}).setdefault(cluster.pool_of(node), []).append(node)
    violated = {
        node: f"StorageLocation {path} is shared by the pools {named(list(pools))}"
        for path, pools in users.items()
        if len(pools) > 1
        for nodes in pools.values()
        for node in nodes
    }
    unread = {node: answer.why for node, facts in cluster.facts.items() if (answer := _unread(facts.asset))}
    return decided(cluster, violated, unread)


def _encoded_value(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    """The value must be the certificate of this node's key and of its `.cer` file (ektron-facts 3.2)."""
    expected = cluster.thumbprint or (facts.client.thumbprint if facts.client else "")
    if not facts.web.encoded_value:
        return _unread(facts.web, _SETTINGS) or Violated("encodedValue in web.config is empty or missing")
    if not expected:
        return Unknown("the expected certificate is unknown")
    return (
        None if facts.web.encoded_value == expected else Violated("encodedValue in web.config is another certificate")
    )


def _missing_keys(cluster: ClusterFacts, config: ServiceConfigFacts) -> Judged:
    if not config.keys_present:
        return _unread(config, _MODEL) or Violated("the element publickCertKeys is missing")
    absent = set(config.keys.absent(cluster.nodes))
    missing = [node for node in cluster.nodes if node in absent]
    return Violated(f"no key for {named(missing)}") if missing else None


def _wrong_keys(cluster: ClusterFacts, config: ServiceConfigFacts) -> Judged:
    """Every key that exists must be the client certificate of the family. Another rule reports missing keys."""
    if not cluster.thumbprint:
        return Unknown("the certificate of the family is unknown") if config.keys.common else None
    wrong = config.keys.others(cluster.thumbprint, cluster.nodes)
    return Violated(f"the key for {named(wrong)} is not the certificate in the file") if wrong else None


def _no_duplicates(facts: NodeFacts) -> Judged:
    for config, where in ((facts.service_config, ""), (facts.ews, " in the EWSUpdates copy")):
        if config is not None and config.keys.duplicated:
            return Violated(f"several keys that differ for {named(config.keys.duplicated)}{where}")
    return None


def _ews_agrees(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    if facts.ews is None:
        return Unknown("the EWSUpdates copy of the service's configuration was not read")
    if facts.ews.file.problem:
        return Violated(f"{facts.ews.file.path}: {facts.ews.file.problem}")
    return _missing_keys(cluster, facts.ews) or _wrong_keys(cluster, facts.ews)


def _ews(cluster: ClusterFacts) -> Decision:
    """Some builds have no EWSUpdates copy; then an update cannot restore old keys from it (ektron-facts 9)."""
    facts = cluster.of(cluster.origin)
    if facts is not None and facts.ews is not None and not facts.ews.file.exists:
        return Decision(
            InvariantState.PROVEN,
            f"there is no EWSUpdates copy on {cluster.origin}; only the live configuration matters",
        )
    return only_origin(_ews_agrees)(cluster)


def _server_certificate(facts: NodeFacts) -> Judged:
    own = f"{facts.node}_SyncServer.pfx"
    foreign = [value for value in facts.service_config.server_certificates if not _same(value, own)]
    return Violated(f"services name {named(foreign)} instead of {own}") if foreign else None


def _library_balancing(facts: NodeFacts) -> str | None:
    return None if _unread(facts.service_config) else facts.service_config.library_load_balanced or "not set"


def _esync_enabled(facts: NodeFacts) -> str | None:
    """It enables only the sync of single folders and pages (ektron-facts 2.3), so `off` is not an error."""
    if _unread(facts.web):
        return None
    return (facts.web.esync_enabled or "").strip().casefold() or "not set"


def _same(value: str | None, expected: str) -> bool:
    """Compares file names as Windows does."""
    return (value or "").casefold() == expected.casefold()


CONFIG_RULES = (
    Invariant(
        id="config.asset-load-balanced",
        statement="LoadBalanced is 1 in AssetManagement.config on each node.",
        remedy="run a rollout, or set the attribute to 1 and recycle the site",
        source="procedure, assetmanagement.config step 3; ektron-facts 2.1",
        decide=each_node(lambda facts: _flag(facts.asset)),
        reads=("asset.load_balanced", "asset.file"),
        proves="the attribute is exactly 1",
        cannot_know="whether the site has read it: IIS reads the file when the application starts",
    ),
    Invariant(
        id="config.service-load-balanced",
        statement="LoadBalanced is 1 in the configuration of the service on each node.",
        remedy="run a rollout, or set the value to 1 and restart the service",
        source="procedure, service config step 3; ektron-facts 2.2",
        decide=each_node(lambda facts: _flag(facts.service_config)),
        reads=("service_config.load_balanced", "service_config.file", "service_config.encrypted"),
        proves="the value in appSettings is exactly 1",
        cannot_know="whether the service has read it; service.started-after-last-change shows that",
    ),
    Invariant(
        id="config.web-endpoints",
        statement="Every eSync endpoint in web.config names this node's own client certificate.",
        remedy="run a rollout, or set <NODE>_SyncClient.pfx in every entry of ektron.serviceModel/endPoints. Where "
        "servers share the folder of the site, or something replicates web.config between them, give each its own "
        "file first",
        source="ektron-facts 3.4; 6, rows 1 and 6",
        decide=each_node_in(_web_endpoints),
        reads=("node", "web.endpoints", "web.service_model", "web.encrypted", "web.file"),
        proves="there is an endpoint, and each names <NODE>_SyncClient.pfx",
        cannot_know="whether the site has loaded the file of that name; family.web-root-copy shows that it is the "
        "right one",
    ),
    Invariant(
        id="config.endpoints-complete",
        statement="Each node has the eSync endpoints in web.config that the other nodes have.",
        remedy="copy the missing entries of ektron.serviceModel/endPoints from a server of the same version, then run "
        "a rollout",
        source="ektron-facts 2.3; 6, row 1",
        decide=each_node_in(_all_contracts),
        reads=("web.endpoints", "web.file"),
        proves="each node has every known endpoint that another node has",
        cannot_know="an endpoint that all nodes lack: which ones exist depends on the version",
    ),
    Invariant(
        id="config.encoded-value-agrees",
        statement="encodedValue in web.config is the client certificate of the family on each node.",
        remedy="run a rollout, or copy the value from the service's configuration to web.config, never the reverse",
        source="ektron-facts 3.4; 6, row 3",
        decide=each_node_in(_encoded_value),
        reads=(
            "web.encoded_value",
            "web.encrypted",
            "web.file",
            *_OF_FAMILY,
        ),
        proves="the value decodes to the client certificate of the family",
        cannot_know="whether the site has read the value since it was written",
    ),
    warning(
        id="config.library-server-count",
        statement="Where library load balancing is on, LoadBalServerCount is the number of nodes in the pool.",
        remedy="set LoadBalServerCount to the number of servers in the pool, or LibraryLoadBalanced to 0",
        source="ektron-facts 5; 10; 6, row 31",
        decide=each_node_in(_library_count),
        reads=("service_config.library_load_balanced", "service_config.load_bal_server_count", "node", "cluster.pools"),
        proves="library load balancing is off, or LoadBalServerCount is the number of nodes in the pool",
        cannot_know="servers of the pool that are not in the cluster file",
    ),
    warning(
        id="config.library-balancing-alike",
        statement="LibraryLoadBalanced is the same on all nodes of a pool.",
        remedy="set LibraryLoadBalanced to one value on all servers of the pool; a server without it does not pass on "
        "files that are uploaded there",
        source="ektron-facts 2.2; 5; 6, row 31",
        decide=all_agree("LibraryLoadBalanced", _library_balancing, within_pool=True),
        reads=("service_config.library_load_balanced", "service_config.file", "cluster.pools"),
        proves="the value in the configuration of the service is the same on all nodes of each pool",
        cannot_know="whether the pool shares these files in another way, such as a network folder",
    ),
    warning(
        id="config.esync-enabled-alike",
        statement="eSyncEnabled is the same on all nodes of a pool.",
        remedy="set eSyncEnabled to one value in every web.config of the pool; it enables the sync of single folders "
        "and pages",
        source="ektron-facts 2.3; 6, row 45",
        decide=all_agree("eSyncEnabled", _esync_enabled, within_pool=True),
        reads=("web.esync_enabled", "web.file", "cluster.pools"),
        proves="the value in eSyncSettings is the same on all nodes of each pool, in any case",
        cannot_know="which value is meant",
    ),
    warning(
        id="config.asset-user-domain",
        statement="UserDomain in AssetManagement.config does not name another server of the cluster.",
        remedy="set UserDomain to the name of this machine or of its domain, and compare the rest of the file: it was "
        "copied from another server",
        source="ektron-facts 2.1; 2.3",
        decide=each_node_in(_user_domain),
        reads=("node", "asset.user_domain", "asset.file"),
        proves="UserDomain is no other node of the cluster",
        cannot_know="whether a name of no node is right: it may be a domain, or a machine that was renamed",
    ),
    warning(
        id="storage.own-per-pool",
        statement="No two pools share a network folder as StorageLocation.",
        remedy="give each pool its own StorageLocation in AssetManagement.config; asset syncs fail in a shared one",
        source="ektron-facts 2.1; 6, row 20",
        decide=_storage,
        reads=("asset.storage_location", "asset.file", "cluster.pools"),
        proves="no two pools have the same network path in StorageLocation",
        cannot_know="local folders that are one folder through a link, a mapped drive or replication",
    ),
    Invariant(
        id="keys.complete",
        statement="The service configuration of each node has a key for every node.",
        remedy="run a rollout; every server needs a key for every node, not only the first server",
        source="procedure, second part; ektron-facts 3.4; 6, row 5",
        decide=each_node_in(lambda cluster, facts: _missing_keys(cluster, facts.service_config)),
        reads=("service_config.keys_present", "service_config.keys", "service_config.encrypted", "service_config.file"),
        proves="publickCertKeys has an entry for every node",
        cannot_know="servers that are not in the cluster file",
    ),
    Invariant(
        id="keys.match-cer",
        statement="The value of each key is the certificate in the file of that name.",
        remedy="run a rollout",
        source="ektron-facts 3.2",
        decide=each_node_in(lambda cluster, facts: _wrong_keys(cluster, facts.service_config)),
        reads=(
            "service_config.keys",
            *_OF_FAMILY,
        ),
        proves="each key that exists decodes to the client certificate of the family",
        cannot_know="whether the service accepts the certificate",
    ),
    Invariant(
        id="keys.no-duplicates",
        statement="No configuration has two different keys for one node.",
        remedy="remove the wrong one; .NET does not load a file with two different values for one key",
        source="ektron-facts 2.2",
        decide=each_node(_no_duplicates),
        reads=("service_config.keys", "ews.keys"),
        proves="each name occurs once in publickCertKeys, or several times with one value",
        cannot_know="whether the section of the product takes equal entries, as .NET's own collections do",
    ),
    Invariant(
        id="keys.ewsupdates-agrees",
        statement="The EWSUpdates copy on the origin, where there is one, has the same keys.",
        remedy="run a rollout, so that the next service update does not restore old keys",
        source="procedure steps 12-25",
        decide=_ews,
        reads=(
            "ews.keys_present",
            "ews.keys",
            "ews.encrypted",
            "ews.file",
            *_OF_FAMILY,
        ),
        proves="the copy on the origin does not exist, or has the key of the family for every node",
        cannot_know="copies on other servers; the procedure edits the one of the origin",
    ),
    Invariant(
        id="family.server-certificate-is-own",
        statement="A server certificate named in the configuration of the service is the node's own.",
        remedy="run a rollout; a configuration copied from another server names the certificate of that server",
        source="ektron-facts 2.2; 6, row 42",
        decide=each_node(_server_certificate),
        reads=("node", "service_config.server_certificates"),
        proves="every serverCertificate under services is <NODE>_SyncServer.pfx",
        cannot_know="a service without the attribute: then the product chooses a file by rules that are not published",
    ),
)
