"""A list of runs as a table: a header, ids that can be copied, dates. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

from pipelines.report.layout import duration, printable, table
from pipelines.run.identity import cluster_of, shared_names
from workers.records import RunRecord, RunState

__all__ = ["run_lines"]

_HEADER = ("RUN", "KIND", "STARTED (UTC)", "TOOK", "RESULT", "REQUESTED BY")


def run_lines(
    records: Sequence[RunRecord],
    at: datetime,
    waiting: Mapping[str, str] = MappingProxyType({}),
    width: int = 0,
) -> Iterator[str]:
    """The runs as lines, the header first; nothing when there are none.

    Args:
        records: in the order of the lines.
        at: now, for runs that have not ended.
        waiting: what those wait for that do, by id.
        width: columns of the terminal, 0 for none: a run that has no room in one line has several.
    """
    shared = shared_names(records)
    if records:
        rows = [_row(record, at, shared, waiting.get(record.id, "")) for record in records]
        yield from table(_HEADER, rows, width)


def _row(record: RunRecord, at: datetime, shared: Collection[str], waiting: str) -> tuple[str, ...]:
    took = "-" if record.state is RunState.CREATED else duration(record.seconds(at))
    state = record.verdict.value if record.verdict else waiting or record.state.value
    started = f"{record.created.astimezone(UTC):%Y-%m-%d %H:%M}"
    name, digest = cluster_of(record)
    which = f" [{name}@{digest}]" if name in shared else ""
    return record.id, record.kind, started, took, state.replace("_", " "), f"{_request(record)}{which}"


def _request(record: RunRecord) -> str:
    """Who requested a run, why, and which run it continues."""
    why = f": {record.reason}" if record.reason else ""
    parent = f" [{_relation(record)} {record.parent}]" if record.parent else ""
    return printable(f"{record.who or '?'}{why}{parent}")


def _relation(record: RunRecord) -> str:
    from pipelines.rollout import kind_of  # noqa: PLC0415 - all steps, for a list that seldom has such a run

    return kind_of(record.kind, record.id).parent
