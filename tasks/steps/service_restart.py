"""The step `service_restart`: the service reads its files when it starts, so it starts after the last change.

Whether a restart is owed is decided by evidence on the node, never by memory: no crash can lose a restart, and a
second run restarts nothing. Where times prove that nothing is owed, the step notes on the node what the service has
loaded: times that are set back later do not matter then.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.ektron.desired.node import DISABLED_REMEDY, disabled, restart_reason
from tasks.ektron.editions import SYNC_PORT, Layout
from tasks.ektron.facts.service import ServiceEvidence, ServiceFacts
from tasks.ektron.rules.loaded import loaded, unrecorded
from tasks.observe import start_record
from tasks.observe.asking import answers_to
from tasks.observe.border import understood
from tasks.observe.layout import planned_layout
from tasks.observe.probes import listens, own_port
from tasks.observe.service import REQUIRED, left_evidence, service_evidence, service_of, service_questions
from tasks.observe.stopped_dependents import recording, removal
from tasks.step import APPLYING, Done, Work
from workers.errors import AgentFailed, DeadlineExceeded, NodeRefused
from workers.records import Change, DocumentKind
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply
from workers.winrm.service_errors import service_remedy

__all__ = ["restarted", "restarted_if_owed", "service_restart", "stopped"]

_PAUSE = 0.3  #: seconds between two looks while it does not listen
_LONGEST_PAUSE = 2.0  #: while it listens; a process that was replaced meanwhile is found by its start time


def service_restart(work: Work) -> Done:
    """Stops and starts the service when it is not running or owes a restart, and watches it for the settling time.

    Raises:
        DeadlineExceeded: the service does not stop, start or listen in time.
        AgentFailed: the service cannot be started, or ends again.
        NodeRefused: it is disabled.
        AccessDenied: the account may not start it, or the service's account may not read its program.
    """
    if work.documents.is_right(work.node.name) and not _unrecorded_start(work):
        return Done(message="not owed, as the check has found")
    work.report_phase("observing")
    return restarted_if_owed(work, planned_layout(work), until_listening=not work.retires)


def restarted_if_owed(work: Work, layout: Layout, *, until_listening: bool = True) -> Done:
    """Restarts by the node's evidence; raises as `service_restart` does.

    Args:
        work: the node.
        layout: where the product is on it.
        until_listening: it settles only while it listens; a service that was never configured may have no port.
    """
    evidence = _observed(work, layout)
    service, reason = evidence.service, restart_reason(evidence, retired=work.retires)
    if work.retires and service.state == "stopped":
        return Done(message="it is stopped, and stays so")
    if not reason:
        if service.state == "start_pending":
            _watched(work, layout, _look(work, layout, must_listen=until_listening), must_listen=until_listening)
        noted = _noted(work, evidence)
        unowed = Done(message=f"not owed: it has loaded what is there, {loaded(evidence).why}{noted}")
        return _started_again(work, service.left_stopped) or unowed
    return _done(work, layout, evidence, reason, until_listening=until_listening)


def restarted(work: Work, layout: Layout, reason: str) -> Done:
    """Restarts the service whatever its evidence says; raises as `service_restart` does."""
    return _done(work, layout, _observed(work, layout), reason, until_listening=True)


def _done(work: Work, layout: Layout, evidence: ServiceEvidence, reason: str, *, until_listening: bool) -> Done:
    service = evidence.service
    if service.is_disabled:  # it is not stopped either
        raise NodeRefused(disabled(work.node.name, service), remedy=DISABLED_REMEDY)
    after, first = _restarted(work, layout, evidence, must_listen=until_listening)
    seconds = _watched(work, layout, first, must_listen=until_listening)
    before = f"process {service.pid}, started {service.started}" if service.pid else service.state
    change = Change(
        what=f"service {service.name} restarted",
        before=before,
        after=f"process {after['pid']}, started {after['started']}",
    )
    did = "listened" if until_listening else "ran"
    more = f"; then it {did} for {seconds:.1f} s as the same process" if seconds else ""
    return Done(changes=(change,), message=f"{reason}{more}")


def stopped(work: Work, layout: Layout) -> Done:
    """Stops the service, and first those that depend on it, where it runs.

    Raises:
        DeadlineExceeded: it does not stop in time.
    """
    (service,) = work.session.ask([ops.service(layout.service_name)], deadline=work.deadline, cancelled=work.cancelled)
    if service["state"] == "stopped":
        return Done(message="it is stopped, as it was before")
    names = [*service["dependents"], layout.service_name]
    bound = work.cluster.policy.deadlines.service
    _change_services(work, [ops.service(name, action="stop", deadline=bound) for name in names])
    changes = tuple(Change(what=f"service {name} stopped", before="running", after="stopped") for name in names)
    return Done(changes=changes, message="it was stopped before the run")


def _observed(work: Work, layout: Layout) -> ServiceEvidence:
    """The service, the files it reads, and what is noted about it: asked now, or just before with the last change."""
    seen = work.documents.facts(DocumentKind.OBSERVED, work.node.name)
    included = seen.service_config.included if seen else ()
    questions = service_questions(work.cluster, layout, work.own_folder, included)
    answers = left_evidence(work) or answers_to(work, questions)
    for name in REQUIRED:
        if not answers[name].ok:
            raise ops.error_of(answers[name], work.node.name)
    with understood(work.node.name):
        return service_evidence(work.cluster, layout, answers)


def _unrecorded_start(work: Work) -> bool:
    """Whether the check saw a service whose start has no record, although one can be made of it."""
    seen = work.documents.facts(DocumentKind.OBSERVED, work.node.name)
    return seen is not None and unrecorded(seen)


def _noted(work: Work, evidence: ServiceEvidence) -> str:
    """Writes the record of a start that we did not make, where times prove what it has loaded; says so for people."""
    if not unrecorded(evidence):
        return ""
    work.change([start_record.seen(work.own_folder, evidence)], folders=())
    return "; this start is recorded now"


def _started_again(work: Work, left: tuple[str, ...]) -> Done | None:
    """Starts services that an earlier attempt stopped and did not start again; None when there are none."""
    if not left:
        return None
    bound = work.cluster.policy.deadlines.service
    starts = [ops.service(name, action="start", deadline=bound) for name in reversed(left)]
    replies = _change_services(work, [*starts, removal(work.own_folder)])
    names = [name for name, reply in zip(reversed(left), replies, strict=False) if reply["changed"]]
    if not names:
        return None
    changes = tuple(Change(what=f"service {name} started", before="stopped", after="running") for name in names)
    return Done(changes=changes, message=f"not owed; {', '.join(names)} had been stopped with it, and was started")


def _restarted(work: Work, layout: Layout, evidence: ServiceEvidence, *, must_listen: bool) -> tuple[Reply, "_Look"]:
    """Stop, start and look in one exchange; services that depend on it are stopped before and started after.

    The node notes what the new process has loaded: what was observed before, so a file that changes meanwhile differs.

    Returns:
        The reply to the start of the product's own service, and the first look at it afterwards.
    """
    bound, service = work.cluster.policy.deadlines.service, evidence.service
    left = service.left_stopped
    dependents = [*left, *(name for name in service.dependents if name not in left)]
    requests: list[Op] = [recording(work.own_folder, dependents)] if dependents else []
    requests += [ops.service(name, action="stop", deadline=bound) for name in (*dependents, service.name)]
    place = len(requests)
    record = start_record.place(work.own_folder)
    requests.append(ops.start(service.name, record, evidence.inputs, deadline=bound))
    requests += [ops.service(name, action="start", deadline=bound) for name in reversed(dependents)]
    requests += [removal(work.own_folder)] if dependents else []
    try:
        replies = _change_services(work, requests, look=_look_questions(work, layout))
    except (AgentFailed, DeadlineExceeded) as error:
        error.remedy = error.remedy or (
            f"check the service {service.name} on {work.node.name} and its event log, stop it by hand if it hangs, "
            "then retry: the restart stays owed"
        )
        raise
    return replies[place], _looked(work, layout, replies[len(requests) :], must_listen=must_listen)


def _change_services(work: Work, requests: list[Op], look: Sequence[Op] = ()) -> list[Reply]:
    """In one exchange, with time for each of the services."""
    bound = work.cluster.policy.deadlines.service
    work.report_phase(APPLYING)
    return work.change(requests, folders=(), deadline=bound * len(requests) + 30, look=look)


@dataclass(frozen=True, slots=True)
class _Look:
    at: float  #: by this machine's monotonic clock
    service: ServiceFacts
    settles: bool  #: it runs, and listens where it has to
    exit_code: int  #: of its last process, when the service is stopped


def _watched(work: Work, layout: Layout, first: _Look, *, must_listen: bool) -> float:
    """A start counts only when the service runs, and listens where it has to, as one process for the settling time.

    Waits until that was so for `policy.deadlines.settle`; the sync port has to answer on this node. The thread of the
    worker waits; other nodes of the wave are in other threads. A cancel ends the wait early.

    Returns:
        The seconds for which it did.

    Raises:
        AgentFailed: the service ended again.
        DeadlineExceeded: it runs, and does not listen; or it does not come to run.
    """
    deadlines, look, since = work.cluster.policy.deadlines, first, first.at
    while True:
        _require_same_process(work, first, look)
        if not look.settles:
            _require_time_left(work, first, look)
            since = float("inf")
        else:
            since = min(since, look.at)
            if look.at - since >= deadlines.settle or work.cancelled():
                return look.at - since
        left = deadlines.settle - (look.at - since)
        time.sleep(min(left, max(deadlines.settle / 5, _PAUSE), _LONGEST_PAUSE) if look.settles else _PAUSE)
        look = _look(work, layout, must_listen=must_listen)


def _look(work: Work, layout: Layout, *, must_listen: bool) -> _Look:
    replies = work.session.ask(_look_questions(work, layout), deadline=work.deadline)
    return _looked(work, layout, replies, must_listen=must_listen)


def _look_questions(work: Work, layout: Layout) -> list[Op]:
    return [own_port(work), ops.service(layout.service_name)]


def _looked(work: Work, layout: Layout, replies: Sequence[Reply], *, must_listen: bool) -> _Look:
    port, service = replies
    with understood(work.node.name):
        facts = service_of(layout.service_name, service)
        settles = facts.state == "running" and (not must_listen or listens(work, port))
        return _Look(time.monotonic(), facts, settles, int(service.get("exit_code") or 0))


def _require_same_process(work: Work, first: _Look, look: _Look) -> None:
    """The service is up, and has not been started again."""
    name, seconds = look.service.name, f"{look.at - first.at:.1f} s"
    if not look.service.is_up:
        code = f" (exit code {look.exit_code})" if look.exit_code else ""
        raise AgentFailed(
            f"{work.node.name}: the service {name} started and ended again within {seconds} of watching{code}",
            remedy=service_remedy(look.exit_code) or "read its event log (EktronL2) on the server, repair, then retry",
        )
    before, now = first.service, look.service
    if (before.pid, before.started) != (now.pid, now.started):
        raise AgentFailed(
            f"{work.node.name}: process {before.pid} of the service {name} ended within {seconds} of watching, and "
            f"process {now.pid} runs in its place",
            remedy="read its event log (EktronL2) on the server, and see who or what restarts it, then retry",
        )


def _require_time_left(work: Work, first: _Look, look: _Look) -> None:
    """Else the node notes that this start does not count: the service may load later what it could not load now."""
    bound, name = work.cluster.policy.deadlines.service, look.service.name
    if look.at - first.at <= bound:
        return
    work.change([start_record.outdated(work.own_folder, look.service)], folders=())
    what = f"runs but nothing listens on port {SYNC_PORT}" if look.service.state == "running" else "is still starting"
    raise DeadlineExceeded(
        f"{work.node.name}: the service {name} {what}, watched for {look.at - first.at:.1f} s",
        remedy="check the service's log; a broken certificate or configuration keeps it from listening",
    )
