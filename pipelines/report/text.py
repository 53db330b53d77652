"""A report as plain text: details first, failures by cause after them, totals and verdict last. Pure."""

import textwrap
from collections.abc import Iterator
from datetime import UTC

from pipelines.report.build import name_ranges
from pipelines.report.findings import Consequence, before_the_run, consequences
from pipelines.report.rows import FindingRow, Report
from pipelines.report.styles import printable
from pipelines.rollout import kind_of
from pipelines.run.node_state import NodeState
from tasks.ektron.wording import counted
from tasks.undo.plan import CHANGED_SINCE
from workers.records import Status, Verdict

__all__ = [
    "attestation_lines",
    "batch_lines",
    "cause_lines",
    "difference_lines",
    "duration",
    "finding_lines",
    "stand_lines",
    "to_text",
    "totals_line",
    "verdict_line",
]

_WIDTH = 100
_SHOWN = 8  #: nodes of one cause that are quoted
_SAYS_ALL = {Verdict.JOINED, Verdict.RESTORED, Verdict.CLEAN}
_WELL = {NodeState.DONE, NodeState.RIGHT}


def to_text(report: Report) -> str:
    """The whole report, ASCII apart from what the operator wrote, ended by a line break."""
    parts = [
        list(_head(report)),
        list(_turn_lines(report)),
        list(finding_lines(report)),
        list(attestation_lines(report)),
    ]
    parts += [list(difference_lines(report)), list(cause_lines(report))]
    parts += [list(stand_lines(report)), list(batch_lines(report))]
    parts.append([totals_line(report), verdict_line(report)])
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def verdict_line(report: Report) -> str:
    """One line that says how the run ended."""
    ended = (report.verdict or report.state).upper()
    said = report.summary.removeprefix(f"{report.verdict}: ")
    sentence = f": {printable(said)}" if said else ""
    return f"{ended}{sentence} [{report.kind} {report.run}, {duration(report.seconds)}]"


def totals_line(report: Report) -> str:
    """How many nodes came to what, worst first."""
    counts = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in report.totals.items())
    return f"{counted(len(report.nodes), 'node')}: {counts}"


def cause_lines(report: Report) -> Iterator[str]:
    """Failures grouped by cause, each with its nodes and its remedy; who was only not come to, the stands tell."""
    told = [cause for cause in report.causes if cause.slug or cause.status is not Status.SKIPPED or not report.stands]
    for number, cause in enumerate(told):
        if number:
            yield ""
        yield f"{cause.title}{f' in {cause.step}' if cause.step else ''} on {cause.ranges}"
        yield from _wrapped(cause.message.removeprefix(f"{cause.status.value}: ") or "no reason was given")
        if cause.file and cause.file not in cause.message:
            yield from _wrapped(f"file: {cause.file}")
        if cause.remedy:
            yield from _wrapped(f"do: {cause.remedy}")
        for node, about in list(cause.about.items())[:_SHOWN]:
            yield from _wrapped(f"{node} says of itself: {about}")
        if len(cause.about) > _SHOWN:
            yield f"  (what {len(cause.about) - _SHOWN} more say of themselves is in the JSON report)"


def stand_lines(report: Report) -> Iterator[str]:
    """What is true of each node now; nothing of a run whose verdict says it, or after which everybody is done."""
    if report.verdict not in _SAYS_ALL and any(row.standing not in _WELL for row in report.stands):
        yield "how the nodes stand now:" if report.verdict else "how the nodes stand at this moment:"
        for row in report.stands:
            yield from _wrapped(f"{row.ranges}: {row.now}")


def batch_lines(report: Report) -> Iterator[str]:
    """The nodes whose PowerShell had to be started for every request, and what that cost."""
    nodes = [node for node in report.nodes if node.by_batch]
    if nodes:
        starts = sum(step.shells for node in nodes for step in node.steps)
        yield f"spoken to by batch: {name_ranges(node.node for node in nodes)}"
        yield from _wrapped(
            "PowerShell there gets its input only when it ends, so that every request took a PowerShell of its own: "
            f"{starts} starts in this run, where one for each node is usual. It takes longer; nothing has to be done."
        )


def difference_lines(report: Report) -> Iterator[str]:
    """What somebody changed after a run that was to be taken back: `-` is there now, `+` was there before the run."""
    for node in report.nodes:
        file = ""
        for change in node.changes:
            if not change.what.startswith(CHANGED_SINCE):
                continue
            if change.file != file:
                file = change.file
                yield f"{node.node}  {file}"
            yield f"  {change.what}"
            yield from (f"  - {printable(line)}" for line in change.before.splitlines())
            yield from (f"  + {printable(line)}" for line in change.after.splitlines())


def duration(seconds: float) -> str:
    """`0.42 s`, `12.3 s`, `4 min 05 s`, `1 h 02 min`."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"  # noqa: PLR2004


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(printable(text), _WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _head(report: Report) -> Iterator[str]:
    yield f"{report.kind} of {report.cluster} (edition {report.edition}, origin {report.origin})"
    yield f"  run      {report.run}"
    yield f"  asked    {report.created.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    yield f"  by       {report.who or '?'} on {report.origin_host or '?'}"
    if report.reason:
        yield f"  reason   {printable(report.reason)}"
    if report.parent:
        yield f"  {kind_of(report.kind, report.run).parent:<8} run {report.parent}"
    if report.plan:
        yield f"  plan     {report.plan}"


def _turn_lines(report: Report) -> Iterator[str]:
    width = max((len(turn.turn) for turn in report.turns), default=0)
    for turn in report.turns:
        counts = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in turn.statuses.items())
        nodes = "node " if turn.nodes == 1 else "nodes"
        yield f"  {turn.turn:<{width}}  {turn.nodes:>5} {nodes}  {duration(turn.seconds):>12}  {counts}"


def finding_lines(report: Report) -> Iterator[str]:
    """What is refuted or unknown about the cluster, and how much is proven."""
    for one in consequences(report):
        yield from _trail(one) if one.several else _finding(one.first)
    proven = sum(1 for finding in report.findings if finding.verdict == "proven")
    if report.findings:
        when = " (seen before anything was changed)" if before_the_run(report) else ""
        yield f"{proven} of {len(report.findings)} invariants proven{when}"


def attestation_lines(report: Report) -> Iterator[str]:
    """The questions that no program can answer, each with why it matters."""
    if report.attestations:
        yield "a person has to answer:"
    for asked in report.attestations:
        when = f" [{asked.when}]" if asked.when != "once" else ""
        yield from _wrapped(f"{asked.id}: {asked.question}{when}")


def _trail(one: Consequence) -> Iterator[str]:
    yield f"{one.first.label} on {one.first.ranges}: {one.sentence}"
    yield from _wrapped(", ".join(finding.invariant for finding in one.findings))


def _finding(finding: FindingRow) -> Iterator[str]:
    where = f" on {finding.ranges}" if finding.ranges else ""
    yield f"{finding.label}: {finding.invariant}{where}"
    if finding.statement:
        holds = "not known whether this holds" if finding.verdict == "unknown" else "does not hold"
        yield from _wrapped(f"{holds}: {finding.statement}")
    if finding.evidence:
        yield from _wrapped(finding.evidence)
    if finding.remedy:
        yield from _wrapped(f"do: {finding.remedy}")
