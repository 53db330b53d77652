"""The guard of a request: the folders that it may change, and the fence that rejects outdated writers."""

import asyncio
import re
import time
from dataclasses import dataclass
from itertools import count
from typing import Self

from lab.agent.messages import Fields, link_refusal
from lab.machine.disk import Disk
from lab.machine.errors import Refusal, Slug
from lab.machine.machine import Machine
from lab.machine.paths import WindowsPath

__all__ = ["Fence", "Guard"]

_CHANGING = {"write": "path", "spread": "folder", "mkdir": "path", "remove": "path", "touch": "path"}
_LENGTH = 97
_LARGEST = 2**63 - 1
_LARGEST_CLAIM = 10**10 - 1
_RUN = re.compile(r"[A-Za-z0-9._-]{0,64}")
_LINE = re.compile(rb"([0-9]{1,20})(?: ([0-9]{1,10}) ([A-Za-z0-9._-]{1,64}))?")
_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Writer:
    """The writer of a change: the number of a run on the machine, and a claim of that run.

    Attributes:
        run: empty for a writer without a run.
    """

    number: int
    claim: int = 0
    run: str = ""

    def yields_to(self, seen: "Writer") -> bool:
        """Whether the writer that the machine has seen is newer, or is another run with the same number."""
        same = self.number == seen.number
        return seen.number > self.number or (same and (seen.run != self.run or seen.claim > self.claim))

    def line(self) -> bytes:
        """Its line in the fence file."""
        more = f" {self.claim:010d} {self.run}" if self.run else ""
        return f"{self.number:020d}{more}".ljust(_LENGTH - 1).encode() + b"\n"

    def __str__(self) -> str:
        return f"{self.number}, claim {self.claim} of run {self.run}" if self.run else f"{self.number}"


@dataclass(frozen=True, slots=True)
class Fence:
    """A writer, and the file that names the newest writer that the machine has seen.

    Attributes:
        wait: seconds to wait for another process that has the file open.
    """

    file: WindowsPath
    writer: Writer
    wait: float

    @classmethod
    def of(cls, fields: Fields) -> Self:
        """Reads the fence of a guard; refuses `invalid`."""
        run, claim = fields.text("run", ""), fields.whole("claim", 0)
        if not _RUN.fullmatch(run) or claim > _LARGEST_CLAIM:
            raise Refusal(Slug.INVALID, "guard.fence: run has up to 64 plain characters, claim 10 digits at most")
        writer = Writer(fields.whole("number"), claim if run else 0, run)
        return cls(fields.path("file"), writer, fields.seconds("wait", 30))

    async def enter(self, disk: Disk) -> None:
        """Records this writer as the newest one.

        Raises:
            Refusal: `conflict` if a newer writer is recorded, `busy` while another process has the file open, `failed`
                if the file does not contain a writer; also the refusals of the disk.
        """
        await self._wait(disk)
        seen = self._seen(disk)
        if self.writer.yields_to(seen):
            why = f"a newer writer ({seen}) has changed this node; this request ({self.writer}) is outdated"
            raise Refusal(Slug.CONFLICT, why, self.file.text)
        if seen != self.writer:
            disk.put(self.file, self.writer.line())

    async def _wait(self, disk: Disk) -> None:
        disk.make_folder(self.file.parent)
        end = time.monotonic() + self.wait
        for _ in count():
            try:
                disk.check_put(self.file)
            except Refusal as refusal:
                if refusal.slug is not Slug.BUSY:
                    raise
                if time.monotonic() >= end:
                    why = f"another writer has held the fence for {self.wait:g} s"
                    raise Refusal(Slug.BUSY, why, self.file.text) from None
                await asyncio.sleep(_PAUSE)
            else:
                return

    def _seen(self, disk: Disk) -> Writer:
        """The writer in the file; older than any other writer if there is none yet."""
        data = disk.read(self.file) if disk.stat(self.file) else b""
        text = data.strip(b"\0\r\n ")
        if not text and len(data) <= _LENGTH:
            return Writer(-1)
        match = _LINE.fullmatch(text)
        if len(data) > _LENGTH or match is None or int(match[1]) > _LARGEST:
            why = "the fence file does not contain a fence number; find out what wrote it"
            raise Refusal(Slug.FAILED, why, self.file.text)
        return Writer(int(match[1]), int(match[2] or b"0"), (match[3] or b"").decode())


@dataclass(frozen=True, slots=True)
class Guard:
    """The guard of a request. Even without one, changes do not pass through a junction.

    Attributes:
        folders: the folders that may be changed; None is any folder.
    """

    fence: Fence | None = None
    folders: tuple[WindowsPath, ...] | None = None

    @classmethod
    def of(cls, request: Fields) -> Self:
        """Reads the guard of a request.

        Raises:
            Refusal: `invalid`.
        """
        given = request.object_or_none("guard")
        if given is None:
            return cls()
        folders = tuple(map(WindowsPath.of, given.texts("folders"))) if given.has("folders") else None
        fence = given.object_or_none("fence")
        return cls(Fence.of(fence) if fence else None, folders)

    async def admit(self, machine: Machine, fields: Fields) -> WindowsPath | None:
        """Checks an operation; returns the fence file if it must be held while the operation runs.

        Raises:
            Refusal: `invalid` for a path that it may not change; also the refusals of `Fence.enter`.
        """
        if fields.op in _CHANGING:
            self._check_paths(machine.disk, fields)
        elif fields.op != "service" or not fields.is_one_of("action", "stop", "start"):
            return None
        self._check_start_record(machine.disk, fields)
        if self.fence is None:
            return None
        _check_no_link(machine.disk, self.fence.file, self._depth(self.fence.file))
        await self.fence.enter(machine.disk)
        return self.fence.file if fields.op in _CHANGING else None

    def _check_paths(self, disk: Disk, fields: Fields) -> None:
        path = fields.path(_CHANGING[fields.op])
        self._check_path(disk, path)
        if backup := fields.folder_or_none("backup"):
            self._check_path(disk, backup)
            for name in ("files", "manifest.jsonl"):
                _check_no_link(disk, backup.child(name), len(backup.key))
        if self.fence and path == self.fence.file:
            raise Refusal(Slug.INVALID, "a guarded operation must not change its own fence file", path.text)

    def _check_start_record(self, disk: Disk, fields: Fields) -> None:
        given = fields.object_or_none("start_record")
        if given is None:
            return
        file = given.path("file")
        self._check_path(disk, file)
        if self.fence and file == self.fence.file:
            raise Refusal(Slug.INVALID, "the start record must not be the fence file", file.text)

    def _check_path(self, disk: Disk, path: WindowsPath) -> None:
        depth = self._depth(path)
        if self.folders is not None and depth < 0:
            raise Refusal(Slug.INVALID, "the path is outside the folders of the guard", path.text)
        _check_no_link(disk, path, depth)

    def _depth(self, path: WindowsPath) -> int:
        """The number of names in the deepest guard folder that contains the path; -1 if none does."""
        around = (len(one.key) for one in self.folders or () if path == one or path.is_below(one))
        return max(around, default=-1)


def _check_no_link(disk: Disk, path: WindowsPath, depth: int) -> None:
    """Refuses a link in the path below its first `depth` names."""
    for place in path.way(max(depth, 0)):
        entry = disk.stat(place)
        if entry is None:
            return
        if entry.link:
            raise link_refusal(place, folder=entry.folder)
