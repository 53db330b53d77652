"""What a rollout costs on a nearly-Windows machine, by how many names its cluster has.

    python -m tests.benchmarks.windows_job [NAMES ...]

One machine is real (docs/testing.md), the others are simulated; measured is the real one, by its WinRM. Bytes are those
of HTTP bodies. Exits 1 when a goal is missed: one PowerShell start, 30 round trips for a full join, 12 for an unchanged
node.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.integration.harness import Harness, cluster_of, harness_at, on_disk
from tests.windows.machines import EXE, SERVICE, Farm, farm_at
from workers.records import Status

SIZES = (3, 10, 100)
MACHINE = "P1"
GOALS = {"join": 30, "unchanged": 12}


@dataclass(frozen=True)
class Cost:
    """One run, on the machine."""

    names: int
    run: str
    powershell_starts: int
    round_trips: int
    bytes_to_it: int
    bytes_from_it: int

    @property
    def missed(self) -> bool:
        """Whether it is more than the goal."""
        return self.powershell_starts > 1 or self.round_trips > GOALS[self.run]


def measured(names: int) -> list[Cost]:
    """A full join and a run after it, each by a worker of its own, so that both open a session."""
    with tempfile.TemporaryDirectory(prefix="esync-bench-") as name:
        folder = Path(name)
        with farm_at(folder, (MACHINE,), simulated=names - 1) as farm:
            _same_build(farm)
            return [_run(farm, folder, names, run) for run in GOALS]


def _same_build(farm: Farm) -> None:
    """The machine's service is one to practise on: the simulated servers get the same program."""
    program = rf"{SERVICE}\{EXE}.exe"
    ours = farm.machines[MACHINE].at(program).read_bytes()
    for node in farm.lab.nodes:
        if node != MACHINE:
            on_disk(farm.lab, node, program).write_bytes(ours)


def _run(farm: Farm, folder: Path, names: int, run: str) -> Cost:
    with harness_at(folder / run, ESYNC_LEASE="20", ESYNC_STALL_AFTER="15") as harness:
        harness.wait_for_worker()
        before = farm.lab.report(MACHINE)
        _rolled_out(harness, farm)
        after = farm.lab.report(MACHINE)
    return Cost(names, run, *(_between(before, after, what) for what in _COUNTED))


_COUNTED = ("powershell_starts", "round_trips", "bytes_received", "bytes_sent")


def _between(before: dict[str, Any], after: dict[str, Any], what: str) -> int:
    return int(after[what] - before[what])


def _rolled_out(harness: Harness, farm: Farm) -> None:
    """Every node is done. The verdict may refute the port of a practice service (docs/testing.md)."""
    done = harness.finished(harness.start(cluster_of(farm.lab)).id, timeout=300)
    if not {node.status for node in done.nodes} <= {Status.CHANGED, Status.UNCHANGED}:
        raise RuntimeError(done.record.summary)


def table(costs: list[Cost]) -> Table:
    """What was measured, a line a run."""
    shown = Table(title="A rollout on one nearly-Windows machine")
    for head in ("names", "run", "PowerShell starts", "round trips", "kB to it", "kB from it"):
        shown.add_column(head, justify="right")
    for one in costs:
        sizes = (f"{one.bytes_to_it / 1000:.1f}", f"{one.bytes_from_it / 1000:.1f}")
        shown.add_row(str(one.names), one.run, str(one.powershell_starts), str(one.round_trips), *sizes)
    return shown


def main() -> int:
    """Measures, prints, compares."""
    sizes = [int(word) for word in sys.argv[1:]] or list(SIZES)
    costs = [cost for names in sizes for cost in measured(names)]
    Console(width=120).print(table(costs))
    return 1 if any(cost.missed for cost in costs) else 0


if __name__ == "__main__":
    sys.exit(main())
