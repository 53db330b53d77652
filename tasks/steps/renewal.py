"""The steps of a renewal: the old family is read, all nodes trust both, and in the end only the new one.

Between `trust_both` and `trust_new` on all nodes, each node gets the new family by the ordinary steps of a rollout.
"""

from collections.abc import Callable, Iterable, Sequence

from tasks.ektron.certificates.both import EXTRA_NAMES, extra_files, extra_keys
from tasks.ektron.certificates.family import Family, family_names
from tasks.ektron.config.editors import Editing, put_keys, remove_keys
from tasks.ektron.config.sections import included_path
from tasks.ektron.desired.config_files import ConfigFile
from tasks.ektron.editions import Layout
from tasks.ektron.refusals import Refused
from tasks.observe import start_record
from tasks.observe.asking import content_of
from tasks.observe.layout import planned_facts, planned_layout
from tasks.observe.node import living_family
from tasks.step import APPLYING, Done, Work
from tasks.steps.config_edit import not_editable
from tasks.undo.backups import noted_anything
from workers.errors import NodeRefused
from workers.records import Change, DocumentKind
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["old_family", "trust_both", "trust_new"]

_KEYS = "publickCertKeys: entries for the renewal"
_FILES = "certificate files for the renewal"


def old_family(work: Work) -> Done:
    """Keeps the family that is replaced: the one that the origin uses, or that of the renewal which is continued.

    Raises:
        NodeRefused: the origin uses no whole family.
        NodeError: its files cannot be read.
    """
    if work.documents.family(DocumentKind.PREVIOUS) is not None:
        return Done(message="the family to be replaced is known")
    family = work.documents.of(work.parent).family(DocumentKind.PREVIOUS) if work.parent else None
    if family is None:
        work.report_phase("observing")
        family = _replaced(work)
    if family is None:
        raise NodeRefused(
            f"{work.node.name}: the service folder does not hold the family whose key the service trusts",
            file=planned_layout(work).service_folder,
            remedy="run a rollout first, so that all servers have one family: esync rollout FILE",
        )
    planned = work.documents.family_digests()
    if planned is not None and family.thumbprint == planned.thumbprint and not noted_anything(work):
        return Done(message="the family in use is the only one")
    work.documents.keep_family(family, DocumentKind.PREVIOUS)
    return Done(message=f"the family to be replaced is valid until {family.client.not_after:%Y-%m-%d}")


def _replaced(work: Work) -> Family | None:
    """The family that the node uses, or used before this run changed it; the new one where it has forgotten the old.

    A store that has lost its last moments does not know that this run was here before, nor does what was observed then.
    """
    layout = planned_layout(work)
    family = _admitted(work, layout) or living_family(work, layout, planned_facts(work))
    return work.documents.family() if family is None and noted_anything(work) else family


def _admitted(work: Work, layout: Layout) -> Family | None:
    """The old family beside the new one of this run, where the node trusts both already.

    So this run was here before, and its store has lost that. What the node itself uses may be either by now.
    """
    names = [name for extra in EXTRA_NAMES for name in family_names(extra)]
    questions = [ops.read(f"{layout.service_folder}\\{name}") for name in names]
    replies = work.session.ask(questions, deadline=work.deadline, keep_going=True)
    files = {name: ops.data_of(reply) for name, reply in zip(names, replies, strict=True) if reply.ok}
    try:
        old, new = (Family.collect(extra, files) for extra in EXTRA_NAMES)
    except Refused:
        return None
    planned = work.documents.family_digests()
    return old if planned is not None and planned.thumbprint == new.thumbprint else None


def trust_both(work: Work) -> Done:
    """Adds both families under the extra names: keys in the service's configuration, files in its folder.

    The files of the node itself and its own keys stay as they are. The service reads the new ones when it starts.

    Raises:
        NodeRefused: the configuration cannot be edited.
        Conflict: the file changed meanwhile; the step observes again.
        AccessDenied: a file cannot be written.
    """
    old, new = work.documents.required_family(DocumentKind.PREVIOUS), work.documents.required_family()
    layout, files = planned_layout(work), extra_files(old, new)
    write = _edited(work, layout, lambda editing: put_keys(editing, extra_keys(old, new)))
    spread = ops.spread(layout.service_folder, files, {name: name for name in files}, backup=work.backup_folder())
    written = len(_changed(work, layout, [spread, *write])[0]["written"])
    changes = _changes(layout, "added", edited=bool(write), files=written)
    return Done(changes=changes, message="trusts both families" if changes else "trusts both families already")


def trust_new(work: Work) -> Done:
    """Removes the extra names, and with them the trust in the old family. Nothing happens where they are gone.

    Raises:
        As `trust_both`.
    """
    layout, backup = planned_layout(work), work.backup_folder()
    names = [name for extra in EXTRA_NAMES for name in family_names(extra)]
    write = _edited(work, layout, lambda editing: remove_keys(editing, _extra))
    removals = [ops.remove(f"{layout.service_folder}\\{name}", backup=backup) for name in names]
    replies = _changed(work, layout, [*write, *removals])[len(write) :]
    removed = sum(1 for reply in replies if reply["changed"])
    return Done(
        changes=_changes(layout, "removed", edited=bool(write), files=removed), message="trusts only the new family"
    )


def _edited(work: Work, layout: Layout, edit: Callable[[Editing], None]) -> list[Op]:
    """The write of the edited configuration of the service; nothing when it is as it should be."""
    work.report_phase("observing")
    path = layout.service_config
    content, answers = content_of(work, ConfigFile.SERVICE, path)
    try:
        editing = Editing(content)
        edit(editing)
        result = editing.edit()
    except Refused as refusal:
        raise not_editable(work.node.name, path, refusal) from refusal
    changed = {
        ConfigFile.SERVICE.includes(name): (included_path(path, name), data) for name, data in result.included.items()
    }
    changed |= {ConfigFile.SERVICE: (path, result.data)} if result.changed else {}
    backup = work.backup_folder()
    return [ops.write(to, data, expect=answers[name]["hash"], backup=backup) for name, (to, data) in changed.items()]


def _changed(work: Work, layout: Layout, requests: Sequence[Op]) -> list[Reply]:
    """One exchange; a death in between leaves a node that trusts both families, or as many as before.

    The service reads all of it when it starts, so each change notes that the present process has not.
    """
    work.report_phase(APPLYING)
    work.documents.keep_right(work.node.name, right=False)
    record = start_record.place(work.own_folder)
    outdating = [ops.outdating(one, record, layout.service_name) for one in requests]
    return work.change(outdating, folders=layout.written_folders)


def _changes(layout: Layout, what: str, *, edited: bool, files: int) -> tuple[Change, ...]:
    found = []
    if edited:
        found.append(Change(what=_KEYS, file=layout.service_config, after=f"{len(EXTRA_NAMES)} {what}"))
    if files:
        found.append(Change(what=_FILES, file=layout.service_folder, after=f"{files} {what}"))
    return tuple(found)


def _extra(names: Iterable[str]) -> Sequence[str]:
    """Which of the servers with a key are no servers, but stand for a family."""
    extra = {name.casefold() for name in EXTRA_NAMES}
    return [name for name in names if name.casefold() in extra]
