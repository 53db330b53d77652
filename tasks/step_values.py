"""What a step is: a value with a name, a function, and the properties that the rest of the product needs.

Apart from `tasks.step`, which does the work: what shows runs needs names and headings of steps, and nothing of nodes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from workers.errors import NodeError
from workers.records import Change

__all__ = ["Done", "Purpose", "Step"]


class Purpose(StrEnum):
    """Why a node is observed. Set by the stage; the step does not know the stages."""

    LOOK = "look"  #: to find out that the node can be observed; a later turn of the run judges what is seen
    PLAN = "plan"  #: to get the facts that the plan is made from, before anything is written
    PLAN_AND_VERIFY = "plan_and_verify"  #: the same, and of a node that needs nothing also the evidence for the verdict
    CONFIRM = "confirm"  #: to check that the node has not changed since the plan was made
    AGAIN = "again"  #: to begin again on a node after an attempt that failed
    PROVE = "prove"  #: to find out whether a node that was changed is as it has to be
    VERIFY = "verify"  #: to get the evidence for the verdict
    COMPLETE = "complete"  #: the same in a run that has observed its nodes and changed none: only what is missing
    EXAMINE = "examine"  #: to find out whether a rollout could begin


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a step did. Without changes it is `unchanged`; `message` says what was done, or why nothing had to be done.

    `failed` is for a step that has something to show in addition to its error: `changes` are then what it did not do.
    """

    changes: tuple[Change, ...] = ()
    message: str = ""
    failed: NodeError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One action on one node, and every property of it that other code needs.

    Attributes:
        name: the same in Celery (`esync.<name>`), the store, events, JSON and documents.
        run: takes the work (`tasks.step.Work`) and does it; returns what was done, raises
            `NodeError`.
        heading: of its column in the live view and the report.
        changes: whether it may change the node; other steps only read.
        keeps_backups: whether it backs up what it replaces and records that in the manifest.
        restarts: whether it restarts the service: until it has run, a restart may be owed.
        completed: the state of a node after all changing steps of its turn, when this is the last of them.
        always: whether it runs even after an earlier step of its turn failed or the run was cancelled.
        balances: whether it operates a balancer: a turn without a node that has one does not have it.
    """

    name: str
    run: Callable[[Any], Done]
    heading: str
    changes: bool = False
    keeps_backups: bool = False
    restarts: bool = False
    completed: str = "done: all planned changes are made"
    always: bool = False
    balances: bool = False
