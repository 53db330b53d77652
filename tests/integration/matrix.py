"""The fault matrix as data: the faults, the points of a run, and the order in which the cells are played.

Only the faults are chosen by hand. The points are what a run without faults did on a node.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "FAULTS",
    "ORIGIN",
    "Cell",
    "Fault",
    "Point",
    "Points",
    "Round",
    "every_cell",
    "points_of",
    "rounds",
    "sample",
]

ORIGIN = "O1"

FOR_GOOD = 1_000_000  #: occurrences: the last one ends the session
MESSAGES = frozenset({"Create", "Command", "Send"})  #: the number of Receives depends on time
WRITING = frozenset({"config_edit", "cert_copy", "service_restart"})
_BY_NUMBER = frozenset({"tcp", "http", "resolve"})  #: the targets of these differ from node to node


@dataclass(frozen=True)
class Fault:
    """One way in which a node fails.

    Attributes:
        kind: its name on the command line of the matrix.
        name: the kind, how it begins, and whether it ends by itself.
        begins: faults of the lab (`lab.machine.faults.Faults`); `FILE` is replaced with the target of the operation.
        seconds: until it ends by itself; None: never, unless it counts down.
        long: whether a run has to wait for a deadline because of it.
    """

    kind: str
    name: str
    begins: Mapping[str, Any]
    seconds: float | None = None
    long: bool = False


FILE = "{file}"

#: In the order of the requested kinds.
FAULTS = (
    Fault("connection refused", "refused for a while", {"refuse_connections": True, "operation_ms": 40}, 0.25),
    Fault("connection refused", "refused for good", {"refuse_connections": True}),
    Fault("reset in mid-reply", "one reply reset", {"reset_replies": 1}),
    Fault("reset in mid-reply", "every reply reset", {"reset_replies": FOR_GOOD}),
    Fault("reset in mid-reply", "one request lost", {"lose_requests": 1}),
    Fault("401", "401 for a while", {"refuse_logons": True}, 0.3),
    Fault("401", "401 for good", {"refuse_logons": True}),
    Fault("500", "500 once", {"http_errors": {"status": 500, "times": 1}}),
    Fault("500", "500 for good", {"http_errors": {"status": 500, "times": FOR_GOOD}}),
    Fault("503", "503 once", {"http_errors": {"status": 503, "times": 1}}),
    Fault("503", "503 for good", {"http_errors": {"status": 503, "times": FOR_GOOD}}),
    Fault("operation timeout", "two receives time out", {"receive_timeouts": 2}),
    Fault("operation timeout", "hangs for a while", {"hangs": True}, 0.8),
    Fault("operation timeout", "hangs for good", {"hangs": True}, long=True),
    Fault("quota", "one operation refused", {"refuse_operations": 1}),
    Fault("quota", "quota used up", {"refuse_operations": FOR_GOOD, "shell_quota": 0}),
    Fault("slow", "slow", {"latency_ms": 100, "operation_ms": 10}),
    Fault("slow", "too slow", {"latency_ms": 1500}, 6.0, long=True),
    Fault("disk full", "disk full", {"disk_free": 0}),
    Fault("disk full", "disk nearly full", {"disk_free": 30_000}),
    Fault("disk full", "disk full for a while", {"disk_free": 0}, 0.3),
    Fault("file locked", "locked for a while", {"locked": [FILE]}, 0.2),
    Fault("file locked", "locked for good", {"locked": [FILE]}),
    Fault("process killed", "killed", {"dies_after_operations": 0}),
    Fault("service stuck in STOP_PENDING", "stops late", {"service": {"stop_seconds": 0.6}}),
    Fault("service stuck in STOP_PENDING", "never stops", {"service": {"never_stops": True}}),
    Fault("node gone and back", "gone and back", {"away": True, "operation_ms": 60}, 0.4),
    Fault("node gone and back", "gone for good", {"away": True, "operation_ms": 60}),
    Fault("node gone and back", "power cut", {"power_cut": True}, 0.4),
)


@dataclass(frozen=True)
class Point:
    """A moment in a run, on one node: just before or just after an operation.

    Attributes:
        turn, step: of the run.
        operation, target: of the agent, or a message of WinRM; `{node}` is replaced with the name of the node.
        nth: its number among the same operations since the run began.
        after: once it is done, before the reply is sent.
        file: the file for a lock: its own target, or the next file that a step writes.
    """

    turn: str
    step: str
    operation: str
    target: str
    nth: int
    after: bool = False
    file: str = field(default="", compare=False)

    @property
    def stage(self) -> str:
        """The stage: observing before the first write, writing, or observing at the end."""
        return "wave" if self.turn.startswith("wave") else "verify" if self.turn == "verify" else "observe"

    def __str__(self) -> str:
        when = "after" if self.after else "before"
        what = f"{self.operation} {self.target}".rstrip()
        return f"{when} {what} #{self.nth} in {self.turn}/{self.step}"

    def moment(self, node: str) -> dict[str, Any]:
        """The same moment for the lab (`lab.machine.faults.Moment`)."""
        target = self.target.replace("{node}", node)
        return {"operation": self.operation, "target": target, "nth": self.nth, "after": self.after}


Points = tuple[Point, ...]


@dataclass(frozen=True)
class Cell:
    """A fault at a point."""

    fault: Fault
    point: Point

    def __str__(self) -> str:
        return f"[{self.fault.name}] {self.point}"

    @property
    def needs_worn(self) -> bool:
        """Whether the cell needs a server that was set up before: only there a file is removed or replaced."""
        return self.point.operation == "remove" or (self.point.operation == "spread" and "locked" in self.fault.begins)

    def later(self, node: str) -> dict[str, Any]:
        """The request to the lab (`lab.machine.faults.Later`)."""
        begins = dict(self.fault.begins)
        if begins.get("locked"):
            begins["locked"] = [self.point.file.replace("{node}", node)]
        return {"at": self.point.moment(node), "faults": begins, "seconds": self.fault.seconds}


def points_of(seen: Iterable[tuple[str, str, str, str]], node: str) -> Points:
    """What a run without faults did on a node, as points.

    Args:
        seen: turn, step, operation and target, in order.
        node: the node whose name is in the targets.
    """
    counted: dict[tuple[str, str], int] = {}
    found: list[Point] = []
    for turn, step, operation, text in seen:
        target = "" if operation in _BY_NUMBER else text.replace(node, "{node}")
        counted[operation, target] = counted.get((operation, target), 0) + 1
        if operation[:1].isupper() and (operation not in MESSAGES or turn == "verify"):
            continue  # how many messages come before the verification depends on how often a start was looked at
        point = Point(turn, step, operation, target, counted[operation, target], file=_file(operation, target))
        if found and (point.operation, point.step, point.turn) == _what(found[-1]) and operation in _BY_NUMBER:
            continue  # all neighbours are alike
        found.append(point)
    following = r"C:\inetpub\wwwroot\CMS400\web.config"
    whole: list[Point] = []
    for point in reversed(found):
        following = point.file or following
        whole.append(Point(**{**vars(point), "file": following}))
    return tuple(reversed(whole))


def _what(point: Point) -> tuple[str, str, str]:
    return point.operation, point.step, point.turn


def _file(operation: str, target: str) -> str:
    if operation == "spread":
        return rf"{target}\{{node}}_SyncClient.pvk"
    return target if operation in {"read", "write", "hash", "version", "touch", "remove"} else ""


def every_cell(points: Points, faults: Sequence[Fault] = FAULTS) -> tuple[Cell, ...]:
    """All combinations: each fault before each operation, and after it where a step writes."""
    moments = [*points, *(Point(**{**vars(p), "after": True}) for p in points if p.step in WRITING)]
    return tuple(Cell(fault, point) for point in moments for fault in faults)


def sample(cells: Sequence[Cell], *, seed: str) -> tuple[Cell, ...]:
    """A sample: every fault, and every kind of fault with writing and observing.

    Every operation of a step has a fault, at a target that the seed draws; in a step that writes, one before it and
    one after it. The same seed gives the same cells.
    """
    ordered = sorted(cells, key=lambda cell: hashlib.sha256(f"{seed} {cell}".encode()).digest())
    unmet = {meeting for cell in ordered for meeting in _meetings(cell)}
    chosen: list[Cell] = []
    for gain in (3, 2, 1):
        for cell in ordered:
            met = unmet.intersection(_meetings(cell))
            if len(met) >= gain:
                unmet -= met
                chosen.append(cell)
    return tuple(chosen)


def _meetings(cell: Cell) -> tuple[tuple[str, ...], ...]:
    fault, point = cell.fault, cell.point
    return (
        ("fault", fault.name),
        ("kind", fault.kind, str(point.step in WRITING)),
        ("operation", point.step, point.operation, str(point.after)),
    )


@dataclass(frozen=True)
class Round:
    """Cells that are played at the same time, each on its own node; a node without a cell stays healthy.

    Attributes:
        retried: whether the run is retried before it is rolled back.
    """

    number: int
    cells: Mapping[str, Cell]
    retried: bool


def rounds(
    origin: Sequence[Cell], others: Sequence[Cell], nodes: Sequence[str], worn: Sequence[str], *, spare: bool = False
) -> list[Round]:
    """Every cell once.

    A cell that ends the run for all nodes (on the origin, before the first write) is played alone. Cells that wait
    for a deadline are played together.

    Args:
        origin: cells of the origin.
        others: cells of the other nodes.
        nodes: those others.
        worn: those of them that were set up before.
        spare: leave out cells of the origin that would need more rounds.
    """
    found: list[dict[str, Cell]] = [{ORIGIN: cell} for cell in origin if cell.point.stage == "observe"]
    for stage in ("observe", "wave", "verify"):
        of_origin = deque(cell for cell in origin if cell.point.stage == stage != "observe")
        waiting = sorted((cell for cell in others if cell.point.stage == stage), key=lambda cell: cell.fault.long)
        while waiting or (of_origin and not spare):
            cells, waiting = _assigned(waiting, nodes, worn)
            if of_origin:
                cells[ORIGIN] = of_origin.popleft()
            found.append(cells)
    return [Round(number, cells, retried=number % 2 == 0) for number, cells in enumerate(found, 1)]


def _assigned(waiting: list[Cell], nodes: Sequence[str], worn: Sequence[str]) -> tuple[dict[str, Cell], list[Cell]]:
    """Assigns as many cells as there are nodes, in order; a cell that needs a worn node waits for one."""
    free, dealt, left = list(nodes), {}, []
    for cell in waiting:
        fitting = [node for node in free if node in worn or not cell.needs_worn]
        if not fitting:
            left.append(cell)
            continue
        free.remove(fitting[0])
        dealt[fitting[0]] = cell
    return dealt, left
