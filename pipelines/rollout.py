"""The main path of a run, as data. Read STAGES first.

In each turn a stage selects nodes and runs its steps on all of them in parallel (a Celery chord: one chain per node,
one join). Then it decides from the run store what comes next. A stage takes turns until it selects no more nodes; then
the next stage begins. `pipelines.coordinator` sends the messages and saves the decisions.
"""

from dataclasses import replace

from pipelines.run import decisions, decisions_doctor, decisions_rollback
from pipelines.run.kinds import Kind, Stage
from tasks.step import Purpose
from tasks.steps.registry import (
    CERT_COPY,
    CLEANUP,
    CONFIG_EDIT,
    INSTALL_CHECK,
    ROLLBACK,
    ROLLBACK_CHECK,
    SERVICE_RESTART,
)
from workers.errors import RecordRefused
from workers.records import RunRecord, Turn

__all__ = ["KINDS", "STAGES", "kind_of", "purpose_of"]

CANARY = Stage(
    name="canary",
    nodes=decisions.one_per_account,
    steps=(INSTALL_CHECK,),
    then=decisions.logon_accepted,
    heading="look",
    plans=True,
)
OBSERVE = Stage(
    name="observe",
    nodes=decisions.not_yet_observed,
    steps=(INSTALL_CHECK,),
    then=decisions.fit_and_planned,
    heading="look",
    plans=True,
)
WAVE = Stage(
    name="wave",
    nodes=decisions.next_wave,
    steps=(INSTALL_CHECK, CONFIG_EDIT, CERT_COPY, SERVICE_RESTART),
    then=decisions.within_budget,
    purpose=Purpose.CONFIRM,
    numbered=True,
)
VERIFY = Stage(
    name="verify",
    nodes=decisions.all_reachable,
    steps=(INSTALL_CHECK,),
    then=decisions.invariants_hold,
    purpose=Purpose.VERIFY,
    heading="verify",
)

#: The stages of a rollout: which nodes, which steps, which decision.
STAGES: tuple[Stage, ...] = (CANARY, OBSERVE, WAVE, VERIFY)

#: The stages of a run that rolls another one back.
ROLLBACK_STAGES: tuple[Stage, ...] = (
    Stage(
        name="canary",
        nodes=decisions_rollback.canaries,
        steps=(ROLLBACK_CHECK,),
        then=decisions.logon_accepted,
        heading="look",
    ),
    Stage(
        name="observe",
        nodes=decisions_rollback.remaining,
        steps=(ROLLBACK_CHECK,),
        then=decisions_rollback.always_continue,
        heading="look",
    ),
    Stage(
        name="rollback", nodes=decisions_rollback.to_restore, steps=(ROLLBACK,), then=decisions_rollback.always_continue
    ),
    Stage(
        name="verify",
        nodes=decisions_rollback.to_compare,
        steps=(ROLLBACK_CHECK,),
        then=decisions_rollback.all_restored,
        purpose=Purpose.VERIFY,
        heading="verify",
    ),
)

#: The stages of a run that removes the backups of earlier runs from the nodes.
CLEANUP_STAGES: tuple[Stage, ...] = (
    Stage(
        name="canary",
        nodes=decisions_rollback.canaries,
        steps=(CLEANUP,),
        then=decisions.logon_accepted,
        heading="clean",
    ),
    Stage(
        name="cleanup",
        nodes=decisions_rollback.remaining,
        steps=(CLEANUP,),
        then=decisions_rollback.all_clean,
        heading="clean",
    ),
)

DOCTOR = Stage(
    name="doctor",
    nodes=decisions_doctor.reachable,
    steps=(INSTALL_CHECK,),
    then=decisions_doctor.ready,
    purpose=Purpose.EXAMINE,
    heading="look",
)

#: Every kind of run, by its name.
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(name="rollout", stages=STAGES, verifies=True, asks=True, parent="retries", retry=""),
        Kind(
            name="verify",
            stages=(CANARY, replace(VERIFY, then=decisions.selected_hold)),
            read_only=True,
            verifies=True,
            asks=True,
        ),
        Kind(name="plan", stages=(CANARY, replace(OBSERVE, then=decisions.plan_only)), read_only=True),
        Kind(name="doctor", stages=(CANARY, DOCTOR), read_only=True, asks=True),
        Kind(
            name="rollback",
            stages=ROLLBACK_STAGES,
            restores=True,
            parent="undoes",
            retry="start it again: esync rollback {parent}",
        ),
        Kind(name="cleanup", stages=CLEANUP_STAGES, retry="start it again: esync cleanup FILE"),
    )
}


def kind_of(name: str, run: str = "") -> Kind:
    """The kind of that name.

    Args:
        name: as in the record of the run or in a report.
        run: the id of that run, for the error.

    Raises:
        RecordRefused: this version has no such kind; a newer version wrote the record.
    """
    try:
        return KINDS[name]
    except KeyError:
        known = ", ".join(KINDS)
        raise RecordRefused(
            run,
            f"this version of esync does not know runs of kind {name!r} (it knows {known})",
            remedy="use the version that started the run",
        ) from None


def purpose_of(record: RunRecord, turn: Turn) -> Purpose:
    """The purpose of observing a node in a turn of a run."""
    return kind_of(record.kind, record.id).stage_of(turn).purpose
