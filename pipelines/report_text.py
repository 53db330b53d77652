"""A report as plain text: details first, failures by cause after them, totals and verdict last. Pure."""

import textwrap
from collections.abc import Iterator
from datetime import UTC

from pipelines.marks import printable
from pipelines.report_rows import Cause, FindingRow, Report
from tasks.undo import CHANGED_SINCE

__all__ = [
    "attestation_lines",
    "cause_lines",
    "difference_lines",
    "duration",
    "finding_lines",
    "to_text",
    "totals_line",
    "verdict_line",
]

_WIDTH = 100


def to_text(report: Report) -> str:
    """The whole report, ASCII apart from what the operator wrote, ended by a line break."""
    parts = [
        list(_head(report)),
        list(_turn_lines(report)),
        list(finding_lines(report)),
        list(attestation_lines(report)),
    ]
    parts += [list(difference_lines(report)), list(cause_lines(report))]
    parts.append([totals_line(report), verdict_line(report)])
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def verdict_line(report: Report) -> str:
    """One line that says how the run ended."""
    ended = (report.verdict or report.state).upper()
    sentence = f": {printable(report.summary)}" if report.summary else ""
    return f"{ended}{sentence} [{report.kind} {report.run}, {duration(report.seconds)}]"


def totals_line(report: Report) -> str:
    """How many nodes came to what, worst first."""
    counts = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in report.totals.items())
    return f"{len(report.nodes)} nodes: {counts}"


def cause_lines(report: Report) -> Iterator[str]:
    """Failures grouped by cause, each with its nodes and its remedy."""
    for cause in report.causes:
        yield f"{_title(cause)} on {cause.ranges}"
        yield from _wrapped(cause.message or "no reason was given")
        if cause.file and cause.file not in cause.message:
            yield from _wrapped(f"file: {cause.file}")
        if cause.remedy:
            yield from _wrapped(f"do: {cause.remedy}")


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


def _title(cause: Cause) -> str:
    """`failed (access_denied) in config_edit`."""
    slug = f" ({cause.slug})" if cause.slug and cause.slug != cause.status else ""
    return f"{cause.status.value}{slug}" + (f" in {cause.step}" if cause.step else "")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(printable(text), _WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _head(report: Report) -> Iterator[str]:
    yield f"{report.kind} of {report.cluster} (edition {report.edition}, origin {report.origin})"
    yield f"  run      {report.run}"
    yield f"  asked    {report.created.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    yield f"  by       {report.who or '?'} on {report.origin_host or '?'}"
    if report.reason:
        yield f"  reason   {printable(report.reason)}"
    if report.plan:
        yield f"  plan     {report.plan}"


def _turn_lines(report: Report) -> Iterator[str]:
    width = max((len(turn.turn) for turn in report.turns), default=0)
    for turn in report.turns:
        counts = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in turn.statuses.items())
        yield f"  {turn.turn:<{width}}  {turn.nodes:>5} nodes  {duration(turn.seconds):>12}  {counts}"


def finding_lines(report: Report) -> Iterator[str]:
    """What is refuted or unknown about the cluster, and how much is proven."""
    for finding in report.findings:
        if finding.verdict != "proven":
            yield from _finding(finding)
    proven = sum(1 for finding in report.findings if finding.verdict == "proven")
    if report.findings:
        yield f"{proven} of {len(report.findings)} invariants proven"


def attestation_lines(report: Report) -> Iterator[str]:
    """The questions that no program can answer, each with why it matters."""
    if report.attestations:
        yield "a person has to answer:"
    for asked in report.attestations:
        when = f" [{asked.when}]" if asked.when != "once" else ""
        yield from _wrapped(f"{asked.id}: {asked.question}{when}")


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
