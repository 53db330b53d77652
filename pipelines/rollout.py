"""The main path of a run, as data. Read STAGES first.

In each turn a stage selects nodes and runs its steps on all of them in parallel (a Celery chord: one chain per node,
one join). Then it decides from the run store what comes next. A stage takes turns until it selects no more nodes; then
the next stage begins. After each wave come the stages that follow it (retries, proof), then the next wave.
`pipelines.coordinator` sends the messages and saves the decisions.
"""

from dataclasses import replace

from pipelines.run import (
    decisions,
    decisions_doctor,
    decisions_pools,
    decisions_renew,
    decisions_retire,
    decisions_rollback,
    decisions_waves,
)
from pipelines.run.kinds import Kind, Stage
from pipelines.run.snapshot import RETRY, UNDRAIN_STAGE, WAVE_STAGE
from pipelines.run.sync_kinds import SYNC_KINDS
from tasks.step_values import Purpose
from tasks.steps.registry import (
    CERT_COPY,
    CLEANUP,
    CONFIG_EDIT,
    DRAIN,
    INSTALL_CHECK,
    OLD_FAMILY,
    POOL_CHECK,
    ROLLBACK,
    ROLLBACK_CHECK,
    SERVICE_RESTART,
    TRUST_BOTH,
    TRUST_NEW,
    UNDRAIN,
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
#: As the first turn of a run that only judges: it refuses nothing, because the last turn says all that is wrong.
LOOK = replace(CANARY, purpose=Purpose.LOOK)
OBSERVE = Stage(
    name="observe",
    nodes=decisions.not_yet_observed,
    steps=(INSTALL_CHECK,),
    then=decisions.fit_and_planned,
    heading="look",
    plans=True,
)
WAVE = Stage(
    name=WAVE_STAGE,
    nodes=decisions_waves.next_wave,
    steps=(INSTALL_CHECK, DRAIN, CONFIG_EDIT, CERT_COPY, SERVICE_RESTART, UNDRAIN),
    then=decisions_waves.within_budget,
    purpose=Purpose.CONFIRM,
    numbered=True,
)


def _put_back(follows: str) -> Stage:
    """Puts servers back into their balancer that were left out: by earlier runs, or by the last turn of a stage."""
    return Stage(
        name=UNDRAIN_STAGE,
        nodes=decisions_pools.to_undrain,
        steps=(UNDRAIN,),
        then=decisions_rollback.always_continue,
        heading=UNDRAIN.heading,
        follows=follows,
    )


PUT_BACK = _put_back(WAVE_STAGE)
RETRIES = replace(WAVE, name=RETRY, nodes=decisions_waves.to_retry, purpose=Purpose.AGAIN, follows=WAVE_STAGE)
PROOF = Stage(
    name=decisions_waves.PROVE,
    nodes=decisions_waves.to_prove,
    steps=(INSTALL_CHECK,),
    then=decisions_waves.within_budget,
    purpose=Purpose.PROVE,
    heading="verify",
    numbered=True,
    follows=WAVE_STAGE,
)
RECHECK = replace(PROOF, name=decisions_waves.RECHECK, nodes=decisions_waves.to_recheck)
VERIFY = Stage(
    name="verify",
    nodes=decisions.all_reachable,
    steps=(INSTALL_CHECK,),
    then=decisions.invariants_hold,
    purpose=Purpose.VERIFY,
    heading="verify",
)

#: The stages of a rollout: which nodes, which steps, which decision.
STAGES: tuple[Stage, ...] = (
    CANARY,
    OBSERVE,
    PUT_BACK,
    WAVE,
    RETRIES,
    PROOF,
    RECHECK,
    replace(VERIFY, known=decisions.seen_completely),
)

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
    _put_back("rollback"),
    Stage(
        name="rollback",
        nodes=decisions_rollback.to_restore,
        steps=(DRAIN, ROLLBACK, UNDRAIN),
        then=decisions_rollback.always_continue,
        numbered=True,
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

#: The stages of a run that takes nodes out of their cluster.
RETIRE_STAGES: tuple[Stage, ...] = (
    replace(CANARY, nodes=decisions_rollback.canaries),
    replace(OBSERVE, nodes=decisions_rollback.remaining, then=decisions_retire.retire_planned),
    PUT_BACK,
    WAVE,
    RETRIES,
    replace(VERIFY, nodes=decisions_rollback.all_compared, then=decisions_retire.retired),
)

#: The stages of a run that replaces the certificate family while the servers go on syncing.
RENEW_STAGES: tuple[Stage, ...] = (
    CANARY,
    replace(OBSERVE, then=decisions_renew.planned),
    Stage(
        name="families",
        nodes=decisions_renew.origin_once,
        steps=(OLD_FAMILY,),
        then=decisions_renew.has_both,
        heading="look",
        plans=True,
    ),
    _put_back("admit"),
    Stage(
        name="admit",
        nodes=decisions_renew.nodes_of("admit"),
        steps=(INSTALL_CHECK, DRAIN, TRUST_BOTH, SERVICE_RESTART, UNDRAIN),
        then=decisions_renew.partners_ready,
        purpose=Purpose.CONFIRM,
        numbered=True,
    ),
    Stage(
        name="switch",
        nodes=decisions_renew.nodes_of("switch"),
        steps=(DRAIN, CONFIG_EDIT, CERT_COPY, SERVICE_RESTART, UNDRAIN),
        then=decisions_renew.all_did("switch", "the nodes change to the new family"),
        numbered=True,
    ),
    Stage(
        name="forget",
        nodes=decisions_renew.nodes_of("forget"),
        steps=(DRAIN, TRUST_NEW, SERVICE_RESTART, UNDRAIN),
        then=decisions_renew.all_did("forget", "the nodes stop trusting the old family"),
        numbered=True,
    ),
    VERIFY,
)

DOCTOR = Stage(
    name="doctor",
    nodes=decisions_doctor.reachable,
    steps=(INSTALL_CHECK, POOL_CHECK),
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
            stages=(
                replace(LOOK, heading="verify"),
                replace(VERIFY, steps=(INSTALL_CHECK, POOL_CHECK), then=decisions.selected_hold),
            ),
            read_only=True,
            verifies=True,
            asks=True,
        ),
        Kind(name="plan", stages=(CANARY, replace(OBSERVE, then=decisions.plan_only)), read_only=True),
        Kind(name="doctor", stages=(LOOK, DOCTOR), read_only=True, asks=True),
        Kind(
            name="rollback",
            stages=ROLLBACK_STAGES,
            restores=True,
            parent="undoes",
            retry="start it again: esync rollback {parent}",
            left_alone=decisions_rollback.left_alone,
        ),
        Kind(
            name="renew",
            stages=RENEW_STAGES,
            verifies=True,
            asks=True,
            parent="continues",
            retry="",
            whole=True,
        ),
        Kind(name="cleanup", stages=CLEANUP_STAGES, retry="start it again: esync cleanup FILE"),
        Kind(name="retire", stages=RETIRE_STAGES, plan="retire-plan", retry="start it again: esync retire FILE NODE"),
        Kind(
            name="retire-plan",
            stages=(*RETIRE_STAGES[:1], replace(RETIRE_STAGES[1], then=decisions_retire.retire_plan_only)),
            read_only=True,
        ),
        *SYNC_KINDS,
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
    """The purpose of observing a node in a turn of a run.

    A run that had nothing to change anywhere has just observed its nodes: the final check only completes that.
    """
    kind = kind_of(record.kind, record.id)
    stage = kind.stage_of(turn)
    if stage.plans and kind.stages[-1].known is not None:
        return Purpose.PLAN_AND_VERIFY
    observed = kind.verifies and not kind.read_only and not kind.changing_turns(record)
    return Purpose.COMPLETE if stage.purpose is Purpose.VERIFY and observed else stage.purpose
