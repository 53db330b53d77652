"""What the run store of one process holds: all data of each run, and what belongs to none."""

import itertools
import threading
from collections import deque
from dataclasses import dataclass, field

from workers.records import Event, RunRecord, StepOutcome
from workers.store.chain import Chain, linked
from workers.store.memory_kept import Shelf
from workers.store.memory_places import Places
from workers.store.port import EVENT_CAP

__all__ = ["KeptRun", "Shared"]


@dataclass
class KeptRun:
    """All data of one run."""

    record: RunRecord
    pulse: int = 0
    locked: bool = False
    outcomes: dict[tuple[str, str, str], StepOutcome] = field(default_factory=dict)
    fences: dict[str, int] = field(default_factory=dict)
    leases: dict[str, str] = field(default_factory=dict)
    places: Places = field(default_factory=Places)
    documents: dict[str, dict[str, str]] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    events: deque[Event] = field(default_factory=deque)
    chain: Chain = field(default_factory=Chain)
    ended: bool = False  #: whether a verdict was saved

    def note(self, event: Event) -> Event:
        """Appends one event to the history and to its chain; beyond the limit, removes the oldest."""
        count = self.chain.count + 1
        noted = linked(self.chain.head, event.model_copy(update={"id": f"{count}-0"}))
        self.events.append(noted)
        self.chain = self.chain.model_copy(update={"count": count, "head": noted.chain})
        while len(self.events) > EVENT_CAP:
            gone = self.events.popleft()
            self.chain = self.chain.model_copy(update={"dropped": self.chain.dropped + 1, "root": gone.chain})
        return noted


class Shared:
    """The data that several stores of one process share."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.runs: dict[str, KeptRun] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.holds: dict[tuple[str, str], str] = {}
        self.servers: dict[str, str] = {}
        self.numbers: dict[tuple[str, str], tuple[int, str]] = {}
        self.pulses = itertools.count(1)
        self.shelf = Shelf()
