"""The step `rollback`: restores bytes, names and the service's state to what they were before a run.

Everything is observed first. Where one file of a node was changed since, nothing of that node is restored, unless the
operator forces it. What is written and removed is backed up under this run's own id, so that it can be undone too.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from tasks.documents import FORCE, changes_of
from tasks.ektron.certificates.family import node_of
from tasks.ektron.desired.config_files import read_at_start
from tasks.ektron.desired.node import recycling
from tasks.ektron.editions import Layout
from tasks.ektron.facts.values import FileFacts
from tasks.observe import start_record
from tasks.observe.layout import planned_layout
from tasks.step import APPLYING, Done, Work
from tasks.steps.service_restart import restarted_if_owed, stopped
from tasks.undo.backups import (
    assessed,
    changed_in_batches,
    kept_bytes,
    left_histories,
    nothing_left,
    temporary_files,
)
from tasks.undo.conflicts import shown
from tasks.undo.plan import Action, ActionKind, Undo
from workers.errors import Conflict
from workers.records import Change, DocumentKind
from workers.winrm import operations as ops
from workers.winrm.operations import Op

__all__ = ["rollback"]

_DONE = {ActionKind.RESTORE: "restored", ActionKind.REMOVE: "removed", ActionKind.MAKE: "made again"}


def rollback(work: Work) -> Done:
    """Undoes what the parent run did on this node. What is as it was before is left alone.

    Raises:
        NodeRefused: a backup is missing or damaged; nothing was restored.
        Conflict: a file changed after it was observed; the step observes again.
        AccessDenied: a file is read-only.
        DeadlineExceeded: the service does not stop or start in time.
    """
    work.report_phase("observing")
    histories = left_histories(work)
    if histories is None:
        return nothing_left(work)
    forced = FORCE in work.options
    found = assessed(work, histories, force=forced)
    if found.changed_since:
        return _refused(work, found)
    overwritten = shown(work, assessed(work, histories).changed_since) if forced else ()
    layout = planned_layout(work)
    temporary = temporary_files(work, layout)
    if found.actions or temporary:
        _apply(work, layout, found.actions, temporary)
    recycled = _recycled(work, layout)
    service = _service_as_before(work, layout)
    removed = [Change(what="temporary file removed", file=path) for path in temporary]
    changes = (*overwritten, *_changes(found), *removed, *recycled, *service.changes)
    return Done(changes=changes, message=_message(found, service.message))


def _refused(work: Work, found: Undo) -> Done:
    count = "one file was" if len(found.changed_since) == 1 else f"{len(found.changed_since)} files were"
    error = Conflict(
        f"{work.node.name}: {count} changed after run {work.parent}, so nothing was restored here",
        file=found.changed_since[0].path,
        remedy="if a later run changed them, roll that one back first; otherwise check the differences in the report, "
        "then use --force",
    )
    return Done(changes=shown(work, found.changed_since), failed=error)


def _apply(work: Work, layout: Layout, actions: Sequence[Action], temporary: Sequence[str]) -> None:
    """Removes half-written files of killed agents; then acts in the order given, each time only on the observed state.

    What `expect` names is compared by the node itself before the change.
    """
    kept = kept_bytes(work, actions)
    work.report_phase(APPLYING)
    requests = [
        *map(ops.remove, temporary),
        *(_operation(work, layout, action, kept) for action in actions),
    ]
    changed_in_batches(work, layout, requests)


def _operation(work: Work, layout: Layout, action: Action, kept: Mapping[str, bytes]) -> Op:
    """Undoes one thing. What the service reads is noted in its start record before: a restart is owed then."""
    op = _plain_operation(action, kept, work.backup_folder())
    if action.kind is ActionKind.MAKE or not read_at_start(layout, action.path):
        return op
    return ops.outdating(op, start_record.place(work.own_folder), layout.service_name)


def _plain_operation(action: Action, kept: Mapping[str, bytes], backup: str) -> Op:
    if action.kind is ActionKind.REMOVE:
        return ops.remove(action.path, backup=backup)
    if action.kind is ActionKind.MAKE:
        return ops.mkdir(action.path, backup=backup)
    return ops.write(action.path, kept[action.before or ""], expect=action.expect or ops.ABSENT, backup=backup)


def _recycled(work: Work, layout: Layout) -> tuple[Change, ...]:
    """Recycles the site where it has not read its asset configuration, by the same evidence as in a rollout."""
    before = work.documents.of(work.parent).facts(DocumentKind.OBSERVED, work.node.name)
    included = [file.path for file in before.web.included if file.exists] if before else []
    paths = (layout.asset_config, *included, layout.web_config)
    replies = work.session.ask([ops.stat(path) for path in paths], deadline=work.deadline, cancelled=work.cancelled)
    *read_once, web = (
        FileFacts(path=path, mtime=ops.time_of(reply["mtime"]) if reply.get("mtime") else None)
        for path, reply in zip(paths, replies, strict=True)
    )
    needed = tuple(recycling(read_once, web))
    if needed:
        work.change([ops.touch(layout.web_config)], folders=layout.written_folders)
    return changes_of(needed)


def _service_as_before(work: Work, layout: Layout) -> Done:
    """Running where it ran before the run, or where that is not known; stopped where it was stopped."""
    facts = work.documents.of(work.parent).facts(DocumentKind.OBSERVED, work.node.name)
    if facts is not None and facts.service.state == "stopped":
        return stopped(work, layout)
    return restarted_if_owed(work, layout, until_listening=False)


def _changes(found: Undo) -> tuple[Change, ...]:
    """One for a file; one for all family files of a folder, whose number grows with the cluster."""
    counted = Counter((action.kind, _group(action.path)) for action in found.actions)
    changes = [
        Change(what=_DONE[kind], file=path, after=f"{count} certificate files" if count > 1 else "")
        for (kind, path), count in counted.items()
    ]
    remaining = [Change(what="not removed: it holds other files", file=path) for path in found.remaining]
    return (*changes, *remaining) if changes else ()


def _group(path: str) -> str:
    folder, _, name = path.rpartition("\\")
    return folder if node_of(name) else path


def _message(found: Undo, service: str) -> str:
    if not found.actions:
        return f"nothing to restore: {found.unchanged} paths are as they were; service: {service}"
    parts = [f"{count} {_DONE[kind]}" for kind, count in found.counts().items()]
    return f"{', '.join(parts)}; service: {service}"
