"""Where the product is on a node: by default, and by what the run has observed there."""

from functools import lru_cache

from tasks.cluster import Cluster
from tasks.ektron.editions import Layout, edition_of, lay_out
from tasks.ektron.facts.node import NodeFacts
from tasks.step import Work
from workers.errors import NodeRefused
from workers.records import DocumentKind
from workers.winrm import operations as ops

__all__ = ["layout_of", "planned_facts", "planned_layout", "registered_layout", "seen_layout"]


def layout_of(
    cluster: Cluster, image_path: str | None, system_drive: str = "C:", *, product_folder: str = ""
) -> Layout:
    """Where the product is on a node; explicit paths of the cluster file win (ektron-facts 1.2, 1.3).

    Args:
        cluster: the cluster.
        image_path: of the service, from the registry of the node.
        system_drive: of the node.
        product_folder: where it was found on the node, if not beside the service.
    """
    site = cluster.site
    product = site.product_folder or product_folder or None
    return _laid_out(cluster.edition, site.path, system_drive, image_path, site.service_folder, product)


@lru_cache(maxsize=256)
def _laid_out(
    edition: str,
    site: str,
    drive: str,
    image_path: str | None,
    service_folder: str | None,
    product_folder: str | None,
) -> Layout:
    """Kept, because the nodes of a cluster are alike."""
    return lay_out(
        edition_of(edition),
        site_path=site,
        system_drive=drive,
        image_path=image_path,
        service_folder=service_folder,
        product_folder=product_folder,
    )


def registered_layout(work: Work) -> Layout:
    """Where the product is on a node that this run has not observed, by the node's registry; explicit paths win."""
    drive = work.session.hello().system_drive
    guess = layout_of(work.cluster, None, drive)
    (image,) = work.session.ask([ops.registry(guess.service_key, "ImagePath")], deadline=work.deadline, keep_going=True)
    return layout_of(work.cluster, str(image["value"]), drive) if image.ok else guess


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
    return layout_of(cluster, facts.service.image_path, facts.system_drive, product_folder=facts.product_folder)
