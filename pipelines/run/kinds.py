"""What a kind of run is: a value with its stages, and the properties that the rest of the product needs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipelines.run.snapshot import UNDRAIN_STAGE, Go, Snapshot, Stop
from tasks.cluster import Cluster
from tasks.step_values import Purpose, Step
from workers.errors import Problem, RecordRefused
from workers.records import RunRecord, Turn

__all__ = ["Kind", "Stage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a run.

    Attributes:
        name: the same in turns, events, JSON and documents.
        nodes: selects the nodes of the next turn; the stage ends when there are none.
        steps: run on each of these nodes, in this order.
        then: the decision after a turn.
        purpose: why the nodes are observed in this stage.
        heading: of its one column, instead of the headings of its steps.
        plans: whether its observations lead to a plan.
        numbered: whether its turns are waves: some of the nodes, then the next ones. Also the first one has a number.
        known: whether the run has seen before what the steps would find out; then the turn has no steps. None: never.
        follows: the stage to which the run returns after this one: it only concerns the nodes of that stage's last
            turn. Empty for a stage that comes once.
        always: whether it takes its turn even where the run ends before it, or is cancelled: it removes what the run
            has left. Its decision is then the last one.
    """

    name: str
    nodes: Callable[[Snapshot], Sequence[str]]
    steps: tuple[Step, ...]
    then: Callable[[Snapshot], Go | Stop]
    purpose: Purpose = Purpose.PLAN
    known: Callable[[Snapshot], bool] | None = None
    heading: str = ""
    plans: bool = False
    numbered: bool = False
    follows: str = ""
    always: bool = False

    def heading_of(self, step: Step) -> str:
        """The heading of the column that shows this step."""
        return self.heading or step.heading

    @property
    def group(self) -> str:
        """Stages with the same group share their columns in the report."""
        return self.heading or self.follows or self.name

    def turn(self, nodes: Sequence[str], number: int, cluster: Cluster, *, known: bool = False) -> Turn:
        """A turn of this stage; `number` counts from 1. Without steps if everything is known.

        Only nodes of a pool with a balancer are drained.
        """
        name = f"{self.name}-{number}" if number > 1 or self.numbered else self.name
        balanced = any(cluster.balancer(node) for node in nodes)
        steps = () if known else tuple(step.name for step in self.steps if balanced or not step.balances)
        return Turn(name=name, stage=self.name, steps=steps, nodes=tuple(nodes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of run.

    Attributes:
        name: the same in the store, JSON, documents, and on the command line.
        stages: in their order; the last decision of the last stage is always to stop.
        read_only: whether it changes no node; then it runs beside other runs on the same cluster.
        verifies: whether it checks the invariants of the whole cluster and stores the findings.
        asks: whether its report lists questions that only a person can answer.
        restores: whether it puts nodes back to their state before its parent run.
        parent: what it does to its parent run, as a verb for the report.
        plan: the kind that makes a plan of it.
        retry: what to do instead of `esync retry`; empty if a retry is possible. May contain `{parent}`.
        whole: whether a retry begins again on all nodes: no node may be ahead of the others.
        left_alone: the nodes that it has given no turn, with the reason; None if the only reason is its end.
    """

    name: str
    stages: tuple[Stage, ...]
    read_only: bool = False
    verifies: bool = False
    asks: bool = False
    restores: bool = False
    parent: str = "after"
    plan: str = "plan"
    retry: str = "choose a rollout; list the runs: esync runs"
    whole: bool = False
    left_alone: Callable[[Snapshot], Mapping[str, Problem]] | None = None

    @property
    def ends_with_plan(self) -> bool:
        """Whether it ends where a rollout would begin to change nodes."""
        return self.stages[-1].plans

    def checked_early(self, begun: Iterable[str]) -> bool:
        """Whether findings are from before any change: the run ended before it checked the cluster again.

        Args:
            begun: the stages that have begun.
        """
        return self.verifies and not self.read_only and self.stages[-1].name not in set(begun)

    def stage(self, name: str) -> Stage | None:
        """The stage of that name, if this kind has it."""
        return next((stage for stage in self.stages if stage.name == name), None)

    def stage_of(self, turn: Turn) -> Stage:
        """The stage a turn belongs to.

        Raises:
            RecordRefused: this kind has no such stage; another version of esync wrote the turn.
        """
        stage = self.stage(turn.stage)
        if stage is None:
            known = ", ".join(stage.name for stage in self.stages)
            raise RecordRefused(
                "",
                f"turn {turn.name}: in this version a {self.name} has no stage {turn.stage!r} (it has {known})",
                remedy="use the version that started the run",
            )
        return stage

    def stages_after(self, turn: Turn) -> tuple[Stage, ...]:
        """The stages that may have the next turn, in the order in which they are asked for nodes.

        Raises:
            RecordRefused: as `stage_of`.
        """
        stage = self.stage_of(turn)
        head = stage.follows or stage.name
        again = tuple(one for one in self.stages if one.follows == head)
        rest = self.stages[[one.name for one in self.stages].index(head) :]
        return (*again, *(one for one in rest if one not in again))

    @property
    def columns(self) -> tuple[str, ...]:
        """The headings of all steps without a balancer, in the order in which the steps run, each once."""
        return self.columns_of(balanced=False)

    def columns_of(self, *, balanced: bool) -> tuple[str, ...]:
        """The same; with those for a cluster that has a balancer, if it is `balanced`."""
        stages = (stage for stage in self.stages if stage.name != UNDRAIN_STAGE)
        steps = ((stage, step) for stage in stages for step in stage.steps if balanced or not step.balances)
        return tuple(dict.fromkeys(stage.heading_of(step) for stage, step in steps))

    def steps(self) -> dict[str, Step]:
        """Every step of its stages, by name."""
        return {step.name: step for stage in self.stages for step in stage.steps}

    def changing_turns(self, record: RunRecord) -> tuple[Turn, ...]:
        """The turns so far in which a step could change a node."""
        return tuple(turn for turn in record.turns if any(step.changes for step in self.stage_of(turn).steps))
