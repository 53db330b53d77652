"""Steering one run, or all runs of a group: the same sentences for the run store and for a server."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from pipelines.cli.console import notify
from pipelines.run.groups import is_group
from tasks.ektron.wording import counted
from tasks.steering import Steering
from workers.errors import InputRefused, RecordRefused
from workers.records import RunRecord, RunState

__all__ = ["Steered", "cancel", "pause", "promote", "resume"]


class Steered(Protocol):
    """The runs of a store or a server. Requests raise InputRefused for a run that they do not fit."""

    def active(self, name: str) -> RunRecord:
        """The run of that id, or the newest active one of a cluster, or of all (`last`)."""
        ...

    def of_group(self, group: str) -> Sequence[str]:
        """The ids of the runs that were requested together, in their order; none if there is no such group."""
        ...

    def steering(self, run: str) -> Steering | None:
        """What operators have asked of a run; None when it has ended."""
        ...

    def pause(self, run: str, reason: str) -> None:
        """Starts no further step of a run."""
        ...

    def resume(self, run: str) -> None:
        """Continues a paused run."""
        ...

    def promote(self, run: str, by: str) -> str:
        """Lets a held run begin its next turn, and returns that."""
        ...

    def cancel(self, run: str, reason: str) -> None:
        """Stops a run at the next safe point."""
        ...


def pause(runs: Steered, name: str, reason: str) -> None:
    """Pauses a run, or those of a group: the last ones first, so that none of them begins meanwhile."""
    if group := _group(runs, name):
        going = reversed(_going(runs, group))
        _tell(name, _done(going, lambda run: runs.pause(run, reason)), "paused", f"to continue: esync resume {name}")
        return
    record = runs.active(name)
    runs.pause(record.id, reason)
    notify(f"run {record.id} is paused; to continue: esync resume {record.id}")


def resume(runs: Steered, name: str) -> None:
    """Continues a run, or the paused ones of a group."""
    if group := _group(runs, name):
        paused = [run for run, steering in _going(runs, group).items() if steering.paused]
        _tell(name, _done(paused, runs.resume), "resumed", f"to see them: esync watch {name}")
        return
    record = runs.active(name)
    runs.resume(record.id)
    notify(f"run {record.id} continues")


def promote(runs: Steered, name: str, by: str) -> None:
    """Lets a held run begin its next wave, or the held ones of a group."""
    if group := _group(runs, name):
        going = _going(runs, group)
        _tell(name, _done(going, lambda run: runs.promote(run, by)), "promoted", f"to see them: esync watch {name}")
        return
    record = runs.active(name)
    turn = runs.promote(record.id, by)
    steering = runs.steering(record.id)
    later = f" when it is resumed: esync resume {record.id}" if steering and steering.paused else ""
    notify(f"run {record.id} begins {turn}{later}")


def cancel(runs: Steered, name: str, reason: str) -> None:
    """Stops a run, or those of a group: the last ones first, so that none of them begins meanwhile."""
    if group := _group(runs, name):
        if not (going := _going(runs, group)):
            notify(f"the runs of group {name} have ended already; to see how: esync status {name}")
            return
        done = _done(reversed(going), lambda run: runs.cancel(run, reason))
        _tell(name, done, "stopping", f"to see their end: esync watch {name}")
        return
    record = runs.active(name)
    runs.cancel(record.id, reason)
    stopping = f"run {record.id} is stopping; to see its end: esync watch {record.id}"
    ended = f"run {record.id} has ended already: {record.verdict}"
    notify(ended if record.state is RunState.CONCLUDED else stopping)


def _group(runs: Steered, name: str) -> Sequence[str]:
    return runs.of_group(name) if is_group(name) else ()


def _going(runs: Steered, group: Iterable[str]) -> dict[str, Steering]:
    """Those that have not ended, in their order. One that cannot be read is named, and left alone."""
    going = dict[str, Steering]()
    for run in group:
        try:
            steering = runs.steering(run)
        except RecordRefused as error:
            notify(error.message, "yellow")
        else:
            going |= {run: steering} if steering else {}
    return going


def _done(runs: Iterable[str], request: Callable[[str], object]) -> int:
    """To how many of them the request fits: one may have ended meanwhile."""
    done = 0
    for run in runs:
        with suppress(InputRefused):
            request(run)
            done += 1
    return done


def _tell(group: str, done: int, what: str, then: str) -> None:
    """Says how many runs of a group there are to which that has happened.

    Raises:
        InputRefused: none.
    """
    if not done:
        raise InputRefused(f"no run of group {group} can be {what}", remedy=f"look at them: esync status {group}")
    notify(f"{counted(done, 'run')} of group {group} {'is' if done == 1 else 'are'} {what}; {then}")
