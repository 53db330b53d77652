"""A run as one value to show: what each node came to, failures by cause, findings, timings. Pure.

`build` makes it; its JSON is the documented one (docs/report-schema.json); `report_text` and `report_html` draw it.
"""

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence

from pipelines.report.rows import (
    Cause,
    FindingRow,
    NodeRow,
    Report,
    Result,
    StandRow,
    StepRow,
    StepTiming,
    Summary,
    TurnRow,
)
from pipelines.rollout import kind_of
from pipelines.run.node_state import NODE_STATES, NodeState
from tasks.cluster import Cluster, Role
from tasks.ektron.rules.attestations import Attestation, attestations
from tasks.ektron.rules.findings import Finding, InvariantState, Severity
from workers.errors import Failure
from workers.records import RunRecord, Status, StepOutcome, Turn, now
from workers.texts import cleaned, cleaned_all

__all__ = ["WORST_FIRST", "build", "name_ranges"]

#: How a node can have come out of a run, worst first.
WORST_FIRST = (
    Status.FAILED,
    Status.UNREACHABLE,
    Status.CANCELLED,
    Status.SKIPPED,
    Status.WOULD_CHANGE,
    Status.CHANGED,
    Status.UNCHANGED,
)
_FINE = {Status.UNCHANGED, Status.CHANGED, Status.WOULD_CHANGE}
_LONGEST = 10_000  #: characters of one text
_NUMBERED = re.compile(r"(.*?)(\d+)")


def build(summary: Summary) -> Report:
    """The report of a run, as it stands now. No form of it shows a character that moves a cursor or cannot be seen."""
    whole = _built(summary).model_dump(mode="json")
    return Report.model_validate(cleaned_all(whole, _shown))


def _shown(name: str, text: str) -> str:
    """A text of the report; what a file had before and after keeps its lines."""
    lines = text.split("\n") if name in {"before", "after"} else [text]
    return "\n".join(cleaned(line, _LONGEST) for line in lines)


def _built(summary: Summary) -> Report:
    record, cluster = summary.record, summary.cluster
    rows = _node_rows(summary)
    ended = record.ended or max((o.ended for o in summary.outcomes), default=now())
    return Report(
        run=record.id,
        kind=record.kind,
        cluster=record.cluster,
        edition=cluster.edition,
        origin=cluster.origin,
        state=record.state.value,
        verdict=record.verdict.value if record.verdict else None,
        exit_code=record.verdict.exit_code if record.verdict else None,
        summary=record.summary,
        who=record.who,
        origin_host=record.origin_host,
        reason=record.reason,
        parent=record.parent,
        created=record.created,
        ended=record.ended,
        seconds=round((ended - record.created).total_seconds(), 3),
        plan=summary.plan.totals if summary.plan else "",
        plan_fingerprint=record.plan_fingerprint,
        totals=_totals(rows),
        causes=_causes(rows, summary.nodes),
        stands=_stands(rows),
        findings=tuple(_finding_row(f, len(rows)) for f in summary.findings.findings) if summary.findings else (),
        turns=tuple(_turn_row(record, turn, summary.outcomes) for turn in record.turns),
        timings=_timings(summary.outcomes),
        nodes=rows,
        attestations=_attestations(cluster) if kind_of(record.kind, record.id).asks else (),
    )


def _attestations(cluster: Cluster) -> tuple[Attestation, ...]:
    """What only a person can answer about a cluster of this shape."""
    staging = sum(1 for node in cluster.nodes if node.role is Role.STAGING)
    return attestations(nodes=len(cluster.nodes), staging=staging, production=len(cluster.nodes) - staging)


def name_ranges(names: Iterable[str]) -> str:
    """Names with runs of three and more consecutive numbers shortened: `P1..P40, S2`. In the order given."""
    parts: list[list[str]] = []
    for name in names:
        if parts and _follows(parts[-1][-1], name):
            parts[-1].append(name)
        else:
            parts.append([name])
    return ", ".join(_shortened(part) for part in parts)


