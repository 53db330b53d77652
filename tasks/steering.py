"""What a run is told from outside: to wait, to go on, to stop. The one place that reads its flags so.

A cancel is for good: whatever else is raised or taken down beside it, the run is cancelled. A pause counts without one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CANCEL", "PAUSE", "RESUMED", "Steering"]

CANCEL = "cancel"  #: the flag that asks every step to stop
PAUSE = "pause"  #: the flag that lets no step begin
RESUMED = "resumed"  #: the flag that asks to send again what was turned away while the run was paused


@dataclass(frozen=True, slots=True)
class Steering:
    """What holds for a run now; both fields say why, at most one is not empty.

    Attributes:
        cancelled: it stops at the next safe point, and nothing begins any more.
        paused: nothing begins for now; what is in the middle ends.
        resumed: what was turned away while the run was paused is to be sent again.
    """

    cancelled: str = ""
    paused: str = ""
    resumed: bool = False

    @classmethod
    def of(cls, flags: Mapping[str, str]) -> "Steering":
        """As the run's flags say."""
        cancelled = flags.get(CANCEL, "")
        return cls(cancelled, "" if cancelled else flags.get(PAUSE, ""), resumed=RESUMED in flags)
