"""What operators have requested of a run: pause, resume, cancel, promote. Only here are these flags known.

A cancel is final: whatever other flags are set or cleared, the run is cancelled. A pause counts only without a cancel.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.records import Event
    from workers.store.port import RunStore

__all__ = [
    "CANCEL",
    "PAUSE",
    "WAITED",
    "Steering",
    "acknowledge_resume",
    "hold_before",
    "let_begin",
    "request_cancel",
    "request_pause",
    "request_resume",
    "verb_for_held",
]

CANCEL = "cancel"  #: the flag that asks every step to stop; a replay of a run sets it too
PAUSE = "pause"  #: the flag that lets no step start
_RESUMED = "resumed"  #: the flag that asks to send again the messages that were dropped while the run was paused
WAITED = "waited"  #: the flag with the seconds that a run has waited before a turn; the turn follows in its name
_HELD = "held"  #: the flag with the turn before which the run waits, or waited, for a person
_PROMOTED = "promoted"  #: the flag with the turn that a person, or the time, let begin
_GATE = "gate"  #: the flag with the turn before which the run waits, or waited, for the approval of a second person


@dataclass(frozen=True, slots=True)
class Steering:
    """What currently applies to a run. `cancelled` and `paused` give the reason; at most one of them is not empty.

    Attributes:
        cancelled: the run stops at the next safe point, and no further step starts.
        paused: no further step starts for now; running steps finish.
        resumed: the messages that were dropped while the run was paused have to be sent again.
        held: the turn before which the run waits for a person; empty while it does not.
        promoted: the last turn that a person, or the time, let begin.
        unapproved: whether it waits for the approval of its plan by a second person.
        waited: seconds that it has waited before `held`, as the workers last counted them.
    """

    cancelled: str = ""
    paused: str = ""
    resumed: bool = False
    held: str = ""
    promoted: str = ""
    unapproved: bool = False
    waited: float = 0.0

    @property
    def word(self) -> str:
        """What was requested, in a few words; empty if the run just works."""
        if self.cancelled or self.paused:
            return "stopping" if self.cancelled else "paused"
        return f"held before {self.held}" if self.held else ""

    @property
    def waits(self) -> bool:
        """Whether the run does nothing until a person continues it."""
        return bool(self.paused or self.held)

    @classmethod
    def of(cls, store: "RunStore", run_id: str) -> "Steering":
        """The requests that apply to a run now, from its flags in the store.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        return cls.from_flags(store.flags(run_id))

    @classmethod
    def from_flags(cls, flags: Mapping[str, str]) -> "Steering":
        """The requests that are in the flags of a run."""
        cancelled = flags.get(CANCEL, "")
        held, promoted = flags.get(_HELD, ""), flags.get(_PROMOTED, "")
        held = "" if cancelled or held == promoted else held
        return cls(
            cancelled,
            "" if cancelled else flags.get(PAUSE, ""),
            resumed=_RESUMED in flags,
            held=held,
            promoted=promoted,
            unapproved=bool(held) and held == flags.get(_GATE),
            waited=float(flags.get(f"{WAITED}.{held}") or 0) if held else 0.0,
        )


def verb_for_held(*, unapproved: bool) -> str:
    """The verb of the command that lets a held run begin its turn."""
    return "approve" if unapproved else "promote"


def hold_before(store: "RunStore", run_id: str, turn: str, *events: "Event", approval: bool = False) -> None:
    """Makes a run wait for a person before a turn; with `approval` for a second one, who approves its plan.

    The events that say so are noted once, also if several processes do so at the same time.
    """
    if approval:  # first: the run must never be held there without it
        store.flag(run_id, _GATE, turn)
    store.flag(run_id, _HELD, turn, *events)


def let_begin(store: "RunStore", run_id: str, turn: str, *events: "Event") -> None:
    """Lets a turn begin before which a run waits, or will wait. The events are noted once, as there."""
    store.flag(run_id, _PROMOTED, turn, *events)


def request_cancel(store: "RunStore", run_id: str, why: str) -> None:
    """Cancels a run, whether it is paused or not. `why` must not be empty."""
    store.flag(run_id, CANCEL, why)


def request_pause(store: "RunStore", run_id: str, why: str) -> None:
    """Pauses a run. `why` must not be empty."""
    store.flag(run_id, PAUSE, why)


def request_resume(store: "RunStore", run_id: str) -> None:
    """Ends the pause of a run and asks to send again what was dropped."""
    # In this order: if this process dies in between, the run is paused or continues, but it is never left without both.
    store.flag(run_id, _RESUMED)
    store.flag(run_id, PAUSE, "")


def acknowledge_resume(store: "RunStore", run_id: str) -> None:
    """Clears the request to send again; called right before the messages are sent."""
    store.flag(run_id, _RESUMED, "")
