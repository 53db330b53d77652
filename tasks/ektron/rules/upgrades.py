"""An upgrade of the product that has begun and is not finished.

A server during an upgrade is not broken. What it needs is the rest of the upgrade, not a repair.
"""

from dataclasses import replace

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.rules.findings import (
    Decide,
    Decision,
    InvariantState,
    most_common,
)
from tasks.ektron.versions import installed_version
from tasks.ektron.wording import named

__all__ = ["told_apart"]


def told_apart(decide: Decide) -> Decide:
    """A rule about versions that says, when it is refuted, which servers look like an upgrade that is not finished."""

    def decided_with_hint(cluster: ClusterFacts) -> Decision:
        decision, found = decide(cluster), _out_of_step(cluster)
        if decision.verdict is not InvariantState.REFUTED or not found:
            return decision
        listed = "; ".join(f"{named(nodes)} {why}" for why, nodes in found.items())
        hint = f"This looks like an upgrade that is not finished, not like a fault: {listed}. Finish it first."
        return replace(decision, evidence=f"{decision.evidence}. {hint}")

    return decided_with_hint


def _out_of_step(cluster: ClusterFacts) -> dict[str, list[str]]:
    """How the versions of some nodes differ from those of most -> these nodes; empty where no version is usual."""
    versions = {node: text for node, facts in cluster.facts.items() if (text := _versions(facts))}
    usual = most_common(versions, cluster.origin)
    found: dict[str, list[str]] = {}
    for node, text in versions.items() if usual else ():
        if usual and _builds(text) != _builds(usual):
            found.setdefault(f"{_place(text, usual)} ({text}; most others {usual})", []).append(node)
    return found


def _versions(facts: NodeFacts) -> str:
    """The builds of the site and of the program of the service; empty when one is unknown (ektron-facts 1.3)."""
    site = facts.web.builds.get("ek_buildNumber")
    service = facts.binaries[0].version if facts.binaries else None
    return f"site {site}, service {service}" if site and service else ""


def _place(text: str, usual: str) -> str:
    differing = [(mine, others) for mine, others in zip(_builds(text), _builds(usual), strict=True) if mine != others]
    ahead = {mine > others for mine, others in differing}
    if len(ahead) > 1:
        return "is partly upgraded"
    return "is ahead" if True in ahead else "is behind"


def _builds(text: str) -> list[tuple[int, ...]]:
    """The builds of site and service in a text of `_versions`."""
    return [installed_version(part) or () for part in text.split(", service ")]
