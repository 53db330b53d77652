"""Asks the pages behind the balancers while runs change servers, and keeps in the run store how often they answered.

One worker process asks the pages of a run; when it dies, another one takes over, and the time between is a gap in what
was measured, not in what is reported: `pipelines.run.availability` says that it was not measured.
"""

import secrets
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

from pipelines.engine import Engine
from pipelines.rollout import kind_of
from pipelines.run.availability import Stretch, Tally
from tasks.balancer import Prober as Spec
from tasks.cluster import Cluster
from workers.balancers import pages
from workers.errors import EsyncError
from workers.logger import logger
from workers.records import DocumentKind, RunState, now
from workers.texts import cleaned

__all__ = ["Prober"]

log = logger(__name__)

_LEADS = 4.0  #: seconds after which another process takes over from one that has died
_KEPT = 1.0  #: seconds between two writes of what was measured
_SHOWN = 200  #: characters of why a request failed


@dataclass(frozen=True)
class _Watch:
    """One page of one run, asked by a thread of its own."""

    run: str
    pool: str
    spec: Spec
    stop: threading.Event = field(default_factory=threading.Event)


class Prober:
    """The pages that this process asks.

    Args:
        engine: whose runs.
        holder: a unique name of this process.
    """

    def __init__(self, engine: Engine, holder: str) -> None:
        self._engine = engine
        self._holder = holder
        self._watches: dict[str, tuple[_Watch, ...]] = {}
        self._threads: list[threading.Thread] = []

    def watch(self, active: Collection[str]) -> None:
        """Begins with the runs that are new among the active ones, and stops with those that have ended."""
        for run in [run for run in self._watches if run not in active]:
            self._end(self._watches.pop(run))
        for run in active:
            if run not in self._watches:
                with suppress(EsyncError):
                    self._watches[run] = self._begun(run)
        self._threads = [thread for thread in self._threads if thread.is_alive()]

    def close(self) -> None:
        """Stops all of them."""
        for watches in self._watches.values():
            self._end(watches)
        for thread in self._threads:
            thread.join(timeout=2)
        self._watches = {}

    def _begun(self, run: str) -> tuple[_Watch, ...]:
        record = self._engine.store.run(run)
        if kind_of(record.kind, run).read_only or not record.spec.get("balancers"):
            return ()
        specs = {pool: one.probe for pool, one in Cluster.of_run(record).balancers.items()}
        watches = tuple(_Watch(run, pool, spec) for pool, spec in specs.items() if spec)
        for one in watches:
            thread = threading.Thread(target=self._ask_while_active, args=(one,), name="esync-prober", daemon=True)
            thread.start()
            self._threads.append(thread)
        return watches

    def _end(self, watches: Collection[_Watch]) -> None:
        for one in watches:
            one.stop.set()

    def _ask_while_active(self, watch: _Watch) -> None:
        """Asks as long as the run is active and this process leads; tries again when the store does not answer."""
        name = f"probe:{watch.run}:{watch.pool}"
        while not watch.stop.is_set():
            try:
                if self._leads(name):
                    self._measure(watch, lambda: self._leads(name))
            except EsyncError as error:
                log.warning("the prober could not keep what it measured", run=watch.run, error=type(error).__name__)
            watch.stop.wait(_KEPT)
        with suppress(EsyncError):
            self._engine.store.elect(name, self._holder, 0)

    def _leads(self, name: str) -> bool:
        return self._engine.store.elect(name, self._holder, _LEADS)

    def _measure(self, watch: _Watch, leads: Callable[[], bool]) -> None:
        """One stretch: until another process leads, or the run ends."""
        url, name = watch.spec.url, secrets.token_hex(8)
        at = now()
        tally, kept = Tally(Stretch(pool=watch.pool, url=url, begun=at, ended=at, asked=0)), time.monotonic()
        while not watch.stop.is_set():
            began = time.monotonic()
            _ask(watch.spec, tally)
            if time.monotonic() - kept >= _KEPT:
                kept = time.monotonic()
                # Not after its end: the report of a run that has ended does not change.
                if not leads() or self._engine.store.run(watch.run).state is RunState.CONCLUDED:
                    return
                self._engine.store.put(watch.run, DocumentKind.AVAILABILITY, name, tally.stretch.to_json())
            watch.stop.wait(max(0.0, watch.spec.every - (time.monotonic() - began)))


def _ask(spec: Spec, tally: Tally) -> None:
    """One request."""
    at, began, why = now(), time.monotonic(), ""
    try:
        page = pages.get(spec.url, spec.within)
        if not page.shows(spec.text):
            why = f"status {page.status}" if page.status != HTTPStatus.OK else f"the page has no text {spec.text!r}"
    except pages.NoAnswer as reason:
        why = str(reason)
    seconds = time.monotonic() - began
    if not why and seconds > spec.within:
        why = f"the answer took {seconds:.1f} s"
    tally.add(at, seconds, cleaned(why, _SHOWN))
