"""Windows paths as the agent's protocol allows them: a drive and backslashes."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

from lab.machine.errors import Refusal, Slug

__all__ = ["WindowsPath", "fold", "plain_name"]

_FORBIDDEN = re.compile(r'[\x00-\x1f<>:"/\\|?*]')
_DEVICE = re.compile(r"^(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9\u00b9\u00b2\u00b3])\s*(\..*)?$", re.IGNORECASE)
_LONGEST_NAME = 255
_LONGEST_PATH = 32_000


def fold(name: str) -> str:
    """The key of a name in the file system: upper case, character by character like NTFS."""
    if name.isascii():
        return name.upper()
    return "".join(upper if len(upper := c.upper()) == 1 else c for c in name)


@lru_cache(maxsize=65_536)
def plain_name(name: str) -> str | None:
    """Why a name is not allowed in a path, or None if it is."""
    return next((why for wrong, why in _WRONG if wrong(name)), None)


_WRONG: tuple[tuple[Callable[[str], object], str], ...] = (
    (lambda name: not name, "an empty name"),
    (lambda name: name in {".", ".."}, "a relative segment"),
    (lambda name: name[-1] in ". ", "a name that ends in a dot or a space"),
    (_FORBIDDEN.search, "a character that is not allowed in file names"),
    (_DEVICE.match, "a reserved device name"),
    (lambda name: len(name) > _LONGEST_NAME, "a name of more than 255 characters"),
)


# Not frozen, although no code changes one: that doubles the time to make a path, and a disk makes thousands.
@dataclass(slots=True, unsafe_hash=True)
class WindowsPath:
    r"""An absolute path. Two paths are equal if the file system treats them as the same.

    Attributes:
        drive: `C:`, upper case.
        parts: the names below it, as written.
        key: the names as the file system compares them.
    """

    drive: str
    parts: tuple[str, ...] = field(compare=False)
    key: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Self:
        r"""Reads a path such as `C:\a\b`.

        Raises:
            Refusal: `invalid`, with the reason.
        """
        found = _read(text)
        if isinstance(found, str):
            raise Refusal(Slug.INVALID, f"invalid path: {found}", text)
        return cls(*found)

    @property
    def text(self) -> str:
        """The path as Windows writes it."""
        return self.drive + "\\" + "\\".join(self.parts)

    def __str__(self) -> str:
        return self.text

    @property
    def name(self) -> str:
        """The last name; empty for the root of a drive."""
        return self.parts[-1] if self.parts else ""

    @property
    def parent(self) -> Self:
        """The folder that contains it; the parent of a root is the root."""
        return type(self)(self.drive, self.parts[:-1], self.key[:-1])

    def child(self, name: str) -> Self:
        """The path of a name in this folder.

        Raises:
            Refusal: `invalid` if the name is not allowed.
        """
        if why := plain_name(name):
            raise Refusal(Slug.INVALID, f"{name!r} is not a file name: {why}", self.text)
        return type(self)(self.drive, (*self.parts, name), (*self.key, fold(name)))

    def is_below(self, folder: "WindowsPath") -> bool:
        """Whether the path is inside the folder, at any depth."""
        depth = len(folder.key)
        return self.drive == folder.drive and len(self.key) > depth and self.key[:depth] == folder.key

    def way(self, depth: int = 0) -> Iterator[Self]:
        """The paths from the drive down to this one, without the first `depth` names; this one is the last."""
        for end in range(depth + 1, len(self.key) + 1):
            yield type(self)(self.drive, self.parts[:end], self.key[:end])

    def below(self, relative: str) -> Self:
        r"""The path of a relative path such as `a\b` in this folder."""
        path = self
        for name in relative.split("\\"):
            path = path.child(name)
        return path


@lru_cache(maxsize=16_384)
def _read(text: str) -> tuple[str, tuple[str, ...], tuple[str, ...]] | str:
    if len(text) > _LONGEST_PATH:
        return "longer than Windows allows"
    if not re.match(r"^[A-Za-z]:\\", text):
        return "not absolute with a drive and backslashes"
    rest = text[3:]
    parts = tuple(rest.split("\\")) if rest else ()
    for part in parts:
        if why := plain_name(part):
            return why
    return text[:2].upper(), parts, tuple(map(fold, parts))
