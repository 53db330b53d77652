"""A sample of what `make chaos` does, with short leases: worker, broker and both are killed in mid-run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.plan import Fault, Round, round_of
from tests.chaos.site import site_at
from tests.integration.harness import QUICK

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_survives_every_fault(
    tmp_path: Path, record_property: Callable[[str, object], None], workers: int
) -> None:
    """Whatever is killed in mid-run: joined, every service restarted once, nothing half-written, nothing left."""
    faults = (Fault.WORKER_KILLED, Fault.BROKER_KILLED, Fault.BOTH_KILLED)
    with site_at(tmp_path, nodes=4, fresh=False, workers=workers, **QUICK) as site:
        played = [
            site.play(Round(number, fault, 0.3 + 0.2 * number, 0.1, "all")) for number, fault in enumerate(faults)
        ]
    assert [] == [what for one in played for what in one.wrong]
    told = ", ".join(f"{one.round.fault} {one.recovery:.1f} s" for one in played)
    record_property("measured", f"chaos with short leases and {workers} workers: {told}")


def test_a_round_can_be_repeated() -> None:
    """The same seed and number give the same round; each fault has its turn."""
    drawn = [round_of(7, number) for number in range(10)]
    assert drawn == [round_of(7, number) for number in range(10)]
    assert drawn != [round_of(8, number) for number in range(10)]
    assert [*Fault] * 2 == [one.fault for one in drawn]
