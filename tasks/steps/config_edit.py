"""The step `config_edit`: the LoadBalanced flags, the certificate keys of all nodes, the site's endpoints.

Reads the files, edits their bytes, writes those that differ with a backup, and compares the result. Nothing is written
before every edit is known to be possible.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tasks.documents import changes_of
from tasks.ektron.config.editors import Edit
from tasks.ektron.config.sections import Content
from tasks.ektron.desired.config_files import ConfigFile, paths_of
from tasks.ektron.desired.node import READ_ONLY_REMEDY, read_only, recycling
from tasks.ektron.desired.settings import edited, file_facts, included_facts, setting_differences
from tasks.ektron.desired.target import Difference, Target
from tasks.ektron.editions import Layout
from tasks.ektron.facts.configuration import ConfigurationFacts
from tasks.ektron.facts.values import FileFacts
from tasks.ektron.refusals import Refused
from tasks.observe import start_record
from tasks.observe.asking import answers_to, with_included
from tasks.observe.border import cleaned_facts, understood
from tasks.observe.configuration import (
    configuration_facts,
    configuration_questions,
    contents_of,
)
from tasks.observe.layout import planned_layout
from tasks.observe.look import Look, last_look
from tasks.step import APPLYING, Done, Work
from workers.errors import AccessDenied, Conflict, NodeRefused
from workers.texts import cleaned
from workers.winrm import operations as ops
from workers.winrm.operations import Reply

__all__ = ["config_edit", "not_editable", "tried"]


@dataclass(frozen=True, slots=True)
class _Edited:
    """A file that is changed, as it was read, and its new bytes. `file`: it, or the one that includes it."""

    file: ConfigFile
    seen: FileFacts
    data: bytes = field(repr=False)

    @property
    def path(self) -> str:
        """Where it is."""
        return self.seen.path


def config_edit(work: Work) -> Done:
    """Edits what is not as it should be (design: what is written to a node).

    Each file is written only if it still is what was seen; after a conflict the files are read again.

    Raises:
        NodeRefused: a file cannot be edited without touching what is not ours.
        AccessDenied: a file is read-only.
        Conflict: a file changed after it was read; the step observes again.
    """
    work.report_phase("observing")
    layout = planned_layout(work)
    paths = paths_of(layout, is_origin=work.is_origin)
    contents, facts = _seen(work, paths)
    needed, found = _edited(work, contents, facts)
    read_once = [facts.asset.file, *facts.web.included]
    recycled = tuple(recycling(read_once, facts.web.file, {difference.file for difference in found}))
    if not needed and not recycled:
        return Done(message="all values are as they should be")
    work.report_phase(APPLYING)
    work.documents.keep_right(work.node.name, right=False)
    _compare(work.node.name, needed, _written(work, layout, needed, recycled))
    return Done(changes=changes_of([*found, *recycled]), message=_summary(needed, recycled))


def tried(
    file: ConfigFile,
    facts: ConfigurationFacts,
    content: Content,
    target: Target,
    certificate: str,
    *,
    may_be_readonly: bool = False,
) -> Edit:
    """The edit of a file's bytes, here and not on the node: by the check to know that it can be done, then to do it.

    Args:
        file: which of the files.
        facts: the files as they were observed.
        content: its bytes, and those of the files that it includes.
        target: what the node has to be.
        certificate: encodedValue of the family's client certificate.
        may_be_readonly: whether it is not known yet that the file has to be edited.

    Raises:
        NodeRefused: the file cannot be edited without touching what is not ours.
        AccessDenied: it has to be edited, and is read-only.
    """
    seen, included = file_facts(facts, file), included_facts(facts, file)
    try:
        edit = edited(file, content, target, certificate)
    except Refused as refusal:
        raise not_editable(target.node, seen.path, refusal) from refusal
    for one in (*(included[name] for name in edit.included), *([seen] if edit.changed else [])):
        if one.readonly and not may_be_readonly:
            raise AccessDenied(read_only(target.node), file=one.path, remedy=READ_ONLY_REMEDY)
    return edit


def not_editable(node: str, path: str, refusal: Refused) -> NodeRefused:
    """What is raised when a file refuses an edit; nothing was written."""
    why = cleaned(f"{node}: the file cannot be edited: {refusal}")
    return NodeRefused(why, file=path, remedy=cleaned(refusal.remedy))


def _seen(work: Work, paths: Mapping[ConfigFile, str]) -> tuple[Mapping[ConfigFile, Content], ConfigurationFacts]:
    """The files and their facts: as the check has just seen them, where it could read all of them; else read now."""
    look = last_look(work)
    if look is not None and _all_read(paths, look):
        return look.contents, look.facts
    answers = _read(work, paths)
    with understood(work.node.name):
        seen = configuration_facts(paths, answers, work.cluster.node_names, work.documents.digest)
        return contents_of(paths, answers), cleaned_facts(seen)


def _all_read(paths: Mapping[ConfigFile, str], look: Look) -> bool:
    if any(content.unreadable for content in look.contents.values()):
        return False
    return all(file in look.contents or _is_absent(look, file) for file in paths)


def _is_absent(look: Look, file: ConfigFile) -> bool:
    facts = file_facts(look.facts, file)
    return file is ConfigFile.EWS and not facts.exists and not facts.problem


def _read(work: Work, paths: Mapping[ConfigFile, str]) -> Mapping[str, Reply]:
    """All files in one exchange. Some builds have no EWSUpdates copy (ektron-facts 9)."""
    answers = with_included(work, paths, answers_to(work, configuration_questions(paths)))
    required = {*paths, *(file.stat for file in paths)}
    for name, reply in answers.items():
        missing = reply.error == "not_found" and (name == ConfigFile.EWS or name not in required)
        if not reply.ok and not missing:
            raise ops.error_of(reply, work.node.name)
    return answers


def _edited(
    work: Work, contents: Mapping[ConfigFile, Content], facts: ConfigurationFacts
) -> tuple[list[_Edited], list[Difference]]:
    """Edits the bytes here. The facts of the same bytes say what there is to change, in the words of the plan.

    Files that web.config includes are before it: the site reads them when web.config changes.

    Raises:
        NodeRefused: a file cannot be edited, or the reader and the editor of a file disagree about it.
        AccessDenied: a file has to be edited, and is read-only.
    """
    family = work.required_family()
    target = work.target(family)
    files: list[_Edited] = []
    found: list[Difference] = []
    for file, content in contents.items():
        edit = tried(file, facts, content, target, family.encoded_value if family else "")
        seen, included = file_facts(facts, file), included_facts(facts, file)
        differences = list(setting_differences(facts, target, [file]))
        changed = [_Edited(file, included[name], data) for name, data in edit.included.items()]
        changed += [_Edited(file, seen, edit.data)] if edit.changed else []
        if {one.path for one in changed} != {one.file for one in differences}:
            why = f"{work.node.name}: the reader and the editor of the file disagree about it; nothing was written"
            raise NodeRefused(why, file=seen.path, remedy="send the file to the developers")
        files += changed
        found += differences
    return files, found


def _written(work: Work, layout: Layout, needed: Sequence[_Edited], recycled: Sequence[Difference]) -> list[Reply]:
    """Writes in one exchange, each file only if it still is what was read. Then reads the hashes back."""
    backup, record = work.backup_folder(), start_record.place(work.own_folder)
    writes = [(one, ops.write(one.path, one.data, expect=one.seen.hash, backup=backup)) for one in needed]
    requests = [ops.outdating(op, record, layout.service_name) if one.file.read_at_start else op for one, op in writes]
    requests += [ops.hash_of(one.path) for one in needed]
    requests += [ops.touch(layout.web_config) for _ in recycled]
    return work.change(requests, folders=layout.written_folders)[len(needed) : 2 * len(needed)]


def _compare(node: str, needed: Sequence[_Edited], hashes: Sequence[Reply]) -> None:
    for one, reply in zip(needed, hashes, strict=True):
        if reply["hash"] != ops.digest(one.data):
            raise Conflict(
                f"{node}: the file is not what was just written",
                file=one.path,
                remedy="find out what else writes the file, then retry",
            )


def _summary(needed: Sequence[_Edited], recycled: Sequence[Difference]) -> str:
    count = "one file" if len(needed) == 1 else f"{len(needed)} files"
    parts = [f"{count} edited"] if needed else []
    return ", ".join([*parts, *(difference.what for difference in recycled)])
