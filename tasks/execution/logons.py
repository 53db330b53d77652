"""Limits how often an account may be refused in a run, so that it is not locked even if many nodes refuse it at once.

A run may collect `max_refused` refusals of an account that some node has accepted, and one refusal of an account that
no node has accepted. To enforce that without long waits, an account has as many *slots* as it may collect refusals. A
logon takes a slot in the store from the message by which a node may refuse it to the node's answer; a refused logon
keeps its slot for the rest of the run. So refusals and logons in progress together never exceed the number of slots. A
process that has more nodes waiting hands its slot on to the next of them, for a short time: then other processes have
their chance.

A node that has logged on earlier in this run has shown that the password is correct there. When all slots are used,
such nodes share one extra slot, one at a time, until one of them refuses too: then the account itself has changed.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workers.errors import EsyncError, LogonRefused
from workers.records import Endpoint
from workers.remembered import Remembered
from workers.settings import Secret
from workers.store.port import Place

if TYPE_CHECKING:
    from workers.store.port import RunStore

__all__ = ["Logon", "Logons", "NoSlot", "NotTried"]

SLOT = 3.0  #: seconds a slot is kept for a node that neither accepts nor refuses: it must not block the others
POLL = 0.03  #: seconds between two checks for a free slot
TENURE = 1.0  #: seconds for which a process hands a slot on from node to node
LOGONS = "logons"  #: document kind: the nodes that have accepted a logon in this run
KNOWN = "known"  #: the extra slot of nodes that have logged on earlier in this run
_FREE = 0.0  #: seconds; a slot that is taken for so long is given back
_QUEUES = 256  #: queues kept before unused ones are removed: runs come and go, a worker lives for months
_ACCEPTED = 20_000  #: nodes of all runs that are remembered to have accepted a logon


class NoSlot(EsyncError):
    """Other nodes are logging on with this account: try again later."""


class NotTried(EsyncError):
    """The account was refused as often as it may be in one run."""

    slug = LogonRefused.slug
    failure = None


class _RefusedBefore(LogonRefused):
    """The node had already refused the logon in this run; nothing was sent."""


@dataclass(frozen=True, slots=True)
class _Usage:
    """The logons of one account in a run, from the flags of the run."""

    limit: int
    accepted: bool
    refused: tuple[tuple[str, str], ...]  #: slot and node of each refusal

    @classmethod
    def of(cls, name: str, flags: Mapping[str, str], most: int) -> "_Usage":
        accepted = f"accepted:{name}" in flags
        refusals = (flag.split(":", 3) for flag in flags if flag.startswith(f"refused:{name}:"))
        limit = max(1, most) if accepted else 1
        return cls(limit, accepted, tuple(sorted((slot, node) for _, _, slot, node in refusals)))

    @property
    def exhausted(self) -> bool:
        """Whether the account may collect no more refusals from nodes that have not accepted it."""
        return len(self.refused) >= self.limit

    def slots(self, *, known: bool) -> list[str]:
        """The slots that a node may take; `known` is whether it has logged on earlier in this run."""
        used = {slot for slot, _ in self.refused}
        if KNOWN in used:
            return []
        if self.exhausted:
            return [KNOWN] if known else []
        return [str(slot) for slot in range(self.limit) if str(slot) not in used]

    def not_tried(self) -> NotTried:
        """Why a node may not log on."""
        nodes = " and ".join(sorted({node for _, node in self.refused}))
        return NotTried(f"not tried: the same account was refused at {nodes}; another refusal could lock it")


@dataclass(frozen=True, slots=True)
class _Slot:
    """A slot that a process has taken.

    Attributes:
        holder: in whose name.
        since: seconds of the monotonic clock.
    """

    name: str
    holder: str
    since: float

    def lasts(self, seconds: float) -> bool:
        """Whether it was taken less than that long ago."""
        return time.monotonic() - self.since < seconds


@dataclass(slots=True)
class _Queue:
    """The threads of this process that log on with the same account in the same run, and their slots.

    Attributes:
        changed: guards this object; notified when another thread may go on.
        held: the slots of this process, by name.
        idle: those of them that no logon uses: they are for the threads that wait.
        waiting: threads that wait for a slot.
        asking: whether one of them asks the store; the others need not.
        accepted: whether a node has accepted the account.
    """

    changed: threading.Condition = field(default_factory=threading.Condition)
    held: dict[str, _Slot] = field(default_factory=dict)
    idle: list[_Slot] = field(default_factory=list)
    waiting: int = 0
    asking: bool = False
    accepted: bool = False

    @property
    def used(self) -> bool:
        """Whether a logon needs it."""
        return bool(self.waiting or self.held)


@dataclass
class Logon:
    """The logon of one node, within one attempt of a step."""

    run: str
    node: str
    account: str
    most: int
    process: "Logons"
    queue: _Queue
    flags: Mapping[str, str] | None  #: of the run, as far as they are known
    later: dict[Place, str] | None  #: takes the documents that are stored with the outcome of the step
    _slot: _Slot | None = field(default=None, init=False)
    _asks: bool = field(default=False, init=False)

    def secret(self, reveal: Callable[[], Secret]) -> Secret:
        """The password, if the account may be used on the node.

        Raises:
            NotTried, LogonRefused: as `admit`; nothing was sent to the node.
        """
        self._slots()
        return reveal()

    def admit(self) -> None:
        """Waits until the node may log on. Does nothing if it may already.

        Raises:
            NotTried: the account may not be used on this node in this run.
            LogonRefused: the node has already refused in this run.
            NoSlot: too many other nodes are logging on with the account.
        """
        if self._slot is not None:
            return
        until = time.monotonic() + self.process.max_wait
        with self.queue.changed:
            self.queue.waiting += 1
            try:
                while not self._take_slot():
                    if time.monotonic() > until:
                        raise NoSlot(f"{self.node}: other nodes are logging on with the same account")
                    self.queue.changed.wait(POLL if self._asks else max(0.0, until - time.monotonic()) + POLL)
            finally:
                self._leave()

    def _leave(self) -> None:
        """This thread waits no longer; the next one asks the store, or idle slots are given back."""
        queue = self.queue
        queue.waiting -= 1
        queue.asking = queue.asking and not self._asks
        if self._asks or queue.idle:  # idle: it was woken for a slot that it did not take
            queue.changed.notify()
        self._asks = False
        if not queue.waiting:
            while queue.idle:
                self._give_back(queue.idle.pop())

    def accepted(self) -> None:
        """Records that the node accepted the logon. Does nothing if there was no logon."""
        if self._slot is None:
            return
        if not (self.queue.accepted or self._usage(again=False).accepted):
            self.store.flag(self.run, f"accepted:{self.account}", self.node)
        self.queue.accepted = True
        self.process.known.put(f"{self.run} {self.node}", True)
        if self.later is None:
            self.store.put(self.run, LOGONS, self.node, self.account)
        else:
            self.later[LOGONS, self.node] = self.account
        self.end(hand_on=True)

    def refused(self) -> None:
        """Records that the node refused the logon, at the start of a session or during it."""
        slot = self._slot.name if self._slot else KNOWN if self._known() else "none"
        self.store.flag(self.run, f"refused:{self.account}:{slot}:{self.node}", self.node)
        self.end()

    def end(self, *, hand_on: bool = False) -> None:
        """Gives the slot back, or hands it on; the slot of a refused logon counts as used by then."""
        slot, queue = self._slot, self.queue
        if slot is None:
            return
        self._slot = None
        with queue.changed:
            if hand_on and queue.waiting and slot.lasts(TENURE) and queue.held.get(slot.name) is slot:
                queue.idle.append(slot)
                queue.changed.notify()  # one: of all that wait, each that wakes for nothing costs as much
            else:
                self._give_back(slot)
                queue.changed.notify_all()  # that the one that asks is among them

    def _give_back(self, slot: _Slot) -> None:
        if self.queue.held.get(slot.name) is slot:
            del self.queue.held[slot.name]
        self.store.elect(self._name(slot.name), slot.holder, _FREE)

    def _take_slot(self) -> bool:
        """Takes a slot that another thread hands on, or one from the store."""
        queue = self.queue
        slots = self._slots(again=self._asks)
        if queue.idle:
            self._slot = queue.idle.pop()
            return True
        if queue.asking and not self._asks:
            return False
        self._asks = queue.asking = True
        return self._take_from_store(slots)

    def _slots(self, *, again: bool = False) -> list[str]:
        """The slots that the node may take.

        Raises:
            NotTried, LogonRefused: there is none; see `admit`.
        """
        usage = self._usage(again=again)
        if any(node == self.node for _, node in usage.refused):
            raise _RefusedBefore(f"{self.node} refused the logon before in this run; it is not tried again")
        slots = usage.slots(known=usage.exhausted and self._known())
        if not slots:
            raise usage.not_tried()
        return slots

    def _take_from_store(self, slots: list[str]) -> bool:
        for name in slots:
            own = self.queue.held.get(name)
            if own is not None and own.lasts(SLOT):
                continue
            slot = _Slot(name, f"{self.process.holder}/{self.node}", time.monotonic())
            if self.store.elect(self._name(name), slot.holder, SLOT):
                self._slot = self.queue.held[name] = slot
                if not any(used == name for used, _ in self._usage().refused):
                    return True
                self.end()  # the previous holder has just been refused
                return False
        return False

    @property
    def store(self) -> "RunStore":
        """The run store."""
        return self.process.store

    def _usage(self, *, again: bool = True) -> _Usage:
        if again or self.flags is None:
            self.flags = self.store.flags(self.run)
        return _Usage.of(self.account, self.flags, self.most)

    def _known(self) -> bool:
        """Whether the node has logged on earlier in this run."""
        if self.process.known.get(f"{self.run} {self.node}"):
            return True
        return self.store.document(self.run, LOGONS, self.node) is not None

    def _name(self, slot: str) -> str:
        return f"logon:{self.run}:{self.account}:{slot}"


class Logons:
    """The logons of one process.

    Args:
        store: holds the slots.
        holder: a unique name of this process.
        max_wait: seconds to wait for a slot before the message goes back to the queue.

    Attributes:
        known: the nodes that have accepted a logon, by run and name.
    """

    def __init__(self, store: "RunStore", holder: str, max_wait: float) -> None:
        self.store = store
        self.holder = holder
        self.max_wait = max_wait
        self.known: Remembered[bool] = Remembered(_ACCEPTED)
        self._queues: dict[tuple[str, str], _Queue] = {}
        self._guard = threading.Lock()

    @contextmanager
    def of(
        self,
        run: str,
        endpoint: Endpoint,
        most: int,
        flags: Mapping[str, str] | None = None,
        later: dict[Place, str] | None = None,
    ) -> Iterator[Logon]:
        """The logon of one node. A `LogonRefused` that is raised inside the block is recorded.

        Args:
            run: the run.
            endpoint: of the node.
            most: refusals the account may collect in the run.
            flags: of the run, read since the node was claimed.
            later: takes the documents that are stored with the outcome of the step.
        """
        name = endpoint.account
        with self._guard:
            if len(self._queues) > _QUEUES:
                self._queues = {key: queue for key, queue in self._queues.items() if queue.used}
            queue = self._queues.setdefault((run, name), _Queue())
        logon = Logon(run, endpoint.node, name, most, self, queue, flags, later)
        try:
            yield logon
        except LogonRefused as error:
            if not isinstance(error, _RefusedBefore):
                logon.refused()
            raise
        finally:
            logon.end()
