"""Invariants about the configuration files: flags, keys, names of certificates."""

from collections.abc import Sequence

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts import FileFacts, NodeFacts, ServiceConfigFacts
from tasks.ektron.rules.findings import (
    Decision,
    Invariant,
    InvariantState,
    Judged,
    Severity,
    Unknown,
    Violated,
    all_agree,
    each_node,
    only_origin,
)
from tasks.ektron.wording import named

__all__ = ["CONFIG_RULES"]

_ON = "1"  #: the product compares the text, `true` is not on (ektron-facts 2.1)
_FACTORY_CLIENT = "EktronSyncClient.pfx"


def _asset_flag(_: ClusterFacts, facts: NodeFacts) -> Judged:
    return _unread(facts.asset.file) or _flag(facts.asset.load_balanced)


def _service_flag(_: ClusterFacts, facts: NodeFacts) -> Judged:
    return _unread(facts.service_config.file) or _flag(facts.service_config.load_balanced)


def _unread(file: FileFacts) -> Unknown | None:
    """What a file says is not known while it cannot be read: that is the cause, and another rule's."""
    if not file.exists:
        return Unknown(f"{file.path} is missing")
    return Unknown(f"{file.path} cannot be read: {file.problem}") if file.problem else None


def _flag(value: str | None) -> Judged:
    return (
        None if value == _ON else Violated("LoadBalanced is not set" if value is None else f"LoadBalanced is {value!r}")
    )


