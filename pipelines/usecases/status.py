"""Runs as data for programs: the status of one (`esync status --json`), and a list (`esync runs --json`)."""

from typing import Literal

from pydantic import AwareDatetime

from pipelines.run.node_results import NodeResult
from workers.records import Record, RunRecord, RunState, Verdict

__all__ = ["RunRow", "RunStatus", "row_of"]


class RunStatus(Record):
    """The status of a run: small, always with the same keys (docs/status-schema.json). `version` is that of this shape.

    `turn` is the current one, empty before the first; `paused` and `cancelling` give the reason while the run lasts,
    and are empty otherwise; `seconds` count from the request for the run to its end.
    """

    version: Literal[2] = 2
    run: str
    cluster: str
    kind: str
    state: RunState
    turn: str
    verdict: Verdict | None
    exit_code: int | None
    summary: str
    paused: str
    cancelling: str
    seconds: float
    nodes: dict[str, NodeResult]


class RunRow(Record):
    """One run of a list (docs/runs-schema.json). `parent` is the run it retries or rolls back; may be empty."""

    run: str
    kind: str
    cluster: str
    state: RunState
    verdict: Verdict | None
    exit_code: int | None
    summary: str
    created: AwareDatetime
    ended: AwareDatetime | None
    who: str
    origin_host: str
    reason: str
    parent: str


def row_of(record: RunRecord) -> RunRow:
    """A run as one row of a list."""
    return RunRow(
        run=record.id,
        kind=record.kind,
        cluster=record.cluster,
        state=record.state,
        verdict=record.verdict,
        exit_code=record.verdict.exit_code if record.verdict else None,
        summary=record.summary,
        created=record.created,
        ended=record.ended,
        who=record.who,
        origin_host=record.origin_host,
        reason=record.reason,
        parent=record.parent,
    )
