"""Sets of files in a list: where all are as expected, a digest of their owners replaces thousands of entries."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from lab.agent.messages import Fields, Result
from lab.machine.errors import Refusal, Slug

__all__ = ["SetRule"]


@dataclass(frozen=True, slots=True)
class _Member:
    entry: dict[str, Any]
    owner: str
    end: str


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

    def told(self, whole: Result, *, timed: bool) -> Result:
        """The list with the set in place of its files; the list as it is if they are not one."""
        entries: Any = whole["entries"]
        members = [member for entry in entries if (member := self._member(entry))]
        owners = self._owners(members)
        if owners not in self.owners:
            return whole
        common = {end: _commonest(one.entry["hash"] for one in members if one.end == end.lower()) for end in self.ends}
        hashes = {end.lower(): value for end, value in common.items()}
        told = {one.entry["name"] for one in members if one.entry["hash"] == hashes[one.end]}
        times = {"ctime": _newest(members, "ctime")} if timed else {}
        found = {"owners": owners, "common": common, "mtime": _newest(members, "mtime"), **times}
        return {**whole, "entries": [entry for entry in entries if entry["name"] not in told], "set": found}

    def _member(self, entry: dict[str, Any]) -> _Member | None:
        pattern = rf"(.+)({'|'.join(map(re.escape, self.ends))})"
        found = re.fullmatch(pattern, entry["name"], re.IGNORECASE) if entry["kind"] == "file" else None
        return _Member(entry, found[1].lower(), found[2].lower()) if found else None

    def _owners(self, members: list[_Member]) -> str:
        """The digest of the owners; empty if the endings have different ones, or a file cannot be read."""
        if not members or not all("hash" in one.entry for one in members):
            return ""
        digests = set()
        for end in self.ends:
            owners = sorted(one.owner for one in members if one.end == end.lower())
            digests.add(hashlib.sha256("\n".join(owners).encode()).hexdigest())
        return digests.pop() if len(digests) == 1 else ""


def _commonest(hashes: Iterable[str]) -> str:
    """Of several the smallest."""
    counts = Counter(hashes)
    return min(counts, key=lambda value: (-counts[value], value))


def _newest(members: list[_Member], kind: str) -> Result:
    """The newest time and the name of its file; no time if one file has none."""
    without = next((one.entry for one in members if one.entry[kind] is None), None)
    entry = without or max((one.entry for one in members), key=lambda entry: str(entry[kind]))
    return {"time": entry[kind], "name": entry["name"]}