def _follows(before: str, name: str) -> bool:
    first, second = _NUMBERED.fullmatch(before), _NUMBERED.fullmatch(name)
    if first is None or second is None or first[1] != second[1]:
        return False
    padded = len(first[2]) == len(second[2]) or not (first[2].startswith("0") or second[2].startswith("0"))
    return padded and int(second[2]) == int(first[2]) + 1


def _shortened(run: Sequence[str]) -> str:
    return f"{run[0]}..{run[-1]}" if len(run) > 2 else ", ".join(run)  # noqa: PLR2004 - two names read better in full


def _node_rows(summary: Summary) -> tuple[NodeRow, ...]:
    stages = {turn.name: turn.stage for turn in summary.record.turns}
    numbered = {stage.name for stage in kind_of(summary.record.kind).stages if stage.numbered}
    of_node: dict[str, list[StepOutcome]] = {}
    for outcome in summary.outcomes:
        of_node.setdefault(outcome.node, []).append(outcome)
    nodes = {node.name: node for node in summary.cluster.nodes}
    return tuple(
        NodeRow(
            node=result.node,
            role=nodes[result.node].role.value,
            pool=nodes[result.node].pool,
            host=nodes[result.node].host,
            wave=next((o.turn for o in of_node.get(result.node, ()) if stages.get(o.turn) in numbered), ""),
            status=result.status,
            slug=result.slug,
            failure=result.failure,
            reason=result.reason,
            file=result.file,
            remedy=result.remedy,
            steps=tuple(_step_row(o, stages) for o in of_node.get(result.node, ())),
            changes=tuple(change for o in of_node.get(result.node, ()) for change in o.changes),
            seconds=round(sum(o.seconds for o in of_node.get(result.node, ())), 3),
            about=result.about,
            by_batch=result.by_batch,
            standing=result.standing,
            now=result.now,
        )
        for result in summary.nodes
    )


def _step_row(outcome: StepOutcome, stages: Mapping[str, str]) -> StepRow:
    return StepRow(
        turn=outcome.turn,
        stage=stages.get(outcome.turn, outcome.turn),
        step=outcome.step,
        status=outcome.status,
        slug=outcome.slug,
        failure=outcome.failure,
        message=outcome.message,
        seconds=round(outcome.seconds, 3),
        attempt=outcome.attempt,
        round_trips=outcome.round_trips,
        shells=outcome.shells,
    )


def _totals(rows: Iterable[NodeRow]) -> dict[str, int]:
    counts = {status.value: 0 for status in WORST_FIRST}
    for row in rows:
        counts[row.status.value] += 1
    return {status: count for status, count in counts.items() if count}


def _causes(rows: Iterable[NodeRow], results: Iterable[Result]) -> tuple[Cause, ...]:
    """Everybody who is not fine, grouped by what happened, worst first, most nodes first."""
    steps = {result.node: result.step for result in results}
    groups: dict[tuple[str, ...], list[NodeRow]] = {}
    for row in rows:
        if row.status not in _FINE:
            step = steps.get(row.node, "")
            key = (
                row.status.value,
                row.slug,
                row.failure or "",
                step,
                *(_masked(text, row) for text in (row.reason, row.remedy, row.file)),
            )
            groups.setdefault(key, []).append(row)
    causes = [_cause(key, members) for key, members in groups.items()]
    return tuple(sorted(causes, key=lambda cause: (WORST_FIRST.index(cause.status), -len(cause.nodes))))


def _cause(key: tuple[str, ...], members: Sequence[NodeRow]) -> Cause:
    status, slug, failure, step, *texts = key
    if len(members) == 1:
        texts = [members[0].reason, members[0].remedy, members[0].file]
    names = tuple(row.node for row in members)
    return Cause(
        status=Status(status),
        slug=slug,
        failure=Failure(failure) if failure else None,
        step=step,
        message=texts[0],
        remedy=texts[1],
        file=texts[2],
        nodes=names,
        ranges=name_ranges(names),
        about={row.node: row.about for row in members if row.about},
    )


