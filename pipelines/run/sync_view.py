"""What a run of a sync has seen so far, read from its documents; why its file is missing on some servers. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from pipelines.run.snapshot import ABANDONED, RETRY, Snapshot
from tasks.cluster import Cluster, Role
from tasks.ektron.facts.values import Fact
from tasks.ektron.sync.canary import canary_name
from tasks.ektron.wording import named
from tasks.syncing.options import SyncOptions
from workers.errors import LogonRefused
from workers.records import DocumentKind, Status, Turn
from workers.store.documents import document_as

if TYPE_CHECKING:  # loaded when documents of a sync are read: what shows other runs takes names of stages from here
    from tasks.ektron.propagation import Propagation
    from tasks.ektron.sync.answers import Entry
    from tasks.ektron.sync.causes import Cause
    from tasks.ektron.sync.seen import Begun, FileSeen, Refreshed, SiteSeen

__all__ = [
    "AGAIN",
    "BACK",
    "CLEAR",
    "EXAMINE",
    "LOOKS",
    "OUT",
    "PLACE",
    "REFRESH",
    "REMOVE",
    "RESTART",
    "START",
    "WATCH",
    "SyncView",
    "can_be_asked",
    "causes_of",
    "expected",
]

LOOKS = ("canary", "observe")
EXAMINE = "examine"
PLACE, START, WATCH, REMOVE, REFRESH = "place", "start", "watch", "remove", "refresh"
RESTART, CLEAR, AGAIN = "restart", "clear", "again"
OUT, BACK = "out", "back"
F = TypeVar("F", bound=Fact)


@dataclass(frozen=True)
class SyncView:
    """The documents of a run, by stage. A document of a turn that has not begun does not count."""

    snapshot: Snapshot

    @property
    def asked(self) -> SyncOptions:
        """What the run was asked for; the node as the cluster file spells it."""
        return SyncOptions.of(self.snapshot.record.options)

    @property
    def _documents(self) -> Mapping[str, str]:
        return self.snapshot.read.documents(DocumentKind.SYNC)

    @cached_property
    def _again(self) -> int:
        """The number of turns before the sync began again; 0 if it did not."""
        turns = self.snapshot.record.turns
        return next((place for place, turn in enumerate(turns) if turn.stage == RETRY), 0)

    def had(self, stage: str) -> bool:
        """Whether a stage had a turn, since the sync began again if it did."""
        return any(turn.stage == stage for turn in self.snapshot.record.turns[self._again :])

    def texts(self, *stages: str) -> dict[str, str]:
        """Node -> its newest document of these stages, since the sync began again if it did; looks before it count."""
        turns = self.snapshot.record.turns
        return self._texts(turns if stages == LOOKS else turns[self._again :], *stages)

    def _texts(self, turns: Sequence[Turn], *stages: str) -> dict[str, str]:
        from tasks.ektron.sync.seen import document_name  # noqa: PLC0415 - see above

        found = {}
        for turn in turns:
            for node in turn.nodes if turn.stage in stages else ():
                if text := self._documents.get(document_name(node, turn.name)):
                    found[node] = text
        return found

    def _newest(self, kind: type[F], *stages: str) -> dict[str, F]:
        return {node: document_as(kind, text, self.snapshot.record.id) for node, text in self.texts(*stages).items()}

    @cached_property
    def sites(self) -> "dict[str, SiteSeen]":
        """Node -> what was seen before anything was done."""
        from tasks.ektron.sync.seen import SiteSeen  # noqa: PLC0415 - see above

        return self._newest(SiteSeen, *LOOKS)

    @cached_property
    def sites_after(self) -> "dict[str, SiteSeen]":
        """Node -> what was seen after a sync that did not reach every server."""
        from tasks.ektron.sync.seen import SiteSeen  # noqa: PLC0415 - see above

        return self._newest(SiteSeen, EXAMINE)

    @cached_property
    def begun(self) -> "Begun | None":
        """The start of the sync; None before its first turn has ended."""
        from tasks.ektron.sync.seen import Begun  # noqa: PLC0415 - see above

        return self._newest(Begun, START).get(self.asked.node)

    @cached_property
    def files(self) -> "dict[str, FileSeen]":
        """Node -> what was last seen of the file. Where a first sync brought it, a second one is not waited for."""
        from tasks.ektron.sync.seen import FileSeen  # noqa: PLC0415 - see above

        earlier = self._texts(self.snapshot.record.turns[: self._again], WATCH)
        others = {node: text for node, text in earlier.items() if node != self.asked.node}
        first = {node: document_as(FileSeen, text, self.snapshot.record.id) for node, text in others.items()}
        return {node: seen for node, seen in first.items() if seen.arrived} | self._newest(FileSeen, WATCH)

    @property
    def arrived(self) -> frozenset[str]:
        """The servers that have the file; the one on which the sync is started, once it was put there."""
        placed = {self.asked.node} if self.snapshot.in_stage(PLACE) else set()
        return frozenset(placed | {node for node, seen in self.files.items() if seen.arrived})

    @property
    def unseen(self) -> str:
        """Why a missing file says nothing about the sync; empty if it does."""
        node, snapshot = self.asked.node, self.snapshot
        if forgotten := [name for name, seen in self.files.items() if seen.forgotten and name not in self.arrived]:
            return (
                f"the store has lost what was seen there: this run has removed its file from {named(forgotten)} already"
            )
        after = self.sites_after.get(node)
        name = canary_name(snapshot.record.id, snapshot.cluster.sync.canary.extension)
        if after is None or not after.folder_exists or not snapshot.in_stage(PLACE) or name in after.canaries:
            return ""
        return f"it is no longer on {node}, where it was put to be sent"

    @cached_property
    def refreshed(self) -> "Refreshed | None":
        """The refresh of the pool."""
        from tasks.ektron.sync.seen import Refreshed  # noqa: PLC0415 - see above

        return self._newest(Refreshed, REFRESH).get(self.asked.node)

    def running(self) -> Iterator[str]:
        """The nodes on which a sync was running before anything was done."""
        return (node for node, seen in self.sites.items() if seen.running is not None and seen.running.running)


def can_be_asked(snapshot: Snapshot) -> list[str]:
    """The servers that answer, accept the account, and have no worker left in a step."""
    slugs = {LogonRefused.slug, ABANDONED}
    gone = {n for n, o in snapshot.ended().items() if o.status is Status.UNREACHABLE or o.slug in slugs}
    return [node for node in snapshot.cluster.node_names if node not in gone]


def causes_of(snapshot: Snapshot) -> "dict[str, Cause]":
    """Node -> the most likely cause, for every server on which the file was not seen at the end of the watch."""
    from tasks.ektron.rules.findings import Findings  # noqa: PLC0415 - see above
    from tasks.ektron.sync.answers import Entry  # noqa: PLC0415 - see above
    from tasks.ektron.sync.causes import likely_cause, unsent  # noqa: PLC0415 - see above

    view, ended = SyncView(snapshot), snapshot.ended()
    text = snapshot.read.documents(DocumentKind.FINDINGS).get("verify")
    findings = document_as(Findings, text, snapshot.record.id) if text else None
    start = view.files.get(view.asked.node)
    entries = start.watched.entries if start is not None and start.watched is not None else ()
    entries = (*entries, *(entry for node, seen in view.sites_after.items() for entry in _refreshed(view, node, seen)))
    missing = [node for node in snapshot.cluster.node_names if node not in view.arrived]
    if why := view.unseen:
        return {node: unsent(node, why) for node in missing}
    refused = ended.get(view.asked.node)
    if refused is not None and refused.status is Status.FAILED:
        entries = (*entries, Entry(code="StartFailed", message=refused.message))
    silent = {node: one.message for node, one in ended.items() if one.status is Status.UNREACHABLE}
    return {
        node: likely_cause(
            node,
            findings=findings,
            entries=entries,
            sites=view.sites,
            folder=snapshot.cluster.sync.canary.folder,
            start=view.asked.node,
            unreached=silent.get(node, ""),
        )
        for node in missing
    }


def _refreshed(view: SyncView, node: str, seen: "SiteSeen") -> "tuple[Entry, ...]":
    """The load-balance entries of a server that are new since the sync: the other end balances by itself."""
    from tasks.ektron.sync.progress import since  # noqa: PLC0415 - see above

    before = view.sites.get(node)
    known = before.balance.entries if before is not None and before.balance else ()
    return since(known, seen.balance.entries) if seen.balance else ()


def expected(cluster: Cluster, node: str, direction: str) -> "Propagation | None":
    """The procedure's answer for a file that was changed on a node, and a sync started there; None if it has none.

    Args:
        cluster: the cluster.
        node: where the file is, and the sync is started.
        direction: of the profile, as the product writes it.
    """
    from tasks.ektron.propagation import Direction, Sync, propagate  # noqa: PLC0415 - see above
    from tasks.ektron.refusals import Refused  # noqa: PLC0415 - see above

    known = next((one for one in Direction if one.value[:2] == direction.casefold()[:2]), None)
    if known is None:
        return None
    try:
        return propagate(
            staging=[one.name for one in cluster.nodes if one.role is Role.STAGING],
            production=[one.name for one in cluster.nodes if one.role is Role.PRODUCTION],
            changed=node,
            syncs=[Sync(start=node, direction=known)],
            pools={one.name: one.pool for one in cluster.nodes},
        )
    except Refused:
        return None
