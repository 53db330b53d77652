"""The agent's operations on files and folders. They return without waiting."""

import base64
import re
from collections.abc import Callable, Sequence
from json.encoder import encode_basestring_ascii as json_text
from typing import NamedTuple

from lab.agent.file_sets import Listed, SetRule
from lab.agent.messages import Fields, Result, as_time, link_refusal
from lab.agent.start_record import Outdated
from lab.machine.disk import Disk, Entry, sha256
from lab.machine.errors import Refusal, Slug
from lab.machine.machine import Machine
from lab.machine.paths import WindowsPath, fold

__all__ = ["FILE_OPERATIONS", "spread_files"]

_LIST_LIMIT = 10_000
_READ_LIMIT = 4_194_304
_TEMPORARY = re.compile(r"\.esync-(\d+)\.tmp$", re.IGNORECASE)
_FOLDER = "folder"
_REFUSED_NAMES = 100


class _Backup:
    """The folder that keeps old files before a change, with one manifest line per change."""

    def __init__(self, machine: Machine, fields: Fields) -> None:
        self._machine = machine
        self._folder = fields.folder_or_none("backup")
        self._kept = -1
        self._append: Callable[[bytes], None] | None = None

    def record(self, path: WindowsPath, before: str | None, after: str | None) -> str | None:
        """Copies the old bytes if there are any, writes the line, and returns the path of the copy."""
        if self._folder is None:
            return None
        kept = self._keep(path, self._folder) if before not in {None, _FOLDER} else None
        if self._append is None:
            self._machine.disk.make_folder(self._folder)
            self._append = self._machine.disk.appending(self._folder.child("manifest.jsonl"))
        at, copy = as_time(self._machine.clock.now()), f"files\\\\{kept.name}" if kept else None
        # Not by `json` as a whole: a large cluster has millions of these lines.
        line = (
            f'{{"at":"{at}","path":{json_text(path.text)},'
            f'"before":{_quoted(before)},"after":{_quoted(after)},"kept":{_quoted(copy)}}}\n'
        )
        self._append(line.encode())
        return kept.text if kept else None

    def _keep(self, path: WindowsPath, folder: WindowsPath) -> WindowsPath:
        files, disk = folder.child("files"), self._machine.disk
        disk.make_folder(files)
        if self._kept < 0:
            self._kept = self._last_kept(files)
        self._kept += 1
        self._machine.kept_backups[files.text] = self._kept
        place = files.child(str(self._kept))
        disk.put(place, disk.read(path))
        return place

    def _last_kept(self, files: WindowsPath) -> int:
        """The largest number in the folder; listed only if another process may have written there."""
        known, disk = self._machine.kept_backups.get(files.text), self._machine.disk
        if known is not None and disk.stat(files.child(str(known))) and not disk.stat(files.child(str(known + 1))):
            return known
        return max((int(name) for name in disk.names(files) if name.isdecimal()), default=0)


def _quoted(text: str | None) -> str:
    return f'"{text}"' if text else "null"


def _described(disk: Disk, listed: Listed, *, timed: bool) -> Result:
    """A file or folder; one that cannot be read has no hash."""
    entry, digest = listed
    result: Result = {
        "kind": _FOLDER if entry.folder else "file",
        "size": entry.size,
        "mtime": as_time(entry.mtime),
    }
    if digest is not None:
        result["hash"] = digest
    if timed and not entry.folder:
        result["ctime"] = as_time(entry.ctime) if disk.keeps_change_times else None
    return result


def _stat(machine: Machine, fields: Fields) -> Result:
    path, hashed, timed = fields.path(), fields.flag("hash"), fields.flag("ctime")
    entry = machine.disk.stat(path)
    if entry is None:
        return {"exists": False}
    digest = machine.disk.hash(path) if hashed and not entry.folder else None
    found = _described(machine.disk, (entry, digest), timed=timed)
    return {"exists": True, **found, "readonly": entry.readonly}


