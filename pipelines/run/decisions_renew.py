"""What comes next in a renewal of the certificate family. Pure.

Every node trusts both families before any node uses the new one, and every node uses the new one before any node stops
trusting the old one. So two servers trust each other at every moment, and a renewal that stopped anywhere can go on.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pipelines.run import decisions
from pipelines.run.plan import waves_of
from pipelines.run.snapshot import Go, Snapshot, Stop
from pipelines.run.verdict import failures
from tasks.ektron.wording import named
from workers.records import DocumentKind, Status, Verdict

if TYPE_CHECKING:  # loaded by what decides: what shows runs decides nothing
    from tasks.ektron.facts.node import NodeFacts

__all__ = ["PARTNERS_READY", "all_did", "has_both", "nodes_of", "origin_once", "partners_ready", "planned"]

PARTNERS_READY = "partners_ready"  #: the option that says that all partners trust the new family
_BOTH_TRUSTED = "Nothing is cut off: every node that uses the new family is trusted by all, and so is the old one"
_GO_ON = "Remove the cause, then go on: esync retry {run}"


def planned(snapshot: Snapshot) -> Go | Stop:
    """As before a rollout; besides, every node has to be there: one that misses the renewal would be cut off."""
    ended = snapshot.ended()
    if ended:
        silent = all(outcome.status is Status.UNREACHABLE for outcome in ended.values())
        return Stop(
            Verdict.UNREACHABLE if silent else Verdict.FAILED,
            f"{failures(list(ended), ended, 'could not be checked')}. A node that misses the renewal would be cut off "
            "from the others. Nothing was written in this run",
        )
    return decisions.fit_and_planned(snapshot)


def origin_once(snapshot: Snapshot) -> Sequence[str]:
    """The origin, unless it had its turn."""
    return () if snapshot.in_stage("families") else (snapshot.cluster.node(snapshot.cluster.origin).name,)


def has_both(snapshot: Snapshot) -> Go | Stop:
    """Checks that there is an old family, which all nodes use, and a new one."""
    ended = snapshot.ended()
    if ended:
        return Stop(Verdict.FAILED, f"{failures(list(ended), ended)}. Nothing was written in this run")
    old, new = snapshot.documents.family_digests(DocumentKind.PREVIOUS), snapshot.documents.family_digests()
    if old is None or new is None:  # or both are one: `old_family` keeps none then
        return Stop(Verdict.STOPPED, _make_new_family(snapshot))
    if old.thumbprint == new.thumbprint:
        return Go()  # the origin has forgotten the old one: all nodes were changed, of which the store knows nothing
    facts = snapshot.documents.all_facts(DocumentKind.OBSERVED)
    trusted = {old.thumbprint, new.thumbprint}
    seen = [(node, facts[node]) for node in snapshot.cluster.node_names if node in facts]
    others = [node for node, one in seen if not set(_key_values(one)) <= trusted or _lacks_keys(one)]
    if others:
        return Stop(
            Verdict.REFUTED,
            f"{named(others)}: the keys are not all of the family that {snapshot.cluster.origin} uses, so these "
            "servers do not trust each other now. Nothing was written. Run a rollout first: esync rollout FILE",
        )
    return Go()


def _key_values(facts: "NodeFacts") -> Iterator[str]:
    """The certificates of the nodes' keys on a node."""
    keys = facts.service_config.keys
    yield from (value for value in (keys.common, *keys.differing.values()) if value)


def _lacks_keys(facts: "NodeFacts") -> bool:
    keys = facts.service_config.keys
    return keys.none or bool(keys.missing) or not facts.service_config.keys_present


def _make_new_family(snapshot: Snapshot) -> str:
    """What a person has to do first; the Security Configurator has no command line (ektron-facts 3.3)."""
    cluster = snapshot.cluster
    return (
        f"there is no new family: {cluster.origin} has only the one that is in use. Nothing was written. On "
        f"{cluster.origin} open {decisions.configurator_menu(cluster)}, choose Generate Certificates, click OK, then "
        "run again; or let esync make it: esync certs renew FILE --generate"
    )


def nodes_of(stage: str) -> Callable[[Snapshot], Sequence[str]]:
    """Selects the nodes of the next wave of a stage; none in a cluster that needs only the last stage.

    The waves are of all nodes: one that finished a stage in an earlier run has the next stages before it.
    """

    def select(snapshot: Snapshot) -> Sequence[str]:
        plan = snapshot.plan
        if plan is None or (plan.empty and stage != "forget"):
            return ()
        done = snapshot.in_stage(stage)
        names = [part.node for part in plan.nodes]
        everyone = waves_of(snapshot.cluster, names, restarted=names)
        waves = ([node for node in wave if node not in done] for wave in everyone)
        return next((wave for wave in waves if wave), ())

    return select


def all_did(stage: str, what: str) -> Callable[[Snapshot], Go | Stop]:
    """Continues only while every node did its part.

    Args:
        stage: whose turn has ended.
        what: the part, for people.
    """

    def decide(snapshot: Snapshot) -> Go | Stop:
        ended = snapshot.ended()
        if not ended:
            return Go()
        silent = all(outcome.status is Status.UNREACHABLE for outcome in ended.values())
        return Stop(
            Verdict.UNREACHABLE if silent else Verdict.FAILED,
            f"{failures(list(ended), ended)}. It stopped while {what} ({stage}). {_BOTH_TRUSTED}. "
            f"{_GO_ON.format(run=snapshot.record.id)}",
        )

    return decide


def partners_ready(snapshot: Snapshot) -> Go | Stop:
    """As `all_did`; and stops before the nodes use the new family, until the partners trust it, too."""
    decision = all_did("admit", "the nodes learn to trust both families")(snapshot)
    partners, more = snapshot.cluster.partners, nodes_of("admit")(snapshot)
    ready = not partners or PARTNERS_READY in snapshot.record.options
    if isinstance(decision, Stop) or more or ready or (snapshot.plan and snapshot.plan.empty):
        return decision
    exports = "; ".join(f"esync certs export FILE --for {name} --out DIR" for name in partners)
    return Stop(
        Verdict.STOPPED,
        f"all nodes trust both families now. Before they use the new one, {named(partners)} has to trust it, too: "
        f"{exports} writes what it needs, with a README.txt that says where it belongs. Then go on: esync certs renew "
        "FILE --partners-ready",
    )
