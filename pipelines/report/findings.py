"""Which findings say the same thing: a node that a run did not get through leaves a trail of them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.report.rows import FindingRow, Report
from pipelines.rollout import kind_of
from workers.records import Status

__all__ = ["Consequence", "before_the_run", "consequences"]

_ROLLOUT_HEALS = "run a rollout"  #: how the remedy of a rule begins whose breach a rollout puts right
_LOST = {Status.FAILED, Status.UNREACHABLE, Status.CANCELLED, Status.SKIPPED}


@dataclass(frozen=True, slots=True)
class Consequence:
    """Findings that follow from one thing, a node not seen or a rollout not finished there; or a single one."""

    findings: tuple[FindingRow, ...]

    @property
    def first(self) -> FindingRow:
        """The one that speaks for all."""
        return self.findings[0]

    @property
    def several(self) -> bool:
        """Whether it is told as one thing; what is to be done then stands with the failure."""
        return len(self.findings) > 1

    @property
    def sentence(self) -> str:
        """What they come to."""
        count = len(self.findings)
        if self.first.verdict == "unknown":
            return f"{count} things are not known ({self.first.evidence})"
        return f"{count} things are not as they must be; a rollout that gets through puts them right"


def consequences(report: Report) -> Sequence[Consequence]:
    """Everything that is not proven, in the report's order, with what follows from one failure taken together."""
    lost = {node.node for node in report.nodes if node.status in _LOST}
    groups: dict[tuple[str, ...], list[FindingRow]] = {}
    for finding in report.findings:
        if finding.verdict != "proven":
            follows = bool(finding.nodes) and lost.issuperset(finding.nodes)
            key = _common(finding) if follows else ()
            groups.setdefault(key or (finding.invariant,), []).append(finding)
    return [Consequence(tuple(group)) for group in groups.values()]


def before_the_run(report: Report) -> bool:
    """Whether the findings are those a rollout set out with: it ended before it looked at the cluster again."""
    kind = kind_of(report.kind, report.run)
    return kind.verifies and not kind.read_only and not any(turn.stage == kind.stages[-1].name for turn in report.turns)


def _common(finding: FindingRow) -> tuple[str, ...]:
    """What a finding shares with those that follow from the same thing; nothing where it needs a word of its own."""
    if finding.label == "unknown":
        return ("unknown", finding.evidence, *finding.nodes)
    if finding.label == "refuted" and finding.remedy.startswith(_ROLLOUT_HEALS):
        return ("refuted", *finding.nodes)
    return ()