def _stands(rows: Iterable[NodeRow]) -> tuple[StandRow, ...]:
    """Nodes of which the same is true, the worst first."""
    groups: dict[tuple[NodeState, str], list[NodeRow]] = {}
    for row in rows:
        if row.standing is not None:
            groups.setdefault((row.standing, _masked(row.now, row)), []).append(row)
    found = [_stand_row(standing, text, members) for (standing, text), members in groups.items()]
    return tuple(sorted(found, key=lambda row: NODE_STATES.index(row.standing)))


def _stand_row(standing: NodeState, text: str, members: Sequence[NodeRow]) -> StandRow:
    names = tuple(row.node for row in members)
    said = members[0].now if len(members) == 1 else text
    return StandRow(standing=standing, now=said, nodes=names, ranges=name_ranges(names))


def _masked(text: str, row: NodeRow) -> str:
    """Text with the node's own name and host taken out, so that the same failure reads the same everywhere."""
    for own, mask in ((row.host, "<host>"), (row.node, "<node>")):
        text = re.sub(rf"(?<![\w.-]){re.escape(own)}(?![\w-])", mask, text, flags=re.IGNORECASE)
    return text


def _finding_row(finding: Finding, nodes: int) -> FindingRow:
    """They come ordered: refuted, unknown, proven; errors before warnings."""
    mild = finding.verdict is InvariantState.REFUTED and finding.severity is Severity.WARNING
    return FindingRow(
        label="warning" if mild else finding.verdict.value,
        invariant=finding.invariant,
        statement=finding.statement,
        verdict=finding.verdict.value,
        severity=finding.severity.value,
        evidence=finding.evidence,
        remedy=finding.remedy,
        nodes=finding.nodes,
        ranges=f"all {nodes} nodes" if len(finding.nodes) == nodes > 1 else name_ranges(finding.nodes),
        reasons=finding.reasons,
        source=finding.source,
    )


def _turn_row(record: RunRecord, turn: Turn, outcomes: Iterable[StepOutcome]) -> TurnRow:
    of_turn = [outcome for outcome in outcomes if outcome.turn == turn.name]
    ended = {outcome.node: outcome.status for outcome in sorted(of_turn, key=lambda o: o.ended)}
    for outcome in of_turn:
        # A node is what its worst step was: `unchanged` of the last step must not hide a change before it.
        ended[outcome.node] = min(ended[outcome.node], outcome.status, key=_badness)
    spent: dict[str, float] = {}
    for outcome in of_turn:
        spent[outcome.node] = spent.get(outcome.node, 0.0) + outcome.seconds
    first = min((o.started for o in of_turn), default=None)
    last = max((o.ended for o in of_turn), default=None)
    return TurnRow(
        turn=turn.name,
        stage=turn.stage,
        nodes=len(turn.nodes),
        steps=turn.steps,
        statuses={s.value: n for s in WORST_FIRST if (n := sum(1 for status in ended.values() if status is s))},
        offset=round((first - record.created).total_seconds(), 3) if first else 0.0,
        seconds=round((last - first).total_seconds(), 3) if first and last else 0.0,
        slowest=max(spent, key=lambda node: spent[node]) if spent else "",
    )


def _badness(status: Status) -> int:
    """Skipped steps follow from a failed one, so they say least about the node."""
    return len(WORST_FIRST) if status is Status.SKIPPED else WORST_FIRST.index(status)


def _timings(outcomes: Iterable[StepOutcome]) -> tuple[StepTiming, ...]:
    by_step: dict[str, list[StepOutcome]] = {}
    for outcome in outcomes:
        if outcome.status not in {Status.SKIPPED, Status.CANCELLED}:
            by_step.setdefault(outcome.step, []).append(outcome)
    return tuple(_timing(step, done) for step, done in by_step.items())


def _timing(step: str, done: Sequence[StepOutcome]) -> StepTiming:
    longest = max(done, key=lambda outcome: outcome.seconds)
    return StepTiming(
        step=step,
        count=len(done),
        median=round(statistics.median(outcome.seconds for outcome in done), 3),
        longest=round(longest.seconds, 3),
        slowest=longest.node,
        round_trips=sum(outcome.round_trips for outcome in done),
        shells=sum(outcome.shells for outcome in done),
    )
