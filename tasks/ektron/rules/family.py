"""Invariants about the certificate files: complete, equal everywhere, in each folder where the product reads them."""

from collections.abc import Iterator, Mapping
from functools import partial

from tasks.ektron.certificates.family import CLIENT_KINDS, KINDS, strays, weaknesses
from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.facts.values import Spread
from tasks.ektron.rules.findings import (
    Invariant,
    Judged,
    Unknown,
    Violated,
    each_node,
    each_node_in,
    only_origin,
    prerequisite,
    warning,
)
from tasks.ektron.wording import named

__all__ = ["FAMILY_RULES"]

_STAGING = "the folder Ektron Security Certificates"


def _origin_has_family(_: ClusterFacts, facts: NodeFacts) -> Judged:
    missing = [kind for kind in KINDS if kind not in facts.origin_family]
    if not missing:
        return None
    return Violated(facts.origin_problem or f"{len(missing)} of the six certificate files are missing")


def _folders(cluster: ClusterFacts, facts: NodeFacts) -> Iterator[tuple[str, Mapping[str, Spread]]]:
    """The folders that hold copies for all nodes, with their files."""
    yield "the service folder", facts.service_family
    if cluster.is_origin(facts):
        yield "the folder of the Security Configurator", facts.configurator_family


def _complete(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    for folder, family in _folders(cluster, facts):
        gaps = [
            node for kind in KINDS for node in (family[kind].absent(cluster.nodes) if kind in family else cluster.nodes)
        ]
        if gaps:
            nodes = named(list(dict.fromkeys(gaps)))
            return Violated(f"{folder} lacks {len(gaps)} of {len(KINDS) * len(cluster.nodes)} files, of {nodes}")
    return None


def _identical(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    if not cluster.hashes:
        return Unknown("the files of the correct family are unknown")
    for folder, family in _folders(cluster, facts):
        wrong = [
            f"{node}_{kind}"
            for kind, spread in family.items()
            for node in spread.others(cluster.hashes.get(kind, ""), cluster.nodes)
        ]
        if wrong:
            return Violated(f"in {folder} {named(wrong)} differ from the family")
    return None


def _web_root(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    return _own_files(cluster, facts, facts.web_root_family, CLIENT_KINDS, "the site root")


def _staging_clean(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    """The origin does not use the folder, so its content there does not matter."""
    if cluster.is_origin(facts):
        return None
    if facts.staging_files is None:
        return Violated(f"{_STAGING} is missing")
    foreign = strays(facts.node, facts.staging_files)
    if foreign:
        return Violated(f"{_STAGING} also holds {named(foreign)}")
    return _own_files(cluster, facts, facts.staging_family, KINDS, _STAGING)


def _own_files(
    cluster: ClusterFacts, facts: NodeFacts, found: Mapping[str, str], kinds: tuple[str, ...], folder: str
) -> Judged:
    """The files under this node's own name: all there, and equal to the family."""
    missing = [f"{facts.node}_{kind}" for kind in kinds if kind not in found]
    if missing:
        return Violated(f"{folder} lacks {named(missing)}")
    if not cluster.hashes:
        return Unknown("the files of the correct family are unknown")
    wrong = [f"{facts.node}_{kind}" for kind, value in found.items() if value != cluster.hashes.get(kind)]
    return Violated(f"in {folder} {named(wrong)} differ from the family") if wrong else None


def _strong(facts: NodeFacts, *, dates: bool) -> Judged:
    """Judges dates by the clock of the node at observation, so that the result is repeatable."""
    sides = {"client": facts.client, "server": facts.server}
    unread = [side for side, certificate in sides.items() if certificate is None]
    if unread:
        return Unknown(f"the {' and the '.join(unread)} certificate could not be read")
    found = [
        f"the {side} certificate {text}"
        for side, certificate in sides.items()
        if certificate is not None
        for text, is_date in weaknesses(certificate, facts.clock)
        if is_date is dates
    ]
    return Violated(", ".join(found)) if found else None


FAMILY_RULES = (
    prerequisite(
        id="family.origin-present",
        statement="The origin has a complete family: from the Security Configurator, or the one that its service uses.",
        remedy=(
            "on the origin open Start > All programs > Ektron > CMS400 > Utilities > Security Configurator, "
            "enter the site, click Generate Certificates, then OK; or set policy.generate_certificates"
        ),
        source="procedure steps 1-6",
        decide=only_origin(_origin_has_family),
        reads=("origin_family", "origin_problem"),
        proves="the six files of the origin are in the folder of the Security Configurator and belong together",
        cannot_know="whether the family is the one that partners outside the cluster know",
    ),
    Invariant(
        id="family.complete",
        statement="Each service folder, and the configurator folder of the origin, holds six files for every node.",
        remedy="run a rollout",
        source="procedure steps 5-10 and second part, steps 3-5",
        decide=each_node_in(_complete),
        reads=("service_family", "configurator_family", "node"),
        proves="six files for every node are in the service folder, on the origin also in the folder of the "
        "Security Configurator",
        cannot_know="files for servers outside the cluster file",
    ),
    Invariant(
        id="family.identical-across-nodes",
        statement="All copies of one kind of certificate file have the same bytes.",
        remedy="run a rollout; one file of another family is enough to break the trust between two servers",
        source="procedure step 8; ektron-facts 3.1",
        decide=each_node_in(_identical),
        reads=("service_family", "configurator_family", "node", "origin_family", "cluster.family"),
        proves="each file has the SHA-256 of the file of that kind in the family",
        cannot_know="whether the service has read the file since it was written",
    ),
    Invariant(
        id="family.web-root-copy",
        statement="The site root holds the three client files of its node, with the same bytes.",
        remedy="run a rollout, or copy <NODE>_SyncClient.* from the service folder to the site root",
        source="ektron-facts 3.4; 6, rows 1 and 4",
        decide=each_node_in(_web_root),
        reads=("node", "web_root_family", "service_family", "origin_family", "cluster.family"),
        proves="the three client files of the node in the site root have the SHA-256 of the family",
        cannot_know="other sites of the same machine, which need their own copies",
    ),
    Invariant(
        id="family.staging-folder-clean",
        statement="Ektron Security Certificates holds the six files of its node and no other security files.",
        remedy="run a rollout, or remove the files of other servers from that folder",
        source="procedure, second part, steps 7-10",
        decide=each_node_in(_staging_clean),
        reads=("node", "staging_files", "staging_family", "service_family", "origin_family", "cluster.family"),
        proves="the folder holds the six files of its node and no other certificate file; the folder of the origin "
        "does not matter",
        cannot_know="whether Apply Remote Server Certificates was run: the product leaves no trace of it",
    ),
    warning(
        id="family.expiry",
        statement="The certificates are valid for 60 days or more.",
        remedy="renew them: esync certs renew FILE; it is not known whether the product enforces dates",
        source="ektron-facts 3.2; 6, row 43",
        decide=each_node(partial(_strong, dates=True)),
        reads=("client", "server", "clock"),
        proves="the node's own two certificates are valid at the time of the node's clock",
        cannot_know="whether the product checks dates",
    ),
    warning(
        id="family.weak-key",
        statement="The certificates have keys of 2048 bits or more and no broken signature.",
        remedy="generate a new family with 2048 bits and SHA-256, if your policy requires it",
        source="ektron-facts 3.2",
        decide=each_node(partial(_strong, dates=False)),
        reads=("client", "server", "clock"),
        proves="the node's own two certificates have keys of 2048 bits or more, and no md5 or sha1",
        cannot_know="whether a policy of the owner requires more",
    ),
)
