"""Limits how often an account may be refused in a run, so that it is not locked even if many nodes refuse it at once.

A run may collect `max_refused` refusals of an account that some node has accepted, and one refusal of an account that
no node has accepted. To enforce that without long waits, an account has as many *slots* as it may collect refusals. A
logon takes a slot in the store while it lasts; a refused logon keeps its slot for the rest of the run. So refusals and
logons in progress together never exceed the number of slots.

A node that has logged on earlier in this run has shown that the password is correct there. When all slots are used,
such nodes share one extra slot, one at a time, until one of them refuses too: then the account itself has changed.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workers.errors import EsyncError, LogonRefused
from workers.records import Endpoint
from workers.settings import Secret

if TYPE_CHECKING:
    from workers.store.port import RunStore

__all__ = ["Logon", "Logons", "NoSlot", "NotTried", "account"]

SLOT = 3.0  #: seconds a slot is kept for a node that neither accepts nor refuses: it must not block the others
POLL = 0.03  #: seconds between two checks for a free slot
LOGONS = "logons"  #: document kind: the nodes that have accepted a logon in this run
KNOWN = "known"  #: the extra slot of nodes that have logged on earlier in this run
_FREE = 0.0  #: seconds; a slot that is taken for so long is given back
_QUEUES = 256  #: locks kept before unused ones are removed: runs come and go, a worker lives for months


def account(endpoint: Endpoint) -> str:
    """A short name for a user with a secret, so that all nodes with the same account can be found."""
    return hashlib.sha256(f"{endpoint.user}\0{endpoint.secret}".encode()).hexdigest()[:12]


class NoSlot(Exception):
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


@dataclass
class Logon:
    """The logon of one node, within one attempt of a step."""

    run: str
    node: str
    account: str
    most: int
    holder: str
    store: "RunStore"
    queue: threading.Lock  #: of the threads of this process that log on with the same account in the same run
    max_wait: float
    slot: str = field(default="", init=False)

    def admit(self, reveal: Callable[[], Secret]) -> Secret:
        """Waits until the node may log on; returns the password.

        Raises:
            NotTried: the account may not be used on this node in this run.
            LogonRefused: the node has already refused in this run.
            NoSlot: too many other nodes are logging on with the account.
        """
        until = time.monotonic() + self.max_wait
        busy = NoSlot(f"{self.node}: other nodes are logging on with the same account")
        if not self.queue.acquire(timeout=self.max_wait):
            raise busy
        try:
            while not self._take_slot():
                if time.monotonic() > until:
                    raise busy
                time.sleep(POLL)
        finally:
            self.queue.release()
        return reveal()

    def accepted(self) -> None:
        """Records that the node accepted the logon. Does nothing if there was no logon."""
        if not self.slot:
            return
        if not self._usage().accepted:
            self.store.flag(self.run, f"accepted:{self.account}", self.node)
        self.store.put(self.run, LOGONS, self.node, self.account)
        self.end()

    def refused(self) -> None:
        """Records that the node refused the logon, at the start of a session or during it."""
        slot = self.slot or (KNOWN if self._known() else "none")
        self.store.flag(self.run, f"refused:{self.account}:{slot}:{self.node}", self.node)
        self.end()

    def end(self) -> None:
        """Gives the slot back; the slot of a refused logon counts as used by then."""
        if self.slot:
            self.store.elect(self._name(self.slot), self._holder, _FREE)
            self.slot = ""

    def _take_slot(self) -> bool:
        usage = self._usage()
        if any(node == self.node for _, node in usage.refused):
            raise _RefusedBefore(f"{self.node} refused the logon before in this run; it is not tried again")
        slots = usage.slots(known=usage.exhausted and self._known())
        if not slots:
            raise usage.not_tried()
        for slot in slots:
            if self.store.elect(self._name(slot), self._holder, SLOT):
                self.slot = slot
                if any(used == slot for used, _ in self._usage().refused):  # the previous holder has just been refused
                    self.end()
                    return False
                return True
        return False

    def _usage(self) -> _Usage:
        return _Usage.of(self.account, self.store.flags(self.run), self.most)

    def _known(self) -> bool:
        return self.store.document(self.run, LOGONS, self.node) is not None

    def _name(self, slot: str) -> str:
        return f"logon:{self.run}:{self.account}:{slot}"

    @property
    def _holder(self) -> str:
        return f"{self.holder}/{self.node}"


class Logons:
    """The logons of one process.

    Args:
        store: holds the slots.
        holder: a unique name of this process.
        max_wait: seconds to wait for a slot before the message goes back to the queue.
    """

    def __init__(self, store: "RunStore", holder: str, max_wait: float) -> None:
        self._store = store
        self._holder = holder
        self._max_wait = max_wait
        self._queues: dict[tuple[str, str], threading.Lock] = {}
        self._guard = threading.Lock()

    @contextmanager
    def of(self, run: str, endpoint: Endpoint, most: int) -> Iterator[Logon]:
        """The logon of one node. A `LogonRefused` that is raised inside the block is recorded.

        Args:
            run: the run.
            endpoint: of the node.
            most: refusals the account may collect in the run.
        """
        name = account(endpoint)
        with self._guard:
            if len(self._queues) > _QUEUES:
                self._queues = {key: lock for key, lock in self._queues.items() if lock.locked()}
            queue = self._queues.setdefault((run, name), threading.Lock())
        logon = Logon(run, endpoint.node, name, most, self._holder, self._store, queue, self._max_wait)
        try:
            yield logon
        except LogonRefused as error:
            if not isinstance(error, _RefusedBefore):
                logon.refused()
            raise
        finally:
            logon.end()
