"""What the runs of a list do that are not just at work: held, paused, stopping, or waiting for their turn."""

from collections.abc import Iterable, Sequence
from contextlib import suppress

from pipelines.run.groups import in_line, is_member, waits_for
from tasks.steering import Steering
from workers.errors import RecordRefused, RunUnknown
from workers.records import RunRecord, RunState
from workers.store.port import RunStore

__all__ = ["steered"]

_ITS_TURN = "waits for its turn"


def steered(store: RunStore, records: Iterable[RunRecord]) -> dict[str, str]:
    """The runs that are not just at work, by id: held, paused, stopping, or waiting for their turn in a group."""
    going = [record for record in records if record.state is not RunState.CONCLUDED]
    active = store.active() if going else ()
    waiting = in_line(active)
    words = {one.id: _ITS_TURN if one.id in waiting else _word(store, one, active) for one in going}
    return {run: word for run, word in words.items() if word}


def _word(store: RunStore, record: RunRecord, active: Sequence[str]) -> str:
    try:
        if record.state is RunState.CREATED and is_member(record.id) and _waits(store, record, active):
            return _ITS_TURN
        return Steering.of(store, record.id).word
    except RecordRefused:  # no worker continues it, and it hides no other
        return "cannot be read"


def _waits(store: RunStore, record: RunRecord, active: Sequence[str]) -> bool:
    """Whether it waits for servers of a run before it: what only looks does not, and may wait for a worker instead."""
    from pipelines.rollout import kind_of  # noqa: PLC0415 - a list seldom has such a run
    from tasks.cluster import Cluster  # noqa: PLC0415 - the same

    if kind_of(record.kind, record.id).read_only:
        return False

    def servers_of(run: str) -> tuple[str, ...]:
        with suppress(RunUnknown, RecordRefused):  # deleted in the meantime, or it cannot be read
            return Cluster.of_run(store.run(run)).servers
        return ()

    return bool(waits_for(record.id, Cluster.of_run(record).servers, active, servers_of))
