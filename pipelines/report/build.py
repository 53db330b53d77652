"""A run as one value to show: results by node, failures by cause, findings, timings. Pure.

`build` makes it. Its JSON is the documented one (docs/report-schema.json); `text` and `html` render it.
"""

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from pipelines.report.alike import in_words, masked
from pipelines.report.layout import name_ranges
from pipelines.report.rows import (
    Cause,
    FindingRow,
    NodeRow,
    NodeStateRow,
    QuestionRow,
    Report,
    StepRow,
    StepTiming,
    TurnRow,
)
from pipelines.run.attested import Asked
from pipelines.run.kinds import Stage
from pipelines.run.node_results import NodeResult
from pipelines.run.node_state import NODE_STATES, NodeState
from pipelines.run.summary import RunSummary
from tasks.cluster import Node
from tasks.ektron.rules.findings import Finding, InvariantState, Severity
from workers.errors import Problem
from workers.records import RunRecord, Status, StepOutcome, Turn, now
from workers.texts import cleaned, cleaned_all

__all__ = ["WORST_FIRST", "build"]

K = TypeVar("K")
V = TypeVar("V")

#: How a node's part in a run can end, worst first.
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
#: fields that a report has in common with the record of its run
_OF_RECORD = (
    "kind", "cluster", "summary", "who", "origin_host", "reason", "parent", "created", "ended", "plan_fingerprint",
)  # fmt: skip
_LONGEST = 10_000  #: characters of one text


def build(summary: RunSummary) -> Report:
    """The report of a run in its current state. No form of it shows control characters or invisible ones."""
    whole = _built(summary).model_dump(mode="json")
    return Report.model_validate(cleaned_all(whole, _clean))


def _clean(name: str, text: str) -> str:
    """One text of the report; the content of a file before and after keeps its lines."""
    lines = text.split("\n") if name in {"before", "after"} else [text]
    return "\n".join(cleaned(line, _LONGEST) for line in lines)


def _grouped(values: Iterable[V], key: Callable[[V], K]) -> dict[K, list[V]]:
    groups: dict[K, list[V]] = {}
    for value in values:
        groups.setdefault(key(value), []).append(value)
    return groups


def _built(summary: RunSummary) -> Report:
    record, cluster = summary.record, summary.cluster
    rows = _node_rows(summary)
    by_turn = _grouped(summary.outcomes, lambda outcome: outcome.turn)
    return Report(
        run=record.id,
        **{name: getattr(record, name) for name in _OF_RECORD},
        edition=cluster.edition,
        origin=cluster.origin,
        state=record.state.value,
        verdict=record.verdict.value if record.verdict else None,
        exit_code=record.verdict.exit_code if record.verdict else None,
        seconds=round(record.seconds(now()), 3),
        plan=summary.plan.totals if summary.plan else "",
        totals=_counts(row.status for row in rows),
        causes=_causes(rows),
        node_states=_node_states(rows),
        findings=tuple(_finding_row(f, len(rows)) for f in summary.findings.findings) if summary.findings else (),
        turns=tuple(_turn_row(record, turn, by_turn.get(turn.name, ())) for turn in record.turns),
        timings=_timings(summary.outcomes),
        nodes=rows,
        budget=summary.budget,
        held=summary.held,
        unapproved=summary.unapproved,
        availability=summary.availability,
        attestations=tuple(_question_row(asked) for asked in summary.asked),
    )


def _question_row(asked: Asked) -> QuestionRow:
    return QuestionRow(**dict(asked.attestation), confirmed=asked.confirmation, answered=asked.counts)


def _counts(statuses: Iterable[Status]) -> dict[str, int]:
    counts = Counter(statuses)
    return {status.value: counts[status] for status in WORST_FIRST if counts[status]}


def _node_rows(summary: RunSummary) -> tuple[NodeRow, ...]:
    stages = {turn.name: summary.kind.stage_of(turn) for turn in summary.record.turns}
    outcomes = _grouped(summary.outcomes, lambda outcome: outcome.node)
    nodes = {node.name: node for node in summary.cluster.nodes}
    return tuple(
        _node_row(result, nodes[result.node], outcomes.get(result.node, ()), stages) for result in summary.nodes
    )


def _node_row(result: NodeResult, node: Node, outcomes: Sequence[StepOutcome], stages: Mapping[str, Stage]) -> NodeRow:
    return NodeRow(
        **dict(result),
        role=node.role.value,
        pool=node.pool,
        host=node.host,
        wave=next((o.turn for o in outcomes if o.turn in stages and stages[o.turn].numbered), ""),
        steps=tuple(_step_row(o, stages) for o in outcomes),
        changes=tuple(change for o in outcomes for change in o.changes),
        seconds=round(sum(o.seconds for o in outcomes), 3),
    )


