"""Sets of files in a list: where all are as expected, a digest of their owners replaces thousands of entries."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from lab.agent.messages import TICK, Fields, Result, as_time
from lab.machine.disk import Entry
from lab.machine.errors import Refusal, Slug
from lab.machine.paths import fold

__all__ = ["Listed", "SetRule"]


class Listed(NamedTuple):
    """An entry of a list, and the hash of a file that could be read."""

    entry: Entry
    digest: str | None = None


class _Member(NamedTuple):
    entry: Entry
    digest: str | None
    owner: str


@dataclass(frozen=True, slots=True)
class SetRule:
    """Which files of a folder form a set: each owner has one file of each ending, and the owners are expected ones."""

    ends: tuple[str, ...]
    owners: tuple[str, ...]

    @classmethod
    def of(cls, fields: Fields) -> Self | None:
        """The rule in a `list`; None without one.

        Raises:
            Refusal: `invalid`.
        """
        given = fields.object_or_none("set")
        if given is None:
            return None
        if not (given.has("ends") and given.has("owners")):
            raise Refusal(Slug.INVALID, "list: a set needs ends and owners")
        return cls(tuple(given.texts("ends")), tuple(given.texts("owners")))

    def split(self, listed: Sequence[Listed], *, timed: bool, kept: bool) -> tuple[Sequence[Listed], Result]:
        """What the list has beside the set, and the field `set`; the whole list and no field if its files are not one.

        Args:
            listed: with hashes.
            timed: whether the set names the newest change time.
            kept: whether the disk keeps change times; that time is null if not.
        """
        members = self._members(listed)
        owners = _owners(members.values())
        if not owners or owners not in self.owners:
            return listed, {}
        common = {end: _commonest(one.digest for one in members[end.lower()]) for end in self.ends}
        told = {one.entry.name for end, value in common.items() for one in members[end.lower()] if one.digest == value}
        found: Result = {"owners": owners, "common": common, "mtime": _newest(members.values(), "mtime")}
        if timed:
            found["ctime"] = _newest(members.values(), "ctime", known=kept)
        return [one for one in listed if one.entry.name not in told], {"set": found}

    def _members(self, listed: Iterable[Listed]) -> dict[str, list[_Member]]:
        """The files of each ending."""
        pattern = re.compile(rf"(.+)({'|'.join(map(re.escape, self.ends))})", re.IGNORECASE)
        members: dict[str, list[_Member]] = {end.lower(): [] for end in self.ends}
        for entry, digest in listed:
            if not entry.folder and (found := pattern.fullmatch(entry.name)):
                members[found[2].lower()].append(_Member(entry, digest, found[1].lower()))
        return members


def _owners(members: Iterable[Iterable[_Member]]) -> str:
    """The digest of the owners; empty if the endings have different ones, or a file cannot be read."""
    if any(one.digest is None for files in members for one in files):
        return ""
    owners = {"\n".join(sorted(one.owner for one in files)) for files in members}
    return hashlib.sha256(owners.pop().encode()).hexdigest() if len(owners) == 1 and owners != {""} else ""


def _commonest(digests: Iterable[str | None]) -> str:
    """Of several the smallest."""
    counts = Counter(map(str, digests))
    return min(counts, key=lambda value: (-counts[value], value))


def _newest(members: Iterable[Iterable[_Member]], kind: str, *, known: bool = True) -> Result:
    """The newest time and the name of its file, of several the first; no time if the disk keeps none."""
    times = {one.entry.name: getattr(one.entry, kind) // TICK for files in members for one in files}
    newest = max(times.values()) if known else None
    name = min((name for name, time in times.items() if newest in {time, None}), key=fold)
    return {"time": as_time(newest * TICK) if newest is not None else None, "name": name}
