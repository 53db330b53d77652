"""The bars: what is measured, the limit, and whether it is met. Values that have no bar are shown for comparison."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["BARS", "Bar", "State", "Values", "judged"]

#: Name of a value -> the value; text instead of a number says why it could not be measured.
Values = Mapping[str, float | str]


class State(StrEnum):
    """What became of a bar."""

    MET = "met"
    MISSED = "MISSED"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bound on a measured value.

    Attributes:
        least: whether the limit is the least value, and not the largest.
    """

    name: str
    what: str
    limit: float
    unit: str
    least: bool = False

    def state(self, value: float | str | None) -> State:
        """Whether the value keeps the bound."""
        if value is None or isinstance(value, str):
            return State.NOT_MEASURED
        return State.MET if (value >= self.limit if self.least else value <= self.limit) else State.MISSED

    def off(self, value: float) -> float:
        """By how many percent a value is beyond the limit; below 0 it keeps it."""
        over = (self.limit - value) if self.least else (value - self.limit)
        return 100 * over / self.limit


BARS = (
    Bar("join.100.cpu", "worker CPU per node, full join of 100 nodes", 65, "ms"),
    Bar("growth.300.cpu", "the same per node: 300 nodes against 30", 1.2, "x"),
    Bar("replay.cpu", "CPU against bare pywinrm with the same round trips and bytes", 2.3, "x"),
    Bar("ansible.wall", "wall time against Ansible (12 x raw, 50 forks)", 0.2, "x"),
    Bar("ansible.cpu", "CPU against the same", 0.12, "x"),
    Bar("latency.makespan", "5 ms latency, 500 ms PowerShell start: against the ideal of 16 in parallel", 1.5, "x"),
    Bar("workers.speedup", "work of two workers against that of one", 1.6, "x", least=True),
    Bar("join.100.trips", "most round trips of a node, full join", 14, ""),
    Bar("join.100.starts", "PowerShell starts of a node, full join", 1, ""),
    Bar("again.trips", "most round trips of an unchanged node, new session", 6, ""),
    Bar("again.starts", "PowerShell starts of an unchanged node, new session", 1, ""),
    Bar("again.bytes.growth", "bytes to and from an unchanged node: 100 nodes against 10", 1.05, "x"),
    Bar("join.100.commands", "Redis commands per node", 150, ""),
    Bar("join.100.redis", "Redis memory per node", 10, "kB"),
    Bar("growth.300.commands", "Redis commands per node: 300 nodes against 30", 1.1, "x"),
    Bar("growth.300.redis", "Redis memory per node: 300 nodes against 30", 1.1, "x"),
    Bar("many.joined", "clusters of four that are joined, at the same time", 100, "%", least=True),
    Bar("many.cpu", "their worker CPU per node against one cluster of 100", 1.1, "x"),
    Bar("many.half", "of them ended at half of the time", 45, "%", least=True),
    Bar("join.300.cpu.total", "one cluster of 300: worker CPU in all", 30, "s"),
    Bar("join.300.join", "the longest join of a turn, 300 nodes", 2, "s"),
    Bar("page.300.size", "report page of 300 nodes", 1000, "kB"),
    Bar("page.300.opened", "until that page is shown", 1, "s"),
    Bar("join.100.memory", "peak memory of the worker against 100 MB + 0.1 MB per node, 100 nodes", 1, "x"),
    Bar("join.300.memory", "the same, 300 nodes", 1, "x"),
    Bar("again.cpu", "CPU of a rollout with nothing to do against a verify", 1.3, "x"),
    Bar("join.1000.cpu", "one cluster of 1,000: worker CPU per node", 150, "ms"),
    Bar("join.1000.starts", "one cluster of 1,000: PowerShell starts of a node", 1, ""),
    Bar("join.1000.memory.total", "one cluster of 1,000: peak memory of the worker", 300, "MB"),
    Bar("watch.300.memory", "200 browsers on a run of 300 nodes: peak memory of the server", 300, "MB"),
    Bar("watch.300.late", "how late 99 of 100 messages reach them", 1, "s"),
    Bar("watch.300.ended", "browsers that saw the end", 100, "%", least=True),
    Bar("watch.300.worker", "worker CPU against the same run without browsers", 1.1, "x"),
    Bar("startup.help", "CPU of `esync --help`", 0.25, "s"),
    Bar("startup.check", "CPU of `esync check` of 1,000 nodes", 0.5, "s"),
    Bar("startup.read", "CPU of a read-only verb while `esync up` runs", 0.5, "s"),
    Bar("startup.verify", "wall time of `esync verify` of four servers without `esync up`", 2.5, "s"),
    Bar("startup.six", "of six such commands at once that succeed", 6, "", least=True),
    Bar("idle.cpu", "CPU of an idle worker", 1, "%"),
    Bar("idle.commands", "Redis commands of an idle worker per second", 5, ""),
)


def judged(values: Values) -> list[tuple[Bar, float | str | None, State]]:
    """Each bar with its value and what became of it."""
    return [(bar, values.get(bar.name), bar.state(values.get(bar.name))) for bar in BARS]
