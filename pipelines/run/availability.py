"""How often a page behind a balancer answered during a run, by what the prober has kept. Pure.

Silence is not availability: a time in which nothing was asked is reported as not measured.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import AwareDatetime, ValidationError

from pipelines.run.kinds import Kind
from pipelines.run.snapshot import Snapshot
from tasks.balancer import Prober
from workers.records import DocumentKind, Record

__all__ = ["Availability", "Stretch", "Tally", "availability_of"]

_SLACK = 3.0  #: seconds in which one process may take over from another before that counts as a gap


class Stretch(Record):
    """What one process has measured without a break.

    Attributes:
        begun: when the first request was sent; `ended` is when the last one was answered, or given up.
        worst: the second in which most requests failed; None if none failed.
        slowest: seconds of the slowest answer.
        why: why the first request failed.
    """

    pool: str
    url: str
    begun: AwareDatetime
    ended: AwareDatetime
    asked: int
    failed: int = 0
    worst: AwareDatetime | None = None
    worst_failed: int = 0
    worst_asked: int = 0
    slowest: float = 0.0
    why: str = ""


class Availability(Record):
    """The answers of one pool while the run changed servers.

    Attributes:
        seconds: of that time.
        gap: seconds of it in which nothing was asked.
        percent: of the requests that were answered; None if there were none. 100 only if all were.
    """

    pool: str
    url: str
    seconds: float
    gap: float
    asked: int = 0
    failed: int = 0
    percent: float | None = None
    worst: AwareDatetime | None = None
    worst_failed: int = 0
    worst_asked: int = 0
    slowest: float = 0.0
    why: str = ""

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        if self.percent is None:
            return f"{self.pool}: not measured: no worker has asked {self.url} while servers were changed"
        answered = f"{self.pool}: {self.percent:g} % of {self.asked} requests to {self.url} were answered"
        if self.worst is not None:
            worst = f"{self.worst:%H:%M:%S} UTC ({self.worst_failed} of {self.worst_asked} failed: {self.why})"
            answered += f"; the worst second was {worst}"
        else:
            answered += f"; the slowest answer took {self.slowest:.2f} s"
        return f"{answered}; not measured for {self.gap:.0f} of {self.seconds:.0f} s" if self.gap else answered


@dataclass
class Tally:
    """Counts the answers of one stretch.

    Attributes:
        stretch: what was counted so far.
    """

    stretch: Stretch
    _second: datetime | None = field(default=None, init=False)
    _asked: int = field(default=0, init=False)
    _failed: int = field(default=0, init=False)

    def add(self, at: datetime, seconds: float, why: str = "") -> None:
        """Counts one request.

        Args:
            at: when it was sent.
            seconds: how long it took.
            why: why it failed; empty if it was answered.
        """
        second = at.replace(microsecond=0)
        if second != self._second:
            self._second, self._asked, self._failed = second, 0, 0
        self._asked += 1
        self._failed += bool(why)
        before = self.stretch
        update: dict[str, object] = {
            "ended": at + timedelta(seconds=seconds),
            "asked": before.asked + 1,
            "failed": before.failed + bool(why),
            "slowest": before.slowest if why else max(before.slowest, round(seconds, 3)),
            "why": before.why or why,
        }
        if self._failed and (second == before.worst or self._failed > before.worst_failed):
            update |= {"worst": second, "worst_failed": self._failed, "worst_asked": self._asked}
        self.stretch = before.model_copy(update=update)


def availability_of(snapshot: Snapshot, kind: Kind) -> tuple[Availability, ...]:
    """The availability of each pool that is asked, while the run changed servers; none if it changed none."""
    turns = {turn.name for turn in kind.changing_turns(snapshot.record)}
    during = [outcome for outcome in snapshot.outcomes if outcome.turn in turns]
    if kind.read_only or not during or not any(one.probe for one in snapshot.cluster.balancers.values()):
        return ()
    period = min(one.started for one in during), max(one.ended for one in during)
    stretches = list(_read(snapshot.read.documents(DocumentKind.AVAILABILITY).values()))
    return tuple(
        _merged(pool, balancer.probe, period, [one for one in stretches if one.pool == pool])
        for pool, balancer in snapshot.cluster.balancers.items()
        if balancer.probe
    )


def _read(texts: Iterable[str]) -> Iterator[Stretch]:
    """The stretches; what cannot be read was written by another version."""
    for text in texts:
        try:
            yield Stretch.model_validate_json(text)
        except ValidationError:
            continue


def _merged(pool: str, probe: Prober, period: tuple[datetime, datetime], found: list[Stretch]) -> Availability:
    """All stretches of a pool, as far as they are about that time."""
    begun, ended = period
    during = sorted((one for one in found if one.begun <= ended and one.ended >= begun), key=lambda one: one.begun)
    seconds = round((ended - begun).total_seconds(), 1)
    asked, failed = sum(one.asked for one in during), sum(one.failed for one in during)
    if not asked:
        return Availability(pool=pool, url=probe.url, seconds=seconds, gap=seconds)
    worst = max(during, key=lambda one: one.worst_failed)
    return Availability(
        pool=pool,
        url=probe.url,
        seconds=seconds,
        gap=round(_gap(period, during, _SLACK + probe.every + probe.within), 1),
        asked=asked,
        failed=failed,
        percent=math.floor(10_000 * (asked - failed) / asked) / 100,
        worst=worst.worst,
        worst_failed=worst.worst_failed,
        worst_asked=worst.worst_asked,
        slowest=max(one.slowest for one in during),
        why=worst.why,
    )


def _gap(period: tuple[datetime, datetime], during: Iterable[Stretch], slack: float) -> float:
    """Seconds in which nothing was asked, without those that are no longer than the slack."""
    gap, last = 0.0, period[0]
    for begun, ended in (*((one.begun, one.ended) for one in during), (period[1], period[1])):
        hole = (begun - last).total_seconds()
        gap += hole if hole > slack else 0.0
        last = max(last, ended)
    return gap
