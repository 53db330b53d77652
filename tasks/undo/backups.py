"""What a run left on a node for its own undoing, and how the node stands to it now. Reads only."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tasks.ektron.editions import Layout
from tasks.observe.node import CONFIG_LIMIT, planned_layout
from tasks.step import Work
from tasks.undo.plan import (
    FOLDER,
    Action,
    ActionKind,
    PathHistory,
    Seen,
    Undo,
    histories_of,
    outside,
    read_manifest,
    undo,
)
from workers.errors import NodeRefused
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = [
    "BATCH",
    "FORCE",
    "MANIFEST",
    "MANIFEST_LIMIT",
    "assessed",
    "changed_in_batches",
    "in_batches",
    "kept_bytes",
    "left_histories",
    "noted_anything",
    "temporary_files",
]

FORCE = "force"  #: the option that lets a rollback overwrite what changed since
BATCH = 500  #: operations in one request
_ENTRIES = 1_000_000
_TEMPORARY = re.compile(r"\.esync-\d+\.tmp$", re.IGNORECASE)
MANIFEST = "manifest.jsonl"  #: in a run's folder on a node
MANIFEST_LIMIT = 64 * 2**20  #: bytes; 5,000 nodes leave 60,000 lines of 300 bytes on the origin


def left_histories(work: Work) -> tuple[PathHistory, ...] | None:
    """What the run to be undone did on this node; None when it left no manifest.

    Raises:
        NodeRefused: the manifest cannot be understood, or names paths where no run writes.
        NodeError: it cannot be read.
    """
    path = f"{work.backup_folder(work.parent)}\\{MANIFEST}"
    (manifest,) = work.session.ask([ops.read(path, limit=MANIFEST_LIMIT)], deadline=work.deadline, keep_going=True)
    if not manifest.ok:
        if manifest.error == "not_found":
            return None
        raise ops.error_of(manifest, work.node.name)
    histories = histories_of(read_manifest(ops.data_of(manifest)))
    foreign = outside(histories, planned_layout(work).written_folders)
    if foreign:
        raise NodeRefused(
            f"{work.node.name}: the manifest of run {work.parent} names files where no run writes; none was restored",
            file=foreign[0],
            remedy=f"somebody wrote into {path}, or the product was moved since; restore this node by hand",
        )
    return histories


def noted_anything(work: Work) -> bool:
    """Whether this run has noted on the node that it replaces something; it does so before it replaces it.

    Raises:
        NodeError: that cannot be looked at.
    """
    (manifest,) = work.session.ask([ops.stat(f"{work.backup_folder()}\\{MANIFEST}")], deadline=work.deadline)
    return bool(manifest["exists"])


def assessed(work: Work, histories: Sequence[PathHistory], *, force: bool = False) -> Undo:
    """Looks at every path of a run and says what undoing it takes.

    Raises:
        NodeError: a file cannot be looked at.
    """
    states = _looked(work, {trace.path: ops.stat(trace.path, hashes=True) for trace in histories})
    found = {path: Seen(_state(reply)) for path, reply in states.items()}
    made = [trace.path for trace in histories if trace.before is None and found[trace.path].state == FOLDER]
    held = _looked(work, {path: ops.list_folder(path) for path in made})
    found |= {path: Seen(FOLDER, tuple(one["name"] for one in reply["entries"])) for path, reply in held.items()}
    return undo(histories, found, force=force)


def kept_bytes(work: Work, actions: Iterable[Action]) -> dict[str, bytes]:
    """Hash -> bytes of everything that is to be restored; equal files are read once.

    Raises:
        NodeRefused: a backup is gone, or is not what the manifest says.
    """
    folder = work.backup_folder(work.parent)
    wanted = {a.before: f"{folder}\\{a.kept}" for a in actions if a.deed is ActionKind.RESTORE and a.before}
    kept: dict[str, bytes] = {}
    for digest, reply in zip(wanted, in_batches(work, [_whole(path) for path in wanted.values()]), strict=True):
        data = ops.data_of(reply) if reply.ok else b""
        if not reply.ok or ops.digest(data) != digest:
            why = "gone" if reply.error == "not_found" else reply.message or "not what the manifest says"
            raise NodeRefused(
                f"{work.node.name}: a backup of run {work.parent} cannot be used ({why}), nothing was restored",
                file=wanted[digest],
                remedy="restore this node from your own backup; nothing of it was changed now",
            )
        kept[digest] = data
    return kept


def in_batches(work: Work, requests: Sequence[Op]) -> list[Reply]:
    """Asks for many things in several exchanges, so that none grows with the cluster."""
    replies: list[Reply] = []
    for batch in batched(requests):
        replies += work.session.ask(batch, deadline=work.deadline, keep_going=True)
    return replies


def changed_in_batches(work: Work, layout: Layout, requests: Sequence[Op], *, keep_going: bool = False) -> list[Reply]:
    """Changes many things in several exchanges, below the folders we write to and nowhere else."""
    replies: list[Reply] = []
    for batch in batched(requests):
        replies += work.change(batch, folders=layout.written_folders, keep_going=keep_going)
    return replies


def batched(requests: Sequence[Op]) -> Iterator[Sequence[Op]]:
    """The requests in pieces of `BATCH`."""
    return (requests[start : start + BATCH] for start in range(0, len(requests), BATCH))


def temporary_files(work: Work, layout: Layout) -> tuple[str, ...]:
    """What an agent that was killed in the middle of a write left in the folders we write to.

    Raises:
        NodeError: such a folder cannot be looked into.
    """
    folders = layout.written_folders
    found = []
    for folder, reply in zip(
        folders, in_batches(work, [ops.list_folder(one, limit=_ENTRIES) for one in folders]), strict=True
    ):
        if not reply.ok and reply.error != "not_found":
            raise ops.error_of(reply, work.node.name)
        names = [entry["name"] for entry in reply.get("entries", ()) if entry["kind"] == "file"]
        found += [f"{folder}\\{name}" for name in names if _TEMPORARY.search(name)]
    return tuple(found)


def _whole(path: str) -> Op:
    return ops.read(path, limit=CONFIG_LIMIT)


def _looked(work: Work, questions: Mapping[str, Op]) -> dict[str, Reply]:
    replies = dict(zip(questions, in_batches(work, list(questions.values())), strict=True))
    for reply in replies.values():
        if not reply.ok:
            raise ops.error_of(reply, work.node.name)
    return replies


def _state(reply: Reply) -> str | None:
    if not reply["exists"]:
        return None
    return FOLDER if reply["kind"] == FOLDER else str(reply["hash"])
