"""The status of a run as data for programs (`esync status --json`)."""

from typing import Literal

from pipelines.run.budget import Budget
from pipelines.run.node_results import NodeResult
from workers.records import Record, RunState, Verdict

__all__ = ["RunStatus"]


class RunStatus(Record):
    """The status of a run: small, always with the same keys (docs/status-schema.json). `version` is that of this shape.

    `turn` is the current one, empty before the first, and `turn_done` how many of its `turn_nodes` have done all its
    steps; both are 0 in a run that has ended. `paused` and `cancelling` give the reason while the run lasts,
    and are empty otherwise; `held` is the turn before which the run waits for `esync promote`, and is empty while it
    does not; `unapproved` says that it waits there for `esync approve` by a second person; `begins_in` are the seconds
    until it begins by itself, null where it does not; `budget` says how many nodes
    may still fail, null for a run without waves; `waiting` says since when the run has work and no worker answers, and
    how to start one, and is empty otherwise (always in the answer of a worker); `seconds` count from the request for
    the run to its end, of several that were requested together from when its turn came.
    """

    version: Literal[2] = 2
    run: str
    cluster: str
    kind: str
    state: RunState
    turn: str
    turn_done: int = 0
    turn_nodes: int = 0
    verdict: Verdict | None
    exit_code: int | None
    summary: str
    paused: str
    cancelling: str
    held: str = ""
    unapproved: bool = False
    begins_in: float | None = None
    budget: Budget | None = None
    waiting: str = ""
    seconds: float
    nodes: dict[str, NodeResult]
