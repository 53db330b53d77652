"""Invariants about running programs: the Windows service, its port, the web service of the site."""

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.editions import SYNC_PORT
from tasks.ektron.facts import NodeFacts
from tasks.ektron.rules.findings import Decision, Invariant, Judged, Unknown, Violated, decided, each_node, warning
from tasks.ektron.wording import named

__all__ = ["REACH", "SERVICE_RULES"]

REACH = 32  #: in larger clusters each node tries to reach this many other nodes
_OK = 200
_TIME = "%Y-%m-%d %H:%M:%S"


def _running(facts: NodeFacts) -> Judged:
    service = facts.service
    if not service.installed:
        return Violated(f"the service {service.name} is not installed")
    return None if service.state == "running" else Violated(f"the service is {service.state or 'in an unknown state'}")


def _starts_automatically(facts: NodeFacts) -> Judged:
    kind = facts.service.start_type
    if not kind:
        return Unknown("the start type of the service is unknown")
    return None if kind.startswith("auto") else Violated(f"the start type of the service is {kind}")


def _started_after_change(facts: NodeFacts) -> Judged:
    started, changed = facts.service.started, facts.newest_input
    if facts.service.state != "running":
        return Unknown("the service is not running")
    if started is None or changed is None:
        return Unknown("the start time of the service, or the time of the last change, is unknown")
    if started > changed:
        return None
    return Violated(
        f"the service started at {started:{_TIME}} UTC, {facts.newest_input_path} changed at {changed:{_TIME}} UTC"
    )


def _listening(facts: NodeFacts) -> Judged:
    listening = facts.probes.listening_8732
    if listening is None:
        return Unknown("was not tested")
    return None if listening else Violated(f"no program listens on port {SYNC_PORT}")


def _web_service(facts: NodeFacts) -> Judged:
    status = facts.probes.ws_status
    if status is None:
        return Unknown("was not tested" if facts.web.ws_path else "web.config has no WSPath")
    if status == _OK:
        return None
    return Violated(
        f"the address in WSPath returns HTTP {status}" if status else "the address in WSPath does not answer"
    )


def _reach(cluster: ClusterFacts) -> Decision:
    """When no node reaches a target, or it was not seen, the target is the counter-example; else each source."""
    missed: dict[str, list[str]] = {}
    reached: set[str] = set()
    for source, facts in cluster.facts.items():
        for target, ok in facts.probes.reach_8732.items():
            if ok:
                reached.add(target)
            else:
                missed.setdefault(target, []).append(source)
    unseen, violated = set(cluster.unseen), dict[str, list[str]]()
    for target, sources in missed.items():
        if target not in reached or target in unseen:
            violated.setdefault(target, []).append(f"{named(sources)} cannot reach its port {SYNC_PORT}")
        else:
            for source in sources:
                violated.setdefault(source, []).append(f"cannot reach port {SYNC_PORT} of {target}")
    return decided(cluster, {node: ", ".join(reasons) for node, reasons in violated.items()}, _untried(cluster))


def _untried(cluster: ClusterFacts) -> dict[str, str]:
    """Nodes that tried to reach fewer other nodes than required."""
    required = min(len(cluster.nodes) - 1, REACH)
    return {
        node: f"tried {len(facts.probes.reach_8732)} of {required} other nodes"
        for node, facts in cluster.facts.items()
        if len(facts.probes.reach_8732) < required
    }


def _no_leftovers(facts: NodeFacts) -> Judged:
    return Violated(f"temporary files of an interrupted write: {named(facts.leftovers)}") if facts.leftovers else None


SERVICE_RULES = (
    Invariant(
        id="service.running",
        statement="The Windows service runs on each node.",
        remedy="start the service; if it stops again, check the event log EktronL2 and WSPath",
        source="procedure, service config step 5; ektron-facts 6, rows 11 and 12",
        decide=each_node(_running),
    ),
    Invariant(
        id="service.started-after-last-change",
        statement="The service started after the last change of the files that it reads.",
        remedy="run a rollout, or stop and start the service",
        source="ektron-facts 6, row 30",
        decide=each_node(_started_after_change),
    ),
    Invariant(
        id="service.listening-8732",
        statement="The service listens on TCP 8732 on each node.",
        remedy="restart the service; if it runs but does not listen, the site's workarea does not load: open WSPath",
        source="ektron-facts 3.5; 6, rows 11 and 12",
        decide=each_node(_listening),
    ),
    warning(
        id="service.starts-by-itself",
        statement="The Windows service starts when the machine starts.",
        remedy="set the start type of the service to automatic",
        source="ektron-facts 1.1: eSync needs it on every node, also after a reboot",
        decide=each_node(_starts_automatically),
    ),
    Invariant(
        id="network.reach-8732-all-pairs",
        statement=(
            f"Every node reaches port {SYNC_PORT} of every other node; in clusters of more than {REACH + 1} nodes, "
            f"of the {REACH} nodes that follow it."
        ),
        remedy="open TCP 8732 between the servers in both directions; check name resolution and host firewalls",
        source="ektron-facts 3.5; 6, rows 10 and 11",
        decide=_reach,
    ),
    Invariant(
        id="site.wspath-answers",
        statement="The address in WSPath answers on each node.",
        remedy="open the address in WSPath in a browser on that server; repair the site or WSPath in web.config",
        source="ektron-facts 2.3; 6, rows 1 and 12",
        decide=each_node(_web_service),
    ),
    Invariant(
        id="leftovers.none",
        statement="No node has temporary files of this program.",
        remedy="run a rollout, which removes the files, or delete them",
        source="agent protocol, write",
        decide=each_node(_no_leftovers),
    ),
)
