"""Makes the plan of a run: a pure function of the facts and the desired state.

Apart from `pipelines.run.plan`: what shows a plan needs nothing of the product.
"""

from collections.abc import Collection, Mapping

from pipelines.run.plan import NodePlan, Plan, waves_of
from tasks.cluster import Cluster
from tasks.documents import FamilyDigests, changes_of, target_of
from tasks.ektron.desired.leftovers import leftover_entries
from tasks.ektron.desired.node import (
    DISABLED_REMEDY,
    READ_ONLY_REMEDY,
    differences,
    disabled,
    read_only,
    service_reason,
)
from tasks.ektron.desired.places import copies, refused_files
from tasks.ektron.desired.target import Target
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.rules.loaded import unrecorded

__all__ = ["make_plan", "obstacle"]


def make_plan(
    cluster: Cluster, facts: Mapping[str, NodeFacts], family: FamilyDigests, options: Collection[str] = ()
) -> Plan:
    """The plan for the nodes that were observed.

    Args:
        cluster: the nodes, and the policy.
        facts: per node; a node without facts is not in the plan.
        family: the certificate files that every node gets.
        options: of the run, see `RunRecord.options`.
    """
    names = [name for name in cluster.node_names if name in facts]
    parts = tuple(_node_plan(facts[name], target_of(cluster, name, family, options), family) for name in names)
    return Plan(
        cluster=cluster.name,
        nodes=parts,
        waves=waves_of(
            cluster,
            [part.node for part in parts if _has_work(part, facts[part.node])],
            restarted=[part.node for part in parts if part.restart],
            present=names,
            down=[name for name in names if facts[name].service.state != "running"],
        ),
        family=dict(family.hashes),
        unseen=tuple(name for name in cluster.node_names if name not in facts),
    )


def obstacle(
    cluster: Cluster,
    plan: Plan,
    facts: Mapping[str, NodeFacts],
    family: FamilyDigests,
    options: Collection[str] = (),
) -> str:
    """Why the plan cannot be carried out, for people: a file that cannot be written, or a service that would not start.

    Empty when nothing is in its way.

    Args:
        cluster: as for the plan.
        plan: what would be changed.
        facts: as for the plan.
        family: as for the plan.
        options: as for the plan.
    """
    for part in plan.nodes:
        changed = {change.file for change in part.changes}
        for path in facts[part.node].readonly_configurations:
            if path in changed:
                return f"{read_only(part.node)} ({path}); {READ_ONLY_REMEDY}"
        files = list(refused_files(facts[part.node], target_of(cluster, part.node, family, options)))
        if files:
            more = f" and {len(files) - 1} more like it" if len(files) > 1 else ""
            return (
                f"{part.node}: the account may not replace {files[0]}{more}; remove the read-only attribute "
                "(attrib -r), or give it the right to write there, then retry"
            )
        if part.restart and facts[part.node].service.is_disabled:
            return f"{disabled(part.node, facts[part.node].service)}; {DISABLED_REMEDY}"
    return ""


def _node_plan(facts: NodeFacts, target: Target, family: FamilyDigests) -> NodePlan:
    needed = differences(facts, target)
    files = copies(facts, target)
    return NodePlan(
        node=facts.node,
        changes=changes_of(needed),
        files=files.total(),
        bytes=sum(family.sizes[kind] * count for kind, count in files.items()),
        restart=service_reason(facts, needed, retired=target.retired),
        leftovers=leftover_entries(facts, target),
        fingerprint=facts.fingerprint(),
    )


def _has_work(part: NodePlan, facts: NodeFacts) -> bool:
    """Whether a wave has work on a node: it changes it, watches a service that is starting, or records its start."""
    return not part.empty or facts.service.state != "running" or unrecorded(facts)
