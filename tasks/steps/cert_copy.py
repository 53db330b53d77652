"""The step `cert_copy`: six files, sent once, become 6 x N files in every folder the procedure names."""

from collections.abc import Sequence

from tasks.documents import FamilyDigests, target_of
from tasks.ektron.certificates.family import Family, strays
from tasks.ektron.desired.places import Place, places
from tasks.ektron.editions import Layout
from tasks.observe.layout import planned_facts, seen_layout
from tasks.observe.replies import understood
from tasks.step import APPLYING, Done, Work
from workers.errors import AgentFailed, NodeRefused
from workers.records import Change
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["cert_copy"]


def cert_copy(work: Work) -> Done:
    """Puts the family where each part of the product looks for it; equal files are left alone.

    Security files of other nodes in the staging folder are removed, as the plan saw them (procedure, second part,
    step 10): the wave's check has just found the folder unchanged, and the final observation finds what appears later.

    Raises:
        NodeRefused: a target folder does not exist.
        AccessDenied: a file or folder cannot be written.
    """
    if work.documents.is_right(work.node.name):
        return Done(message="all files were found in place by the check")
    work.report_phase("observing")
    family, facts = work.documents.required_family(), planned_facts(work)
    layout = seen_layout(work.cluster, facts)
    targets = places(facts, target_of(work.cluster, work.node.name, FamilyDigests.of(family)))
    names = () if work.is_origin else strays(work.node.name, facts.staging_files or ())
    foreign = [f"{layout.staging_folder}\\{name}" for name in names]
    work.report_phase(APPLYING)
    replies = _spread(work, layout, family, targets, foreign)
    with understood(work.node.name):
        changes = _changes(targets, foreign, replies)
    total = sum(len(place.files) for place in targets)
    return Done(changes=changes, message=f"{total} files in {len(targets)} folders")


def _spread(
    work: Work, layout: Layout, family: Family, targets: Sequence[Place], foreign: Sequence[str]
) -> list[Reply]:
    """One exchange for all folders. Only the staging folder is ours to make; the others come with the product."""
    backup = work.backup_folder()
    requests: list[Op] = [] if work.is_origin else [ops.mkdir(layout.staging_folder, backup=backup)]
    requests += [ops.remove(path, backup=backup) for path in foreign]
    first = len(requests)
    requests += [ops.spread(place.folder, family.blobs, place.files, backup=backup) for place in targets]
    try:
        return work.change(requests, folders=layout.written_folders)[first:]
    except AgentFailed as error:
        if error.reason != "not_found":
            raise
        raise NodeRefused(
            f"{work.node.name}: a folder for the certificates is missing: {error.message}",
            file=error.file,
            remedy="check the installation and the paths in the cluster file, then retry",
        ) from error


def _changes(targets: Sequence[Place], foreign: Sequence[str], replies: Sequence[Reply]) -> tuple[Change, ...]:
    changes = [Change(what="removed: not one of this server's own six", file=path) for path in foreign]
    for place, reply in zip(targets, replies, strict=True):
        written, count = len(reply["written"]), len(place.files)
        if written + reply["unchanged"] != count:
            raise AgentFailed("the node reported fewer files than it was asked to write", file=place.folder)
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
