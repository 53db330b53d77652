"""A folder with the certificate files of all nodes: where all are there, the answer does not grow with the cluster.

The node gets a digest of the names of all nodes. Where each of them has its six files, it answers with one hash a
kind, the newest times, and the files that differ; else with all files (docs/agent-protocol.md, `list`).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tasks.cluster import Cluster
from tasks.ektron.certificates.family import KINDS, node_of
from tasks.ektron.facts.values import Spread
from workers.winrm import operations as ops
from workers.winrm.file_sets import FileSet, owners_digest
from workers.winrm.operations import Op, Reply

__all__ = ["FamilyFolder", "folder_limit", "folder_question"]

_ENDS = tuple(f"_{kind}" for kind in KINDS)


def folder_limit(cluster: Cluster) -> int:
    """Entries a folder of the product may have: six a node, and some of the product."""
    return 10_000 + len(KINDS) * len(cluster.nodes)


def folder_question(cluster: Cluster, folder: str, *, change_times: bool = False) -> Op:
    """Asks for a folder that holds certificate files of all nodes, and perhaps of the partners."""
    owners = tuple(dict.fromkeys(_digest(names) for names in _expected(cluster)))
    file_set, limit = FileSet(_ENDS, owners), folder_limit(cluster)
    return ops.list_folder(folder, hashes=True, change_times=change_times, limit=limit, file_set=file_set)


def _expected(cluster: Cluster) -> tuple[tuple[str, ...], ...]:
    """The servers that may have their files there."""
    nodes = tuple(cluster.node_names)
    return (nodes, (*nodes, *cluster.partners)) if cluster.partners else (nodes,)


@lru_cache(maxsize=256)
def _digest(names: tuple[str, ...]) -> str:
    return owners_digest(names)


@dataclass(frozen=True, slots=True)
class FamilyFolder:
    """What is in such a folder.

    Attributes:
        entries: the files that were listed.
        owners: servers of which all six files are there, each with the common hash unless its file was listed.
        common: kind -> the common hash.
        newest: `mtime` or `ctime` -> name and time of the newest file of the owners; the time is None if one has none.
    """

    entries: Sequence[Mapping[str, Any]] = ()
    owners: tuple[str, ...] = ()
    common: Mapping[str, str] = field(default_factory=dict)
    newest: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, reply: Reply, cluster: Cluster) -> "FamilyFolder":
        """The folder in a reply to `folder_question`; empty if it cannot be listed."""
        if not reply.ok:
            return cls()
        found = reply.get("set")
        if found is None:
            return cls(tuple(reply["entries"]))
        owners = {_digest(names): names for names in _expected(cluster)}[found["owners"]]
        common = {kind: str(found["common"][end]) for kind, end in zip(KINDS, _ENDS, strict=True)}
        times = {kind: (str(found[kind]["name"]), found[kind]["time"]) for kind in ("mtime", "ctime") if kind in found}
        return cls(tuple(reply["entries"]), owners, common, times)

    def spreads(self, servers: Sequence[str]) -> dict[str, Spread]:
        """Per kind of family file, its hashes for each of the servers."""
        listed = self._listed()
        if self.owners and self.owners == tuple(servers):
            names = {name.casefold(): name for name in servers} if any(listed.values()) else {}
            return {
                kind: Spread(
                    common=self.common[kind],
                    differing={names[owner.casefold()]: value for owner, value in listed[kind].items()},
                )
                for kind in KINDS
            }
        return {kind: Spread.of(self._hashes(kind, listed), servers) for kind in KINDS}

    def _listed(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
        for entry in self.entries:
            named = node_of(entry["name"])
            if named:
                found[named[1]][named[0]] = entry.get("hash", "")
        return found

    def _hashes(self, kind: str, listed: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        """Server -> hash, also of those that were not listed."""
        spelled = {name.casefold(): name for name in listed[kind]}
        unlisted = {owner: self.common[kind] for owner in self.owners if owner.casefold() not in spelled}
        return {**unlisted, **listed[kind]}

    def renamed_copies(self, nodes: Sequence[str]) -> tuple[str, ...]:
        """Files under the names of servers that are not nodes, with the same bytes as a file of a node."""
        listed = self._listed()
        if self.owners == tuple(nodes) or not (self.owners or any(listed.values())):
            return ()
        names = {name.casefold() for name in nodes}
        files = {(owner, kind): value for kind in KINDS for owner, value in self._hashes(kind, listed).items()}
        ours = {value for (owner, _), value in files.items() if owner.casefold() in names} - {""}
        others = {pair: value for pair, value in files.items() if pair[0].casefold() not in names}
        return tuple(sorted(f"{owner}_{kind}" for (owner, kind), value in others.items() if value in ours))

    def times(self, kind: str) -> dict[str, str | None]:
        """File -> time, with the newest one of the certificate files at least; `kind`: `mtime` or `ctime`."""
        if self.owners:
            return dict([self.newest[kind]])
        return {entry["name"]: entry.get(kind) for entry in self._certificates()}

    def digest(self, folder: str) -> str:
        """One digest of the names and hashes of all certificate files; empty if one cannot be read."""
        listed = {str(entry["name"]): str(entry.get("hash") or "") for entry in self._certificates()}
        if not all(listed.values()):
            return ""
        return _digest_of(folder, self.owners, tuple(self.common.items()), tuple(listed.items()))

    def _certificates(self) -> Iterable[Mapping[str, Any]]:
        return (entry for entry in self.entries if node_of(entry["name"]))


@lru_cache(maxsize=64)
def _digest_of(
    folder: str, owners: tuple[str, ...], common: tuple[tuple[str, str], ...], listed: tuple[tuple[str, str], ...]
) -> str:
    """Kept, because most nodes have the same files."""
    files = {f"{owner}_{kind}".casefold(): value for owner in owners for kind, value in common}
    files |= {name.casefold(): value for name, value in listed}
    lines = sorted(f"{folder.casefold()}\\{name} {value}" for name, value in files.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
