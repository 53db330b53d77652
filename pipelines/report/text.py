"""A report as plain text: details first, then failures by cause, totals and verdict last. Pure."""

from collections.abc import Iterable, Iterator
from datetime import UTC

from pipelines.report.findings import FindingGroup, finding_groups
from pipelines.report.layout import TEXT_WIDTH, duration, printable, without_verdict, wrapped
from pipelines.report.node_words import checked_before_changes, counted_words
from pipelines.report.rows import FindingRow, QuestionRow, Report
from pipelines.rollout import kind_of
from pipelines.run.node_results import NOT_SELECTED
from pipelines.run.node_state import NodeState
from tasks.ektron.rules.findings import InvariantState
from tasks.ektron.wording import counted, named
from tasks.undo.words import CHANGED_SINCE, OWN_CHANGE
from workers.records import Status, Verdict

__all__ = ["result_blocks", "to_text", "totals_line", "verdict_line"]

_SHOWN = 8  #: nodes of one cause whose own reports are shown
_COVERS_ALL_NODES = {Verdict.JOINED, Verdict.RESTORED, Verdict.CLEAN}
_FINISHED = {NodeState.DONE, NodeState.RIGHT}


def to_text(report: Report, width: int = TEXT_WIDTH) -> str:
    """The whole report, ASCII apart from what the operator wrote, ended by a line break; `width` as in `folded`."""
    blocks = [list(_head_lines(report)), list(_turn_lines(report)), *result_blocks(report, width=width)]
    blocks.append([totals_line(report), verdict_line(report)])
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


def result_blocks(report: Report, *, attestations: bool = True, width: int = TEXT_WIDTH) -> list[list[str]]:
    """The result of a run in blocks of lines, each of them may be empty: findings, differences, failures, states.

    Args:
        report: of the run.
        attestations: whether to list the checks that only a person can make.
        width: columns of a line.
    """
    return [
        list(_finding_lines(report, width)),
        list(_availability_lines(report, width)),
        list(_attestation_lines(report, width)) if attestations else [],
        list(_difference_lines(report)),
        list(_cause_lines(report, width)),
        list(_node_state_lines(report, width)),
        list(_fallback_lines(report, width)),
    ]


def verdict_line(report: Report) -> str:
    """The end of the run in one line."""
    verdict = (report.verdict or report.state).upper().replace("_", " ")
    summary = without_verdict(report.summary, report.verdict)
    sentence = f": {printable(summary)}" if summary else ""
    return f"{verdict}{sentence} [{report.kind} {report.run}, {duration(report.seconds)}]"


def totals_line(report: Report) -> str:
    """The number of nodes by their part in the run, worst first."""
    return f"{counted(len(report.nodes), 'node')}: {_listed(counted_words(report).items())}"


def _listed(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in counts)


def _head_lines(report: Report) -> Iterator[str]:
    yield f"{report.kind} of {report.cluster} (edition {report.edition}, origin {report.origin})"
    yield f"  run        {report.run}"
    yield f"  requested  {report.created.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    yield f"  by         {report.who or '?'} on {report.origin_host or '?'}"
    if report.reason:
        yield f"  reason     {printable(report.reason)}"
    if report.parent:
        yield f"  {kind_of(report.kind, report.run).parent:<9}  run {report.parent}"
    if report.plan:
        yield f"  plan       {report.plan}"


def _turn_lines(report: Report) -> Iterator[str]:
    width = max((len(turn.turn) for turn in report.turns), default=0)
    for turn in report.turns:
        nodes = "node " if turn.nodes == 1 else "nodes"
        counts = _listed(turn.statuses.items())
        yield f"  {turn.turn:<{width}}  {turn.nodes:>5} {nodes}  {duration(turn.seconds):>12}  {counts}"


def _availability_lines(report: Report, width: int) -> Iterator[str]:
    for one in report.availability:
        yield from wrapped(f"availability of {one.sentence}", width)


def _finding_lines(report: Report, width: int) -> Iterator[str]:
    """What is refuted or unknown about the cluster, and how much is proven."""
    for group in finding_groups(report):
        yield from _group_lines(group, width) if group.several else _single_lines(group.first, width)
    proven = sum(1 for finding in report.findings if finding.verdict is InvariantState.PROVEN)
    if report.findings:
        when = " (checked before any change)" if checked_before_changes(report) else ""
        yield f"{proven} of {len(report.findings)} invariants proven{when}"


