"""Lets the nodes of a run log on so that no account is locked, however many of them refuse it at the same moment.

A run may collect `max_refused` refusals of an account that some node has accepted, and one of an account that nobody
has. To hold that without waiting for each other for long, an account has as many *places* as it may collect refusals.
Whoever logs on takes one, in the store, for the time of the logon; a logon that is refused keeps its place for ever.
So what has been refused and what may yet be refused are never more than the places.

A node that has logged on in this run before has shown that the password is right there. When all places are used up it
is let on by a place of its own kind, one at a time, until such a node refuses too: then the account itself has changed.
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

__all__ = ["Logon", "Logons", "NoPlace", "NotTried", "account"]

PLACE = 3.0  #: seconds a place is kept for a node that neither accepts nor refuses: it must not hold the others up
LOOK = 0.03  #: seconds between two looks for a free place
LOGONS = "logons"  #: document kind: the nodes that have accepted a logon in this run
KNOWN = "known"  #: the place of nodes that have logged on before
_FREE = 0.0  #: seconds; a place taken for so long is given back


def account(endpoint: Endpoint) -> str:
    """A short name for who logs on with what, so that one refusal can spare the account everywhere."""
    return hashlib.sha256(f"{endpoint.user}\0{endpoint.secret}".encode()).hexdigest()[:12]


class NoPlace(Exception):
    """Others are logging on with this account: come back later."""


class NotTried(EsyncError):
    """The account has been refused as often as it may be in one run."""

    slug = LogonRefused.slug
    failure = None


class _RefusedBefore(LogonRefused):
    """It had refused in this run already; nothing was sent."""


@dataclass(frozen=True, slots=True)
class _Account:
    """What a run's flags say of one account."""

    name: str
    limit: int
    accepted: bool
    refused: tuple[tuple[str, str], ...]  #: place and node of each refusal

    @classmethod
    def of(cls, name: str, flags: Mapping[str, str], most: int) -> "_Account":
        accepted = f"accepted:{name}" in flags
        refused = sorted(tuple(flag.split(":")[2:4]) for flag in flags if flag.startswith(f"refused:{name}:"))
        limit = max(1, most) if accepted else 1
        return cls(name, limit, accepted, tuple((place, node) for place, node in refused))

    def places(self, *, known: bool) -> list[str]:
        """Those that are not used up."""
        used = {place for place, _ in self.refused}
        if KNOWN in used:
            return []
        open_ones = [str(place) for place in range(self.limit) if str(place) not in used]
        if len(self.refused) >= self.limit:
            open_ones = []
        return open_ones or ([KNOWN] if known else [])

    def closed(self) -> NotTried:
        nodes = " and ".join(sorted({node for _, node in self.refused}))
        return NotTried(f"not tried: the same account was refused at {nodes}; trying on could lock it")


@dataclass
class Logon:
    """One node's way to a session, within one attempt of a step."""

    run: str
    node: str
    account: str
    most: int
    holder: str
    store: "RunStore"
    turnstile: threading.Lock
    patience: float
    place: str = field(default="", init=False)

    def let_on(self, reveal: Callable[[], Secret]) -> Secret:
        """The password, once this node may use it.

        Raises:
            NotTried: it may not, in this run.
            LogonRefused: it has already refused in this run.
            NoPlace: too many others log on at the moment.
        """
        until = time.monotonic() + self.patience
        if not self.turnstile.acquire(timeout=self.patience):  # one thread of a process asks, the others wait here
            raise NoPlace(f"{self.node}: others are logging on with the same account")
        try:
            while not self._taken():
                if time.monotonic() > until:
                    raise NoPlace(f"{self.node}: others are logging on with the same account")
                time.sleep(LOOK)
        finally:
            self.turnstile.release()
        return reveal()

    def accepted(self) -> None:
        """The node took the logon, if there was one."""
        if not self.place:
            return
        if not self._account().accepted:
            self.store.flag(self.run, f"accepted:{self.account}", self.node)
        self.store.put(self.run, LOGONS, self.node, self.account)
        self.end()

    def refused(self) -> None:
        """The node refused: now, or in the middle of a session."""
        place = self.place or (KNOWN if self._known() else "none")
        self.store.flag(self.run, f"refused:{self.account}:{place}:{self.node}", self.node)
        self.end()

    def end(self) -> None:
        """Gives the place back; one at which a logon was refused is used up by then."""
        if self.place:
            self.store.elect(self._name(self.place), self._holder, _FREE)
            self.place = ""

    def _taken(self) -> bool:
        standing = self._account()
        if any(node == self.node for _, node in standing.refused):
            raise _RefusedBefore(f"{self.node} refused the logon before in this run; it is not tried again")
        closed = len(standing.refused) >= standing.limit
        places = standing.places(known=closed and self._known())
        if not places:
            raise standing.closed()
        for place in places:
            if self.store.elect(self._name(place), self._holder, PLACE):
                self.place = place
                if any(used == place for used, _ in self._account().refused):  # by whoever just gave it back
                    self.end()
                    return False
                return True
        return False

    def _account(self) -> _Account:
        return _Account.of(self.account, self.store.flags(self.run), self.most)

    def _known(self) -> bool:
        return self.store.document(self.run, LOGONS, self.node) is not None

    def _name(self, place: str) -> str:
        return f"logon:{self.run}:{self.account}:{place}"

    @property
    def _holder(self) -> str:
        return f"{self.holder}/{self.node}"


class Logons:
    """The logons of one process.

    Args:
        store: where places lie.
        holder: this process, uniquely.
        patience: seconds to wait for a place before giving the message back.
    """

    def __init__(self, store: "RunStore", holder: str, patience: float) -> None:
        self._store = store
        self._holder = holder
        self._patience = patience
        self._turnstiles: dict[tuple[str, str], threading.Lock] = {}
        self._guard = threading.Lock()

    @contextmanager
    def of(self, run: str, endpoint: Endpoint, most: int) -> Iterator[Logon]:
        """One node's way to a session; a refusal that passes is remembered.

        Args:
            run: the run.
            endpoint: of the node.
            most: refusals the account may collect in the run.
        """
        name = account(endpoint)
        with self._guard:
            if len(self._turnstiles) > 256:  # noqa: PLR2004 - runs come and go; a worker lives for months
                self._turnstiles = {key: lock for key, lock in self._turnstiles.items() if lock.locked()}
            turnstile = self._turnstiles.setdefault((run, name), threading.Lock())
        logon = Logon(run, endpoint.node, name, most, self._holder, self._store, turnstile, self._patience)
        try:
            yield logon
        except LogonRefused as error:
            if not isinstance(error, _RefusedBefore):
                logon.refused()
            raise
        finally:
            logon.end()
