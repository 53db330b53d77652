"""Judges a round by disks, service logs, events and what is left in the store; measures how long a run stood still."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from redis import Redis

from pipelines.usecases.runs import RunSummary
from tests.integration.harness import Harness
from tests.integration.matrix_cluster import MatrixCluster
from tests.integration.matrix_judge import look_at, wrong_when_joined
from workers.celery_app import CONTROL_QUEUE, NODES_QUEUE
from workers.records import Event, Status, Verdict
from workers.redis.connection import connect

__all__ = ["History", "judged", "messages_in", "stood_still"]

Turned = tuple[str, str, str]  #: turn, node and step


@dataclass(frozen=True)
class History:
    """All events of a run."""

    events: Sequence[Event]

    @classmethod
    def of(cls, harness: Harness, run: str) -> "History":
        """Reads them."""
        found: list[Event] = []
        while more := harness.engine.store.events(run, found[-1].id if found else ""):
            found += more
        return cls(found)

    def steps(self, kind: str) -> Counter[Turned]:
        """How often each step has such an event."""
        return Counter((one.turn, one.node, one.step) for one in self.events if one.kind == kind)

    def of_node(self, step: Turned) -> list[str]:
        """What happened on the node of a step in its turn, with the times."""
        events = (one for one in self.events if (one.turn, one.node) == step[:2])
        return [f"{one.at:%M:%S.%f} {one.kind} {one.step} {one.status or ''}".rstrip() for one in events]

    def turns(self) -> Counter[str]:
        """How often each turn was opened."""
        return Counter(one.turn for one in self.events if one.kind == "turn.opened")


def judged(servers: MatrixCluster, before: Mapping[str, int], run: RunSummary, deaths: int) -> Iterator[str]:
    """What is wrong after a round.

    Args:
        servers: the servers of the run, and the harness.
        before: how many entries the log of each node's service had when the run began.
        run: as it ended.
        deaths: how often a process was killed, or taken for dead.
    """
    if run.record.verdict is not Verdict.JOINED:
        yield f"the verdict is {run.record.verdict}: {run.record.summary}"
    for node in servers.nodes:
        yield from (f"{node}: {what}" for what in _wrong_on(servers, node, before[node]))
    yield from _wrong_events(History.of(servers.harness, run.record.id), run, deaths)
    yield from _left_behind(servers.harness, run.record.id)


def _wrong_on(servers: MatrixCluster, node: str, before: int) -> Iterator[str]:
    look = look_at(servers, node)
    yield from wrong_when_joined(look)
    if odd := look.neither():
        yield f"neither as before nor as after: {odd[:5]}"
    since = [what for what, _ in look.service["history"][before:]]
    if since != ["stop", "start"]:
        yield f"its service was not restarted once: {since}"


def _wrong_events(history: History, run: RunSummary, deaths: int) -> Iterator[str]:
    """Every outcome has one event, no event is about anything else, and nothing was opened or concluded twice.

    A step begins once; once more for each death, and for each time that it waited for the logon of another node.
    """
    recorded = Counter((one.turn, one.node, one.step) for one in run.outcomes)
    began, ended = history.steps("step.started"), history.steps("step.ended")
    if ended != recorded:
        yield f"outcomes and their events differ: {sorted((ended - recorded) | (recorded - ended))[:5]}"
    if unknown := began.keys() - recorded.keys():
        yield f"steps that began have no outcome: {sorted(unknown)[:5]}"
    tried = {(one.turn, one.node, one.step) for one in run.outcomes if one.status is not Status.SKIPPED}
    if missing := tried - began.keys():
        yield f"outcomes of steps that never began: {sorted(missing)[:5]}"
    postponed = history.steps("step.postponed")
    if often := [step for step, times in began.items() if times > 1 + deaths + postponed[step]]:
        yield f"steps began too often: {often[:5]}; {history.of_node(often[0])}"
    if history.turns() != Counter(turn.name for turn in run.record.turns):
        yield f"turns and their events differ: {history.turns()}"
    kinds = Counter(one.kind for one in history.events)
    if (kinds["run.started"], kinds["run.concluded"]) != (1, 1):
        yield f"begun {kinds['run.started']} times, concluded {kinds['run.concluded']} times"


def _left_behind(harness: Harness, run: str) -> Iterator[str]:
    if held := harness.engine.store.leases(run):
        yield f"leases are left: {held}"
    if active := harness.engine.store.active():
        yield f"runs are active: {active}"
    with connect(harness.engine.settings.store()) as client:
        yield from _left_in(client, harness.engine.store.names())


def messages_in(client: Redis) -> dict[str, int]:
    """The queues that have messages, and how many. A queue is a list for each priority; an empty one does not exist."""
    queues = [key for name in (CONTROL_QUEUE, NODES_QUEUE) for key in client.scan_iter(f"{name}*", count=1000)]
    return {key: length for key in queues if (length := client.llen(key))}


def _left_in(client: Redis, runs: Sequence[str]) -> Iterator[str]:
    holding = [run for run in runs if client.hexists(f"esync:run:{run}", "lock")]
    if locks := [*client.scan_iter("esync:lock:*"), *holding]:
        yield f"locks are left: {locks}"
    if queues := messages_in(client):
        yield f"messages are left: {queues}"
    if refused := client.llen("esync.v1.set_aside"):
        yield f"messages were set aside: {refused}"


def stood_still(history: History, struck: float) -> float:
    """The longest time in seconds, from a fault on, in which nothing happened on a node whose steps were unfinished.

    If no node had a step to do in that turn, the time until the next turn or the verdict.

    Args:
        history: of the run.
        struck: when the fault came, in seconds since 1970.
    """
    opened = [one for one in history.events if one.kind == "turn.opened"]
    turn = next((one.turn for one in reversed(opened) if one.at.timestamp() <= struck), "")
    steps = [one for one in history.events if one.turn == turn and one.node and turn]
    times: dict[str, list[float]] = {}
    for one in steps:
        if one.at.timestamp() > struck:
            times.setdefault(one.node, []).append(one.at.timestamp())
    following = [one.at.timestamp() for one in history.events if one.kind in {"turn.opened", "run.concluded"}]
    last = max([struck, *(one.at.timestamp() for one in steps)])
    times[""] = [min((at for at in following if at > last), default=last) - last + struck]
    return max(later - at for series in times.values() for at, later in pairwise([struck, *series]))
