"""The runs about a sync, as data: looked at, started, refreshed in a pool, proven; status files of a crash cleared."""

from collections.abc import Sequence
from dataclasses import replace

from pipelines.run import decisions_repair, decisions_stale, decisions_sync, sync_view
from pipelines.run.decisions import logon_accepted, one_per_account
from pipelines.run.kinds import Kind, Stage
from pipelines.run.snapshot import RETRY, Snapshot
from tasks.step_values import Purpose
from tasks.steps.registry import (
    CANARY_PLACE,
    CANARY_REMOVE,
    DRAIN,
    INSTALL_CHECK,
    LOAD_BALANCE,
    STATUS_CLEAR,
    STATUS_RESTART,
    SYNC_AGAIN,
    SYNC_FOLLOW,
    SYNC_LOOK,
    SYNC_START,
    SYNC_WATCH,
    UNDRAIN,
)

__all__ = ["AT_A_TERMINAL", "SYNC_KINDS"]


def _one_per_account(snapshot: Snapshot) -> Sequence[str]:
    return one_per_account(snapshot, snapshot.selected)


def _remaining(snapshot: Snapshot) -> Sequence[str]:
    """The servers that had no turn yet."""
    had = {node for turn in snapshot.record.turns for node in turn.nodes}
    return [name for name in snapshot.selected if name not in had]


LOOK = Stage(name="canary", nodes=_one_per_account, steps=(SYNC_LOOK,), then=logon_accepted, heading="look")
LOOK_AROUND = replace(LOOK, name="observe", nodes=_remaining, then=decisions_sync.may_begin)
BEGIN = Stage(
    name=sync_view.START,
    nodes=decisions_sync.to_begin,
    steps=(SYNC_START,),
    then=decisions_sync.start_begun,
    numbered=True,
)

TAKEN_OUT = Stage(name=sync_view.OUT, nodes=decisions_sync.to_take_out, steps=(DRAIN,), then=decisions_sync.taken_out)
PUT_BACK = Stage(
    name=sync_view.BACK,
    nodes=decisions_sync.to_put_back,
    steps=(UNDRAIN,),
    then=decisions_sync.carry_on,
    always=True,
)

#: The stages of a run that sends a file through a sync, and proves that it reached every server.
PROVE_STAGES: tuple[Stage, ...] = (
    LOOK,
    replace(LOOK_AROUND, then=decisions_sync.may_prove),
    TAKEN_OUT,
    Stage(name=sync_view.PLACE, nodes=decisions_sync.to_place, steps=(CANARY_PLACE,), then=decisions_sync.start_begun),
    replace(BEGIN, then=decisions_sync.carry_on),
    Stage(
        name=sync_view.WATCH,
        nodes=decisions_sync.to_watch,
        steps=(SYNC_WATCH,),
        then=decisions_sync.carry_on,
        numbered=True,
    ),
    Stage(
        name=sync_view.EXAMINE,
        nodes=decisions_sync.to_examine,
        steps=(SYNC_LOOK, INSTALL_CHECK),
        then=decisions_sync.examined,
        purpose=Purpose.VERIFY,
        heading="examine",
    ),
    Stage(
        name=RETRY,
        nodes=decisions_repair.to_repair,
        steps=(SYNC_AGAIN,),
        then=decisions_sync.carry_on,
        follows=sync_view.START,
    ),
    PUT_BACK,
    Stage(
        name=sync_view.REMOVE,
        nodes=decisions_sync.to_remove,
        steps=(CANARY_REMOVE,),
        then=decisions_sync.proven,
        numbered=True,
        always=True,
    ),
)

RESTARTED = Stage(
    name=sync_view.RESTART,
    nodes=decisions_stale.to_restart(sync_view.RESTART),
    steps=(STATUS_RESTART,),
    then=decisions_stale.all_done,
    numbered=True,
)

#: The kinds of run about a sync: looked at, started, refreshed in its pool, proven.
SYNC_KINDS: tuple[Kind, ...] = (
    Kind(
        name="sync-status",
        stages=(LOOK, replace(LOOK_AROUND, then=decisions_sync.all_answered)),
        read_only=True,
        retry="ask again: esync sync status FILE",
    ),
    Kind(
        name="sync-start",
        stages=(
            LOOK,
            LOOK_AROUND,
            TAKEN_OUT,
            BEGIN,
            Stage(
                name=sync_view.WATCH,
                nodes=decisions_sync.to_follow,
                steps=(SYNC_FOLLOW,),
                then=decisions_sync.followed,
                numbered=True,
            ),
            replace(PUT_BACK, then=decisions_sync.concluded),
        ),
        retry="look, then start it again: esync sync start FILE",
    ),
    Kind(
        name="sync-balance",
        stages=(
            LOOK,
            LOOK_AROUND,
            Stage(
                name=sync_view.REFRESH,
                nodes=decisions_sync.to_refresh,
                steps=(LOAD_BALANCE,),
                then=decisions_sync.refreshed,
                numbered=True,
            ),
        ),
        retry="start it again: esync sync loadbalance FILE",
    ),
    Kind(
        name="sync-clear",
        stages=(
            LOOK,
            replace(LOOK_AROUND, then=decisions_stale.may_clear),
            RESTARTED,
            Stage(
                name=sync_view.CLEAR,
                nodes=decisions_stale.to_clear,
                steps=(STATUS_CLEAR,),
                then=decisions_stale.all_done,
            ),
            replace(
                RESTARTED, name=sync_view.AGAIN, nodes=decisions_stale.to_restart(sync_view.AGAIN), heading="again"
            ),
            replace(LOOK, name="after", nodes=decisions_stale.to_look_at, then=decisions_stale.cleared),
        ),
        retry="look, then clear again: esync sync status FILE --clear-stale",
    ),
    Kind(name="sync-prove", stages=PROVE_STAGES, retry="", whole=True),
)

#: The kinds of run that a person at a terminal begins: a server neither starts nor retries them for others.
AT_A_TERMINAL = frozenset(kind.name for kind in SYNC_KINDS)
