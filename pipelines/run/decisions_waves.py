"""What comes next between the waves of a rollout: retries, a look at what was changed, limits, holds. Pure."""

from collections import Counter
from collections.abc import Sequence

from pipelines.run.budget import exceeded
from pipelines.run.decisions_pools import pool_too_small
from pipelines.run.kinds import Kind
from pipelines.run.pool_risk import left_down, not_running, pool_at_risk
from pipelines.run.snapshot import ABANDONED, RETRY, WAVE_STAGE, Go, Snapshot, Stop
from pipelines.run.verdict import failures
from tasks.ektron.wording import counted, named
from workers.errors import Failure, LogonRefused, PoolTooSmall
from workers.records import Status, StepOutcome, Turn, Verdict

__all__ = [
    "PROVE",
    "RECHECK",
    "held_before",
    "next_wave",
    "to_prove",
    "to_recheck",
    "to_retry",
    "unapproved",
    "within_budget",
]

PROVE, RECHECK = "prove", "recheck"
_HOPELESS = {ABANDONED, LogonRefused.slug, PoolTooSmall.slug}  #: the last one has waited long enough
_RESTART = "service_restart"  #: name of the step
_NOT_TRIED = {Status.SKIPPED, Status.CANCELLED}
_FINAL = {Failure.REFUSED, Failure.STALE}  #: accounts get locked; a stale plan stays stale


def next_wave(snapshot: Snapshot) -> Sequence[str]:
    """The next wave of the plan, without the nodes that have ended."""
    done, ended = snapshot.in_stage(WAVE_STAGE), snapshot.ended()
    for wave in snapshot.plan.waves if snapshot.plan else ():
        nodes = [node for node in wave if node not in done and node not in ended]
        if nodes:
            return nodes
    return ()


def to_retry(snapshot: Snapshot) -> Sequence[str]:
    """The nodes of the last wave that failed and are tried again, while no limit is exceeded."""
    wave, tries = snapshot.last_turn(WAVE_STAGE), snapshot.cluster.policy.retry_in_wave
    if wave is None or not tries or exceeded(snapshot):
        return ()
    ended, tried = snapshot.ended(), Counter(n for t in _since(snapshot, wave) if t.stage == RETRY for n in t.nodes)
    return [node for node in wave.nodes if node in ended and tried[node] < tries and _may_heal(ended[node])]


def _since(snapshot: Snapshot, turn: Turn) -> Sequence[Turn]:
    return snapshot.record.turns[snapshot.record.turns.index(turn) :]


def _may_heal(outcome: StepOutcome) -> bool:
    """Whether a second attempt may end otherwise, and no worker may still be in the first one."""
    lost = outcome.status in {Status.FAILED, Status.UNREACHABLE}
    return lost and outcome.failure not in _FINAL and outcome.slug not in _HOPELESS


def to_prove(snapshot: Snapshot) -> Sequence[str]:
    """The nodes that the last wave has changed and that were not looked at since.

    After the last wave the verification looks at all nodes anyway. Of a node that was not changed, the check of its
    wave was the look.
    """
    wave = snapshot.last_turn(WAVE_STAGE)
    if wave is None or not snapshot.cluster.policy.judge_waves or not next_wave(snapshot):
        return ()
    due: dict[str, bool] = {}
    for turn in _since(snapshot, wave):
        due |= dict.fromkeys(turn.nodes, turn.stage not in {PROVE, RECHECK})
    changed = _changed(snapshot, wave)
    return [node for node in changed if due[node]]


def to_recheck(snapshot: Snapshot) -> Sequence[str]:
    """The nodes that the last wave has changed, once after the hold that follows it: it may have lasted for hours."""
    wave = snapshot.last_turn(WAVE_STAGE)
    if wave is None or not snapshot.cluster.policy.judge_waves or not _waits(snapshot) or not next_wave(snapshot):
        return ()
    return () if any(turn.stage == RECHECK for turn in _since(snapshot, wave)) else _changed(snapshot, wave)


def _changed(snapshot: Snapshot, wave: Turn) -> Sequence[str]:
    """The nodes of a wave that were changed and have not ended."""
    ended = snapshot.ended()
    changed = {outcome.node for outcome in snapshot.outcomes if outcome.status is Status.CHANGED}
    return [node for node in wave.nodes if node in changed and node not in ended]


