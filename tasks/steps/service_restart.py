"""The step `service_restart`: the service reads its files when it starts, so it starts after the last change.

Whether a restart is owed is decided by evidence on the node, never by memory: no crash can lose a restart, and a
second run restarts nothing.
"""

import time
from datetime import datetime

from tasks.ektron.certificates.family import node_of
from tasks.ektron.editions import SYNC_PORT, Layout
from tasks.observe.node import folder_limit, planned_layout, service_name
from tasks.observe.stopped_dependents import note, noted, question, struck
from tasks.step import Done, Work
from workers.errors import AgentFailed, DeadlineExceeded
from workers.records import Change
from workers.winrm import agent as ops
from workers.winrm.agent import Op, Reply

__all__ = ["reads", "restarted_if_owed", "service_restart", "stopped"]


def service_restart(work: Work) -> Done:
    """Stops and starts the service when it is not running or owes a restart, and waits until it listens.

    Raises:
        DeadlineExceeded: the service does not stop, start or listen in time.
        AgentFailed: the service cannot be started, or ends again.
    """
    if work.documents.is_right(work.node.name):
        return Done(message="not owed, as the check has just seen")
    work.report_phase("observing")
    return restarted_if_owed(work, planned_layout(work))


def reads(layout: Layout, path: str) -> bool:
    """Whether the service reads this file when it starts: its two configurations and the certificates beside it."""
    if path.casefold() in {layout.asset_config.casefold(), layout.service_config.casefold()}:
        return True
    folder, _, name = path.rpartition("\\")
    return folder.casefold() == layout.service_folder.casefold() and node_of(name) is not None


def restarted_if_owed(work: Work, layout: Layout, *, until_listening: bool = True) -> Done:
    """Restarts by the node's evidence; raises as `service_restart` does.

    Args:
        work: the node.
        layout: where the product lies on it.
        until_listening: wait for the sync port too; a service that was never configured may have none.
    """
    name = service_name(work.cluster)
    service, newest, path, left = _look(work, layout)
    reason = _reason(service, newest, path)
    if not reason and until_listening and service["state"] == "start_pending":
        _wait_until_listening(work, layout)
    if not reason:
        return _started_again(work, left) or Done(message=f"not owed: started {service['started']}, last {newest}")
    work.report_phase("applying")
    after = _restarted(work, name, service, left)
    if until_listening:
        _wait_until_listening(work, layout)
    before = f"process {service['pid']}, started {service['started']}" if service["pid"] else service["state"]
    change = Change(
        what=f"service {name} restarted",
        before=before,
        after=f"process {after['pid']}, started {after['started']}",
    )
    return Done(changes=(change,), message=reason)


def _started_again(work: Work, left: tuple[str, ...]) -> Done | None:
    """Services that somebody stopped with this one and did not get to start again; None when there are none."""
    if not left:
        return None
    work.report_phase("applying")
    bound = work.cluster.policy.deadlines.service
    requests = [*(ops.service(one, action="start", deadline=bound) for one in reversed(left)), struck(work)]
    replies = work.change(requests, folders=(), deadline=bound * len(requests) + 30)
    names = [name for name, reply in zip(reversed(left), replies, strict=False) if reply["changed"]]
    if not names:
        return None
    changes = tuple(Change(what=f"service {name} started", before="stopped", after="running") for name in names)
    return Done(changes=changes, message=f"not owed; {', '.join(names)} had been stopped with it, and was started")


def _look(work: Work, layout: Layout) -> tuple[Reply, datetime | None, str, tuple[str, ...]]:
    """The service, the newest of the files it reads, and what was left stopped with it."""
    replies = work.session.ask(
        [
            ops.service(service_name(work.cluster)),
            ops.stat(layout.asset_config),
            ops.stat(layout.service_config),
            ops.list_folder(layout.service_folder, limit=folder_limit(work.cluster)),
            question(work.own_folder),
        ],
        deadline=work.deadline,
        keep_going=True,
        cancelled=work.cancelled,
    )
    for reply in replies[:4]:
        if not reply.ok:
            raise ops.error_of(reply, work.node.name)
    service, asset, config, folder, left = replies
    times = {layout.asset_config: asset.get("mtime"), layout.service_config: config.get("mtime")}
    inside = {f"{layout.service_folder}\\{entry['name']}": entry["mtime"] for entry in folder["entries"]}
    times |= {path: changed for path, changed in inside.items() if reads(layout, path)}
    known = {path: ops.time_of(text) for path, text in times.items() if text}
    if not known:
        return service, None, "", noted(left)
    path = max(known, key=lambda name: known[name])
    return service, known[path], path, noted(left)


