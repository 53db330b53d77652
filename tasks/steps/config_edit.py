"""The step `config_edit`: the LoadBalanced flags, the certificate keys of all nodes, the site's endpoints.

Reads the files, edits their bytes, writes those that differ with a backup, and compares the result. Nothing is written
before every edit is known to be possible.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PureWindowsPath

from tasks.documents import FamilyDigests, changes_of, target_of
from tasks.ektron.config.editors import Edit
from tasks.ektron.desired.config_files import ConfigFile, paths_of
from tasks.ektron.desired.node import READ_ONLY_REMEDY, read_only, recycling
from tasks.ektron.desired.settings import edited, file_facts, setting_differences
from tasks.ektron.desired.target import Difference, Target
from tasks.ektron.editions import Layout
from tasks.ektron.facts import ConfigurationFacts, FileFacts
from tasks.ektron.refusals import Refused
from tasks.observe.configuration import configuration_facts, configuration_questions, contents_of
from tasks.observe.layout import planned_layout
from tasks.observe.replies import answers_to, cleaned_facts, understood
from tasks.step import APPLYING, Done, Work
from workers.errors import AccessDenied, Conflict, NodeRefused
from workers.texts import cleaned
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["config_edit", "tried"]


@dataclass(frozen=True, slots=True)
class _Edited:
    """One file: as it was read, what it lacks, and the edit."""

    path: str
    before: str  #: hash
    differences: tuple[Difference, ...]
    edit: Edit


def config_edit(work: Work) -> Done:
    """Edits what is not as it should be (design: what is written to a node).

    Raises:
        NodeRefused: a file cannot be edited without touching what is not ours.
        AccessDenied: a file is read-only.
        Conflict: a file changed after it was read; the step observes again.
    """
    work.report_phase("observing")
    layout = planned_layout(work)
    paths = paths_of(layout, is_origin=work.is_origin)
    answers = _read(work, paths)
    with understood(work.node.name):
        seen = configuration_facts(paths, answers, work.cluster.node_names, work.documents.digest)
        facts = cleaned_facts(seen)
        files = _edited(work, paths, facts, answers)
    needed = [one for one in files if one.edit.changed]
    found = list(chain.from_iterable(one.differences for one in needed))
    recycled = tuple(recycling(facts.asset.file, facts.web.file, {difference.file for difference in found}))
    warnings = _warnings(files)
    if not needed and not recycled:
        return Done(message=f"all values are as they should be{warnings}")
    work.report_phase(APPLYING)
    work.documents.keep_right(work.node.name, right=False)
    _compare(needed, _written(work, layout, needed, recycled))
    return Done(changes=changes_of([*found, *recycled]), message=f"{_summary(needed, recycled)}{warnings}")


def tried(file: ConfigFile, seen: FileFacts, data: bytes, target: Target, certificate: str) -> Edit:
    """The edit of a file's bytes, here and not on the node: by the check to know that it can be done, then to do it.

    Args:
        file: which of the files.
        seen: the file as it was observed.
        data: its bytes.
        target: what the node has to be.
        certificate: encodedValue of the family's client certificate.

    Raises:
        NodeRefused: the file cannot be edited without touching what is not ours.
        AccessDenied: it has to be edited, and is read-only.
    """
    try:
        edit = edited(file, data, target, certificate)
    except Refused as refusal:
        why = cleaned(f"{target.node}: the file cannot be edited: {refusal}")
        raise NodeRefused(why, file=seen.path, remedy=cleaned(refusal.remedy)) from refusal
    if edit.changed and seen.readonly:
        raise AccessDenied(read_only(target.node), file=seen.path, remedy=READ_ONLY_REMEDY)
    return edit


def _read(work: Work, paths: Mapping[ConfigFile, str]) -> Mapping[str, Reply]:
    """All files in one exchange. Some builds have no EWSUpdates copy (ektron-facts 9)."""
    answers = answers_to(work, configuration_questions(paths))
    for name, reply in answers.items():
        if not reply.ok and not (name == ConfigFile.EWS and reply.error == "not_found"):
            raise ops.error_of(reply, work.node.name)
    return answers


def _edited(
    work: Work, paths: Mapping[ConfigFile, str], facts: ConfigurationFacts, answers: Mapping[str, Reply]
) -> list[_Edited]:
    """Edits the bytes here. The facts of the same bytes say what there is to change, in the words of the plan.

    Raises:
        NodeRefused: a file cannot be edited, or the reader and the editor of a file disagree about it.
        AccessDenied: a file has to be edited, and is read-only.
    """
    family = work.documents.required_family()
    target = target_of(work.cluster, work.node.name, FamilyDigests.of(family))
    files = []
    for file, data in contents_of(answers).items():
        edit = tried(file, file_facts(facts, file), data, target, family.encoded_value)
        differences = tuple(setting_differences(facts, target, [file]))
        if edit.changed != bool(differences):
            why = f"{work.node.name}: the reader and the editor of the file disagree about it; nothing was written"
            raise NodeRefused(why, file=paths[file], remedy="send the file to the developers")
        files.append(_Edited(paths[file], answers[file]["hash"], differences, edit))
    return files


def _written(work: Work, layout: Layout, needed: Sequence[_Edited], recycled: Sequence[Difference]) -> list[Reply]:
    """Writes in one exchange, each file only if it still is what was read. Then reads the hashes back."""
    backup = work.backup_folder()
    requests: list[Op] = [ops.write(one.path, one.edit.data, expect=one.before, backup=backup) for one in needed]
    requests += [ops.hash_of(one.path) for one in needed]
    requests += [ops.touch(layout.web_config) for _ in recycled]
    return work.change(requests, folders=layout.written_folders)[len(needed) : 2 * len(needed)]


def _compare(needed: Sequence[_Edited], hashes: Sequence[Reply]) -> None:
    for one, reply in zip(needed, hashes, strict=True):
        if reply["hash"] != ops.digest(one.edit.data):
            raise Conflict("the file is not what was just written; something else writes it too", file=one.path)


def _summary(needed: Sequence[_Edited], recycled: Sequence[Difference]) -> str:
    count = "one file" if len(needed) == 1 else f"{len(needed)} files"
    parts = [f"{count} edited"] if needed else []
    return ", ".join([*parts, *(difference.what for difference in recycled)])


def _warnings(files: Sequence[_Edited]) -> str:
    """What an edit cannot settle and a person should check, each with its file."""
    texts = [cleaned(f"{PureWindowsPath(one.path).name}: {warning}") for one in files for warning in one.edit.warnings]
    return f"; warning: {'; '.join(texts)}" if texts else ""