def within_budget(snapshot: Snapshot) -> Go | Stop:
    """Stops before a further wave when a limit is exceeded, or when the first wave is not what it should be."""
    left = next_wave(snapshot)
    if not left:
        return Go()
    if stop := pool_too_small(snapshot):
        return stop
    if over := exceeded(snapshot):
        return Stop(Verdict.STOPPED, over)
    if to_retry(snapshot) or to_prove(snapshot):
        return Go()
    return _first_wave_failed(snapshot) or _rest_of_a_pool(snapshot, left) or Go()


def _first_wave_failed(snapshot: Snapshot) -> Stop | None:
    """The first wave is the canary of the others: a failed node stops the run, and so does a wave without an answer."""
    wave = snapshot.last_turn(WAVE_STAGE)
    if (
        not snapshot.cluster.policy.judge_waves
        or wave is None
        or wave != next(turn for turn in snapshot.record.turns if turn.stage == WAVE_STAGE)
    ):
        return None
    ended = {node: outcome for node, outcome in snapshot.ended().items() if node in wave.nodes}
    failed = [node for node, outcome in ended.items() if outcome.status is Status.FAILED]
    if not failed and len(ended) < len(wave.nodes):
        return None
    nodes = snapshot.plan.wave_numbers().keys() if snapshot.plan else ()
    waiting = [node for node in nodes if node not in wave.nodes and node not in snapshot.ended()]
    return Stop(
        Verdict.STOPPED,
        f"the first wave did not succeed, so {counted(len(waiting), 'node')} of later waves "
        f"{'was' if len(waiting) == 1 else 'were'} not touched: {failures(list(ended), ended)}",
    )


def _rest_of_a_pool(snapshot: Snapshot, following: Sequence[str]) -> Stop | None:
    """Stops before all other servers of a pool are restarted of which some do not work since their wave.

    Those failed after the stop of their service, or do not answer any more.
    """
    ended, waved = snapshot.ended(), snapshot.in_stage(WAVE_STAGE)
    tried = {one.node for one in snapshot.outcomes if one.step == _RESTART and one.status not in _NOT_TRIED}
    silent = {node for node, outcome in ended.items() if outcome.status is Status.UNREACHABLE}
    down = {node: ended[node] for node in ended.keys() & waved & (tried | silent)}
    risk = pool_at_risk(snapshot, following, {*down, *left_down(snapshot)}, ended.keys() - waved)
    if risk is None:
        return None
    failed = [node for node in risk.out if node in down]
    why = failures(failed, down) if failed else not_running(risk.out)
    return Stop(
        Verdict.STOPPED,
        f"{named(risk.restarts)} {'was' if len(risk.restarts) == 1 else 'were'} not restarted, because no other server "
        f"of pool {risk.pool} is known to work: {why}. Repair {named(risk.out)}, then retry; or set "
        "policy.whole_pool",
    )


def held_before(snapshot: Snapshot, following: Turn) -> str:
    """The wave before which the run waits for a person now; empty when it does not.

    Args:
        snapshot: the run before that turn.
        following: the turn that the run would continue with.
    """
    if following.stage not in {WAVE_STAGE, RECHECK} or not _waits(snapshot):
        return ""
    wave = f"{WAVE_STAGE}-{1 + sum(turn.stage == WAVE_STAGE for turn in snapshot.record.turns)}"
    return "" if snapshot.steering.promoted == wave else wave


def _waits(snapshot: Snapshot) -> bool:
    """Whether the policy has a hold after the last wave."""
    hold, waves = snapshot.cluster.policy.hold, sum(turn.stage == WAVE_STAGE for turn in snapshot.record.turns)
    return hold is not None and (waves == 1 or (waves > 1 and hold == "after-each-wave"))


def unapproved(snapshot: Snapshot, kind: Kind, following: Turn) -> bool:
    """Whether the plan of the run waits for a second person: nothing was changed yet, and that turn would.

    Args:
        snapshot: the run before that turn.
        kind: of the run.
        following: the turn that the run would continue with.
    """
    if snapshot.cluster.policy.approval is None or snapshot.plan is None or kind.changing_turns(snapshot.record):
        return False
    changes = any(step.changes for step in kind.stage_of(following).steps)
    return changes and snapshot.steering.promoted != following.name
