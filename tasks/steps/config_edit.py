"""The step `config_edit`: the LoadBalanced flags, the certificate keys of all nodes, the site's endpoints.

Reads the files, edits their bytes, writes those that differ with a backup, and compares the result. Nothing is written
before every edit is known to be possible.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PureWindowsPath

from tasks.documents import OBSERVED
from tasks.ektron.certificates.family import Family
from tasks.ektron.config.editors import Edit, edit_asset, edit_ews, edit_service, edit_web
from tasks.ektron.editions import Layout
from tasks.ektron.refusals import Refused
from tasks.ektron.wanted import RECYCLED
from tasks.observe.node import CONFIG_LIMIT, planned_layout
from tasks.observe.replies import understood
from tasks.step import Done, Work
from workers.errors import AccessDenied, Conflict, NodeRefused, in_file
from workers.records import Change
from workers.texts import cleaned
from workers.winrm import agent as ops
from workers.winrm.agent import Op, Reply

__all__ = ["WRITABLE", "config_edit", "editors", "family_of", "read_only", "tried"]

WRITABLE = "take the read-only attribute off the file (attrib -r), then retry"
Editor = Callable[[bytes], Edit]


@dataclass(frozen=True, slots=True)
class _Edited:
    """One file: as it was read, and the edit it needs."""

    path: str
    before: str
    changed: datetime  #: by the node's clock
    edit: Edit


def config_edit(work: Work) -> Done:
    """Edits what is not as it should be (design: what is written to a node).

    Raises:
        NodeRefused: a file cannot be edited without touching what is not ours.
        AccessDenied: a file is read-only.
        Conflict: a file changed under our hands; the step observes again.
    """
    work.report_phase("observing")
    layout = planned_layout(work)
    wanted = editors(work, layout, family_of(work).encoded_value)
    with understood(work.node.name):
        edited = _read_and_edited(work, wanted)
    needed = [one for one in edited if one.edit.changes]
    recycled = _recycling(layout, edited)
    warned = _warnings(edited)
    if not needed and not recycled:
        return Done(message=f"all values are as they should be{warned}")
    work.report_phase("applying")
    work.documents.keep_right(work.node.name, right=False)
    written = _written(work, layout, needed, recycled)
    _compared(needed, written)
    return Done(changes=(*_changes(needed), *recycled), message=f"{_told(needed, recycled)}{warned}")


def family_of(work: Work) -> Family:
    """The family this run hands out.

    Raises:
        NodeRefused: the run has none; its plan would not have been made without.
    """
    family = work.documents.family()
    if family is None:
        raise NodeRefused("this run holds no certificate family", remedy="start a new run")
    return family


def editors(work: Work, layout: Layout, encoded_value: str) -> dict[str, Editor]:
    """Which editor goes over which file of this node; `encoded_value` is that of the family's client certificate."""
    own = work.node.name
    keys = {f"{name}_SyncClient.cer": encoded_value for name in work.cluster.node_names}
    found: dict[str, Editor] = {
        layout.asset_config: edit_asset,
        layout.service_config: lambda data: edit_service(data, keys=keys, server_certificate=f"{own}_SyncServer.pfx"),
        layout.web_config: lambda data: edit_web(
            data, client_certificate=f"{own}_SyncClient.pfx", encoded_value=encoded_value
        ),
    }
    if work.is_origin and _has_ews_copy(work):
        found[layout.ews_config] = lambda data: edit_ews(data, keys=keys)
    return found


def _has_ews_copy(work: Work) -> bool:
    """Some builds ship without it; then the live file is all there is (ektron-facts 9)."""
    facts = work.documents.facts(OBSERVED, work.node.name)
    return facts is not None and facts.ews is not None and facts.ews.file.exists


