"""All invariants of a joined cluster, and the functions that decide them."""

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
#: Warnings that are useful before the first rollout.
_EARLY = {"clock.skew-below-60s", *(rule.id for rule in GENERATED_RULES)}


def judge(cluster: ClusterFacts) -> Findings:
    """Decides every invariant by the facts."""
    return ordered(invariant.judge(cluster) for invariant in INVARIANTS)


def judge_prerequisites(cluster: ClusterFacts, *, origin_family_needed: bool = True) -> Findings:
    """Decides the invariants that must not be refuted before anything is written.

    Args:
        cluster: the facts.
        origin_family_needed: False when this program makes a missing family, or waits for it at a gate.
    """
    chosen = (i for i in INVARIANTS if i.prerequisite and (origin_family_needed or i.id != "family.origin-present"))
    return ordered(invariant.judge(cluster) for invariant in chosen)


def judge_readiness(cluster: ClusterFacts) -> Findings:
    """Decides the invariants that matter before anything is set up: prerequisites, and requirements on the machines."""
    early = (i for i in INVARIANTS if i.prerequisite or i.id in _EARLY)
    return ordered(invariant.judge(cluster) for invariant in (*early, *READINESS_RULES))
