"""What is shared with others: the service with other sites on the same servers, keys with servers outside the cluster.

Certificates and the service are per server, shared by all sites on it; sitedb.config names the sites. A server that
syncs with the cluster needs a certificate of every server, and its own key there (ektron-facts 10, 3.4).
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from tasks.ektron.certificates.both import EXTRA_NAMES
from tasks.ektron.certificates.family import CLIENT_CER, CLIENT_KINDS
from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts.configuration import NO_CERTIFICATE
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.values import folded_path
from tasks.ektron.rules.findings import (
    Decision,
    Invariant,
    InvariantState,
    Judged,
    Violated,
    each_node_in,
    prerequisite,
    warning,
)
from tasks.ektron.wording import named

__all__ = ["SHARED_RULES", "consequences", "cut_off", "other_sites", "replaces_family"]


def other_sites(facts: NodeFacts) -> tuple[str, ...]:
    """The other sites that the service of this node serves, each with its folder, as sitedb.config names them."""
    sites = facts.generated.sitedb.sites if facts.generated.sitedb else ()
    own = folded_path(facts.web.file.folder)
    found = {
        folded_path(site.physical_path): f"{site.name or 'a site'} ({site.physical_path})"
        for site in sites
        if site.physical_path and site.is_active
    }
    return tuple(text for folder, text in found.items() if folder != own)


def replaces_family(cluster: ClusterFacts, facts: NodeFacts) -> bool:
    """Whether a rollout would replace a certificate family that this node uses: one that its service trusts."""
    keys = facts.service_config.keys
    key = keys.value(facts.node) or keys.common
    if not key or key == NO_CERTIFICATE:
        return False
    if cluster.family_thumbprint:
        return key != cluster.family_thumbprint
    held = facts.service_family[CLIENT_CER].value(facts.node) if CLIENT_CER in facts.service_family else None
    wanted = cluster.hashes.get(CLIENT_CER)
    return bool(held and wanted and held != wanted)


def cut_off(cluster: ClusterFacts, silent: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Silent node -> the nodes that trust it now and get another family by a rollout: then they refuse each other."""
    replaced = {node: facts for node, facts in cluster.facts.items() if replaces_family(cluster, facts)}
    cut = {
        node: tuple(other for other, facts in replaced.items() if facts.service_config.keys.value(node))
        for node in silent
    }
    return {node: others for node, others in cut.items() if others}


def consequences(
    cluster: ClusterFacts, silent: Iterable[str] = (), unselected: Collection[str] = ()
) -> tuple[str, ...]:
    """What a rollout means for others, as sentences for a plan: other sites, servers outside, nodes that it leaves out.

    Servers outside need the keys of nodes that are new, too.
    """
    outsiders = dict(_of_outsiders(cluster))
    newcomers = (note for name, note in _of_new_nodes(cluster) if name not in outsiders)
    left_out = (*_of_silent(cluster, silent), *_of_unselected(cluster, unselected))
    return (*_of_sites(cluster), *outsiders.values(), *newcomers, *left_out)


def _of_sites(cluster: ClusterFacts) -> Iterator[str]:
    by_sites: dict[tuple[str, ...], list[str]] = {}
    for node, facts in cluster.facts.items():
        by_sites.setdefault(other_sites(facts), []).append(node)
    for sites, nodes in by_sites.items():
        if sites:
            yield f"{named(nodes)}: the same service, with the same keys, also serves {named(sites)}"


def _of_outsiders(cluster: ClusterFacts) -> Iterator[tuple[str, str]]:
    """Servers outside the cluster that are trusted now and get to see other certificates: folded name -> sentence."""
    knowing: dict[str, list[str]] = {}
    for node, facts in cluster.facts.items():
        for name in _outsiders(facts) if replaces_family(cluster, facts) else ():
            knowing.setdefault(name, []).append(node)
    declared = {name.casefold() for name in cluster.partners}
    for name, nodes in knowing.items():
        needs = f"to sync again it needs the new family: esync certs export FILE --for {name}"
        which = f"the partner {name}" if name.casefold() in declared else f"{name} (not in the cluster file)"
        yield (
            name.casefold(),
            f"{which} is trusted by {named(nodes)} and will refuse them: their certificates change; {needs}",
        )


def _of_new_nodes(cluster: ClusterFacts) -> Iterator[tuple[str, str]]:
    """Servers outside that will refuse nodes that are new, until they have their keys: folded name -> sentence."""
    new = _not_let_in(cluster)
    if not new:
        return
    found = [name for facts in cluster.facts.values() for name in _outsiders(facts)]
    outside = {name.casefold(): name for name in (*found, *cluster.partners)}
    words = ("is", "it", "its key") if len(new) == 1 else ("are", "them", "their keys")
    for folded, name in outside.items():
        needs = f"to sync with {words[1]}, {name} needs {words[2]}: esync certs export FILE --for {name}"
        yield folded, f"{named(new)} {words[0]} new: {needs}"


def _not_let_in(cluster: ClusterFacts) -> list[str]:
    """The nodes whose keys no other node has. In a joined cluster two nodes are enough to see that there are none."""
    new = dict.fromkeys(cluster.facts)
    for facts in cluster.facts.values():
        for node in _trusted(facts, new):
            del new[node]
        if not new:
            break
    return list(new)


