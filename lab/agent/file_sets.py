"""Sets of files in a list: where all are as expected, a digest of their owners replaces thousands of entries."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from lab.agent.messages import TICK, Fields, Result, as_time
from lab.machine.disk import Entry
from lab.machine.errors import Refusal, Slug
from lab.machine.paths import fold

__all__ = ["Listed", "SetRule"]


Listed = tuple[Entry, str | None]
"""An entry of a list, and the hash of a file that could be read."""

Members = Mapping[str, Sequence[tuple[str, Entry, str | None]]]
"""The files of each ending in small letters: owner, entry, hash."""


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
        owners = _owners(members)
        if not owners or owners not in self.owners:
            return listed, {}
        common = {end: _commonest(digest for _, _, digest in members[end.lower()]) for end in self.ends}
        told = {
            entry.name for end, value in common.items() for _, entry, digest in members[end.lower()] if digest == value
        }
        entries = [entry for files in members.values() for _, entry, _ in files]
        newest = _newest(entries, [entry.mtime for entry in entries])
        found: Result = {"owners": owners, "common": common, "mtime": newest}
        if timed:
            found["ctime"] = _newest(entries, [entry.ctime for entry in entries], known=kept)
        return [one for one in listed if one[0].name not in told], {"set": found}

    def _members(self, listed: Iterable[Listed]) -> Members:
        members: dict[str, list[tuple[str, Entry, str | None]]] = {end.lower(): [] for end in self.ends}
        for entry, digest in listed:
            if not entry.folder and (parts := _owner_and_end(self.ends, entry.name)):
                owner, end = parts
                members[end].append((owner, entry, digest))
        return members


@lru_cache(maxsize=65_536)
def _owner_and_end(ends: tuple[str, ...], name: str) -> tuple[str, str] | None:
    """The parts of a name, in small letters; remembered, since all servers of a cluster have the same names."""
    found = re.fullmatch(rf"(.+)({'|'.join(map(re.escape, ends))})", name, re.IGNORECASE)
    return (found[1].lower(), found[2].lower()) if found else None


def _owners(members: Members) -> str:
    """The digest of the owners; empty if the endings have different ones, or a file cannot be read."""
    if any(digest is None for files in members.values() for _, _, digest in files):
        return ""
    owners = {"\n".join(sorted(owner for owner, _, _ in files)) for files in members.values()}
    return hashlib.sha256(owners.pop().encode()).hexdigest() if len(owners) == 1 and owners != {""} else ""


def _commonest(digests: Iterable[str | None]) -> str:
    """Of several the smallest."""
    counts = Counter(digests)
    return str(min(counts, key=lambda value: (-counts[value], str(value))))


def _newest(entries: Sequence[Entry], times: Sequence[int], *, known: bool = True) -> Result:
    """The newest time and the name of its file, of several the first; no time if the disk keeps none."""
    newest = max(times) // TICK * TICK if known else 0
    name = min((entry.name for entry, time in zip(entries, times, strict=True) if time >= newest), key=fold)
    return {"time": as_time(newest) if known else None, "name": name}
