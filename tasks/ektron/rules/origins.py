"""Which nodes could be the origin: those that hold the whole family that the cluster uses."""

from collections import Counter
from collections.abc import Mapping

from tasks.ektron.certificates.family import KINDS
from tasks.ektron.facts.node import NodeFacts

__all__ = ["possible_origins"]


def possible_origins(seen: Mapping[str, NodeFacts]) -> tuple[str, ...]:
    """The nodes whose service folder holds their own six files, equal to those of most nodes, with a matching key.

    The service folder has the private keys, too (procedure, second part, steps 3-5; ektron-facts 3.4), so such a node
    can hand the family out when the origin is lost.

    Args:
        seen: node -> its facts; only nodes that answered.
    """
    held = {node: family for node, facts in seen.items() if (family := _whole_family(facts))}
    if not held:
        return ()
    living = Counter(held.values()).most_common(1)[0][0]
    return tuple(node for node, family in held.items() if family == living)


def _whole_family(facts: NodeFacts) -> tuple[str, ...]:
    """The hashes of the six files under the node's own name; empty when one is missing or the key does not match."""
    values = [facts.service_family[kind].value(facts.node) for kind in KINDS if kind in facts.service_family]
    hashes = tuple(value for value in values if value)
    key = facts.service_config.keys.value(facts.node)
    fits = facts.client is not None and facts.client.thumbprint == key
    return hashes if len(hashes) == len(KINDS) and fits else ()