def _reason(service: Reply, newest: datetime | None, path: str) -> str:
    """Why the service has to be restarted; empty when it does not."""
    if service["state"] not in {"running", "start_pending"}:
        return f"the service was {service['state']}"
    started = service.get("started")
    if not started or newest is None:
        return "" if started else "the service's start time is not known"
    if ops.time_of(started) <= newest:
        return f"restart owed: {path} changed after the service started"
    return ""


def stopped(work: Work) -> Done:
    """Stops the service, and first those that depend on it, where it runs.

    Raises:
        DeadlineExceeded: it does not stop in time.
    """
    name, bound = service_name(work.cluster), work.cluster.policy.deadlines.service
    (service,) = work.session.ask([ops.service(name)], deadline=work.deadline, cancelled=work.cancelled)
    if service["state"] == "stopped":
        return Done(message="it is stopped, as it was before")
    names = [*service["dependents"], name]
    requests = [ops.service(one, action="stop", deadline=bound) for one in names]
    work.change(requests, folders=(), deadline=bound * len(requests) + 30)
    changes = tuple(Change(what=f"service {one} stopped", before="running", after="stopped") for one in names)
    return Done(changes=changes, message="it was stopped before the run")


def _restarted(work: Work, own: str, service: Reply, left: tuple[str, ...]) -> Reply:
    """Stop and start in one exchange; services that depend on it are stopped before and started after."""
    bound = work.cluster.policy.deadlines.service
    dependents = [*left, *(name for name in service["dependents"] if name not in left)]
    requests: list[Op] = [note(work, dependents)] if dependents else []
    requests += [ops.service(name, action="stop", deadline=bound) for name in dependents]
    place = len(requests) + 1
    requests.append(ops.service(own, action="stop", deadline=bound))
    requests.append(ops.service(own, action="start", deadline=bound))
    requests += [ops.service(name, action="start", deadline=bound) for name in reversed(dependents)]
    requests += [struck(work)] if dependents else []
    try:
        replies = work.change(requests, folders=(), deadline=bound * len(requests) + 30)
    except (AgentFailed, DeadlineExceeded) as error:
        error.remedy = error.remedy or (
            f"look at the service {own} on {work.node.name} and its event log, bring it to a stop by "
            "hand if it hangs, then retry this run: the restart stays owed"
        )
        raise
    started: Reply = replies[place]
    return started


def _still_owed(work: Work, layout: Layout) -> None:
    """Leaves on the node what tells that this start did not count: what it could not load it may be able to load later.

    One of the two files is enough: the other one may be what another process holds.
    """
    work.change(
        [ops.touch(layout.service_config), ops.touch(layout.asset_config)],
        folders=layout.written_folders,
        keep_going=True,
    )


def _wait_until_listening(work: Work, layout: Layout) -> None:
    """The sync port answers on this node, and the service has not ended again."""
    name = service_name(work.cluster)
    until = time.monotonic() + work.cluster.policy.deadlines.service
    while True:
        port, service = work.session.ask(
            [ops.tcp(work.node.host, SYNC_PORT, timeout=3), ops.service(name)], deadline=work.deadline
        )
        if service["state"] == "stopped":
            raise AgentFailed(
                f"{work.node.name}: the service {name} started and ended again",
                remedy="look at its log (ektron-facts: event log EktronL2), repair, then retry",
            )
        if port["reachable"] and service["state"] == "running":
            return
        if time.monotonic() > until:
            _still_owed(work, layout)
            raise DeadlineExceeded(
                f"{work.node.name}: the service runs but nothing listens on port {SYNC_PORT}",
                remedy="look at the service's log; a broken certificate or configuration keeps it from listening",
            )
        time.sleep(0.3)
