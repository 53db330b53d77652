"""The step `service_restart`: the service reads its files when it starts, so it starts after the last change.

Whether a restart is owed is decided by evidence on the node, never by memory: no crash can lose a restart, and a
second run restarts nothing.
"""

import time

from tasks.ektron.desired.node import restart_reason
from tasks.ektron.editions import SYNC_PORT, Layout
from tasks.ektron.facts import ServiceEvidence, ServiceFacts
from tasks.observe.layout import planned_layout
from tasks.observe.replies import answers_to, understood
from tasks.observe.service import REQUIRED, service_evidence, service_questions
from tasks.observe.stopped_dependents import recording, removal
from tasks.step import APPLYING, Done, Work
from workers.errors import AgentFailed, DeadlineExceeded
from workers.records import Change
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["restarted_if_owed", "service_restart", "stopped"]


def service_restart(work: Work) -> Done:
    """Stops and starts the service when it is not running or owes a restart, and waits until it listens.

    Raises:
        DeadlineExceeded: the service does not stop, start or listen in time.
        AgentFailed: the service cannot be started, or ends again.
    """
    if work.documents.is_right(work.node.name):
        return Done(message="not owed, as the check has found")
    work.report_phase("observing")
    return restarted_if_owed(work, planned_layout(work))


def restarted_if_owed(work: Work, layout: Layout, *, until_listening: bool = True) -> Done:
    """Restarts by the node's evidence; raises as `service_restart` does.

    Args:
        work: the node.
        layout: where the product is on it.
        until_listening: wait for the sync port too; a service that was never configured may have none.
    """
    evidence = _observed(work, layout)
    service, reason = evidence.service, restart_reason(evidence)
    if not reason:
        if until_listening and service.state == "start_pending":
            _wait_until_listening(work, layout)
        unowed = Done(message=f"not owed: started {service.started}, last change {evidence.newest_input}")
        return _started_again(work, service.left_stopped) or unowed
    after = _restarted(work, service)
    if until_listening:
        _wait_until_listening(work, layout)
    before = f"process {service.pid}, started {service.started}" if service.pid else service.state
    change = Change(
        what=f"service {service.name} restarted",
        before=before,
        after=f"process {after['pid']}, started {after['started']}",
    )
    return Done(changes=(change,), message=reason)


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
    """The service, the newest of the files it reads, and what was left stopped with it."""
    answers = answers_to(work, service_questions(work.cluster, layout, work.own_folder))
    for name in REQUIRED:
        if not answers[name].ok:
            raise ops.error_of(answers[name], work.node.name)
    with understood(work.node.name):
        return service_evidence(layout, answers)


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


def _restarted(work: Work, service: ServiceFacts) -> Reply:
    """Stop and start in one exchange; services that depend on it are stopped before and started after.

    Returns:
        The reply to the start of the product's own service.
    """
    bound = work.cluster.policy.deadlines.service
    left = service.left_stopped
    dependents = [*left, *(name for name in service.dependents if name not in left)]
    requests: list[Op] = [recording(work.own_folder, dependents)] if dependents else []
    requests += [ops.service(name, action="stop", deadline=bound) for name in (*dependents, service.name)]
    place = len(requests)
    requests += [ops.service(name, action="start", deadline=bound) for name in (service.name, *reversed(dependents))]
    requests += [removal(work.own_folder)] if dependents else []
    try:
        replies = _change_services(work, requests)
    except (AgentFailed, DeadlineExceeded) as error:
        error.remedy = error.remedy or (
            f"check the service {service.name} on {work.node.name} and its event log, stop it by hand if it hangs, "
            "then retry this run: the restart stays owed"
        )
        raise
    return replies[place]


def _change_services(work: Work, requests: list[Op]) -> list[Reply]:
    """In one exchange, with time for each of the services."""
    bound = work.cluster.policy.deadlines.service
    work.report_phase(APPLYING)
    return work.change(requests, folders=(), deadline=bound * len(requests) + 30)


def _keep_owed(work: Work, layout: Layout) -> None:
    """Leaves evidence on the node that this start did not count: the service may load later what it could not load now.

    One of the two files is enough: another process may hold the other one.
    """
    work.change(
        [ops.touch(layout.service_config), ops.touch(layout.asset_config)],
        folders=layout.written_folders,
        keep_going=True,
    )


def _wait_until_listening(work: Work, layout: Layout) -> None:
    """The sync port answers on this node, and the service has not ended again."""
    name = layout.service_name
    until = time.monotonic() + work.cluster.policy.deadlines.service
    while True:
        port, service = work.session.ask(
            [ops.tcp(work.node.host, SYNC_PORT, timeout=3), ops.service(name)], deadline=work.deadline
        )
        if service["state"] == "stopped":
            raise AgentFailed(
                f"{work.node.name}: the service {name} started and ended again",
                remedy="check its log (ektron-facts: event log EktronL2), repair, then retry",
            )
        if port["reachable"] and service["state"] == "running":
            return
        if time.monotonic() > until:
            _keep_owed(work, layout)
            raise DeadlineExceeded(
                f"{work.node.name}: the service runs but nothing listens on port {SYNC_PORT}",
                remedy="check the service's log; a broken certificate or configuration keeps it from listening",
            )
        time.sleep(0.3)
