"""What a kind of run is, as a value: its stages, and what the rest of the product may ask about it."""

from collections.abc import Callable, Sequence
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
        nodes: those of the next turn; an empty answer ends the stage.
        steps: done on each of them, in this order.
        then: the decision after a turn.
        purpose: what a look at a node is for in this stage.
        heading: of its one column, instead of the headings of its steps.
        plans: whether its looks lead to a plan.
        numbered: whether its first turn already carries a number (`wave-1`).
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
        """The column that shows this step."""
        return self.heading or step.heading

    @property
    def group(self) -> str:
        """Stages of one group share their columns in the report."""
        return self.heading or self.name

    def turn(self, nodes: Sequence[str], number: int) -> Turn:
        """The turn of that number, counted from 1."""
        name = f"{self.name}-{number}" if number > 1 or self.numbered else self.name
        return Turn(name=name, stage=self.name, steps=tuple(step.name for step in self.steps), nodes=tuple(nodes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of run.

    Attributes:
        name: the same in the store, JSON, documents, and on the command line.
        stages: in their order; the last decision of the last stage is always to stop.
        read_only: changes no node, so it shares the cluster with other runs.
        verifies: judges the whole cluster by its invariants and keeps the findings.
        asks: its report asks a person what no program can see.
        parent: what it does to the run that it names as its parent, as a verb for the report.
        retry: what to do instead of `esync retry`; empty where a retry is possible. May contain `{parent}`.
    """

    name: str
    stages: tuple[Stage, ...]
    read_only: bool = False
    verifies: bool = False
    asks: bool = False
    parent: str = "after"
    retry: str = "name a rollout; list them: esync runs"

    @property
    def ends_with_plan(self) -> bool:
        """Whether it ends where a rollout would begin to change nodes."""
        return self.stages[-1].plans

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
        """The headings of all steps, in the order in which they are done, each once."""
        return tuple(dict.fromkeys(stage.heading_of(step) for stage in self.stages for step in stage.steps))

    def steps(self) -> dict[str, Step]:
        """Every step of its stages, by name."""
        return {step.name: step for stage in self.stages for step in stage.steps}

    def changing_turns(self, record: RunRecord) -> tuple[Turn, ...]:
        """The turns so far in which a step could change a node."""
        return tuple(turn for turn in record.turns if any(step.changes for step in self.stage_of(turn).steps))
