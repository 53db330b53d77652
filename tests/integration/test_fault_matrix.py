"""Every fault at every point of a rollout: untouched, fully changed, or said precisely and healed; then taken back.

The points are what a clean run was seen to do, so that nobody has to think of them. Here a sample of all cells is
played in which every kind of fault meets every step and every operation meets faults; `make exhaustive` plays all.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.harness import Harness, cluster_of, four_servers, rig_at
from tests.integration.matrix import FAULTS, ORIGIN, Cell, Points, Round, every_cell, rounds, sample
from tests.integration.matrix_bench import Bench, bench_of
from tests.integration.matrix_play import Played, play
from tests.sampling import EXHAUSTIVE
from workers.records import Verdict

LOG = os.environ.get("FAULT_MATRIX_LOG", "")  #: a file that tells how far it is
SEED = os.environ.get("FAULT_MATRIX_SEED", "1")
LANES, NODES = 2, 10

pytestmark = [pytest.mark.integration, pytest.mark.timeout(6 * 3600 if EXHAUSTIVE else 400)]


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """A broker and a worker that takes on all nodes at once."""
    with rig_at(tmp_path_factory.mktemp("rig"), ESYNC_CONCURRENCY="48") as started:
        started.wait_for_worker()
        yield started


@pytest.fixture(scope="module")
def benches(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, ...]]:
    """Clusters that are played on at the same time: while one waits for a deadline, another one works."""
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(
                bench_of(tmp_path_factory.mktemp(f"lane-{lane}") / "lab", harness, nodes=NODES, name=f"lane-{lane}")
            )
            for lane in range(1, LANES + 1)
        )


def test_every_cell(benches: tuple[Bench, ...], record_property: Callable[[str, object], None]) -> None:
    """In no cell is a file half-written, an outcome untrue, a failure unhealed, or a byte other after the rollback."""
    bench = benches[0]
    origin, others = bench.points[ORIGIN], bench.points[bench.worn[0]]
    everything = every_cell(others)
    chosen = everything if EXHAUSTIVE else sample(everything, seed=SEED)
    planned = rounds(_of_the_origin(origin, others), chosen, bench.others, bench.worn, spare=not EXHAUSTIVE)
    begun = time.monotonic()
    played = _all_played(benches, planned)
    cells = sum(len(this.cells) for this in planned)
    ends = Counter[str]()
    for one in played:
        ends.update(one.ends)
    record_property(
        "measured",
        f"fault matrix: {len(FAULTS)} faults x {len(everything) // len(FAULTS)} points = {len(everything)} cells"
        f" (and {len(every_cell(origin))} of the origin); played {cells} in {sum(p.runs for p in played)} runs,"
        f" {time.monotonic() - begun:.0f} s: " + ", ".join(f"{count} {end}" for end, count in ends.most_common()),
    )
    assert [] == [str(cell) for one in played for cell in one.missed], "moments that never came"
    assert [] == [wrong for one in played for wrong in one.wrong]


def _of_the_origin(origin: Points, others: Points) -> tuple[Cell, ...]:
    """A sample always. What ends the run for everybody is played alone, so that of those there are few."""
    known = {(point.step, point.operation, point.target) for point in others}
    own = [point for point in origin if (point.step, point.operation, point.target) not in known]
    chosen = sample(every_cell(origin if EXHAUSTIVE else tuple(own)), seed=SEED)
    early = [cell for cell in chosen if cell.point.stage == "observe"]
    return (*(cell for cell in chosen if cell.point.stage != "observe"), *(early if EXHAUSTIVE else early[:3]))


def _all_played(benches: tuple[Bench, ...], planned: list[Round]) -> list[Played]:
    """On all clusters at once, each taking the next round when it is done with one."""
    waiting = iter(planned)

    def lane(bench: Bench) -> list[Played]:
        played = []
        while this := next(waiting, None):
            played.append(play(bench, this))
            if LOG:
                with Path(LOG).open("a") as log:
                    log.write(f"round {this.number} of {len(planned)}, {played[-1].seconds:.0f} s\n")
                    log.writelines(f"{wrong}\n" for wrong in played[-1].wrong)
        return played

    with ThreadPoolExecutor(len(benches)) as threads:
        return [one for lane_played in threads.map(lane, benches) for one in lane_played]


def test_a_family_that_cannot_be_read_is_not_replaced(harness: Harness, tmp_path: Path) -> None:
    """A certificate file that another process holds is no missing one: no other family is made, nothing is written."""
    with four_servers(tmp_path / "lab") as lab:
        cluster = cluster_of(lab, generate_certificates=True, retries={"backoff": 0})
        folder = r"C:\Program Files\Ektron\CMS400v80\Utilities\Software\SecurityConfigurator"
        lab.break_node("S1", locked=[rf"{folder}\S1_SyncClient.pvk"])
        held = harness.rollout(cluster)
        assert held.record.verdict is Verdict.FAILED
        assert "S1_SyncClient.pvk" in held.record.summary
        lab.heal("S1")
        before = (lab.disk("S1") / "Program Files/Ektron/CMS400v80/Utilities/Software/SecurityConfigurator").iterdir()
        family = {path.name: path.read_bytes() for path in before}
        assert harness.rollout(cluster).record.verdict is Verdict.JOINED
        service = lab.disk("P1") / "Program Files/Ektron/EktronWindowsService30"
        assert family["S1_SyncClient.pfx"] == (service / "P1_SyncClient.pfx").read_bytes()
