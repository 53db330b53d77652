"""The backups and the manifest that a run left on a node, compared with the node now."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tasks.ektron.desired.target import RECYCLED
from tasks.ektron.editions import Layout
from tasks.observe.configuration import CONFIG_LIMIT
from tasks.observe.layout import planned_layout
from tasks.step import Done, Work
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
from workers.records import DocumentKind, Status, StepOutcome
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = [
    "BATCH",
    "MANIFEST",
    "MANIFEST_LIMIT",
    "assessed",
    "batched",
    "changed_in_batches",
    "in_batches",
    "kept_bytes",
    "left_histories",
    "noted_anything",
    "nothing_left",
    "temporary_files",
]

BATCH = 500  #: operations in one request
_ENTRIES = 1_000_000
_TEMPORARY = re.compile(r"\.esync-\d+\.tmp$", re.IGNORECASE)
MANIFEST = "manifest.jsonl"  #: in a run's folder on a node
MANIFEST_LIMIT = 64 * 2**20  #: bytes; 5,000 nodes leave 60,000 lines of 300 bytes on the origin


def left_histories(work: Work) -> tuple[PathHistory, ...] | None:
    """What the run that is undone did on this node; None when it left no manifest.

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
    foreign = outside(histories, _written_folders(work, planned_layout(work)))
    if foreign:
        raise NodeRefused(
            f"{work.node.name}: the manifest of run {work.parent} names files where no run writes; none was restored",
            file=foreign[0],
            remedy=f"{path} was changed, or the product was moved since; restore this node by hand",
        )
    return histories


def nothing_left(work: Work) -> Done:
    """The result for a node without a manifest: nothing to do where the run changed no file.

    Raises:
        NodeRefused: it changed some, so its backups were removed since.
    """
    if any(_replaced(work, outcome) for outcome in work.documents.of(work.parent).outcomes(work.node.name)):
        raise NodeRefused(
            f"{work.node.name}: run {work.parent} changed files here, and its backups are missing",
            remedy="restore this node from your own backup (`esync cleanup` removes ours when they expire)",
        )
    return Done(message=f"nothing to do: run {work.parent} changed no file here")


def noted_anything(work: Work) -> bool:
    """Whether this run has recorded on the node that it replaces something; it does so before it replaces it.

    Raises:
        NodeError: the node cannot be asked.
    """
    (manifest,) = work.session.ask([ops.stat(f"{work.backup_folder()}\\{MANIFEST}")], deadline=work.deadline)
    return bool(manifest["exists"])


def assessed(work: Work, histories: Sequence[PathHistory], *, force: bool = False) -> Undo:
    """Observes every path of a run, and decides how to undo the run.

    Raises:
        NodeError: a file cannot be observed.
    """
    states = _observed(work, {one.path: ops.stat(one.path, hashes=True) for one in histories})
    found = {path: Seen(_state(reply)) for path, reply in states.items()}
    made = [one.path for one in histories if one.before is None and found[one.path].state == FOLDER]
    held = _observed(work, {path: ops.list_folder(path) for path in made})
    found |= {path: Seen(FOLDER, tuple(one["name"] for one in reply["entries"])) for path, reply in held.items()}
    return undo(histories, found, force=force)


def kept_bytes(work: Work, actions: Iterable[Action]) -> dict[str, bytes]:
    """Hash -> bytes of everything that is to be restored; equal files are read once.

    Raises:
        NodeRefused: a backup is missing, or is not what the manifest says.
    """
    folder = work.backup_folder(work.parent)
    backups = {a.before: f"{folder}\\{a.kept}" for a in actions if a.kind is ActionKind.RESTORE and a.before}
    requests = [ops.read(path, limit=CONFIG_LIMIT) for path in backups.values()]
    kept: dict[str, bytes] = {}
    for digest, reply in zip(backups, in_batches(work, requests), strict=True):
        data = ops.data_of(reply) if reply.ok else b""
        if not reply.ok or ops.digest(data) != digest:
            why = "missing" if reply.error == "not_found" else reply.message or "not what the manifest says"
            raise NodeRefused(
                f"{work.node.name}: a backup of run {work.parent} cannot be used ({why}), nothing was restored",
                file=backups[digest],
                remedy="restore this node from your own backup; this rollback changed nothing on it",
            )
        kept[digest] = data
    return kept


def in_batches(work: Work, requests: Sequence[Op]) -> list[Reply]:
    """Sends requests in several exchanges, so that none grows with the cluster."""
    replies: list[Reply] = []
    for batch in batched(requests):
        replies += work.session.ask(batch, deadline=work.deadline, keep_going=True)
    return replies


def changed_in_batches(work: Work, layout: Layout, requests: Sequence[Op], *, keep_going: bool = False) -> list[Reply]:
    """Sends changes in several exchanges; only below the folders we write to."""
    replies: list[Reply] = []
    for batch in batched(requests):
        replies += work.change(batch, folders=_written_folders(work, layout), keep_going=keep_going)
    return replies


def _written_folders(work: Work, layout: Layout) -> tuple[str, ...]:
    """The folders we write to, and the old ones that a run found certificate files in: a run may have removed them."""
    facts = work.documents.facts(DocumentKind.OBSERVED, work.node.name)
    return (*layout.written_folders, *(place.folder for place in (facts.old_places if facts else ())))


def batched(requests: Sequence[Op]) -> Iterator[Sequence[Op]]:
    """The requests in pieces of `BATCH`."""
    return (requests[start : start + BATCH] for start in range(0, len(requests), BATCH))


def temporary_files(work: Work, layout: Layout) -> tuple[str, ...]:
    """Files that an agent left in the folders we write to because it was killed during a write.

    Raises:
        NodeError: such a folder cannot be listed.
    """
    folders = layout.written_folders
    found = []
    for folder, reply in zip(
        folders, in_batches(work, [ops.list_folder(one, limit=_ENTRIES) for one in folders]), strict=True
    ):
        names = [entry["name"] for entry in ops.entries_of(reply, work.node.name) if entry["kind"] == "file"]
        found += [f"{folder}\\{name}" for name in names if _TEMPORARY.search(name)]
    return tuple(found)


def _observed(work: Work, questions: Mapping[str, Op]) -> dict[str, Reply]:
    replies = dict(zip(questions, in_batches(work, list(questions.values())), strict=True))
    for reply in replies.values():
        if not reply.ok:
            raise ops.error_of(reply, work.node.name)
    return replies


def _state(reply: Reply) -> str | None:
    if not reply["exists"]:
        return None
    return FOLDER if reply["kind"] == FOLDER else str(reply["hash"])


def _replaced(work: Work, outcome: StepOutcome) -> bool:
    """Whether a step replaced anything it keeps backups of; recycling the site leaves all bytes as they were."""
    step = work.steps.get(outcome.step)
    if outcome.status is not Status.CHANGED or step is None or not step.keeps_backups:
        return False
    return not outcome.changes or any(change.what != RECYCLED for change in outcome.changes)
