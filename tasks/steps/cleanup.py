r"""The step `cleanup`: removes what runs left on a node, and observes it again to prove that it is gone.

Ours are: the folders of runs below `<program_data>\esync-rollout`, temporary files `*.esync-<pid>.tmp` in the folders
we write to, and canaries of syncs. Only names that we give are removed; other files there are kept and reported.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tasks.ektron.editions import Layout
from tasks.fence import FENCE_FILE
from tasks.observe import drained_note, start_record, stopped_dependents
from tasks.observe.layout import registered_layout
from tasks.step import APPLYING, Done, Work
from tasks.syncing.canaries import remove_canaries
from tasks.undo.backups import MANIFEST, changed_in_batches, in_batches, temporary_files
from workers.errors import NodeRefused
from workers.records import Change
from workers.winrm import operations as ops
from workers.winrm.operations import Op

__all__ = ["ALL", "FREE", "cleanup"]

ALL = "all"  #: the option that removes every backup, expired or not
FREE = "fence"  #: the option that frees a node for the next writer, and removes nothing else
_ENTRIES = 1_000_000
_KEPT = re.compile(r"[1-9][0-9]*")
_OURS = {FENCE_FILE, stopped_dependents.FILE, start_record.FILE, drained_note.FILE}

Entries = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Run:
    """What one run left: its folder, its backups, and when it last wrote there."""

    name: str
    folder: str
    kept: tuple[str, ...]
    manifest: bool
    files_folder: bool
    last: datetime

    def is_due(self, oldest: datetime) -> bool:
        """Whether it is expired, or holds neither a backup nor a manifest."""
        return self.last < oldest or not (self.kept or self.manifest)

    @property
    def parts(self) -> tuple[str, ...]:
        """All paths that are ours, in the order of removal: the manifest after the bytes that it describes."""
        files = [f"{self.folder}\\files\\{name}" for name in self.kept]
        if self.files_folder:
            files.append(f"{self.folder}\\files")
        if self.manifest:
            files.append(f"{self.folder}\\{MANIFEST}")
        return (*files, self.folder)


def cleanup(work: Work) -> Done:
    """Removes expired backups, with `--all` all backups, but never those of a run that is not concluded.

    Raises:
        NodeRefused: a file that is not ours prevents the removal, or a file of ours still exists afterwards.
        AccessDenied: something cannot be removed.
    """
    work.report_phase("observing")
    if FREE in work.options:
        return _freed(work)
    layout = registered_layout(work)
    runs, now = _runs(work)
    canaries = remove_canaries(work)
    active = work.documents.going_on() - {work.run}
    oldest = now - timedelta(days=work.cluster.policy.keep_backups_days)
    due = [run for run in runs if run.name not in active and (ALL in work.options or run.is_due(oldest))]
    temporary = temporary_files(work, layout)
    if due or temporary:
        work.report_phase(APPLYING)
        _removed(work, layout, [*temporary, *(part for run in due for part in run.parts)])
    last = _removed_if_bare(work) if due or temporary or ALL in work.options else ()
    bare = _proven(work, layout, due)
    changes = (*canaries, *_changes(due, temporary), *last)
    return Done(changes=changes, message=_message(len(runs) - len(due), bare=bare))


def _freed(work: Work) -> Done:
    """Removes the fence file, whatever it holds: this run has locked the cluster, so there is no other writer."""
    question = [ops.stat(work.fence_file)]
    (seen,) = work.session.ask(question, deadline=work.deadline)
    if not seen["exists"]:
        return Done(message="the node is free: there is no fence file")
    work.report_phase(APPLYING)
    work.session.ask([ops.remove(work.fence_file)], deadline=work.deadline)
    (again,) = work.session.ask(question, deadline=work.deadline)
    if again["exists"]:
        raise NodeRefused(f"{work.node.name}: the fence file still exists after the removal", file=work.fence_file)
    return Done(
        changes=(Change(what="fence removed", file=work.fence_file),), message="the node is free for the next writer"
    )


def _runs(work: Work) -> tuple[list[_Run], datetime]:
    """The runs that left something on this node, and the node's time."""
    root, node = work.own_folder, work.node.name
    clock, top = work.session.ask([ops.clock(), _list(root)], deadline=work.deadline, keep_going=True)
    now = ops.time_of(clock["now"])
    folders = [entry for entry in ops.entries_of(top, node) if entry["kind"] == "folder"]
    paths = [f"{root}\\{entry['name']}" for entry in folders]
    held = in_batches(work, [_list(path) for path in paths])
    kept = in_batches(work, [_list(f"{path}\\files") for path in paths])
    return [
        _run(path, entry, ops.entries_of(inside, node), ops.entries_of(files, node), files_folder=files.ok)
        for entry, path, inside, files in zip(folders, paths, held, kept, strict=True)
    ], now


