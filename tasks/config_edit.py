"""The step `config_edit`: the LoadBalanced flags, the certificate keys of all nodes, the site's endpoints.

Reads the files, edits their bytes, writes those that differ with a backup, and compares the result. Nothing is written
before every edit is known to be possible.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PureWindowsPath

from tasks.ektron.certificates import Family
from tasks.ektron.config_editors import Edit, edit_asset, edit_ews, edit_service, edit_web
from tasks.ektron.editions import Layout
from tasks.material import OBSERVED
from tasks.observe import CONFIG_LIMIT, planned_layout
from tasks.step import Done, Work
from workers.errors import AccessDenied, Conflict, NodeRefused, in_file
from workers.records import Change
from workers.winrm import agent as ops
from workers.winrm.agent import Op, Reply

__all__ = ["backup_folder", "backups_folder", "config_edit", "family_of"]

Editor = Callable[[bytes], Edit]


@dataclass(frozen=True, slots=True)
class _Edited:
    """One file: as it was read, and the edit it needs."""

    path: str
    before: str
    edit: Edit


def config_edit(work: Work) -> Done:
    """Edits what is not as it should be (design: what is written to a node).

    Raises:
        NodeRefused: a file cannot be edited without touching what is not ours.
        AccessDenied: a file is read-only.
        Conflict: a file changed under our hands; the step observes again.
    """
    work.say("observing")
    layout = planned_layout(work)
    editors = _editors(work, layout, family_of(work))
    edited = _read_and_edited(work, editors)
    needed = [one for one in edited if one.edit.changes]
    warned = _warnings(edited)
    if not needed:
        return Done(message=f"all values are as they should be{warned}")
    work.say("applying")
    written = _written(work, layout, needed)
    _compared(needed, written)
    return Done(changes=tuple(_changes(needed)), message=f"{len(needed)} files edited{warned}")


def family_of(work: Work) -> Family:
    """The family this run hands out.

    Raises:
        NodeRefused: the run has none; its plan would not have been made without.
    """
    family = work.material.family()
    if family is None:
        raise NodeRefused("this run holds no certificate family", remedy="start a new run")
    return family


def backup_folder(work: Work, run: str = "") -> str:
    """Where a run keeps what it replaces on the node; this one when empty."""
    return f"{backups_folder(work)}\\{run or work.run}"


def backups_folder(work: Work) -> str:
    """The one folder on the node that is ours."""
    return f"{work.session.hello().program_data}\\esync-rollout"


def _editors(work: Work, layout: Layout, family: Family) -> dict[str, Editor]:
    """Which editor goes over which file of this node."""
    own = work.node.name
    keys = {f"{name}_SyncClient.cer": family.encoded_value for name in work.cluster.node_names}
    editors: dict[str, Editor] = {
        layout.asset_config: edit_asset,
        layout.service_config: lambda data: edit_service(data, keys=keys, server_certificate=f"{own}_SyncServer.pfx"),
        layout.web_config: lambda data: edit_web(
            data, client_certificate=f"{own}_SyncClient.pfx", encoded_value=family.encoded_value
        ),
    }
    if work.is_origin and _has_ews_copy(work):
        editors[layout.ews_config] = lambda data: edit_ews(data, keys=keys)
    return editors


def _has_ews_copy(work: Work) -> bool:
    """Some builds ship without it; then the live file is all there is (ektron-facts 9)."""
    facts = work.material.facts(OBSERVED, work.node.name)
    return facts is not None and facts.ews is not None and facts.ews.file.exists


def _read_and_edited(work: Work, editors: Mapping[str, Editor]) -> list[_Edited]:
    """Reads all files in one exchange and edits them here."""
    reads = [ops.read(path, limit=CONFIG_LIMIT) for path in editors]
    stats = [ops.stat(path) for path in editors]
    replies = work.session.ask([*reads, *stats], deadline=work.deadline, cancelled=work.cancelled)
    contents, states = replies[: len(reads)], replies[len(reads) :]
    edited = []
    for (path, editor), content, state in zip(editors.items(), contents, states, strict=True):
        with in_file(path):
            edited.append(_edited(work, path, editor, content, state))
    return edited


def _edited(work: Work, path: str, editor: Editor, content: Reply, state: Reply) -> _Edited:
    edit = editor(ops.data_of(content))
    if edit.changes and state["readonly"]:
        raise AccessDenied(
            f"{work.node.name}: the file is read-only, nothing was written on this node",
            file=path,
            remedy="take the read-only attribute off the file (attrib -r), then retry",
        )
    return _Edited(path, content["hash"], edit)


def _written(work: Work, layout: Layout, needed: list[_Edited]) -> list[Reply]:
    """Writes in one exchange; each file only if it still is what was read. Then reads the hashes back."""
    backup = backup_folder(work)
    paths = {one.path for one in needed}
    requests: list[Op] = [ops.write(one.path, one.edit.data, expect=one.before, backup=backup) for one in needed]
    requests += [ops.hash_of(one.path) for one in needed]
    if layout.asset_config in paths and layout.web_config not in paths:
        # The section is declared restartOnExternalChanges="false" (ektron-facts 2.1): the site must be recycled.
        requests.append(ops.touch(layout.web_config))
    return work.session.ask(requests, deadline=work.deadline)[len(needed) : 2 * len(needed)]


def _compared(needed: list[_Edited], hashes: list[Reply]) -> None:
    for one, reply in zip(needed, hashes, strict=True):
        if reply["hash"] != ops.digest(one.edit.data):
            raise Conflict("the file is not what was just written; something else writes it too", file=one.path)


def _warnings(edited: list[_Edited]) -> str:
    """What an editor could do and a person should still look at, each with its file."""
    told = [f"{PureWindowsPath(one.path).name}: {warning}" for one in edited for warning in one.edit.warnings]
    return f"; look at this: {'; '.join(told)}" if told else ""


def _changes(needed: list[_Edited]) -> list[Change]:
    return [
        Change(what=setting.where, file=one.path, before=setting.before, after=setting.after)
        for one in needed
        for setting in one.edit.changes
    ]