def _library_count(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    """Only where library load balancing is switched on at all."""
    config = facts.service_config
    if config.library_load_balanced != _ON or config.load_bal_server_count == str(len(cluster.nodes)):
        return None
    return Violated(
        f"LoadBalServerCount is {config.load_bal_server_count!r}, the cluster has {len(cluster.nodes)} nodes"
    )


def _web_endpoints(_: ClusterFacts, facts: NodeFacts) -> Judged:
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
    """The site's value is the certificate under this node's key and in its `.cer` (ektron-facts 3.2)."""
    wanted = cluster.thumbprint or (facts.client.thumbprint if facts.client else "")
    if not facts.web.encoded_value:
        return _unread(facts.web.file) or Violated("encodedValue in web.config is empty or missing")
    if not wanted:
        return Unknown("the certificate it should hold is not known")
    return None if facts.web.encoded_value == wanted else Violated("encodedValue in web.config is another certificate")


def _keys_complete(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    return _missing_keys(facts.service_config, cluster.nodes)


def _missing_keys(config: ServiceConfigFacts, nodes: Sequence[str]) -> Judged:
    if not config.keys_present:
        return _unread(config.file) or Violated("the element publickCertKeys is missing")
    missing = tuple(node for node in nodes if node in set(config.keys.missing))
    return Violated(f"no key for {named(missing)}") if missing else None


def _keys_match(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    return _wrong_keys(cluster, facts.service_config)


def _wrong_keys(cluster: ClusterFacts, config: ServiceConfigFacts) -> Judged:
    """Every key there is holds the family's client certificate; a missing one is another rule's."""
    if not cluster.thumbprint:
        return Unknown("the family's certificate is not known") if config.keys.common else None
    wrong = config.keys.others(cluster.thumbprint, cluster.nodes)
    return Violated(f"the key for {named(wrong)} is another certificate than the file has") if wrong else None


def _no_duplicates(_: ClusterFacts, facts: NodeFacts) -> Judged:
    twice = facts.service_config.keys.duplicated
    return Violated(f"more than one key for {named(twice)}") if twice else None


def _ews_agrees(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    if facts.ews is None:
        return Unknown("the EWSUpdates copy of the service's configuration was not looked at")
    if facts.ews.file.problem:
        return Violated(f"{facts.ews.file.path}: {facts.ews.file.problem}")
    return _missing_keys(facts.ews, cluster.nodes) or _wrong_keys(cluster, facts.ews)


def _ews(cluster: ClusterFacts) -> Decision:
    """Some builds ship without the copy; then no old keys can come from there (ektron-facts 9)."""
    facts = cluster.of(cluster.origin)
    if facts is not None and facts.ews is not None and not facts.ews.file.exists:
        return Decision(
            InvariantState.PROVEN,
            f"there is no EWSUpdates copy on {cluster.origin}; the live configuration is what counts",
        )
    return only_origin(_ews_agrees)(cluster)


def _server_certificate(_: ClusterFacts, facts: NodeFacts) -> Judged:
    own = f"{facts.node}_SyncServer.pfx"
    foreign = [value for value in facts.service_config.server_certificates if not _same(value, own)]
    return Violated(f"services name {named(foreign)} instead of {own}") if foreign else None


def _esync_enabled(facts: NodeFacts) -> str | None:
    """It switches the syncing of single folders and pages only (ektron-facts 2.3), so off is no mistake."""
    if _unread(facts.web.file):
        return None
    return (facts.web.esync_enabled or "not set").casefold()


def _same(value: str | None, wanted: str) -> bool:
    """Names of files, compared as Windows does."""
    return (value or "").casefold() == wanted.casefold()


CONFIG_RULES = (
    Invariant(
        id="config.asset-load-balanced",
        statement="LoadBalanced is 1 in AssetManagement.config on each node.",
        remedy="run a rollout, or set the attribute to 1 and recycle the site",
        source="procedure, assetmanagement.config step 3; ektron-facts 2.1",
        decide=each_node(_asset_flag),
    ),
    Invariant(
        id="config.service-load-balanced",
        statement="LoadBalanced is 1 in the service's configuration on each node.",
        remedy="run a rollout, or set the value to 1 and restart the service",
        source="procedure, service config step 3; ektron-facts 2.2",
        decide=each_node(_service_flag),
    ),
    Invariant(
        id="config.web-endpoints",
        statement="Every eSync endpoint in web.config names this node's own client certificate.",
        remedy="run a rollout, or name <NODE>_SyncClient.pfx in every entry of ektron.serviceModel/endPoints",
        source="ektron-facts 3.4; 6, rows 1 and 6",
        decide=each_node(_web_endpoints),
    ),
    Invariant(
        id="config.encoded-value-agrees",
        statement="encodedValue in web.config is the family's client certificate on each node.",
        remedy="run a rollout, or copy the value from the service's configuration to web.config, never the reverse",
        source="ektron-facts 3.4; 6, row 3",
        decide=each_node(_encoded_value),
    ),
    Invariant(
        id="config.library-server-count",
        statement="Where library load balancing is on, LoadBalServerCount is the number of nodes.",
        remedy="set LoadBalServerCount to the number of servers, or LibraryLoadBalanced to 0",
        source="ektron-facts 5; 6, row 31",
        decide=each_node(_library_count),
        severity=Severity.WARNING,
    ),
    Invariant(
        id="config.esync-enabled-alike",
        statement="eSyncEnabled is the same on all nodes.",
        remedy="set eSyncEnabled to the same value in every web.config; it offers syncing of single folders and pages",
        source="ektron-facts 2.3; 6, row 45",
        decide=all_agree("eSyncEnabled", _esync_enabled),
        severity=Severity.WARNING,
    ),
    Invariant(
        id="keys.complete",
        statement="Each node's service configuration has a key for every node.",
        remedy="run a rollout; each server needs N keys, not only the first",
        source="procedure, second part; ektron-facts 3.4; 6, row 5",
        decide=each_node(_keys_complete),
    ),
    Invariant(
        id="keys.match-cer",
        statement="Each key's value is the certificate in the file it names.",
        remedy="run a rollout",
        source="ektron-facts 3.2",
        decide=each_node(_keys_match),
    ),
    Invariant(
        id="keys.no-duplicates",
        statement="No node has two keys in one configuration.",
        remedy="remove the one that is wrong; .NET does not load a file with two different values under one key",
        source="ektron-facts 2.2",
        decide=each_node(_no_duplicates),
    ),
    Invariant(
        id="keys.ewsupdates-agrees",
        statement="The EWSUpdates copy on the origin, where there is one, has the same keys.",
        remedy="run a rollout, so that the next service update does not bring old keys back",
        source="procedure steps 12-25",
        decide=_ews,
    ),
    Invariant(
        id="family.server-certificate-is-own",
        statement="Where the service's configuration names a server certificate, it is the node's own.",
        remedy="run a rollout; a configuration copied between servers names the other one",
        source="ektron-facts 2.2; 6, row 42",
        decide=each_node(_server_certificate),
    ),
)
