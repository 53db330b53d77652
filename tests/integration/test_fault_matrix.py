"""Every fault at every point of a rollout: each node ends untouched, joined, or failed with a precise report.

The points are recorded in a run without faults, so that none is forgotten. `make test` plays a sample in which every
fault occurs and every operation of a step meets one; `make exhaustive` plays all cells.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.harness import Harness, cluster_of, four_servers, harness_at
from tests.integration.matrix import FAULTS, ORIGIN, Cell, Points, Round, every_cell, rounds, sample
from tests.integration.matrix_cluster import MatrixCluster, matrix_cluster
from tests.integration.matrix_play import Played, play
from tests.sampling import EXHAUSTIVE
from workers.records import Verdict

LOG = os.environ.get("FAULT_MATRIX_LOG", "")  #: a file with the progress
SEED = os.environ.get("FAULT_MATRIX_SEED", "1")
NODES = 10
CLUSTERS = 2 if EXHAUSTIVE else 1  #: a second one works while the first waits for a deadline, and costs its own start

pytestmark = [pytest.mark.integration, pytest.mark.timeout(6 * 3600 if EXHAUSTIVE else 1800)]


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """A broker and a worker that works on all nodes at once."""
    with harness_at(tmp_path_factory.mktemp("harness"), ESYNC_CONCURRENCY="48") as started:
        started.wait_for_worker()
        yield started


@pytest.fixture(scope="module")
def clusters(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MatrixCluster, ...]]:
    """Clusters that are used at the same time: while one waits for a deadline, another one works."""
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(
                matrix_cluster(
                    tmp_path_factory.mktemp(f"matrix-{number}") / "lab", harness, nodes=NODES, name=f"matrix-{number}"
                )
            )
            for number in range(1, CLUSTERS + 1)
        )


def test_every_cell(clusters: tuple[MatrixCluster, ...], record_property: Callable[[str, object], None]) -> None:
    """No cell ends with a half-written file, a wrong outcome, a failed repair, or a changed byte after the rollback."""
    cluster = clusters[0]
    origin, others = cluster.points[ORIGIN], cluster.points[cluster.worn[0]]
    everything = every_cell(others)
    chosen = everything if EXHAUSTIVE else sample(everything, seed=SEED)
    planned = rounds(_of_the_origin(origin, others), chosen, cluster.others, cluster.worn, spare=not EXHAUSTIVE)
    begun = time.monotonic()
    played = _all_played(clusters, planned)
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
    """Always a sample. Cells that end the run for all nodes are played alone: `make test` plays one of them."""
    known = {(point.step, point.operation, point.target) for point in others}
    own = [point for point in origin if (point.step, point.operation, point.target) not in known]
    chosen = sample(every_cell(origin if EXHAUSTIVE else tuple(own)), seed=SEED)
    early = [cell for cell in chosen if cell.point.stage == "observe"]
    return (*(cell for cell in chosen if cell.point.stage != "observe"), *(early if EXHAUSTIVE else early[:1]))


def _all_played(clusters: tuple[MatrixCluster, ...], planned: list[Round]) -> list[Played]:
    """Plays the rounds on all clusters at once; each cluster takes the next round when it is free."""
    waiting = iter(planned)

    def lane(cluster: MatrixCluster) -> list[Played]:
        played = []
        while this := next(waiting, None):
            played.append(play(cluster, this))
            if LOG:
                with Path(LOG).open("a") as log:
                    log.write(f"round {this.number} of {len(planned)}, {played[-1].seconds:.0f} s\n")
                    log.writelines(f"{wrong}\n" for wrong in played[-1].wrong)
        return played

    with ThreadPoolExecutor(len(clusters)) as threads:
        return [one for lane_played in threads.map(lane, clusters) for one in lane_played]


def test_a_family_that_cannot_be_read_is_not_replaced(harness: Harness, tmp_path: Path) -> None:
    """A certificate file that another process has locked is not missing: no new family is made, nothing is written."""
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
