"""Invariants about what runs: the service, its port, the site's web service."""

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.editions import SYNC_PORT
from tasks.ektron.facts import NodeFacts
from tasks.ektron.rules.findings import Decision, Invariant, Judged, Severity, Unknown, Violated, decided, each_node
from tasks.ektron.wording import named

__all__ = ["REACH", "SERVICE_RULES"]

REACH = 32  #: in larger clusters each node tries this many others
_OK = 200


def _running(_: ClusterFacts, facts: NodeFacts) -> Judged:
    service = facts.service
    if not service.installed:
        return Violated(f"the service {service.name} is not installed")
    return None if service.state == "running" else Violated(f"the service is {service.state or 'in an unknown state'}")


def _starts_by_itself(_: ClusterFacts, facts: NodeFacts) -> Judged:
    kind = facts.service.start_type
    if not kind:
        return Unknown("the service's start type is not known")
    return None if kind.startswith("auto") else Violated(f"the service's start type is {kind}")


def _started_after_change(_: ClusterFacts, facts: NodeFacts) -> Judged:
    started, changed = facts.service.started, facts.newest_input
    if facts.service.state != "running":
        return Unknown("the service does not run")
    if started is None or changed is None:
        return Unknown("when the service started or its files changed is not known")
    if started > changed:
        return None
    return Violated(f"the service started {started:%Y-%m-%d %H:%M:%S} UTC, {facts.newest_input_path} changed "
                 f"{changed:%Y-%m-%d %H:%M:%S} UTC")  # fmt: skip


def _listening(_: ClusterFacts, facts: NodeFacts) -> Judged:
    listening = facts.probes.listening_8732
    if listening is None:
        return Unknown("was not tried")
    return None if listening else Violated(f"nothing listens on port {SYNC_PORT}")


def _web_service(_: ClusterFacts, facts: NodeFacts) -> Judged:
    status = facts.probes.ws_status
    if status is None:
        return Unknown("was not tried" if facts.web.ws_path else "web.config has no WSPath")
    if status == _OK:
        return None
    return Violated(f"WSPath answers with {status}" if status else "WSPath does not answer")


def _reach(cluster: ClusterFacts) -> Decision:
    """A node that nobody reaches is the counter-example itself; else the pair's source is, its way is blocked."""
    missed: dict[str, list[str]] = {}
    reached: set[str] = set()
    for source, facts in cluster.facts.items():
        for target, ok in facts.probes.reach_8732.items():
            if ok:
                reached.add(target)
            else:
                missed.setdefault(target, []).append(source)
    wrong: dict[str, list[str]] = {}
    for target, sources in missed.items():
        if target not in reached:
            wrong.setdefault(target, []).append(f"{named(sources)} cannot reach its port {SYNC_PORT}")
        else:
            for source in sources:
                wrong.setdefault(source, []).append(f"cannot reach port {SYNC_PORT} of {target}")
    return decided(cluster, {node: ", ".join(reasons) for node, reasons in wrong.items()}, _untried(cluster))


def _untried(cluster: ClusterFacts) -> dict[str, str]:
    """Nodes that tried fewer others than they should have."""
    wanted = min(len(cluster.nodes) - 1, REACH)
    return {
        node: f"tried {len(facts.probes.reach_8732)} of {wanted} other nodes"
        for node, facts in cluster.facts.items()
        if len(facts.probes.reach_8732) < wanted
    }


def _no_leftovers(_: ClusterFacts, facts: NodeFacts) -> Judged:
    return Violated(f"temporary files of an interrupted write: {named(facts.leftovers)}") if facts.leftovers else None


SERVICE_RULES = (
    Invariant(
        id="service.running",
        statement="The Windows service runs on each node.",
        remedy="start the service; if it ends again, look at the event log EktronL2 and at WSPath",
        source="procedure, service config step 5; ektron-facts 6, rows 11 and 12",
        decide=each_node(_running),
    ),
    Invariant(
        id="service.started-after-last-change",
        statement="The service started after everything it reads was last changed.",
        remedy="run a rollout, or stop and start the service",
        source="ektron-facts 6, row 30",
        decide=each_node(_started_after_change),
    ),
    Invariant(
        id="service.listening-8732",
        statement="The service listens on TCP 8732 on each node.",
        remedy="restart the service; if it runs and does not listen, the site's workarea does not load: open WSPath",
        source="ektron-facts 3.5; 6, rows 11 and 12",
        decide=each_node(_listening),
    ),
    Invariant(
        id="service.starts-by-itself",
        statement="The Windows service starts with the machine.",
        remedy="set the service's start type to automatic",
        source="ektron-facts 1.1: eSync needs it on every node, also after a reboot",
        decide=each_node(_starts_by_itself),
        severity=Severity.WARNING,
    ),
    Invariant(
        id="network.reach-8732-all-pairs",
        statement=(
            f"Every node reaches port 8732 of every other; in clusters of more than {REACH + 1}, "
            f"of the {REACH} that follow it."
        ),
        remedy="open TCP 8732 between the servers in both directions; check name resolution and host firewalls",
        source="ektron-facts 3.5; 6, rows 10 and 11",
        decide=_reach,
    ),
    Invariant(
        id="site.wspath-answers",
        statement="The address in WSPath answers on each node.",
        remedy="open WSPath in a browser on that server; repair the site or the value of WSPath in web.config",
        source="ektron-facts 2.3; 6, rows 1 and 12",
        decide=each_node(_web_service),
    ),
    Invariant(
        id="leftovers.none",
        statement="No temporary file of this program is left on a node.",
        remedy="run a rollout, which removes them, or delete them",
        source="agent protocol, write",
        decide=each_node(_no_leftovers),
    ),
)
