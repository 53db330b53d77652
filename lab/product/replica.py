"""The files of a site that syncs carry, with what its service remembers of each: who has the newer version.

A change is noticed by comparison with the last look, so a removed file is noticed, too (the procedure: a file that was
added, modified or deleted). The newer version wins, by the time of the change.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from lab.machine.disk import Disk, Entry, sha256
from lab.machine.paths import WindowsPath, fold
from lab.product.database import Item

__all__ = ["LIBRARY", "STATUS_FOLDER", "Replica", "Version", "item_of"]

STATUS_FOLDER = "EktSyncStatus"
LIBRARY = frozenset({"UPLOADEDFILES", "UPLOADEDIMAGES"})
ASSETS = frozenset({"ASSETS", "PRIVATEASSETS"})
_NEVER = frozenset({"APP_GLOBALRESOURCES", "APP_WEBREFERENCES", fold(STATUS_FOLDER)})
_NEVER_IN_WORKAREA = frozenset(
    {"EWEBEDITPRO", "HELP", "EXPLORER", "EWEBDIFF", "DOCUMENTS", "FOUNDATION", "RESOURCES", "SYNC"}
)
#: Configurations (ektron-facts 5), and certificate files, which no fact says are carried.
_NEVER_ENDINGS = (".CONFIG", ".PFX", ".PVK", ".CER")


def item_of(parts: tuple[str, ...]) -> Item | None:
    """The item of a profile that carries a file, by its upper-case path below the site; None if no sync carries it."""
    folders = parts[:-1]
    first = folders[0] if folders else ""
    if parts[-1].endswith(_NEVER_ENDINGS) or first in _NEVER:
        return None
    if first in LIBRARY | ASSETS:
        return Item.DATABASE
    if first == "BIN":
        return Item.BIN
    if first == "WORKAREA":
        return None if folders[1:2] and folders[1] in _NEVER_IN_WORKAREA else Item.WORKAREA
    return Item.TEMPLATES


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a file.

    Attributes:
        name: its path below the site, as written. digest: SHA-256, empty if the file was removed.
        stamp: time of the change, nanoseconds since 1970.
    """

    name: str
    digest: str
    stamp: int
    size: int = 0

    @property
    def key(self) -> tuple[str, ...]:
        """The path as the file system compares it."""
        return tuple(map(fold, self.name.split("\\")))

    @property
    def item(self) -> Item:
        """The item that carries it."""
        return item_of(self.key) or Item.TEMPLATES


Wanted = Callable[[Version], bool]


@dataclass
class Replica:
    """The files of a site on one machine."""

    disk: Disk
    site: WindowsPath
    versions: dict[tuple[str, ...], Version] = field(default_factory=dict)

    def look(self) -> None:
        """Notices what was added, changed or removed since the last look."""
        found = dict.fromkeys(self.versions, False)
        for path, entry in _files(self.disk, self.site):
            key = path.key[len(self.site.key) :]
            if item_of(key):
                found[key] = True
                self._note(key, path, entry)
        now = self.disk.now()
        for key, there in found.items():
            if not there and self.versions[key].digest:
                self.versions[key] = Version(self.versions[key].name, "", now)

    def _note(self, key: tuple[str, ...], path: WindowsPath, entry: Entry) -> None:
        known = self.versions.get(key)
        if known and known.digest and (known.stamp, known.size) == (entry.mtime, entry.size):
            return
        digest = sha256(self.disk.read(path))
        if known and known.digest == digest:
            return
        # An older file that was put back is a change, too.
        stamp = entry.mtime if known is None or entry.mtime > known.stamp else self.disk.now()
        name = "\\".join(path.parts[len(self.site.parts) :])
        self.versions[key] = Version(name, digest, stamp, entry.size)

    def has(self, name: str) -> bool:
        """Whether the site has a file now."""
        return self.disk.stat(self.site.below(name)) is not None

    def newer_than(self, other: "Replica", wanted: Wanted) -> list[Version]:
        """The versions that the other machine does not have and that are newer than its own."""
        return [
            version
            for key, version in self.versions.items()
            if wanted(version) and _is_newer(version, other.versions.get(key))
        ]

    def data(self, version: Version) -> bytes:
        """The bytes of a version.

        Raises:
            Refusal: the file cannot be read.
        """
        return self.disk.read(self.site.below(version.name)) if version.digest else b""

    def take(self, version: Version, data: bytes) -> None:
        """Writes or removes the file.

        Raises:
            Refusal: the disk refuses it.
        """
        path = self.site.below(version.name)
        if version.digest:
            self.disk.make_folder(path.parent)
            self.disk.put(path, data)
            self.disk.touch(path, version.stamp)
        elif self.disk.stat(path):
            self.disk.remove(path)
        self.versions[version.key] = version


def _is_newer(version: Version, other: Version | None) -> bool:
    if other is None:
        return bool(version.digest)
    return version.digest != other.digest and version.stamp > other.stamp


def _files(disk: Disk, folder: WindowsPath) -> Collection[tuple[WindowsPath, Entry]]:
    found: list[tuple[WindowsPath, Entry]] = []
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        for entry in disk.entries(here):
            path = here.child(entry.name)
            if entry.folder:
                waiting.append(path)
            else:
                found.append((path, entry))
    return found
