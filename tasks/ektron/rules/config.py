"""Invariants about the configuration files: flags, keys, names of certificates."""

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts import ON, AssetFacts, FileFacts, NodeFacts, ServiceConfigFacts
from tasks.ektron.rules.findings import (
    Decision,
    Invariant,
    InvariantState,
    Judged,
    Unknown,
    Violated,
    all_agree,
    each_node,
    each_node_in,
    only_origin,
    warning,
)
from tasks.ektron.wording import named

__all__ = ["CONFIG_RULES"]

_FACTORY_CLIENT = "EktronSyncClient.pfx"


def _unread(file: FileFacts) -> Unknown | None:
    """The values of a file that cannot be read are unknown. Another rule reports the file itself, the cause."""
    if not file.exists:
        return Unknown(f"{file.path} is missing")
    return Unknown(f"{file.path} cannot be read: {file.problem}") if file.problem else None


def _flag(config: AssetFacts | ServiceConfigFacts) -> Judged:
    unread, value = _unread(config.file), config.load_balanced
    if unread or value == ON:
        return unread
    return Violated("LoadBalanced is not set" if value is None else f"LoadBalanced is {value!r}")


def _library_count(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    """Matters only where library load balancing is on."""
    config = facts.service_config
    if config.library_load_balanced != ON or config.load_bal_server_count == str(len(cluster.nodes)):
        return None
    return Violated(
        f"LoadBalServerCount is {config.load_bal_server_count!r}, the cluster has {len(cluster.nodes)} nodes"
    )


def _web_endpoints(facts: NodeFacts) -> Judged:
    if not facts.web.endpoints:
        return _unread(facts.web.file) or Violated("web.config has no eSync endpoints")
    own = f"{facts.node}_SyncClient.pfx"
    foreign = sorted(
        {e.client_certificate or "none" for e in facts.web.endpoints if not _same(e.client_certificate, own)}
    )
    if not foreign:
        return None
    factory = ", the factory certificate" if _FACTORY_CLIENT in foreign else ""
    return Violated(f"endpoints name {named(foreign)}{factory} instead of {own}")


def _encoded_value(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    """The value must be the certificate of this node's key and of its `.cer` file (ektron-facts 3.2)."""
    expected = cluster.thumbprint or (facts.client.thumbprint if facts.client else "")
    if not facts.web.encoded_value:
        return _unread(facts.web.file) or Violated("encodedValue in web.config is empty or missing")
    if not expected:
        return Unknown("the expected certificate is unknown")
    return (
        None if facts.web.encoded_value == expected else Violated("encodedValue in web.config is another certificate")
    )


def _missing_keys(cluster: ClusterFacts, config: ServiceConfigFacts) -> Judged:
    if not config.keys_present:
        return _unread(config.file) or Violated("the element publickCertKeys is missing")
    absent = set(config.keys.missing)
    missing = [node for node in cluster.nodes if node in absent]
    return Violated(f"no key for {named(missing)}") if missing else None


def _wrong_keys(cluster: ClusterFacts, config: ServiceConfigFacts) -> Judged:
    """Every key that exists must be the client certificate of the family. Another rule reports missing keys."""
    if not cluster.thumbprint:
        return Unknown("the certificate of the family is unknown") if config.keys.common else None
    wrong = config.keys.others(cluster.thumbprint, cluster.nodes)
    return Violated(f"the key for {named(wrong)} is not the certificate in the file") if wrong else None


def _no_duplicates(facts: NodeFacts) -> Judged:
    duplicated = facts.service_config.keys.duplicated
    return Violated(f"more than one key for {named(duplicated)}") if duplicated else None


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


def _esync_enabled(facts: NodeFacts) -> str | None:
    """It enables only the sync of single folders and pages (ektron-facts 2.3), so `off` is not an error."""
    if _unread(facts.web.file):
        return None
    return (facts.web.esync_enabled or "not set").casefold()


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
    ),
    Invariant(
        id="config.service-load-balanced",
        statement="LoadBalanced is 1 in the configuration of the service on each node.",
        remedy="run a rollout, or set the value to 1 and restart the service",
        source="procedure, service config step 3; ektron-facts 2.2",
        decide=each_node(lambda facts: _flag(facts.service_config)),
    ),
    Invariant(
        id="config.web-endpoints",
        statement="Every eSync endpoint in web.config names this node's own client certificate.",
        remedy="run a rollout, or set <NODE>_SyncClient.pfx in every entry of ektron.serviceModel/endPoints",
        source="ektron-facts 3.4; 6, rows 1 and 6",
        decide=each_node(_web_endpoints),
    ),
    Invariant(
        id="config.encoded-value-agrees",
        statement="encodedValue in web.config is the client certificate of the family on each node.",
        remedy="run a rollout, or copy the value from the service's configuration to web.config, never the reverse",
        source="ektron-facts 3.4; 6, row 3",
        decide=each_node_in(_encoded_value),
    ),
    warning(
        id="config.library-server-count",
        statement="Where library load balancing is on, LoadBalServerCount is the number of nodes.",
        remedy="set LoadBalServerCount to the number of servers, or LibraryLoadBalanced to 0",
        source="ektron-facts 5; 6, row 31",
        decide=each_node_in(_library_count),
    ),
    warning(
        id="config.esync-enabled-alike",
        statement="eSyncEnabled is the same on all nodes.",
        remedy="set eSyncEnabled to one value in every web.config; it enables the sync of single folders and pages",
        source="ektron-facts 2.3; 6, row 45",
        decide=all_agree("eSyncEnabled", _esync_enabled),
    ),
    Invariant(
        id="keys.complete",
        statement="The service configuration of each node has a key for every node.",
        remedy="run a rollout; every server needs a key for every node, not only the first server",
        source="procedure, second part; ektron-facts 3.4; 6, row 5",
        decide=each_node_in(lambda cluster, facts: _missing_keys(cluster, facts.service_config)),
    ),
    Invariant(
        id="keys.match-cer",
        statement="The value of each key is the certificate in the file of that name.",
        remedy="run a rollout",
        source="ektron-facts 3.2",
        decide=each_node_in(lambda cluster, facts: _wrong_keys(cluster, facts.service_config)),
    ),
    Invariant(
        id="keys.no-duplicates",
        statement="No configuration has two keys for one node.",
        remedy="remove the wrong one; .NET does not load a file with two different values for one key",
        source="ektron-facts 2.2",
        decide=each_node(_no_duplicates),
    ),
    Invariant(
        id="keys.ewsupdates-agrees",
        statement="The EWSUpdates copy on the origin, where there is one, has the same keys.",
        remedy="run a rollout, so that the next service update does not restore old keys",
        source="procedure steps 12-25",
        decide=_ews,
    ),
    Invariant(
        id="family.server-certificate-is-own",
        statement="A server certificate named in the configuration of the service is the node's own.",
        remedy="run a rollout; a configuration copied from another server names the certificate of that server",
        source="ektron-facts 2.2; 6, row 42",
        decide=each_node(_server_certificate),
    ),
)
