"""A sample of what `make chaos` does, with short leases: one in three of its faults, with one worker and with two."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.plan import Fault, Round, round_of
from tests.chaos.site import site_at
from tests.integration.harness import QUICK
from tests.sampling import rotated

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_survives_every_fault(
    tmp_path: Path, record_property: Callable[[str, object], None], workers: int
) -> None:
    """Whatever happens in mid-run: joined, every service restarted once, nothing half-written, nothing left."""
    faults = [tuple(Fault)[number] for number in rotated(len(Fault), 3, f"chaos {workers}")]
    with site_at(tmp_path, nodes=4, fresh=False, workers=workers, **QUICK) as site:
        played = [
            site.play(Round(number, fault, 0.3 + 0.1 * number, 0.1, "all", 1.0)) for number, fault in enumerate(faults)
        ]
    assert [] == [what for one in played for what in one.wrong]
    told = ", ".join(f"{one.round.fault} {one.recovery:.1f} s" for one in played)
    record_property("measured", f"chaos with short leases and {workers} workers: {told}")


def test_a_round_can_be_repeated() -> None:
    """The same seed and number give the same round; each fault has its turn."""
    numbers = range(2 * len(Fault))
    drawn = [round_of(7, number) for number in numbers]
    assert drawn == [round_of(7, number) for number in numbers]
    assert drawn != [round_of(8, number) for number in numbers]
    assert [*Fault] * 2 == [one.fault for one in drawn]
