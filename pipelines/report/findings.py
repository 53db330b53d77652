"""Groups findings with the same cause: a node that a run did not finish leads to many of them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.report.rows import FindingRow, Report
from tasks.ektron.rules.findings import InvariantState
from workers.records import Status

__all__ = ["FIXED_BY_ROLLOUT", "FindingGroup", "finding_groups"]

FIXED_BY_ROLLOUT = "run a rollout"  #: how the remedy of a rule begins when a rollout fixes the problem
_UNREACHABLE = "unreachable"
_UNFINISHED = {Status.FAILED, Status.UNREACHABLE, Status.CANCELLED, Status.SKIPPED}


@dataclass(frozen=True, slots=True)
class FindingGroup:
    """A single finding, or several with the same cause: a node that was not checked, or an unfinished rollout there."""

    findings: tuple[FindingRow, ...]

    @property
    def first(self) -> FindingRow:
        """The finding that represents the group: of an unreachable node one that says so."""
        return next((one for one in self.findings if one.verdict is InvariantState.UNKNOWN), self.findings[0])

    @property
    def several(self) -> bool:
        """Whether the group is shown as one entry; the fix is then shown with the failure of the node."""
        return len(self.findings) > 1

    @property
    def sentence(self) -> str:
        """The group in one sentence."""
        count = len(self.findings)
        if self.first.verdict is InvariantState.UNKNOWN:
            return f"{count} statements could not be checked ({self.first.evidence})"
        return f"{count} statements do not hold; a successful rollout fixes them"


def finding_groups(report: Report) -> Sequence[FindingGroup]:
    """Everything that is not proven, in the report's order, findings with the same cause together.

    What follows from unreachable nodes is one group, and the last one: also that other nodes do not reach them.
    """
    unreachable = frozenset(node.node for node in report.nodes if node.status is Status.UNREACHABLE)
    unfinished = {node.node for node in report.nodes if node.status in _UNFINISHED}
    groups: dict[tuple[str, ...], list[FindingRow]] = {}
    for finding in report.findings:
        if finding.verdict is not InvariantState.PROVEN:
            follows = bool(finding.nodes) and unfinished.issuperset(finding.nodes)
            key = _cause(finding, unreachable) if follows else ()
            groups.setdefault(key or (finding.invariant,), []).append(finding)
    last = sorted(groups.items(), key=lambda group: group[0][0] == _UNREACHABLE)
    return [FindingGroup(tuple(group)) for _, group in last]


def _cause(finding: FindingRow, unreachable: frozenset[str]) -> tuple[str, ...]:
    """What findings with the same cause have in common; empty for a finding that needs its own entry."""
    if finding.label != "warning" and unreachable.issuperset(finding.nodes):
        return (_UNREACHABLE, *sorted(finding.nodes))
    if finding.label == "unknown":
        return ("unknown", finding.evidence, *finding.nodes)
    if finding.label == "refuted" and finding.remedy.startswith(FIXED_BY_ROLLOUT):
        return ("refuted", *finding.nodes)
    return ()
