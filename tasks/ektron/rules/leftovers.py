"""Invariants about what a cluster leaves behind in the course of the years: removed servers, old folders."""

from collections.abc import Iterable

from tasks.ektron.certificates.both import EXTRA_NAMES
from tasks.ektron.certificates.family import node_of
from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts.configuration import ServiceConfigFacts
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.rules.findings import (
    Decision,
    Invariant,
    InvariantState,
    Judged,
    Severity,
    Violated,
    decided,
    each_node,
    warning,
)
from tasks.ektron.wording import counted, named

__all__ = ["LEFTOVER_RULES"]

_EXTRA = frozenset(EXTRA_NAMES)
_PARTS = (
    "accepts {}, with the certificate of the family",
    "accepts {}, with a certificate that is not the family's",
    "holds certificate files of {}",
    "holds the private keys of the family under the name of {}",
    "would accept {} after a service update (EWSUpdates copy)",
)


def _no_removed_nodes(cluster: ClusterFacts) -> Decision:
    """A warning; an error where a key is of another family: it survives every renewal, and no rollout replaces it."""
    known = {name.casefold() for name in (*cluster.nodes, *cluster.partners)}
    violated: dict[str, str] = {}
    lasting = False
    for node, facts in cluster.facts.items():
        keys = _strangers(facts.service_config, known)
        foreign = sorted(name for name, value in keys.items() if cluster.thumbprint and value != cluster.thumbprint)
        held = sorted(name for name in _with_files(facts) if name.casefold() not in known)
        copies = sorted(name for name in _owners(facts.renamed_copies) if name.casefold() not in known)
        update = sorted(_strangers(facts.ews, known).keys() - keys.keys())
        if why := _sentence(cluster, sorted(keys.keys() - set(foreign)), foreign, held, copies, update):
            violated[node], lasting = why, lasting or bool(foreign)
    decision = decided(cluster, violated, {})
    if decision.verdict is not InvariantState.REFUTED:
        return decision
    return Decision(
        decision.verdict, decision.evidence, decision.reasons, Severity.ERROR if lasting else Severity.WARNING
    )


def _strangers(config: ServiceConfigFacts | None, known: set[str]) -> dict[str, str]:
    keys = config.other_keys if config is not None else {}
    return {name: value for name, value in keys.items() if name.casefold() not in known}


def _with_files(facts: NodeFacts) -> set[str]:
    """Servers that are not nodes, with files in the service folder, or in that of the Security Configurator."""
    families = (facts.service_family, facts.configurator_family)
    return {name for family in families for spread in family.values() for name in spread.unexpected}


def _owners(names: Iterable[str]) -> set[str]:
    return {owner[0] for name in names if (owner := node_of(name))}


def _sentence(cluster: ClusterFacts, *names_of_parts: list[str]) -> str:
    found = [text.format(named(names)) for text, names in zip(_PARTS, names_of_parts, strict=True) if names]
    there = {name for names in names_of_parts for name in names}
    renewing = _EXTRA & {name.upper() for name in there}
    if renewing:
        found.append(
            f"{named(sorted(renewing))}: of a renewal that has not ended, to continue it: esync certs renew FILE"
        )
    if copied := sorted(name for name in there if " " in name):
        found.append(f"{named(copied)}: no server has such a name, so these are copied files; delete them")
    if again := sorted(name for name in there if _is_node(cluster, name)):
        found.append(f"{named(again)}: may be a full name of a node; if syncs use it, list it under `partners:`")
    return "; ".join(found)


def _is_node(cluster: ClusterFacts, name: str) -> bool:
    """Whether it is the full name of a node in DNS, by its first label."""
    label, dot, _ = name.casefold().partition(".")
    return bool(dot) and label in {node.casefold() for node in cluster.nodes}


def _no_old_places(facts: NodeFacts) -> Judged:
    if not facts.old_places:
        return None
    return Violated(
        ", ".join(
            f"{place.folder} holds {counted(place.files, 'certificate file')}, {_keys(place.examples)} ({place.why})"
            for place in facts.old_places
        )
    )


def _keys(examples: tuple[str, ...]) -> str:
    servers = sorted(_owners(examples))
    return f"with private keys, of {named(servers)}" if servers else "with private keys"


LEFTOVER_RULES = (
    Invariant(
        id="leftovers.removed-node",
        statement="No node accepts, or holds certificate files of, a server that is neither a node nor a partner.",
        remedy="if such a server still syncs with the cluster, list it under `partners:` in the cluster file: a "
        "partner that is not declared looks the same. If it was removed: esync rollout FILE --prune removes its keys "
        "and files; retire the server itself (esync retire FILE NODE --host HOST), or renew the family, because it "
        "holds the private keys that all nodes share",
        source="ektron-facts 3.4, 10",
        reads=(
            "node",
            "service_config.other_keys",
            "ews.other_keys",
            "service_family",
            "configurator_family",
            "renamed_copies",
            "client",
            "origin_family",
            "cluster.family",
            "cluster.family_thumbprint",
            "cluster.partners",
        ),
        proves="keys and certificate files of nodes and declared partners, and of no other server, on each node",
        cannot_know="whether a removed server still has the certificate files, or another server a copy of them",
        severity=Severity.WARNING,
        decide=_no_removed_nodes,
    ),
    warning(
        id="leftovers.old-places",
        statement="No folder that the product does not use any more holds certificate files.",
        remedy="esync rollout FILE --prune removes them, with backups; or remove them by hand",
        source="ektron-facts 1.2, 2.4, 3.4",
        reads=("old_places",),
        proves="no certificate files in earlier folders of the site and in the folders of other editions",
        cannot_know="copies elsewhere on the disk, and earlier folders that neither a run of this cluster nor "
        "sitedb.config names",
        decide=each_node(_no_old_places),
    ),
)
