"""What a node still holds of servers and folders that are gone: what `--prune` would remove from it."""

from dataclasses import replace

from tasks.ektron.desired.places import removals
from tasks.ektron.desired.settings import unwanted_keys
from tasks.ektron.desired.target import Target
from tasks.ektron.facts.node import NodeFacts

__all__ = ["leftover_entries"]


def leftover_entries(facts: NodeFacts, target: Target) -> int:
    """How many keys and files a run with `--prune` would remove from the node; none if this run is such a run."""
    if target.removes:
        return 0
    pruned = replace(target, prune=True)
    keys = sum(len(unwanted_keys(config, pruned)) for config in (facts.service_config, facts.ews))
    files = sum(len(removal.names) for removal in removals(facts, pruned))
    due = sum(len(removal.names) for removal in removals(facts, target))
    return keys + files - due + sum(place.files for place in facts.old_places)
