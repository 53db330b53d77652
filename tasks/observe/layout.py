"""Where the product is on a node: by default, and by what the run has observed there."""

from tasks.cluster import Cluster
from tasks.ektron.editions import Layout, edition_of, lay_out
from tasks.ektron.facts import NodeFacts
from tasks.step import Work
from workers.errors import NodeRefused
from workers.records import DocumentKind

__all__ = ["layout_of", "planned_facts", "planned_layout", "seen_layout"]


def layout_of(cluster: Cluster, image_path: str | None, system_drive: str = "C:") -> Layout:
    """Where the product is on a node; explicit paths of the cluster file win (ektron-facts 1.2, 1.3)."""
    return lay_out(
        edition_of(cluster.edition),
        site_path=cluster.site.path,
        system_drive=system_drive,
        image_path=image_path,
        service_folder=cluster.site.service_folder,
        product_folder=cluster.site.product_folder,
    )


def planned_facts(work: Work) -> NodeFacts:
    """The facts of this node that the run's plan was made from.

    Raises:
        NodeRefused: this run has not observed the node.
    """
    facts = work.documents.facts(DocumentKind.OBSERVED, work.node.name)
    if facts is None:
        raise NodeRefused(f"{work.node.name}: this run has not observed the node", remedy="start a new run")
    return facts


def planned_layout(work: Work) -> Layout:
    """Where the product is on a node, by what this run has observed there.

    Raises:
        NodeRefused: this run has not observed the node.
    """
    return seen_layout(work.cluster, planned_facts(work))


def seen_layout(cluster: Cluster, facts: NodeFacts) -> Layout:
    """Where the product is on a node, by what was observed there."""
    return layout_of(cluster, facts.service.image_path, facts.system_drive)
