"""Files that were changed after a run, as an outcome shows them: a diff of text, and never a secret."""

from collections.abc import Iterator, Sequence

from tasks.documents import FamilyDigests, target_of
from tasks.ektron.config.redacted import hunks
from tasks.ektron.config.sections import Content
from tasks.ektron.desired.config_files import paths_of
from tasks.ektron.desired.settings import edited
from tasks.ektron.refusals import ConfigRefused, Refused
from tasks.observe.configuration import CONFIG_LIMIT
from tasks.observe.layout import planned_layout
from tasks.step import Work
from tasks.undo.backups import in_batches
from tasks.undo.plan import FOLDER, ChangedSince
from tasks.undo.words import CHANGED_SINCE, OWN_CHANGE
from workers.records import Change
from workers.winrm import operations as ops

__all__ = ["shown"]

_MOST = 20  #: files shown


def shown(work: Work, files: Sequence[ChangedSince]) -> tuple[Change, ...]:
    """For each file, what is there now (`before`) and what a rollback would restore (`after`), line by line.

    What others changed comes first (`CHANGED_SINCE`), then the run's own changes in the same file (`OWN_CHANGE`).

    Only configuration files are shown, with their secrets hidden; of all others only that they differ.
    """
    changes = [change for file in files[:_MOST] for change in _of(work, file)]
    if len(files) > _MOST:
        changes.append(Change(what=f"{CHANGED_SINCE}: {len(files) - _MOST} more files"))
    return tuple(changes)


def _of(work: Work, file: ChangedSince) -> Iterator[Change]:
    plain = Change(what=CHANGED_SINCE, file=file.path, before=_described(file.found), after=_described(file.before))
    if not (_is_file(file.found) and _is_file(file.before) and file.path.casefold().endswith(".config")):
        yield plain
        return
    paths = (file.path, f"{work.backup_folder(work.parent)}\\{file.kept}")
    now, then = in_batches(work, [ops.read(path, limit=CONFIG_LIMIT) for path in paths])
    if not (now.ok and then.ok):
        yield plain
        return
    data = ops.data_of(then)
    yield from _compared(plain, ops.data_of(now), data, _left_by_run(work, file, data))


def _left_by_run(work: Work, file: ChangedSince, before: bytes) -> bytes | None:
    """The bytes that the run left: its edit, made again. None unless the manifest proves that they are the same."""
    layout = planned_layout(work)
    paths = paths_of(layout, is_origin=work.is_origin)
    config = next((one for one, path in paths.items() if path.casefold() == file.path.casefold()), None)
    family = work.documents.of(work.parent).family()
    if config is None or family is None:
        return None
    target = target_of(work.cluster, work.node.name, FamilyDigests.of(family))
    try:
        data = edited(config, Content(before), target, family.encoded_value).data
    except Refused:
        return None
    return data if ops.digest(data) in file.ours else None


def _compared(plain: Change, now: bytes, then: bytes, left: bytes | None) -> Iterator[Change]:
    """The places that restoring would change: first those changed since the run, then those of the run itself.

    Without `left` nothing tells them apart, and all count as changed since.
    """
    try:
        found = hunks(now, then)
        others = found if left is None else hunks(now, left)
    except ConfigRefused as refusal:
        yield plain.model_copy(update={"what": f"{CHANGED_SINCE}, not shown: {refusal}"})
        return
    since = [hunk for hunk in found if any(hunk.meets(other) for other in others)]
    if not since:
        yield plain.model_copy(update={"what": f"{CHANGED_SINCE}, only in line ends, blanks or encoding"})
    for what, group in ((CHANGED_SINCE, since), (OWN_CHANGE, [hunk for hunk in found if hunk not in since])):
        for hunk in group:
            yield Change(
                what=f"{what}; restoring would change line {hunk.line}",
                file=plain.file,
                before="\n".join(hunk.first),
                after="\n".join(hunk.second),
            )


def _is_file(state: str | None) -> bool:
    return state not in {None, FOLDER}


def _described(state: str | None) -> str:
    if state is None:
        return "nothing is there"
    return "a folder" if state == FOLDER else "a file with other bytes"
