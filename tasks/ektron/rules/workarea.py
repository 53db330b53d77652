"""Invariant about what the pages of the WorkArea read, which run the syncs."""

from collections.abc import Iterator

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.facts.configuration import CERTIFICATE, CLIENT, Override
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.rules.findings import Judged, Unknown, Violated, each_node_in, prerequisite
from tasks.ektron.wording import named

__all__ = ["WORKAREA_RULES"]


def _as_the_site(cluster: ClusterFacts, facts: NodeFacts) -> Judged:
    """An override with the right value is no fault, and neither is a setting that has nothing to do with eSync."""
    wrong = [one for one in facts.web.workarea.overrides if _is_wrong(cluster, facts, one)]
    if wrong:
        return Violated("; ".join(dict.fromkeys(_sentences(wrong))))
    return Unknown(facts.web.workarea.problem) if facts.web.workarea.problem else None


def _is_wrong(cluster: ClusterFacts, facts: NodeFacts, one: Override) -> bool:
    if one.setting == CERTIFICATE:
        expected = cluster.thumbprint or facts.web.encoded_value
        return bool(expected) and one.value != expected
    if one.setting == CLIENT:
        return one.value.casefold() != f"{facts.node}_SyncClient.pfx".casefold()
    return facts.web.connection_digest is not None and one.value != facts.web.connection_digest


def _sentences(wrong: list[Override]) -> Iterator[str]:
    for setting in dict.fromkeys(one.setting for one in wrong):
        places = list(dict.fromkeys(one.where for one in wrong if one.setting == setting))
        yield f"the pages of the WorkArea have another {setting}: {named(places)}"


WORKAREA_RULES = (
    prerequisite(
        id="config.workarea-as-site",
        statement="The pages of the WorkArea, which run the syncs, read the settings of eSync that the site has.",
        remedy="remove the setting from the location element, or from web.config of that folder; a rollout sets it for "
        "the whole site, and not there",
        source=".NET inheritance of configuration; ektron-facts 2.3; 4",
        decide=each_node_in(_as_the_site),
        reads=(
            "web.workarea",
            "web.encoded_value",
            "web.connection_digest",
            "node",
            "client",
            "service_family",
            "origin_family",
            "cluster.family",
            "cluster.family_thumbprint",
        ),
        proves="neither a location element of web.config nor web.config of the folders WorkArea and sync overrides "
        "encodedValue, a clientCertificate of an endpoint or the connection string with another value",
        cannot_know="what machine.config and applicationHost.config say for this folder",
    ),
)