def _list(machine: Machine, fields: Fields) -> Result:
    path, hashed, timed = fields.path(), fields.flag("hash"), fields.flag("ctime")
    limit, rule, disk = fields.whole("limit", _LIST_LIMIT), SetRule.of(fields), machine.disk
    found = disk.hashes(path) if hashed else [(entry, None) for entry in disk.entries(path)]
    told: Result = {}
    rest: Sequence[Listed] = found[:limit]
    if rule and hashed and len(found) <= limit:
        rest, told = rule.split(rest, timed=timed, kept=disk.keeps_change_times)
    entries = [{"name": one[0].name, **_described(disk, one, timed=timed)} for one in rest]
    return {"entries": entries, "truncated": len(found) > limit, **told}


def _read(machine: Machine, fields: Fields) -> Result:
    path, limit = fields.path(), fields.whole("limit", _READ_LIMIT)
    known = fields.text("known") if fields.has("known") else ""
    data = machine.disk.read(path)
    if len(data) > limit:
        raise Refusal(Slug.INVALID, f"the file has {len(data)} bytes, more than the limit of {limit}", path.text)
    entry = machine.disk.stat(path)
    result: Result = {"size": len(data), "mtime": as_time(entry.mtime if entry else 0), "hash": sha256(data)}
    return result if result["hash"] == known else {**result, "data": base64.b64encode(data).decode()}


def _hash(machine: Machine, fields: Fields) -> Result:
    data = machine.disk.read(fields.path())
    return {"hash": sha256(data), "size": len(data)}


def _current(disk: Disk, path: WindowsPath) -> str | None:
    """The hash of the file, or None if there is none; refuses a folder and a missing parent."""
    if disk.stat(path):
        return disk.hash(path)
    disk.check_folder(path.parent)
    return None


def _sweep(machine: Machine, folder: WindowsPath) -> None:
    """Deletes temporary files of agent processes that have ended."""
    for name in machine.disk.names(folder):
        found = _TEMPORARY.search(name)
        if found and int(found[1]) not in machine.processes:
            machine.disk.remove(folder.child(name))


def _write(machine: Machine, fields: Fields) -> Result:
    path, data, expect = fields.path(), fields.data("data"), fields.text("expect")
    if not re.fullmatch(r"any|absent|[0-9a-fA-F]{64}", expect):
        raise Refusal(Slug.INVALID, "write: expect must be a hash, absent or any")
    backup, outdated = _Backup(machine, fields), Outdated.of(fields)
    before, after = _current(machine.disk, path), sha256(data)
    if before == after:
        return {"changed": False, "before": before, "after": after, "backup": None}
    if expect != "any" and expect.lower() != (before or "absent"):
        found = f"its hash is {before}" if before else "there is no such file"
        raise Refusal(Slug.CONFLICT, f"the file is not the expected one: {found}", path.text)
    machine.disk.check_put(path)
    _sweep(machine, path.parent)
    outdated.save(machine)
    kept = backup.record(path, before, after)
    machine.disk.put(path, data)
    return {"changed": True, "before": before, "after": after, "backup": kept}


class _Unequal(NamedTuple):
    path: WindowsPath
    data: bytes
    before: str | None
    after: str
    present: Entry | None


def _spread(machine: Machine, fields: Fields) -> Result:
    folder, blobs, files = fields.path("folder"), fields.blobs("blobs"), spread_files(fields)
    backup, outdated = _Backup(machine, fields), Outdated.of(fields)
    if unknown := sorted(set(files.values()) - set(blobs)):
        raise Refusal(Slug.INVALID, f"spread: files refers to missing blobs: {', '.join(unknown)}")
    contents = {blob: (data, sha256(data)) for blob, data in blobs.items()}
    targets = [(folder.child(name), *contents[blob]) for name, blob in files.items()]
    machine.disk.check_folder(folder)
    taken = {fold(name) for name in machine.disk.names(folder)}
    # Every reason to refuse is checked before the first file changes.
    unequal = [one for target in targets if (one := _compare(machine.disk, *target, taken))]
    if unequal:
        _sweep(machine, folder)
        outdated.save(machine)
    for one in unequal:
        backup.record(one.path, one.before, one.after)
        machine.disk.put_checked(one.path, one.data, one.present)
    written = {} if fields.has("owners") else {"written": [one.path.name for one in unequal]}
    return {"changed": len(unequal), "unchanged": len(targets) - len(unequal), **written}