def _trusted(facts: NodeFacts, nodes: Iterable[str]) -> Iterator[str]:
    """The other nodes whose keys a node has."""
    for node, key in facts.service_config.keys.by_node(nodes).items():
        if node != facts.node and key != NO_CERTIFICATE:
            yield node


def _outsiders(facts: NodeFacts) -> tuple[str, ...]:
    """The servers outside the cluster that a node trusts; the names that a renewal adds are no servers."""
    extra = {name.casefold() for name in EXTRA_NAMES}
    return tuple(name for name in facts.service_config.other_keys if name.casefold() not in extra)


def _of_silent(cluster: ClusterFacts, silent: Iterable[str]) -> Iterator[str]:
    for node, others in cut_off(cluster, silent).items():
        yield (
            f"{node} did not answer and keeps the present certificates: it and {named(others)} will refuse each other. "
            "Bring it back first, or set policy.unreachable to `continue`"
        )


def _of_unselected(cluster: ClusterFacts, unselected: Collection[str]) -> Iterator[str]:
    replaced = [node for node, facts in cluster.facts.items() if replaces_family(cluster, facts)]
    keeping = [node for node in replaced if node in unselected]
    changed = [node for node in replaced if node not in unselected]
    if keeping and changed:
        keep, they = ("is", "keeps") if len(keeping) == 1 else ("are", "keep")
        yield (
            f"{named(keeping)} {keep} not selected and {they} the present certificates: {named(changed)} and "
            f"{named(keeping)} will refuse each other. Select all nodes"
        )


def _family_of_others(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    sites = other_sites(facts)
    if not sites or not replaces_family(cluster, facts):
        return None
    return Violated(
        f"the service also serves {named(sites)} and uses another certificate family than {cluster.origin} hands out; "
        f"the family in use is in {facts.service_folder} as {facts.node}_SyncClient.* and {facts.node}_SyncServer.*"
    )


def _no_other_family(cluster: ClusterFacts) -> Decision:
    decision = each_node_in(_family_of_others)(cluster)
    sites = tuple(_of_sites(cluster)) if decision.verdict is InvariantState.PROVEN else ()
    return replace(decision, evidence=". ".join([decision.evidence, *sites])) if sites else decision


def _outsiders_keep_trust(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    others = _outsiders(facts)
    if not others or not replaces_family(cluster, facts):
        return None
    return Violated(f"{named(sorted(others))} will refuse this server when it has its new certificates")


def _partners_known(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    known = {name.casefold() for name, key in facts.service_config.other_keys.items() if key != NO_CERTIFICATE}
    without = [name for name in cluster.partners if name.casefold() not in known]
    if without:
        return Violated(f"no key for the partner {named(without)}")
    held = [spread for kind, spread in facts.partner_family.items() if kind in CLIENT_KINDS]
    gaps = [name for name in cluster.partners if not all(spread.value(name) for spread in held)]
    return Violated(f"no certificate files of the partner {named(gaps)}") if gaps else None


SHARED_RULES = (
    prerequisite(
        id="shared.family-of-other-sites",
        statement="No rollout replaces a certificate family that another site on the same servers uses.",
        remedy=(
            "hand out the family that is in use: copy its six files, renamed for the origin, to the Security "
            "Configurator's folder there, or set `origin` to the server that made it; then run again. esync cannot "
            "replace it for several sites at once: each of them has copies of its own. The Security Configurator can, "
            "on each server for all its sites"
        ),
        source="ektron-facts 10: certificates and the service are per server, shared by all sites on it",
        decide=_no_other_family,
        reads=(
            "node",
            "web.file",
            "service_folder",
            "generated.sitedb",
            "service_config.keys",
            "service_family",
            "origin_family",
            "cluster.family",
            "cluster.family_thumbprint",
        ),
        proves="the service serves no other site, or uses the family that a rollout hands out",
        cannot_know="sites that sitedb.config does not name yet: it is written once a day",
    ),
    warning(
        id="shared.partners-keep-connection",
        statement="No server outside the cluster loses its connection by new certificates.",
        remedy=(
            "when the rollout has ended, give each of them the new family: esync certs export FILE --for NAME; name "
            "those that sync with the cluster under `partners` in the cluster file"
        ),
        source="ektron-facts 10, 3.4",
        decide=each_node_in(_outsiders_keep_trust),
        reads=(
            "node",
            "service_config.other_keys",
            "service_config.keys",
            "service_family",
            "origin_family",
            "cluster.family",
            "cluster.family_thumbprint",
        ),
        proves="no server outside the cluster is trusted, or the family does not change",
        cannot_know="whether that server still syncs",
    ),
    Invariant(
        id="shared.partners-known",
        statement="Each node has a key and client certificate files for every partner in the cluster file.",
        remedy="run a rollout; then give the partner its files: esync certs export FILE --for NAME",
        source="ektron-facts 10, 3.4",
        decide=each_node_in(_partners_known),
        reads=("service_config.other_keys", "partner_family", "cluster.partners"),
        proves="there is a key and there are client files of every partner",
        cannot_know="whether the partner has the keys of this cluster",
    ),
)
