"""What operators have requested of a run: pause, resume, cancel. The one place that reads and writes these flags.

A cancel is final: whatever other flags are set or cleared, the run is cancelled. A pause counts only without a cancel.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.store.port import RunStore

__all__ = ["CANCEL", "Steering", "acknowledge_resume", "request_cancel", "request_pause", "request_resume"]

CANCEL = "cancel"  #: the flag that asks every step to stop; a replay of a run sets it too
_PAUSE = "pause"  #: the flag that lets no step start
_RESUMED = "resumed"  #: the flag that asks to send again the messages that were dropped while the run was paused


@dataclass(frozen=True, slots=True)
class Steering:
    """What currently applies to a run. `cancelled` and `paused` give the reason; at most one of them is not empty.

    Attributes:
        cancelled: the run stops at the next safe point, and no further step starts.
        paused: no further step starts for now; running steps finish.
        resumed: the messages that were dropped while the run was paused have to be sent again.
    """

    cancelled: str = ""
    paused: str = ""
    resumed: bool = False

    @classmethod
    def of(cls, store: "RunStore", run_id: str) -> "Steering":
        """The requests that apply to a run now, from its flags in the store.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        flags = store.flags(run_id)
        cancelled = flags.get(CANCEL, "")
        return cls(cancelled, "" if cancelled else flags.get(_PAUSE, ""), resumed=_RESUMED in flags)


def request_cancel(store: "RunStore", run_id: str, why: str) -> None:
    """Cancels a run, whether it is paused or not. `why` must not be empty."""
    store.flag(run_id, CANCEL, why)


def request_pause(store: "RunStore", run_id: str, why: str) -> None:
    """Pauses a run. `why` must not be empty."""
    store.flag(run_id, _PAUSE, why)


def request_resume(store: "RunStore", run_id: str) -> None:
    """Ends the pause of a run and asks to send again what was dropped."""
    # In this order: if this process dies in between, the run is paused or continues, but it is never left without both.
    store.flag(run_id, _RESUMED)
    store.flag(run_id, _PAUSE, "")


def acknowledge_resume(store: "RunStore", run_id: str) -> None:
    """Clears the request to send again; called right before the messages are sent."""
    store.flag(run_id, _RESUMED, "")