def spread_files(fields: Fields) -> dict[str, str]:
    """The files of a `spread`: name -> blob. With owners, each owner gets one file of each ending."""
    files = fields.names("files")
    if not fields.has("owners"):
        return files
    return {owner + end: blob for owner in fields.texts("owners") for end, blob in files.items()}


def _compare(disk: Disk, path: WindowsPath, data: bytes, after: str, taken: set[str]) -> _Unequal | None:
    """What is to be done about one file of a folder, in which the `taken` names are in use."""
    entry = disk.stat(path) if path.key[-1] in taken else None
    if entry is None:
        disk.check_new(path)
        return _Unequal(path, data, None, after, None)
    if entry.link:
        raise link_refusal(path, folder=entry.folder)
    before = disk.hash(path)
    if before == after:
        return None
    disk.check_change(path, entry)
    return _Unequal(path, data, before, after, entry)


def _mkdir(machine: Machine, fields: Fields) -> Result:
    path, backup = fields.path(), _Backup(machine, fields)
    missing = machine.disk.missing_folders(path)
    for folder in missing:
        backup.record(folder, None, _FOLDER)
        machine.disk.make_folder(folder)
    return {"changed": bool(missing)}


def _remove(machine: Machine, fields: Fields) -> Result:
    path, expect, backup = fields.path(), fields.text("expect", "any").lower(), _Backup(machine, fields)
    outdated = Outdated.of(fields)
    if not re.fullmatch(r"any|folder|[0-9a-f]{64}", expect):
        raise Refusal(Slug.INVALID, "remove: expect must be a hash, folder or any")
    entry = machine.disk.stat(path)
    if entry is None:
        return {"changed": False}
    if not path.parts:
        raise Refusal(Slug.INVALID, "a drive cannot be removed", path.text)
    before = _FOLDER if entry.folder else machine.disk.hash(path)
    if expect not in {"any", before}:
        raise Refusal(Slug.CONFLICT, "the current content is not the expected content", path.text)
    machine.disk.check_remove(path)
    outdated.save(machine)
    backup.record(path, before, None)
    machine.disk.remove(path)
    return {"changed": True}


def _touch(machine: Machine, fields: Fields) -> Result:
    return {"mtime": as_time(machine.disk.touch(fields.path()))}


def _access(machine: Machine, fields: Fields) -> Result:
    path, disk = fields.path(), machine.disk
    containing = fields.text("containing") if fields.has("containing") else None
    entry = disk.stat(path)
    if entry is None:
        return {"exists": False, "kind": None, **_above(disk, path)}
    found: Result = {"exists": True, "kind": _FOLDER if entry.folder else "file", "writable": not disk.is_denied(path)}
    if entry.folder and containing is not None:
        names = _refused(disk, path, containing.casefold())
        found |= {"refused": names[:_REFUSED_NAMES], "refused_count": len(names)}
    return found


def _above(disk: Disk, path: WindowsPath) -> Result:
    """The folder in which the first missing part of a path would be created."""
    while path.parts:
        path = path.parent
        entry = disk.stat(path)
        if entry is not None:
            writable = not disk.is_denied(path) if entry.folder else None
            return {"writable": writable, "nearest": path.text if entry.folder else None}
    return {"writable": None, "nearest": None}


def _refused(disk: Disk, folder: WindowsPath, containing: str) -> list[str]:
    """The files that cannot be replaced."""
    files = [one for one in disk.entries(folder) if not one.folder and containing in one.name.casefold()]
    return [one.name for one in files if one.readonly or disk.is_denied(folder.child(one.name))]


FILE_OPERATIONS: dict[str, Callable[[Machine, Fields], Result]] = {
    "stat": _stat,
    "list": _list,
    "read": _read,
    "hash": _hash,
    "write": _write,
    "spread": _spread,
    "mkdir": _mkdir,
    "remove": _remove,
    "touch": _touch,
    "access": _access,
}
