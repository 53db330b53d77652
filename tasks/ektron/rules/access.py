"""The places that a rollout writes to: they exist, and the account may write there, before the first write anywhere."""

from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.rules.findings import Judged, Violated, each_node, prerequisite
from tasks.ektron.wording import named

__all__ = ["ACCESS_RULES"]


def _writable(facts: NodeFacts) -> Judged:
    """An access list that cannot be read says nothing: then only the write itself can show it."""
    missing = [place.path for place in facts.places if place.required and not place.exists]
    closed = [place.path for place in facts.places if place.exists and place.writable is False]
    parts = [f"{named(missing)} is missing"] if missing else []
    parts += [f"the account may not write to {named(closed)}"] if closed else []
    above = [place for place in facts.places if not (place.exists or place.required) and place.writable is False]
    parts += [f"the account may not create {place.path} in {place.nearest}" for place in above]
    return Violated("; ".join(parts)) if parts else None


ACCESS_RULES = (
    prerequisite(
        id="node.places-writable",
        statement="Every place that a rollout writes to exists or can be made, and its account may write there.",
        remedy=(
            "if the folder of the Security Configurator is missing, the product is in another one: set "
            "site.product_folder; if the account may not write, give it full control there (Administrators have it "
            "after the installation)"
        ),
        source="design 6: what is written to a node; ektron-facts 1.2, 3.5",
        decide=each_node(_writable),
        reads=("places",),
        proves="each place exists, or the account may create it, and its access list lets the account write",
        cannot_know="a place whose access list cannot be read; single certificate files, which the plan judges",
    ),
)
