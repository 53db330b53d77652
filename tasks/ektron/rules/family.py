"""Invariants about the certificate files: complete, alike everywhere, where each part of the product looks."""

from collections.abc import Mapping

from tasks.ektron.certificates.family import CLIENT_KINDS, KINDS, strays, weaknesses
from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts import CertificateFacts, NodeFacts, Spread
from tasks.ektron.rules.findings import Invariant, Judged, Severity, Unknown, Violated, each_node, only_origin
from tasks.ektron.wording import named

__all__ = ["FAMILY_RULES"]


def _origin_has_family(_: ClusterFacts, facts: NodeFacts) -> Judged:
    missing = [kind for kind in KINDS if kind not in facts.origin_family]
    if not missing:
        return None
    return Violated(facts.origin_problem or f"{len(missing)} of the six certificate files are missing")


def _complete(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    missing = _absent(facts.service_family, cluster)
    if missing:
        return Violated(f"the service folder lacks {missing}")
    if cluster.is_origin(facts):
        missing = _absent(facts.configurator_family, cluster)
        if missing:
            return Violated(f"the Security Configurator's folder lacks {missing}")
    return None


def _absent(family: Mapping[str, Spread], cluster: ClusterFacts) -> str:
    """`3 of 24 files, of P1, P2`, or nothing."""
    gaps = [node for kind in KINDS for node in (family[kind].missing if kind in family else cluster.nodes)]
    return (
        f"{len(gaps)} of {len(KINDS) * len(cluster.nodes)} files, of {named(list(dict.fromkeys(gaps)))}" if gaps else ""
    )


def _identical(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    if not cluster.hashes:
        return Unknown("which files are the right ones is not known")
    wrong = _mixed(facts.service_family, cluster)
    if wrong:
        return Violated(f"in the service folder {wrong} differ from the family")
    if cluster.is_origin(facts):
        wrong = _mixed(facts.configurator_family, cluster)
        if wrong:
            return Violated(f"in the Security Configurator's folder {wrong} differ from the family")
    return None


def _mixed(family: Mapping[str, Spread], cluster: ClusterFacts) -> str:
    names = [
        f"{node}_{kind}"
        for kind, spread in family.items()
        for node in spread.others(cluster.hashes.get(kind, ""), cluster.nodes)
    ]
    return named(names)


def _web_root(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    missing = [f"{facts.node}_{kind}" for kind in CLIENT_KINDS if kind not in facts.web_root_family]
    if missing:
        return Violated(f"the site root lacks {named(missing)}")
    return _compared(cluster, facts, facts.web_root_family, "in the site root")


def _compared(cluster: ClusterFacts, facts: NodeFacts, found: Mapping[str, str], where: str) -> Judged:
    """Files of this node's own against the family."""
    if not cluster.hashes:
        return Unknown("which files are the right ones is not known")
    wrong = [f"{facts.node}_{kind}" for kind, value in found.items() if value != cluster.hashes.get(kind)]
    return Violated(f"{where} {named(wrong)} differ from the family") if wrong else None


def _staging_clean(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    """The origin has no use for that folder; there only strangers' files would be wrong, and they are not."""
    if cluster.is_origin(facts):
        return None
    if facts.staging_files is None:
        return Violated("the folder Ektron Security Certificates is missing")
    foreign = strays(facts.node, facts.staging_files)
    if foreign:
        return Violated(f"the folder Ektron Security Certificates also holds {named(foreign)}")
    missing = [f"{facts.node}_{kind}" for kind in KINDS if kind not in facts.staging_family]
    if missing:
        return Violated(f"the folder Ektron Security Certificates lacks {named(missing)}")
    return _compared(cluster, facts, facts.staging_family, "in Ektron Security Certificates")


def _not_expired(_: ClusterFacts, facts: NodeFacts) -> Judged:
    return _strong(facts, dates=True)


def _key_strong(_: ClusterFacts, facts: NodeFacts) -> Judged:
    return _strong(facts, dates=False)


def _strong(facts: NodeFacts, *, dates: bool) -> Judged:
    """Dates are judged by the node's own clock when it was looked at, so that the verdict can be repeated."""
    sides: dict[str, CertificateFacts | None] = {"client": facts.client, "server": facts.server}
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
    Invariant(
        id="family.origin-present",
        statement="The origin's Security Configurator folder holds a whole family of its own.",
        remedy=(
            "on the origin open Start > All programs > Ektron > CMS400 > Utilities > Security Configurator, "
            "fill in the site, click Generate Certificates, then OK; or set policy.generate_certificates"
        ),
        source="procedure steps 1-6",
        decide=only_origin(_origin_has_family),
        prerequisite=True,
    ),
    Invariant(
        id="family.complete",
        statement="Each service folder holds six files for every node, and so does the origin's configurator folder.",
        remedy="run a rollout",
        source="procedure steps 5-10 and second part, steps 3-5",
        decide=each_node(_complete),
    ),
    Invariant(
        id="family.identical-across-nodes",
        statement="All copies of a kind of certificate file are the same bytes.",
        remedy="run a rollout; one file of another family is enough to break the trust between two servers",
        source="procedure step 8; ektron-facts 3.1",
        decide=each_node(_identical),
    ),
    Invariant(
        id="family.web-root-copy",
        statement="The site root holds this node's three client files, the same bytes.",
        remedy="run a rollout, or copy <NODE>_SyncClient.* from the service folder to the site root",
        source="ektron-facts 3.4; 6, rows 1 and 4",
        decide=each_node(_web_root),
    ),
    Invariant(
        id="family.staging-folder-clean",
        statement="Ektron Security Certificates holds this node's six files and no other security files.",
        remedy="run a rollout, or remove the files of other servers from that folder",
        source="procedure, second part, steps 7-10",
        decide=each_node(_staging_clean),
    ),
    Invariant(
        id="family.expiry",
        statement="The certificates are valid today.",
        remedy="plan a new family; whether the product enforces dates is not proven",
        source="ektron-facts 3.2; 6, row 43",
        decide=each_node(_not_expired),
        severity=Severity.WARNING,
    ),
    Invariant(
        id="family.weak-key",
        statement="The certificates have keys of 2048 bits or more and no broken signature.",
        remedy="generate a new family of 2048 bits and SHA-256, if your rules ask for it",
        source="ektron-facts 3.2",
        decide=each_node(_key_strong),
        severity=Severity.WARNING,
    ),
)
