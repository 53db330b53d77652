"""What a kind of run is: a value with its stages, and the properties that the rest of the product needs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pipelines.run.snapshot import Go, Snapshot, Stop
from tasks.step import Purpose, Step
from workers.errors import RecordRefused
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
        numbered: whether its first turn already has a number (`wave-1`).
    """

    name: str
    nodes: Callable[[Snapshot], Sequence[str]]
    steps: tuple[Step, ...]
    then: Callable[[Snapshot], Go | Stop]
    purpose: Purpose = Purpose.PLAN
    heading: str = ""
    plans: bool = False
    numbered: bool = False

    def heading_of(self, step: Step) -> str:
        """The heading of the column that shows this step."""
        return self.heading or step.heading

    @property
    def group(self) -> str:
        """Stages with the same group share their columns in the report."""
        return self.heading or self.name

    def turn(self, nodes: Sequence[str], number: int) -> Turn:
        """A turn of this stage; `number` counts from 1."""
        name = f"{self.name}-{number}" if number > 1 or self.numbered else self.name
        return Turn(name=name, stage=self.name, steps=tuple(step.name for step in self.steps), nodes=tuple(nodes))


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
        retry: what to do instead of `esync retry`; empty if a retry is possible. May contain `{parent}`.
    """

    name: str
    stages: tuple[Stage, ...]
    read_only: bool = False
    verifies: bool = False
    asks: bool = False
    restores: bool = False
    parent: str = "after"
    retry: str = "choose a rollout; list the runs: esync runs"

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

    @property
    def columns(self) -> tuple[str, ...]:
        """The headings of all steps, in the order in which the steps run, each once."""
        return tuple(dict.fromkeys(stage.heading_of(step) for stage in self.stages for step in stage.steps))

    def steps(self) -> dict[str, Step]:
        """Every step of its stages, by name."""
        return {step.name: step for stage in self.stages for step in stage.steps}

    def changing_turns(self, record: RunRecord) -> tuple[Turn, ...]:
        """The turns so far in which a step could change a node."""
        return tuple(turn for turn in record.turns if any(step.changes for step in self.stage_of(turn).steps))