def tried(work: Work, path: str, editor: Editor, data: bytes, *, readonly: bool) -> Edit:
    """The edit of a file's bytes, here and not on the node: by the plan to know that it can be done, then to do it.

    Raises:
        NodeRefused: the file cannot be edited without touching what is not ours.
        AccessDenied: it would have to be edited, and is read-only.
    """
    try:
        edit = editor(data)
    except Refused as refusal:
        why = cleaned(f"{work.node.name}: the file cannot be edited: {refusal}")
        raise NodeRefused(why, file=path, remedy=cleaned(refusal.remedy)) from refusal
    if edit.changes and readonly:
        raise AccessDenied(read_only(work.node.name), file=path, remedy=WRITABLE)
    return edit


def read_only(node: str) -> str:
    """What is said where a file that has to be changed is read-only."""
    return f"{node}: the file is read-only, nothing was written on this node"


def _read_and_edited(work: Work, wanted: Mapping[str, Editor]) -> list[_Edited]:
    """Reads all files in one exchange and edits them here."""
    reads = [ops.read(path, limit=CONFIG_LIMIT) for path in wanted]
    stats = [ops.stat(path) for path in wanted]
    replies = work.session.ask([*reads, *stats], deadline=work.deadline, cancelled=work.cancelled)
    contents, states = replies[: len(reads)], replies[len(reads) :]
    edited = []
    for (path, editor), content, state in zip(wanted.items(), contents, states, strict=True):
        with in_file(path):
            edited.append(_edited(work, path, editor, content, state))
    return edited


def _edited(work: Work, path: str, editor: Editor, content: Reply, state: Reply) -> _Edited:
    edit = tried(work, path, editor, ops.data_of(content), readonly=bool(state["readonly"]))
    return _Edited(path, content["hash"], ops.time_of(content["mtime"]), edit)


def _told(needed: list[_Edited], recycled: tuple[Change, ...]) -> str:
    count = "one file" if len(needed) == 1 else f"{len(needed)} files"
    parts = [f"{count} edited"] if needed else []
    return ", ".join([*parts, *(change.what for change in recycled)])


def _recycling(layout: Layout, edited: list[_Edited]) -> tuple[Change, ...]:
    """web.config has to be younger than the asset configuration, which the site reads only when it is recycled.

    The section is declared restartOnExternalChanges="false" (ektron-facts 2.1).
    """
    asset, web = (next(one for one in edited if one.path == path) for path in (layout.asset_config, layout.web_config))
    if web.edit.changes or not (asset.edit.changes or web.changed < asset.changed):
        return ()
    return (Change(what=RECYCLED, file=web.path, before="older than AssetManagement.config", after="touched"),)


def _written(work: Work, layout: Layout, needed: list[_Edited], recycled: tuple[Change, ...]) -> list[Reply]:
    """Writes in one exchange; each file only if it still is what was read. Then reads the hashes back."""
    backup = work.backup_folder()
    requests: list[Op] = [ops.write(one.path, one.edit.data, expect=one.before, backup=backup) for one in needed]
    requests += [ops.hash_of(one.path) for one in needed]
    requests += [ops.touch(change.file) for change in recycled]
    return work.change(requests, folders=layout.written_folders)[len(needed) : 2 * len(needed)]


def _compared(needed: list[_Edited], hashes: list[Reply]) -> None:
    for one, reply in zip(needed, hashes, strict=True):
        if reply["hash"] != ops.digest(one.edit.data):
            raise Conflict("the file is not what was just written; something else writes it too", file=one.path)


def _warnings(edited: list[_Edited]) -> str:
    """What an editor could do and a person should still look at, each with its file."""
    told = [cleaned(f"{PureWindowsPath(one.path).name}: {warning}") for one in edited for warning in one.edit.warnings]
    return f"; look at this: {'; '.join(told)}" if told else ""


def _changes(needed: list[_Edited]) -> list[Change]:
    return [
        Change(what=cleaned(setting.where), file=one.path, before=cleaned(setting.before), after=cleaned(setting.after))
        for one in needed
        for setting in one.edit.changes
    ]
