"""Everything that has to hold for a cluster to be joined, and the judgement over all of it."""

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.rules.config import CONFIG_RULES
from tasks.ektron.rules.family import FAMILY_RULES
from tasks.ektron.rules.findings import Finding, Findings, Invariant, InvariantState, Severity, ordered
from tasks.ektron.rules.generated import GENERATED_RULES
from tasks.ektron.rules.install import INSTALL_RULES
from tasks.ektron.rules.readiness import READINESS_RULES
from tasks.ektron.rules.service import SERVICE_RULES

__all__ = [
    "INVARIANTS",
    "ClusterFacts",
    "Finding",
    "Findings",
    "Invariant",
    "InvariantState",
    "Severity",
    "judge",
    "judge_prerequisites",
    "judge_readiness",
]

INVARIANTS: tuple[Invariant, ...] = (
    *INSTALL_RULES,
    *CONFIG_RULES,
    *FAMILY_RULES,
    *SERVICE_RULES,
    *GENERATED_RULES,
)
#: Warnings that are worth hearing before the first rollout already.
_EARLY = {"clock.skew-below-60s", *(rule.id for rule in GENERATED_RULES)}


def judge(cluster: ClusterFacts) -> Findings:
    """Every invariant, decided by what was seen."""
    return ordered(invariant.judge(cluster) for invariant in INVARIANTS)


def judge_prerequisites(cluster: ClusterFacts, *, origin_family_needed: bool = True) -> Findings:
    """The invariants that are decided before anything is written.

    Args:
        cluster: what was seen.
        origin_family_needed: False where a missing family is made by us, or has a gate of its own.
    """
    chosen = (i for i in INVARIANTS if i.prerequisite and (origin_family_needed or i.id != "family.origin-present"))
    return ordered(invariant.judge(cluster) for invariant in chosen)


def judge_readiness(cluster: ClusterFacts) -> Findings:
    """What can be said before anything is set up: the prerequisites, and what a rollout needs of the machines."""
    early = (i for i in INVARIANTS if i.prerequisite or i.id in _EARLY)
    return ordered(invariant.judge(cluster) for invariant in (*early, *READINESS_RULES))
