"""The progress of a run, folded from its events. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from pipelines.run.kinds import Kind, Stage
from pipelines.run.snapshot import RETRY
from workers.errors import RecordRefused
from workers.records import Event, RunRecord, Status, Turn

__all__ = ["Progress"]

_ENDS = {status for status in Status if status.ends_node}


class Progress:
    """The state of a run for the live view. Events may arrive twice or late; the last one of a cell counts.

    Attributes:
        record: the run as it was at the last update.
        nodes: name -> pool, in the order of the cluster file.
        cells: (node, heading) -> status; None while the step runs.
        reasons: node -> why it ended early, for nodes that take no further part.
        left: node -> the turn in which it ended early.
        refuted: nodes that an error of the final check names; empty until then.
        paused: why the run is paused; empty while it is not.
        held: the turn before which the run waits for a person; empty while it does not.
        unapproved: whether it waits there for the approval of its plan.
        begins_in: seconds until it begins there by itself; None if it does not.
        cancelling: why the run is being cancelled; empty while it is not.
        said: what a step last said about a sync: its phase, or what a person has to do; or why nothing follows.
    """

    def __init__(self, record: RunRecord, kind: Kind) -> None:
        self.record = record
        self.kind = kind
        self.nodes = _pools(record)
        self.cells: dict[tuple[str, str], Status | None] = {}
        self.reasons: dict[str, str] = {}
        self.left: dict[str, str] = {}
        self.refuted: frozenset[str] = frozenset()
        self.paused = ""
        self.held = ""
        self.unapproved = False
        self.begins_in: float | None = None
        self.cancelling = ""
        self.said = ""
        self._stages: dict[str, str] = {}
        self._last_steps: dict[str, Sequence[str]] = {}  #: of each turn, with those of its balancer
        self._waves: dict[str, str] = {}
        self._outcomes: dict[str, Status] = {}
        self._in_work: dict[str, None] = {}  #: nodes that have begun a turn and not finished it
        self._busy: set[str] = set()  #: nodes with a running step
        self._done: set[tuple[str, str, str]] = set()  #: turn, node and step
        self._changed: set[tuple[str, str]] = set()  #: node and column of steps that have changed a node
        self._touched: set[tuple[str, str]] = set()  #: turn, and node that it has changed

    def take(self, record: RunRecord, events: Iterable[Event]) -> None:
        """Adds what is new."""
        self.record = record
        for turn in record.turns:
            self._stages[turn.name] = turn.stage
            self._last_steps[turn.name] = turn.steps[-1:]
            stage = self.kind.stage_of(turn)
            if not turn.steps:
                self._known(stage, turn)
            if stage.numbered and not stage.follows:
                self._waves |= dict.fromkeys(turn.nodes, turn.name)
        for event in events:
            if event.kind.startswith("step."):
                self._begun_again(event)
            if event.kind == "step.started":
                self.cells[event.node, self._column(event)] = None
                self._in_work.setdefault(event.node)
                self._busy.add(event.node)
            elif event.kind == "step.ended":
                self._ended(event)
            elif event.kind.startswith("sync."):
                self.said = f"{event.node}: {event.message}"
            else:
                self._steered(event)

    def _known(self, stage: Stage, turn: Turn) -> None:
        """What the steps would find out was seen before: nothing had to change."""
        for node in turn.nodes:
            self._outcomes.setdefault(node, Status.UNCHANGED)
            for step in stage.steps:
                self.cells[node, stage.heading_of(step)] = Status.UNCHANGED

    def know_idle(self, nodes: Iterable[str]) -> None:
        """The plan has nothing to do on these nodes: they wait for nothing. What a step finds out later counts more."""
        for node in nodes:
            if not self.is_unselected(node):
                self._outcomes.setdefault(node, Status.UNCHANGED)

    def wave(self, node: str) -> str:
        """The wave of a node; empty as long as it has none."""
        return self._waves.get(node, "")

    def running(self) -> list[str]:
        """Nodes in work, the longest first. While the run is paused, those that are between two steps are not."""
        return [node for node in self._in_work if node in self._busy or not self.paused]

    def outcome(self, node: str) -> Status | None:
        """The outcome on a node so far; None while there is none."""
        return self._outcomes.get(node)

    def counts(self) -> dict[Status, int]:
        """Nodes by outcome so far, in the order of the enumeration."""
        counted = Counter(self._outcomes.values())
        return {status: counted[status] for status in Status if counted[status]}

    def lost(self, turn: str) -> dict[Status, int]:
        """Nodes that ended early in that turn, counted by outcome."""
        counted = Counter(self._outcomes[node] for node, where in self.left.items() if where == turn)
        return {status: counted[status] for status in Status if counted[status]}

    def is_unselected(self, node: str) -> bool:
        """Whether the run only looks at the node: nodes were selected, and it is none of them."""
        return bool(self.record.only) and node not in self.record.only

    def waiting(self) -> int:
        """How many of the selected nodes have no outcome and are not in work."""
        left = self.nodes.keys() - self._outcomes.keys() - set(self.running())
        return sum(not self.is_unselected(node) for node in left)

    def steps(self, turn: Turn) -> tuple[int, int]:
        """How many steps of a turn have ended, and how many it has, over all its nodes."""
        ended = sum((turn.name, node, step) in self._done for node in turn.nodes for step in turn.steps)
        return ended, len(turn.nodes) * len(turn.steps)

    @property
    def at_gate(self) -> bool:
        """Whether a proof waits for a person to repair search; then `said` says where and how."""
        return self.held == RETRY

    def seconds(self, at: datetime) -> float:
        """How long the run has lasted until its end, or until `at`."""
        return self.record.seconds(at)

    def _steered(self, event: Event) -> None:
        if event.kind == "run.pause_asked":
            self.paused = event.message or "by an operator"
        elif event.kind == "run.resume_asked":
            self.paused = ""
        elif event.kind == "run.held":
            self.held, self.unapproved = event.turn, bool(event.digest)  # of the plan that waits
            self.said = event.message if self.at_gate else self.said
        elif event.kind in {"run.promoted", "run.approved"}:
            self.said = "" if self.at_gate else self.said
            self.held = ""
        elif event.kind == "run.failing":
            self.said = event.message
        elif event.kind == "run.cancel_asked":
            self.paused, self.held, self.cancelling = "", "", event.message or "by an operator"

    def _begun_again(self, event: Event) -> None:
        """What ended a node earlier no longer counts when it begins again."""
        if self._stage(event).name == RETRY and self.left.get(event.node, event.turn) != event.turn:
            for known in (self.left, self.reasons, self._outcomes):
                known.pop(event.node, None)

    def _ended(self, event: Event) -> None:
        """The first end of a node counts; a change is not hidden by a later step that had nothing to do."""
        node, status = event.node, Status(event.status)
        cell = node, self._column(event)
        self._changed |= {cell} if status is Status.CHANGED else set()
        self.cells[cell] = Status.CHANGED if status is Status.UNCHANGED and cell in self._changed else status
        self._done.add((event.turn, node, event.step))
        self._finished(event, status)
        before = self._outcomes.get(node)
        if node in self.reasons:
            return
        if status in _ENDS:
            self.left[node] = event.turn
            kind = f" ({event.failure})" if event.failure not in {"", event.status, "failed"} else ""
            message = event.message.removeprefix(f"{node}: ")
            self.reasons[node] = f"{event.step}{kind}: {message}" if message else f"{event.step}{kind}"
        elif before is Status.CHANGED or (self._only_begins(event) and (status is Status.UNCHANGED or not before)):
            return
        self._outcomes[node] = (
            Status.CHANGED if (event.turn, node) in self._touched and not status.ends_node else status
        )

    def _finished(self, event: Event, status: Status) -> None:
        """A node is in work until the last step of its turn has ended."""
        node, at = event.node, (event.turn, event.node)
        self._touched |= {at} if status is Status.CHANGED else set()
        self._busy.discard(node)
        last = self._last_steps.get(event.turn, self._last(self._stage(event)))
        if status in _ENDS or all((event.turn, node, step) in self._done for step in last):
            self._in_work.pop(node, None)
        else:
            self._in_work.setdefault(node)

    def _only_begins(self, event: Event) -> bool:
        """Whether a step is not yet a result: it observes before the plan, or before steps that change the node."""
        stage = self._stage(event)
        follows = any(step.changes for step in stage.steps) and event.step not in self._last(stage)
        return follows or (stage.plans and not self.kind.read_only)

    @staticmethod
    def _last(stage: Stage) -> Sequence[str]:
        """The last step of a stage, with which a node is as it has to be. Its balancer may have to know it."""
        return [step.name for step in stage.steps if not step.balances][-1:]

    def _stage(self, event: Event) -> Stage:
        """The stage of the turn that the event names; the record may not contain the turn yet."""
        name = self._stages.get(event.turn, event.turn)
        return self.kind.stage(name) or self.kind.stage(name.rpartition("-")[0]) or self.kind.stages[0]

    def _column(self, event: Event) -> str:
        stage = self._stage(event)
        step = next((step for step in stage.steps if step.name == event.step), None)
        return stage.heading_of(step) if step else event.step


def _pools(record: RunRecord) -> dict[str, str]:
    """Node -> its pool. Not by reading the whole cluster: that takes as long as everything else of a picture.

    Raises:
        RecordRefused: a version of esync with another description of clusters wrote it.
    """
    try:
        return {str(node["name"]): str(node["pool"]) for node in record.spec["nodes"]}
    except (KeyError, TypeError):
        why = f"the cluster of run {record.id} cannot be read (nodes): another version of esync wrote it"
        raise RecordRefused(record.id, why) from None
