"""A list of runs as data for programs (`esync runs --json`)."""

from pydantic import AwareDatetime

from pipelines.run.identity import cluster_of
from workers.records import Record, RunRecord, RunState, Verdict

__all__ = ["RunRow", "row_of"]


class RunRow(Record):
    """One run of a list (docs/runs-schema.json). `parent` is the run it retries or rolls back; may be empty.

    `began` is when its turn came, if it was requested together with others.
    `waiting` is as in `RunStatus`.
    """

    run: str
    kind: str
    cluster: str
    servers: str = ""
    state: RunState
    verdict: Verdict | None
    exit_code: int | None
    summary: str
    created: AwareDatetime
    began: AwareDatetime | None = None
    ended: AwareDatetime | None
    who: str
    origin_host: str
    reason: str
    parent: str
    waiting: str = ""


def row_of(record: RunRecord, waiting: str = "") -> RunRow:
    """A run as one row of a list."""
    return RunRow(
        run=record.id,
        kind=record.kind,
        cluster=record.cluster,
        servers=cluster_of(record)[1],
        state=record.state,
        verdict=record.verdict,
        exit_code=record.verdict.exit_code if record.verdict else None,
        summary=record.summary,
        created=record.created,
        began=record.began,
        ended=record.ended,
        who=record.who,
        origin_host=record.origin_host,
        reason=record.reason,
        parent=record.parent,
        waiting=waiting,
    )
