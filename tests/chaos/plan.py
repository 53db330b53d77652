"""What happens in a round, drawn from a seed: the same seed and number always give the same round."""

import random
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Fault", "Round", "round_of"]

LONGEST_AWAY = 2.0  #: seconds until a supervisor has started the broker again


class Fault(StrEnum):
    """What happens to the processes of esync; each is started again at once."""

    WORKER_KILLED = "worker killed"
    BROKER_KILLED = "broker killed"
    BOTH_KILLED = "both killed"
    WORKER_RESTARTED = "worker restarted"
    BROKER_RESTARTED = "broker restarted"

    @property
    def of_worker(self) -> bool:
        """Whether the worker ends."""
        return self in {Fault.WORKER_KILLED, Fault.BOTH_KILLED, Fault.WORKER_RESTARTED}

    @property
    def of_broker(self) -> bool:
        """Whether the broker ends."""
        return self in {Fault.BROKER_KILLED, Fault.BOTH_KILLED, Fault.BROKER_RESTARTED}

    @property
    def hard(self) -> bool:
        """Whether it is a `kill -9`."""
        return self not in {Fault.WORKER_RESTARTED, Fault.BROKER_RESTARTED}


@dataclass(frozen=True, slots=True)
class Round:
    """One run with one fault.

    Attributes:
        number: its place, from 0.
        moment: of the fault, as a part of the time that a run takes without a fault, 0 to 1.
        away: seconds that the broker is away.
        waves: how the run divides its nodes.
    """

    number: int
    fault: Fault
    moment: float
    away: float
    waves: str | tuple[int | str, ...]


def round_of(seed: int, number: int) -> Round:
    """The round of that number. The faults come in turn, everything else is drawn."""
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 - moments, no secrets
    return Round(
        number,
        tuple(Fault)[number % len(Fault)],
        chance.random(),
        chance.uniform(0.0, LONGEST_AWAY),
        chance.choice(("all", (1, "50%"))),
    )
