"""What persons have confirmed: answers to the questions that no program can answer, each until a day.

A statement that the facts leave unknown may be confirmed, too, for instance when a section is encrypted. What the
facts refute stays refuted, and so does what is unknown because a server was not seen.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import TYPE_CHECKING

from pydantic import AwareDatetime

from tasks.ektron.facts.values import Fact
from tasks.ektron.rules.findings import Finding, Findings, InvariantState

if TYPE_CHECKING:  # what shows confirmations reads no facts
    from tasks.ektron.cluster_facts import ClusterFacts

__all__ = ["Confirmation", "in_force", "with_confirmations"]


class Confirmation(Fact):
    """One person confirms one statement.

    Attributes:
        rule: id of the question or of the invariant.
        question: its text when it was confirmed; if the text changes with the cluster, it is asked again.
        by: the person.
        until: the last day (UTC) on which it counts.
        note: what the person checked.
        at: when it was recorded.
    """

    rule: str
    question: str
    by: str
    until: date
    note: str = ""
    at: AwareDatetime

    @property
    def sentence(self) -> str:
        """Who confirmed it, and until when, for people."""
        return f"confirmed by {self.by} until {self.until:%Y-%m-%d}{f': {self.note}' if self.note else ''}"


def in_force(confirmations: Iterable[Confirmation], questions: Mapping[str, str], on: date) -> dict[str, Confirmation]:
    """Those that count on a day, by rule.

    Args:
        confirmations: all that are recorded.
        questions: rule -> the question as it is asked now.
        on: the day, UTC.
    """
    return {one.rule: one for one in confirmations if one.until >= on and questions.get(one.rule) == one.question}


def with_confirmations(
    findings: Findings, cluster: "ClusterFacts", confirmations: Iterable[Confirmation], on: date
) -> Findings:
    """The findings, with the name of who confirms what the facts leave unknown on servers that were seen."""
    questions = {finding.invariant: finding.statement for finding in findings.findings}
    known = in_force(confirmations, questions, on)

    def confirmed(finding: Finding) -> Finding:
        confirmation = known.get(finding.invariant)
        unknown = finding.verdict is InvariantState.UNKNOWN and set(finding.nodes).isdisjoint(cluster.unseen)
        return finding.model_copy(update={"confirmed": confirmation.sentence}) if confirmation and unknown else finding

    return Findings(findings=tuple(map(confirmed, findings.findings)))
