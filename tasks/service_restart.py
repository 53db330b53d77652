"""The step `service_restart`: the service reads its files when it starts, so it starts after the last change.

Whether a restart is owed is decided by evidence on the node, never by memory: no crash can lose a restart, and a
second run restarts nothing.
"""

import time
from datetime import datetime

from tasks.ektron.certificates import node_of
from tasks.ektron.editions import SYNC_PORT, Layout
from tasks.observe import folder_limit, planned_layout, service_name
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
    work.say("observing")
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
    service, newest, path = _look(work, layout)
    reason = _reason(service, newest, path)
    if not reason:
        return Done(message=f"not owed: started {service['started']}, last change {newest}")
    work.say("applying")
    after = _restarted(work, name, service)
    if until_listening:
        _wait_until_listening(work, name)
    before = f"process {service['pid']}, started {service['started']}" if service["pid"] else service["state"]
    change = Change(
        what=f"service {name} restarted",
        before=before,
        after=f"process {after['pid']}, started {after['started']}",
    )
    return Done(changes=(change,), message=reason)


def _look(work: Work, layout: Layout) -> tuple[Reply, datetime | None, str]:
    """The service, and the newest of the files it reads."""
    service, asset, config, folder = work.session.ask(
        [
            ops.service(service_name(work.cluster)),
            ops.stat(layout.asset_config),
            ops.stat(layout.service_config),
            ops.list_folder(layout.service_folder, limit=folder_limit(work.cluster)),
        ],
        deadline=work.deadline,
        cancelled=work.cancelled,
    )
    times = {layout.asset_config: asset.get("mtime"), layout.service_config: config.get("mtime")}
    inside = {f"{layout.service_folder}\\{entry['name']}": entry["mtime"] for entry in folder["entries"]}
    times |= {path: changed for path, changed in inside.items() if reads(layout, path)}
    known = {path: ops.time_of(text) for path, text in times.items() if text}
    if not known:
        return service, None, ""
    path = max(known, key=lambda name: known[name])
    return service, known[path], path


def _reason(service: Reply, newest: datetime | None, path: str) -> str:
    """Why the service has to be restarted; empty when it does not."""
    if service["state"] != "running":
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
    work.session.ask(requests, deadline=bound * len(requests) + 30)
    changes = tuple(Change(what=f"service {one} stopped", before="running", after="stopped") for one in names)
    return Done(changes=changes, message="it was stopped before the run")


def _restarted(work: Work, own: str, service: Reply) -> Reply:
    """Stop and start in one exchange; services that depend on it are stopped before and started after."""
    bound = work.cluster.policy.deadlines.service
    dependents = list(service["dependents"])
    requests: list[Op] = [ops.service(name, action="stop", deadline=bound) for name in dependents]
    requests.append(ops.service(own, action="stop", deadline=bound))
    requests.append(ops.service(own, action="start", deadline=bound))
    requests += [ops.service(name, action="start", deadline=bound) for name in reversed(dependents)]
    try:
        replies = work.session.ask(requests, deadline=bound * len(requests) + 30)
    except (AgentFailed, DeadlineExceeded) as error:
        error.remedy = error.remedy or (
            f"look at the service {own} on {work.node.name} and its event log, bring it to a stop by "
            "hand if it hangs, then retry this run: the restart stays owed"
        )
        raise
    started: Reply = replies[len(dependents) + 1]
    return started


def _wait_until_listening(work: Work, name: str) -> None:
    """The sync port answers on this node, and the service has not ended again."""
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
            raise DeadlineExceeded(
                f"{work.node.name}: the service runs but nothing listens on port {SYNC_PORT}",
                remedy="look at the service's log; a broken certificate or configuration keeps it from listening",
            )
        time.sleep(0.3)