def _step_row(outcome: StepOutcome, stages: Mapping[str, Stage]) -> StepRow:
    return StepRow(
        turn=outcome.turn,
        stage=stages[outcome.turn].name if outcome.turn in stages else outcome.turn,
        step=outcome.step,
        status=outcome.status,
        message=outcome.message,
        problem=outcome.problem if outcome.status.ends_node else None,
        seconds=round(outcome.seconds, 3),
        attempt=outcome.attempt,
        round_trips=outcome.round_trips,
        shells=outcome.shells,
    )


def _causes(rows: Iterable[NodeRow]) -> tuple[Cause, ...]:
    """All nodes that are not fine, grouped by problem: worst status first, then most nodes first."""
    groups = _grouped(
        (row for row in rows if row.status not in _FINE),
        lambda row: (row.status, row.step, _about_problem(row.problem, lambda text: masked(text, row.node, row.host))),
    )
    causes = [_cause(problem, members) for (_, _, problem), members in groups.items()]
    return tuple(sorted(causes, key=lambda cause: (WORST_FIRST.index(cause.status), -len(cause.nodes))))


def _cause(problem: Problem, members: Sequence[NodeRow]) -> Cause:
    first, names = members[0], tuple(row.node for row in members)
    of_all = _about_problem(problem, lambda text: in_words(text, first.node))
    of_all = of_all.model_copy(update={"file": first.problem.file})
    return Cause(
        status=first.status,
        step=first.step,
        problem=of_all if len(members) > 1 else first.problem.model_copy(update={"about": ""}),
        nodes=names,
        ranges=name_ranges(names),
        about={row.node: row.problem.about for row in members if row.problem.about},
    )


def _about_problem(problem: Problem, change: Callable[[str], str]) -> Problem:
    """The problem with its texts changed, and without what a node reported about itself."""
    texts = {name: change(getattr(problem, name)) for name in ("message", "file", "remedy")}
    return problem.model_copy(update={**texts, "about": ""})


def _node_states(rows: Iterable[NodeRow]) -> tuple[NodeStateRow, ...]:
    """Nodes grouped by their state, the worst first."""
    groups: dict[tuple[NodeState, str], list[NodeRow]] = {}
    for row in rows:
        if row.state is not None:
            groups.setdefault((row.state, masked(row.description, row.node, row.host)), []).append(row)
    found = [_node_state_row(state, text, members) for (state, text), members in groups.items()]
    return tuple(sorted(found, key=lambda row: NODE_STATES.index(row.state)))


def _node_state_row(state: NodeState, text: str, members: Sequence[NodeRow]) -> NodeStateRow:
    names = tuple(row.node for row in members)
    description = members[0].description if len(members) == 1 else in_words(text, names[0])
    return NodeStateRow(state=state, description=description, nodes=names, ranges=name_ranges(names))


def _finding_row(finding: Finding, nodes: int) -> FindingRow:
    """The findings come in order: refuted, unknown, proven; errors before warnings."""
    mild = finding.verdict is InvariantState.REFUTED and finding.severity is Severity.WARNING
    ranges = f"all {nodes} nodes" if len(finding.nodes) == nodes > 1 else name_ranges(finding.nodes)
    return FindingRow(**dict(finding), label="warning" if mild else finding.verdict.value, ranges=ranges)


def _turn_row(record: RunRecord, turn: Turn, outcomes: Sequence[StepOutcome]) -> TurnRow:
    by_node = _grouped(outcomes, lambda outcome: outcome.node)
    # The worst step counts for a node: `unchanged` of the last step must not hide a change before it.
    worst = [min((outcome.status for outcome in done), key=_badness) for done in by_node.values()]
    spent = {node: sum(outcome.seconds for outcome in done) for node, done in by_node.items()}
    first = min((o.started for o in outcomes), default=None)
    last = max((o.ended for o in outcomes), default=None)
    return TurnRow(
        turn=turn.name,
        stage=turn.stage,
        nodes=len(turn.nodes),
        steps=turn.steps,
        statuses=_counts(worst),
        offset=round((first - record.since).total_seconds(), 3) if first else 0.0,
        seconds=round((last - first).total_seconds(), 3) if first and last else 0.0,
        slowest=max(spent, key=lambda node: spent[node]) if spent else "",
    )


def _badness(status: Status) -> int:
    """Skipped steps follow from a failed one, so they say least about the node."""
    return len(WORST_FIRST) if status is Status.SKIPPED else WORST_FIRST.index(status)


def _timings(outcomes: Iterable[StepOutcome]) -> tuple[StepTiming, ...]:
    done = (o for o in outcomes if o.status not in {Status.SKIPPED, Status.CANCELLED})
    return tuple(_timing(step, of_step) for step, of_step in _grouped(done, lambda outcome: outcome.step).items())


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