def _run(path: str, entry: Mapping[str, Any], inside: Entries, files: Entries, *, files_folder: bool) -> _Run:
    # The manifest tells when the run last wrote; a folder's own time changes when a cleanup is interrupted.
    manifest = [one for one in inside if one["name"].casefold() == MANIFEST]
    times = [ops.time_of(one["mtime"]) for one in manifest or (entry, *inside, *files)]
    return _Run(
        name=entry["name"],
        folder=path,
        kept=tuple(one["name"] for one in files if _KEPT.fullmatch(one["name"])),
        manifest=bool(manifest),
        files_folder=files_folder,
        last=max(times),
    )


def _removed(work: Work, layout: Layout, paths: Iterable[str]) -> None:
    replies = changed_in_batches(work, layout, [ops.remove(path) for path in paths], keep_going=True)
    # A folder that is not empty fails here. The observation afterwards can name what it holds.
    for reply in replies:
        if not reply.ok and reply.error not in {"not_found", "failed"}:
            raise ops.error_of(reply, work.node.name)


def _removed_if_bare(work: Work) -> tuple[Change, ...]:
    """Our folder, when it holds only our notes. They are removed last, so nothing protects their removal.

    The start record is evidence that the service has loaded what is there, so only `--all` removes it; a record that
    says that a restart is owed stays.
    """
    record = start_record.place(work.own_folder)
    questions = [_list(work.own_folder), start_record.question(work.own_folder)]
    top, noted = work.session.ask(questions, deadline=work.deadline, keep_going=True)
    names = {entry["name"] for entry in ops.entries_of(top, work.node.name)}
    known = start_record.record_in(noted)
    if start_record.FILE in names and (ALL not in work.options or (known and known.loaded is None)):
        return ()
    if not names <= {FENCE_FILE, start_record.FILE}:
        return ()
    last = [ops.remove(record), ops.remove(work.fence_file), ops.remove(work.own_folder)]
    work.session.ask(last, deadline=work.deadline, keep_going=True)
    return (Change(what="start record removed", file=record),) if start_record.FILE in names else ()


def _proven(work: Work, layout: Layout, due: Iterable[_Run]) -> bool:
    """Observes again that nothing that was due exists. Returns whether our whole folder is gone."""
    node, still = work.node.name, list(temporary_files(work, layout))
    (top,) = work.session.ask([_list(work.own_folder)], deadline=work.deadline, keep_going=True)
    entries = ops.entries_of(top, node)
    names = {entry["name"] for entry in entries}
    for run in due:
        if run.name in names:
            (inside,) = work.session.ask([_list(run.folder)], deadline=work.deadline, keep_going=True)
            still += [f"{run.folder}\\{entry['name']}" for entry in ops.entries_of(inside, node)] or [run.folder]
    foreign = [
        f"{work.own_folder}\\{one['name']}" for one in entries if one["kind"] != "folder" and one["name"] not in _OURS
    ]
    still += foreign if ALL in work.options else []
    if still:
        raise NodeRefused(
            f"{node}: these paths still exist after the removal: {', '.join(still[:5])}",
            file=still[0],
            remedy="it is not ours, or another program holds it open; remove it by hand, then clean up again",
        )
    return not top.ok


def _list(path: str) -> Op:
    return ops.list_folder(path, limit=_ENTRIES)


def _changes(due: Iterable[_Run], temporary: Iterable[str]) -> Iterable[Change]:
    for run in due:
        yield Change(what="backups removed", file=run.folder, before=f"{len(run.kept)} files of {run.last:%Y-%m-%d}")
    for path in temporary:
        yield Change(what="temporary file removed", file=path)


def _message(kept: int, *, bare: bool) -> str:
    if bare:
        return "nothing of esync is left on this node"
    return f"backups of {kept} runs are kept until they expire" if kept else "no backups are left"