def _group_lines(group: FindingGroup, width: int) -> Iterator[str]:
    yield f"{group.first.label} on {group.first.ranges}: {group.sentence}"
    yield from wrapped(named([finding.invariant for finding in group.findings]), width)


def _single_lines(finding: FindingRow, width: int) -> Iterator[str]:
    where = f" on {finding.ranges}" if finding.ranges else ""
    yield f"{finding.label}: {finding.invariant}{where}"
    if finding.statement:
        result = "could not be checked" if finding.verdict is InvariantState.UNKNOWN else "does not hold"
        yield from wrapped(f"{result}: {finding.statement}", width)
    if finding.evidence:
        yield from wrapped(finding.evidence, width)
    if finding.confirmed:
        yield from wrapped(finding.confirmed, width)
    if finding.remedy:
        yield from wrapped(f"Fix: {finding.remedy}", width)


def _attestation_lines(report: Report, width: int) -> Iterator[str]:
    """The checks that no program can make, each with when to repeat it."""
    if any(not check.answered for check in report.attestations):
        yield "check by hand (no program can answer this), then record the answer with: esync attest FILE"
    for check in report.attestations:
        when = f" [{check.when}]" if check.when != "once" else ""
        if not check.answered:
            yield from wrapped(f"{check.id}: {check.question}{when}{_earlier(check)}", width)
    answered = [check for check in report.attestations if check.answered]
    if answered:
        yield "confirmed by a person:"
    for check in answered:
        yield from wrapped(f"{check.id}: {check.confirmed.sentence if check.confirmed else ''}", width)


def _earlier(check: QuestionRow) -> str:
    """Why an answer on record does not count any more."""
    if check.confirmed is None:
        return ""
    return f" (an earlier answer does not count any more: {check.confirmed.sentence})"


def _difference_lines(report: Report) -> Iterator[str]:
    """Changes after the run that a rollback would overwrite: `-` is there now, `+` was there before the run.

    Of the run's own changes in such a file only the place: restoring undoes them, as it should.
    """
    for node in report.nodes:
        file = ""
        for change in node.changes:
            if not change.what.startswith((CHANGED_SINCE, OWN_CHANGE)):
                continue
            if change.file != file:
                file = change.file
                yield f"{node.node}  {file}"
            yield f"  {change.what}"
            if change.what.startswith(CHANGED_SINCE):
                yield from (f"  - {printable(line)}" for line in change.before.splitlines())
                yield from (f"  + {printable(line)}" for line in change.after.splitlines())


def _cause_lines(report: Report, width: int) -> Iterator[str]:
    """Failures grouped by cause, each with its nodes and its fix. Nodes that were only skipped have a state instead."""
    skipped = Status.SKIPPED
    causes = [c for c in report.causes if c.problem.slug or c.status is not skipped or not report.node_states]
    causes = [cause for cause in causes if cause.problem.message != NOT_SELECTED]
    for number, cause in enumerate(causes):
        problem = cause.problem
        if number:
            yield ""
        yield f"{cause.title}{f' in {cause.step}' if cause.step else ''} on {cause.ranges}"
        yield from wrapped(problem.message.removeprefix(f"{cause.status.value}: ") or "no reason was given", width)
        if problem.file and problem.file not in problem.message:
            yield from wrapped(f"file: {problem.file}", width)
        if problem.remedy:
            yield from wrapped(f"Fix: {problem.remedy}", width)
        for node, about in list(cause.about.items())[:_SHOWN]:
            yield from wrapped(f"{node} reported: {about}", width)
        if len(cause.about) > _SHOWN:
            yield f"  ({len(cause.about) - _SHOWN} more nodes: see the JSON report)"


def _node_state_lines(report: Report, width: int) -> Iterator[str]:
    """The state of each node now; nothing where the verdict covers all nodes, or all nodes are finished."""
    if report.verdict not in _COVERS_ALL_NODES and any(row.state not in _FINISHED for row in report.node_states):
        yield "Node status:" if report.verdict else "Node status (the run has not ended):"
        for row in report.node_states:
            yield from wrapped(f"{row.ranges}: {row.description}", width)


def _fallback_lines(report: Report, width: int) -> Iterator[str]:
    if report.fallback_nodes:
        yield f"one PowerShell process per request (fallback): {report.fallback_nodes}"
        yield from wrapped(report.fallback_cost, width)
