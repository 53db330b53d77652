"""How many nodes of a run may still fail. Pure."""

from collections.abc import Collection

from pipelines.run.snapshot import WAVE_STAGE, Snapshot
from tasks.cluster import Cluster
from tasks.ektron.wording import counted, named
from workers.records import Record, Status, Turn

__all__ = ["Budget", "budget_of", "budget_with", "exceeded", "too_many_away"]


class Budget(Record):
    """How many nodes of a run failed or did not answer, and how many may: after more it begins no further wave.

    `wave` is the last one, where the policy limits the failed nodes of a wave; else it is empty.
    """

    failed: int
    failed_allowed: int
    unreachable: int
    unreachable_allowed: int
    wave: str = ""
    wave_failed: int = 0
    wave_failed_allowed: int = 0

    @property
    def left(self) -> str:
        """What is left, for people."""
        failed = max(0, self.failed_allowed - self.failed)
        silent = max(0, self.unreachable_allowed - self.unreachable)
        in_wave = max(0, self.wave_failed_allowed - self.wave_failed)
        of_wave = f" ({in_wave} of {self.wave_failed_allowed} in {self.wave})" if self.wave else ""
        run = f"{failed} of {self.failed_allowed} may still fail{of_wave}"
        return f"{run}, {silent} of {self.unreachable_allowed} be unreachable"


def budget_of(snapshot: Snapshot) -> Budget:
    """The budget of a run now; only nodes that it may change count."""
    failed, silent = _with(snapshot, Status.FAILED), _with(snapshot, Status.UNREACHABLE)
    return budget_with(snapshot.cluster, failed, silent, snapshot.last_turn(WAVE_STAGE))


def budget_with(cluster: Cluster, failed: Collection[str], silent: Collection[str], wave: Turn | None) -> Budget:
    """The budget of a run with these failed and unreachable nodes, in that wave."""
    policy, nodes = cluster.policy, len(cluster.nodes)
    budget = Budget(
        failed=len(failed),
        failed_allowed=policy.allowed_failures(nodes),
        unreachable=len(silent),
        unreachable_allowed=policy.allowed_unreachable(nodes),
    )
    if wave is None or policy.max_failed_per_wave is None:
        return budget
    allowed, lost = policy.allowed_failures_of_wave(len(wave.nodes)), sum(node in wave.nodes for node in failed)
    return budget.model_copy(update={"wave": wave.name, "wave_failed": lost, "wave_failed_allowed": allowed})


def _with(snapshot: Snapshot, status: Status) -> list[str]:
    ended, selected = snapshot.ended(), snapshot.selected
    return sorted(node for node, outcome in ended.items() if outcome.status is status and node in selected)


def too_many_away(snapshot: Snapshot) -> str:
    """As `exceeded`, about the unreachable nodes only."""
    silent = _with(snapshot, Status.UNREACHABLE)
    allowed = snapshot.cluster.policy.allowed_unreachable(len(snapshot.cluster.nodes))
    return _over(silent, "did not answer", "max_unreachable", allowed) if len(silent) > allowed else ""


def exceeded(snapshot: Snapshot) -> str:
    """Which limit is exceeded, by which nodes, for people; empty when none is."""
    budget, failed = budget_of(snapshot), _with(snapshot, Status.FAILED)
    if budget.failed > budget.failed_allowed:
        return _over(failed, "failed", "max_failed", budget.failed_allowed)
    if away := too_many_away(snapshot):
        return away
    if budget.wave_failed <= budget.wave_failed_allowed:
        return ""
    wave = snapshot.last_turn(WAVE_STAGE)
    lost = [node for node in failed if wave and node in wave.nodes]
    return _over(lost, "failed", "max_failed_per_wave", budget.wave_failed_allowed)


def _over(nodes: list[str], what: str, policy: str, allowed: int) -> str:
    return f"{counted(len(nodes), 'node')} {what} ({named(nodes)}); policy.{policy} allows {allowed}"
