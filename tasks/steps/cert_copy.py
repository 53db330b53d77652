"""The step `cert_copy`: six files, sent once, become 6 x N files in every folder the procedure names."""

from collections.abc import Sequence

from tasks.ektron.certificates.family import Family
from tasks.ektron.desired.places import OLD_FILES, Place, Removal, places, removals
from tasks.ektron.desired.target import Target
from tasks.ektron.editions import Layout
from tasks.ektron.facts.node import NodeFacts
from tasks.ektron.wording import counted
from tasks.observe import start_record
from tasks.observe.border import understood
from tasks.observe.layout import planned_facts, seen_layout
from tasks.observe.old_places import certificate_files
from tasks.observe.service import leave_evidence, service_questions
from tasks.step import APPLYING, Done, Work
from tasks.undo.backups import batched
from workers.errors import AgentFailed, NodeRefused
from workers.records import Change
from workers.texts import cleaned
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["cert_copy"]


def cert_copy(work: Work) -> Done:
    """Puts the family where each part of the product looks for it, and removes what has to go; equal files stay.

    What has to go is what the plan saw, such as security files of other nodes in the staging folder (procedure, second
    part, step 10): the wave's check has just found the node unchanged, and the final observation finds what appears
    later.

    Raises:
        NodeRefused: a target folder does not exist.
        AccessDenied: a file or folder cannot be written.
    """
    if work.documents.is_right(work.node.name):
        return Done(message="all files were found in place by the check")
    work.report_phase("observing")
    family, facts = work.required_family(), planned_facts(work)
    layout, target = seen_layout(work.cluster, facts), work.target(family)
    targets = places(facts, target)
    due = (*removals(facts, target), *_in_old_folders(work, facts, target))
    work.report_phase(APPLYING)
    _removed(work, layout, due)
    replies = _spread(work, layout, family, targets, facts) if family and targets else []
    with understood(work.node.name):
        changes = (*_removal_changes(due), *_changes(work.node.name, targets, replies))
    return Done(changes=changes, message=_message(targets, due))


def _in_old_folders(work: Work, facts: NodeFacts, target: Target) -> list[Removal]:
    """The files in the old folders that the plan names; a folder may hold files of thousands of nodes."""
    if not target.removes:
        return []
    files = certificate_files(work, tuple(place.folder for place in facts.old_places))
    return [Removal(OLD_FILES, folder, names) for folder, names in files.items() if names]


def _removed(work: Work, layout: Layout, due: Sequence[Removal]) -> None:
    """Removes the files, each with a backup."""
    requests = [_removing(work, layout, one, name) for one in due for name in one.names]
    folders = (*layout.written_folders, *(one.folder for one in due if one.what == OLD_FILES))
    for batch in batched(requests):
        work.change(batch, folders=folders)


def _removing(work: Work, layout: Layout, removal: Removal, name: str) -> Op:
    op = ops.remove(f"{removal.folder}\\{name}", backup=work.backup_folder())
    if not removal.read_at_start:
        return op
    return ops.outdating(op, start_record.place(work.own_folder), layout.service_name)


def _spread(work: Work, layout: Layout, family: Family, targets: Sequence[Place], facts: NodeFacts) -> Sequence[Reply]:
    """One exchange for all folders. Only the staging folder is ours to make; the others come with the product.

    The same exchange asks what the service has loaded: the next step then knows whether a restart is owed.
    """
    backup = work.backup_folder()
    requests: list[Op] = [] if work.is_origin else [ops.mkdir(layout.staging_folder, backup=backup)]
    first = len(requests)
    record = start_record.place(work.own_folder)
    for place in targets:
        ends = {f"_{kind}": kind for kind in place.kinds}
        copy = ops.spread(place.folder, family.blobs, ends, owners=place.nodes, backup=backup)
        is_read = place.folder.casefold() == layout.service_folder.casefold()
        requests.append(ops.outdating(copy, record, layout.service_name) if is_read else copy)
    questions = service_questions(work.cluster, layout, work.own_folder, facts.service_config.included)
    try:
        replies = work.change(requests, folders=layout.written_folders, look=list(questions.values()))
        leave_evidence(work, dict(zip(questions, replies[len(requests) :], strict=True)))
        return replies[first : len(requests)]
    except AgentFailed as error:
        if error.reason != "not_found":
            raise
        raise NodeRefused(
            f"{work.node.name}: a folder for the certificates is missing: {error.message}",
            file=error.file,
            remedy="check the installation and the paths in the cluster file, then retry",
        ) from error


def _removal_changes(due: Sequence[Removal]) -> tuple[Change, ...]:
    """One for each folder, however many nodes there are."""
    return tuple(
        Change(what=cleaned(one.what), file=one.folder, before=cleaned(one.summary), after="removed") for one in due
    )


def _message(targets: Sequence[Place], due: Sequence[Removal]) -> str:
    total, gone = sum(len(place.nodes) * len(place.kinds) for place in targets), sum(len(one.names) for one in due)
    copied = [f"{total} files in {len(targets)} folders"] if targets else []
    return ", ".join([*copied, *([f"{counted(gone, 'file')} removed"] if gone else [])]) or "no files to remove"


def _changes(node: str, targets: Sequence[Place], replies: Sequence[Reply]) -> tuple[Change, ...]:
    changes = []
    for place, reply in zip(targets, replies, strict=True):
        written, count = int(reply["changed"]), len(place.nodes) * len(place.kinds)
        there = written + int(reply["unchanged"])
        if there != count:
            raise AgentFailed(
                f"{node}: the agent reports {there} of the {count} files that it was to write",
                file=place.folder,
                remedy="retry",
            )
        if written:
            changes.append(
                Change(
                    what=place.what,
                    file=place.folder,
                    before=f"{reply['unchanged']} right",
                    after=f"{written} written of {count}",
                )
            )
    return tuple(changes)
