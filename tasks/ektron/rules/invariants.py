"""All invariants of a joined cluster, and the functions that decide them."""

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.rules.access import ACCESS_RULES
from tasks.ektron.rules.config import CONFIG_RULES
from tasks.ektron.rules.connections import CONNECTION_RULES
from tasks.ektron.rules.effective import EFFECTIVE_RULES
from tasks.ektron.rules.family import FAMILY_RULES
from tasks.ektron.rules.findings import Finding, Findings, Invariant, InvariantState, Severity, ordered
from tasks.ektron.rules.generated import GENERATED_RULES
from tasks.ektron.rules.install import INSTALL_RULES
from tasks.ektron.rules.leftovers import LEFTOVER_RULES
from tasks.ektron.rules.pools import POOL_RULES
from tasks.ektron.rules.readiness import READINESS_RULES
from tasks.ektron.rules.service import SERVICE_RULES
from tasks.ektron.rules.shared import SHARED_RULES
from tasks.ektron.rules.workarea import WORKAREA_RULES

__all__ = [
    "ALL_RULES",
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
    *EFFECTIVE_RULES,
    *CONFIG_RULES,
    *WORKAREA_RULES,
    *FAMILY_RULES,
    *SERVICE_RULES,
    *GENERATED_RULES,
    *LEFTOVER_RULES,
    *SHARED_RULES,
    *ACCESS_RULES,
    *CONNECTION_RULES,
    *POOL_RULES,
)
#: Every rule, also those that only `esync doctor` asks: docs/rules.md describes them.
ALL_RULES: tuple[Invariant, ...] = (*INVARIANTS, *READINESS_RULES)
#: What a rollout needs. A cluster is joined also where esync's account may not write, such as after a hardening.
_OF_A_ROLLOUT = {rule.id for rule in ACCESS_RULES}
#: Warnings that are useful before the first rollout.
_EARLY = {
    "clock.skew-below-60s",
    "config.asset-user-domain",
    "database.one-per-pool",
    "shared.partners-keep-connection",
    "storage.own-per-pool",
    "version.same-install-build",
    *(rule.id for rule in (*GENERATED_RULES, *CONNECTION_RULES)),
}


def judge(cluster: ClusterFacts) -> Findings:
    """Decides every invariant of a joined cluster by the facts."""
    return ordered(invariant.judge(cluster) for invariant in INVARIANTS if invariant.id not in _OF_A_ROLLOUT)


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
