"""The step `rollback`: puts bytes, names and the service's state back to what they were before a run.

Everything is looked at first. Where one file of a node was changed since, nothing of that node is restored, unless the
operator said so. What is written and removed is backed up under this run's own id, so that it can be undone too.
"""

from collections.abc import Iterator, Mapping, Sequence

from tasks.documents import OBSERVED
from tasks.ektron.certificates.family import node_of
from tasks.ektron.editions import Layout
from tasks.observe.node import planned_layout
from tasks.step import Done, Work
from tasks.steps.rollback_check import nothing_left
from tasks.steps.service_restart import reads, restarted_if_owed, stopped
from tasks.undo.backups import FORCE, assessed, changed_in_batches, kept_bytes, left_histories, temporary_files
from tasks.undo.conflicts import shown
from tasks.undo.plan import Action, ActionKind, Undo
from workers.errors import Conflict
from workers.records import Change
from workers.winrm import agent as ops
from workers.winrm.agent import Op

__all__ = ["rollback"]

_DONE = {ActionKind.RESTORE: "restored", ActionKind.REMOVE: "removed", ActionKind.MAKE: "made again"}


def rollback(work: Work) -> Done:
    """Undoes what the run named as parent did on this node. What is as it was is left alone.

    Raises:
        NodeRefused: a backup is gone or damaged; nothing was restored.
        Conflict: a file changed under our hands; the step looks again.
        AccessDenied: a file is read-only.
        DeadlineExceeded: the service does not stop or start in time.
    """
    work.report_phase("observing")
    histories = left_histories(work)
    if histories is None:
        return nothing_left(work)
    forced = FORCE in work.options
    found = assessed(work, histories, force=forced)
    if found.disputes:
        return _refused(work, found)
    overwritten = shown(work, assessed(work, histories).disputes) if forced else ()
    layout = planned_layout(work)
    temporary = temporary_files(work, layout)
    if found.actions or temporary:
        _apply(work, layout, found.actions, temporary)
    service = _service_as_before(work, layout)
    halves = [Change(what="temporary file removed", file=path) for path in temporary]
    changes = (*overwritten, *_changes(found), *halves, *service.changes)
    return Done(changes=changes, message=_message(found, service.message))


def _refused(work: Work, found: Undo) -> Done:
    count = "one file was" if len(found.disputes) == 1 else f"{len(found.disputes)} files were"
    error = Conflict(
        f"{work.node.name}: {count} changed after run {work.parent}, so nothing was restored here",
        file=found.disputes[0].path,
        remedy="if a later run changed them, roll that one back first; otherwise look at the differences in the "
        "report, then use --force",
    )
    return Done(changes=shown(work, found.disputes), failed=error)


def _apply(work: Work, layout: Layout, actions: Sequence[Action], temporary: Sequence[str]) -> None:
    """In the order given, each only on what was just seen; before it the half-written files of killed agents go."""
    kept = kept_bytes(work, actions)
    work.report_phase("applying")
    backup = work.backup_folder()
    requests = [
        *map(ops.remove, temporary),
        *_evidence(layout, actions),
        *(_operation(action, kept, backup) for action in actions),
    ]
    changed_in_batches(work, layout, requests)


def _operation(action: Action, kept: Mapping[str, bytes], backup: str) -> Op:
    if action.deed is ActionKind.REMOVE:
        return ops.remove(action.path, backup=backup)
    if action.deed is ActionKind.MAKE:
        return ops.mkdir(action.path, backup=backup)
    return ops.write(action.path, kept[action.before or ""], expect=action.expect or ops.ABSENT, backup=backup)


def _evidence(layout: Layout, actions: Sequence[Action]) -> Iterator[Op]:
    """Leaves on the node, before anything else, what tells that a restart or a recycling is owed.

    A restored file tells by its time. A removed one tells nothing, so the service's configuration is touched; and the
    section of AssetManagement.config is declared restartOnExternalChanges="false" (ektron-facts 2.1).
    """
    written = {action.path.casefold() for action in actions if action.deed is ActionKind.RESTORE}
    changed = [action.path for action in actions if reads(layout, action.path)]
    if changed and not any(path.casefold() in written for path in changed):
        yield ops.touch(layout.service_config)
    if layout.asset_config.casefold() in written and layout.web_config.casefold() not in written:
        yield ops.touch(layout.web_config)


def _service_as_before(work: Work, layout: Layout) -> Done:
    """Running where it ran before the run, or where nobody knows; stopped where it was stopped."""
    facts = work.documents.of(work.parent).facts(OBSERVED, work.node.name)
    if facts is not None and facts.service.state == "stopped":
        return stopped(work)
    return restarted_if_owed(work, layout, until_listening=False)


def _changes(found: Undo) -> tuple[Change, ...]:
    """One for a file; one for all family files of a folder, whose number grows with the cluster."""
    counted: dict[tuple[ActionKind, str], int] = {}
    for action in found.actions:
        folder, _, name = action.path.rpartition("\\")
        key = (action.deed, folder if node_of(name) else action.path)
        counted[key] = counted.get(key, 0) + 1
    changes = [
        Change(what=_DONE[deed], file=path, after=f"{count} certificate files" if count > 1 else "")
        for (deed, path), count in counted.items()
    ]
    kept = [Change(what="left: it holds other files", file=path) for path in found.left]
    return (*changes, *kept) if changes else ()


def _message(found: Undo, service: str) -> str:
    if not found.actions:
        return f"nothing to restore: {found.right} paths are as they were; service: {service}"
    counts = {deed: sum(1 for action in found.actions if action.deed is deed) for deed in ActionKind}
    parts = [f"{count} {_DONE[deed]}" for deed, count in counts.items() if count]
    return f"{', '.join(parts)}; service: {service}"
