"""Invariants about running programs: the Windows service and its port."""

from collections.abc import Mapping
from dataclasses import replace

from tasks.ektron.cluster_facts import ClusterFacts
from tasks.ektron.editions import SYNC_PORT
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.rules.findings import (
    Decision,
    Invariant,
    InvariantState,
    Judged,
    Unknown,
    Violated,
    decided,
    each_node,
    sentence,
    warning,
)
from tasks.ektron.rules.loaded import Loaded, loaded
from tasks.ektron.wording import named

__all__ = ["REACH", "SERVICE_RULES"]

REACH = 32  #: nodes that each node tries to reach; in larger clusters those that follow it
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


def _started_after_change(cluster: ClusterFacts) -> Decision:
    """The evidence names the witness of each node: a record, or times."""
    running = {node: loaded(facts) for node, facts in cluster.facts.items() if facts.service.state == "running"}
    violated = {node: answer.why for node, answer in running.items() if answer.verdict is InvariantState.REFUTED}
    unknown = {node: answer.why for node, answer in running.items() if answer.verdict is InvariantState.UNKNOWN}
    stopped = (node for node in cluster.facts if node not in running)  # a set differs from process to process
    unknown |= dict.fromkeys(stopped, "the service is not running")
    decision = decided(cluster, violated, unknown)
    if decision.verdict is not InvariantState.PROVEN:
        return decision
    return replace(decision, evidence=f"{decision.evidence}: {_witnesses(running)}")


def _witnesses(answers: Mapping[str, Loaded]) -> str:
    """`by change times`, with the nodes where there are several witnesses."""
    found = {answer.why for answer in answers.values()}
    return sentence({node: answer.why for node, answer in answers.items()}) if len(found) > 1 else "".join(found)


def _started_in_the_past(facts: NodeFacts) -> Judged:
    started = facts.service.started
    if started is None or started <= facts.clock:
        return None
    return Violated(f"the service started at {started:{_TIME}} UTC, the clock says {facts.clock:{_TIME}} UTC")


def _listening(facts: NodeFacts) -> Judged:
    listening = facts.probes.listening_8732
    if listening is None:
        return Unknown("was not tested")
    if not listening:
        return Violated(f"no program listens on port {SYNC_PORT}")
    if facts.other_services:
        return Unknown(f"{named(facts.other_services)} runs too, and one of them only can have port {SYNC_PORT}")
    return None


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


def _none_left_stopped(facts: NodeFacts) -> Judged:
    stopped = facts.service.left_stopped
    return Violated(f"a run stopped {named(stopped)} and did not start them again") if stopped else None


SERVICE_RULES = (
    Invariant(
        id="service.running",
        statement="The Windows service runs on each node.",
        remedy="start the service; if it stops again, check the event log EktronL2 and WSPath",
        source="procedure, service config step 5; ektron-facts 6, rows 11 and 12",
        decide=each_node(_running),
        reads=("service",),
        proves="Windows reports the state `running`",
        cannot_know="whether it works; service.listening-8732 shows more",
    ),
    Invariant(
        id="service.started-after-last-change",
        statement="The service started after the last change of the files that it reads.",
        remedy=(
            "run a rollout: it restarts the service where it has not loaded the last change, once where that is not "
            "known, and records on the server what the service has loaded"
        ),
        source="ektron-facts 6, row 30",
        decide=_started_after_change,
        reads=(
            "service",
            "clock",
            "asked",
            "newest_input",
            "newest_input_path",
            "newest_change",
            "newest_change_path",
            "inputs",
            "start_record",
        ),
        proves="the record of what the service loaded at its start, or the change times, agree with the files",
        cannot_know="changes that keep an old modification time, where the file system gives no change times",
    ),
    warning(
        id="service.started-in-the-past",
        statement="No service started later than its server's present time.",
        remedy=(
            "the clock of the server was ahead when the service started: check its time source (w32tm /query /status) "
            "and that of its virtual machine's host"
        ),
        source="a virtual machine takes the time of its host when it starts",
        decide=each_node(_started_in_the_past),
        reads=("service", "clock"),
        proves="the start time is not later than the node's own clock",
        cannot_know="whether the clock is right now; clock.skew-below-300s shows that",
    ),
    Invariant(
        id="service.listening-8732",
        statement="The service listens on TCP 8732 on each node.",
        remedy="restart the service; if it runs but does not listen, the site's workarea does not load: open WSPath. "
        "Stop and disable the service of an earlier edition that runs beside it",
        source="ektron-facts 3.5; 6, rows 11 and 12",
        decide=each_node(_listening),
        reads=("probes.listening_8732", "other_services"),
        proves="the node connects to its own port, and no service of another generation runs",
        cannot_know="whether another program listens in place of the service",
    ),
    warning(
        id="service.starts-by-itself",
        statement="The Windows service starts when the machine starts.",
        remedy="set the start type of the service to automatic",
        source="ektron-facts 1.1: eSync needs it on every node, also after a reboot",
        decide=each_node(_starts_automatically),
        reads=("service.start_type",),
        proves="the start type is automatic, also delayed",
        cannot_know="whether the start succeeds after a reboot",
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
        reads=("probes.reach_8732",),
        proves="each node has connected to the port of the others, at their hosts in the cluster file or by their "
        "names",
        cannot_know="a firewall that closes long connections later; under which name a relationship knows a server",
    ),
    Invariant(
        id="leftovers.none",
        statement="No node has temporary files of this program.",
        remedy="run a rollout, which removes the files, or delete them",
        source="agent protocol, write",
        decide=each_node(_no_leftovers),
        reads=("leftovers",),
        proves="no file of an interrupted write is in the service folder or in the staging folder",
        cannot_know="files elsewhere on the node",
    ),
    warning(
        id="leftovers.stopped-services",
        statement="No services that depend on the product's were left stopped by an interrupted run.",
        remedy="run a rollout, which starts them, or start them by hand",
        source="agent protocol, service",
        decide=each_node(_none_left_stopped),
        reads=("service.left_stopped",),
        proves="no run has noted services that it stopped together with the product's and did not start again",
        cannot_know="services that were stopped in another way",
    ),
)
