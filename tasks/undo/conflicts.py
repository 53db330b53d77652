"""Files that were changed after a run, as an outcome shows them: a diff of text, and never a secret."""

from collections.abc import Iterator, Sequence

from tasks.ektron.config.redacted import hunks
from tasks.ektron.refusals import ConfigRefused
from tasks.observe.configuration import CONFIG_LIMIT
from tasks.step import Work
from tasks.undo.backups import in_batches
from tasks.undo.plan import CHANGED_SINCE, FOLDER, ChangedSince
from workers.records import Change
from workers.winrm import operations as ops
from workers.winrm.operations import Reply

__all__ = ["shown"]

_MOST = 20  #: files shown


def shown(work: Work, files: Sequence[ChangedSince]) -> tuple[Change, ...]:
    """For each file, what is there now (`before`) and what a rollback would restore (`after`), line by line.

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
    yield from _compared(plain, now, then)


def _compared(plain: Change, now: Reply, then: Reply) -> Iterator[Change]:
    if not (now.ok and then.ok):
        yield plain
        return
    try:
        found = hunks(ops.data_of(now), ops.data_of(then))
    except ConfigRefused as refusal:
        yield plain.model_copy(update={"what": f"{CHANGED_SINCE}, not shown: {refusal}"})
        return
    if not found:
        yield plain.model_copy(update={"what": f"{CHANGED_SINCE}, only in line ends, blanks or encoding"})
    for hunk in found:
        yield Change(
            what=f"{CHANGED_SINCE}; restoring would change line {hunk.line}",
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
