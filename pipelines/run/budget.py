"""How many nodes of a run may still fail. Pure."""

from pipelines.run.snapshot import Snapshot
from tasks.ektron.wording import counted, named
from workers.records import Record, Status

__all__ = ["Budget", "budget_of", "exceeded", "too_many_away"]


class Budget(Record):
    """How many nodes of a run failed or did not answer, and how many may: after more it begins no further wave."""

    failed: int
    failed_allowed: int
    unreachable: int
    unreachable_allowed: int

    @property
    def left(self) -> str:
        """What is left, for people."""
        failed = max(0, self.failed_allowed - self.failed)
        silent = max(0, self.unreachable_allowed - self.unreachable)
        return (
            f"{failed} of {self.failed_allowed} may still fail, {silent} of {self.unreachable_allowed} be unreachable"
        )


def budget_of(snapshot: Snapshot) -> Budget:
    """The budget of a run now; only nodes that it may change count."""
    policy, nodes = snapshot.cluster.policy, len(snapshot.cluster.nodes)
    return Budget(
        failed=len(_with(snapshot, Status.FAILED)),
        failed_allowed=policy.allowed_failures(nodes),
        unreachable=len(_with(snapshot, Status.UNREACHABLE)),
        unreachable_allowed=policy.allowed_unreachable(nodes),
    )


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
    wave = snapshot.last_turn("wave")
    lost = [node for node in failed if wave and node in wave.nodes]
    allowed = snapshot.cluster.policy.allowed_failures_of_wave(len(wave.nodes)) if wave else 0
    return _over(lost, "failed", "max_failed_per_wave", allowed) if len(lost) > allowed else ""


def _over(nodes: list[str], what: str, policy: str, allowed: int) -> str:
    return f"{counted(len(nodes), 'node')} {what} ({named(nodes)}); policy.{policy} allows {allowed}"
