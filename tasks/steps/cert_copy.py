"""The step `cert_copy`: six files, sent once, become 6 x N files in every folder the procedure names."""

from dataclasses import dataclass

from tasks.documents import OBSERVED
from tasks.ektron.certificates.family import CLIENT_KINDS, Family, strays
from tasks.ektron.editions import Layout
from tasks.observe.node import planned_layout
from tasks.observe.replies import understood
from tasks.step import Done, Work
from tasks.steps.config_edit import family_of
from workers.errors import AgentFailed, NodeRefused
from workers.records import Change
from workers.winrm import agent as ops
from workers.winrm.agent import Op, Reply

__all__ = ["cert_copy"]


@dataclass(frozen=True, slots=True)
class _Target:
    """One folder and the names that have to be in it, each with its kind."""

    folder: str
    files: dict[str, str]


def cert_copy(work: Work) -> Done:
    """Puts the family where each part of the product looks for it; equal files are left alone.

    Raises:
        NodeRefused: a target folder is not there.
        AccessDenied: a file or folder may not be written.
    """
    if work.documents.is_right(work.node.name):
        return Done(message="all files are there, as the check has just seen")
    work.report_phase("observing")
    family = family_of(work)
    layout = planned_layout(work)
    foreign = () if work.is_origin else _strays(work, layout)
    targets = _targets(work, layout, family)
    work.report_phase("applying")
    replies = _spread(work, layout, targets, foreign)
    with understood(work.node.name):
        changes = _changes(targets, foreign, replies)
    total = sum(len(target.files) for target in targets)
    return Done(changes=changes, message=f"{total} files in {len(targets)} folders")


def _targets(work: Work, layout: Layout, family: Family) -> list[_Target]:
    """Procedure steps 5 to 10 and its second part, steps 3 to 10 and 17."""
    own = family.files_for(work.node.name)
    clients = family.files_for(work.node.name, CLIENT_KINDS)
    everybody = {name: kind for node in work.cluster.node_names for name, kind in family.files_for(node).items()}
    targets = [_Target(layout.service_folder, everybody), _Target(layout.site, clients)]
    if work.is_origin:
        targets.append(_Target(layout.configurator_folder, everybody))
    else:
        targets.append(_Target(layout.staging_folder, own))
    return targets


def _strays(work: Work, layout: Layout) -> tuple[str, ...]:
    """Security files in the staging folder beside this node's own six (procedure, second part, step 10).

    As the plan saw them: the wave's check has just found the folder as it was then, and what appears later is for the
    last look of the run to find.
    """
    facts = work.documents.facts(OBSERVED, work.node.name)
    names = (facts.staging_files if facts else None) or ()
    return tuple(f"{layout.staging_folder}\\{name}" for name in strays(work.node.name, names))


def _spread(work: Work, layout: Layout, targets: list[_Target], foreign: tuple[str, ...]) -> list[Reply]:
    """One exchange for all folders. Only the staging folder is ours to make; the others come with the product."""
    family, backup = family_of(work), work.backup_folder()
    requests: list[Op] = []
    if not work.is_origin:
        requests.append(ops.mkdir(targets[-1].folder, backup=backup))
    requests += [ops.remove(path, backup=backup) for path in foreign]
    first = len(requests)
    requests += [ops.spread(target.folder, family.blobs, target.files, backup=backup) for target in targets]
    try:
        return work.change(requests, folders=layout.written_folders)[first:]
    except AgentFailed as error:
        if error.reason != "not_found":
            raise
        raise NodeRefused(
            f"{work.node.name}: a folder the certificates belong in is missing: {error.message}",
            file=error.file,
            remedy="check the installation and the paths in the cluster file, then retry",
        ) from error


def _changes(targets: list[_Target], foreign: tuple[str, ...], replies: list[Reply]) -> tuple[Change, ...]:
    changes = [Change(what="removed: not one of this server's own six", file=path) for path in foreign]
    for target, reply in zip(targets, replies, strict=True):
        written = len(reply["written"])
        if written + reply["unchanged"] != len(target.files):
            raise AgentFailed("the node says less than it was asked to write", file=target.folder)
        if written:
            changes.append(
                Change(what="certificate files", file=target.folder, before=f"{reply['unchanged']} right",
                       after=f"{written} written of {len(target.files)}")
            )  # fmt: skip
    return tuple(changes)
