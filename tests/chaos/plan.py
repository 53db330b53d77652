"""What happens in a round, drawn from a seed: the same seed and number always give the same round."""

import random
from dataclasses import dataclass
from enum import StrEnum

from tests.refusing import Refusal

__all__ = ["Fault", "Round", "round_of"]

LONGEST_AWAY = 2.0  #: seconds until a supervisor has started the broker again
LONGEST = 15.0  #: seconds of a fault that passes by itself


class Fault(StrEnum):
    """What happens to the processes of esync. Those that end are started again at once."""

    WORKER_KILLED = "worker killed"
    BROKER_KILLED = "broker killed"
    BOTH_KILLED = "both killed"
    WORKER_RESTARTED = "worker restarted"
    BROKER_RESTARTED = "broker restarted"
    WORKER_KILLED_TWICE = "worker killed twice"  #: the second time before it has recovered
    WORKER_KILLED_BETWEEN = "worker killed between turns"  #: it has just opened one, and sends its messages
    WORKER_FROZEN = "worker frozen"
    BROKER_FROZEN = "broker frozen"
    NO_WRITES = "broker without writes"
    BROKER_OLDER = "broker with older data"  #: it lost its last moments, as in a power failure or a fail-over

    @property
    def of_worker(self) -> bool:
        """Whether the worker ends."""
        return self.startswith("worker killed") or self in {Fault.BOTH_KILLED, Fault.WORKER_RESTARTED}

    @property
    def of_broker(self) -> bool:
        """Whether the broker ends."""
        return self in {Fault.BROKER_KILLED, Fault.BOTH_KILLED, Fault.BROKER_RESTARTED, Fault.BROKER_OLDER}

    @property
    def passes(self) -> bool:
        """Whether it passes by itself: how long a run stands still counts from then on."""
        return self in {Fault.WORKER_FROZEN, Fault.BROKER_FROZEN, Fault.NO_WRITES}

    @property
    def deaths(self) -> int:
        """How often a process is killed, or taken for dead by others."""
        return {Fault.WORKER_RESTARTED: 0, Fault.BROKER_RESTARTED: 0, Fault.WORKER_KILLED_TWICE: 2}.get(self, 1)


@dataclass(frozen=True, slots=True)
class Round:
    """One run with one fault.

    Attributes:
        number: its place, from 0.
        moment: of the fault, as a part of the time that a run takes without a fault, 0 to 1.
        away: seconds that the broker is away, or until the second kill, or that it loses.
        waves: how the run divides its nodes.
        lasts: seconds of a fault that passes.
        why: the broker takes no writes.
        in_work: how many nodes may be in work at the same time: all, or few, so that the others wait for them.
    """

    number: int
    fault: Fault
    moment: float
    away: float
    waves: str | tuple[int | str, ...]
    lasts: float = 0.0
    why: Refusal = Refusal.MEMORY
    in_work: int = 64


def round_of(seed: int, number: int) -> Round:
    """The round of that number. The faults come in turn, everything else is drawn."""
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 - moments, no secrets
    return Round(
        number,
        tuple(Fault)[number % len(Fault)],
        chance.random(),
        chance.uniform(0.0, LONGEST_AWAY),
        chance.choice(("all", (1, "50%"))),
        chance.uniform(0.0, LONGEST),
        chance.choice(tuple(Refusal)),
        chance.choice((64, 3)),
    )
