"""Reads configuration files as .NET does: sections, collections of `add` entries, and content from other files.

.NET takes a section from the file in its `configSource`, and lets the file in `file` of appSettings override single
values; that one may be missing. Both are relative to the configuration file (ektron-facts 2.3, 10). What is in force is
judged, and edited where it is.
"""

import hashlib
import ntpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tasks.ektron.kept import Kept
from tasks.ektron.refusals import ConfigRefused
from tasks.ektron.wording import decryption
from tasks.ektron.xml.document import Element, XmlDocument

__all__ = [
    "ASSET_ROOT",
    "Collection",
    "Configuration",
    "Content",
    "Part",
    "Section",
    "collection",
    "find_section",
    "included_names",
    "included_path",
    "is_below",
    "open_config",
]

_BLANK = b"\xef\xbb\xbf \t\r\n"  #: before the first tag of a file in an encoding that extends ASCII
ASSET_ROOT = "DocumentManagerData"  #: of AssetManagement.config (ektron-facts 2.1)
_PROTECTED = ("configProtectionProvider", "EncryptedData")
_SETTINGS = "appSettings"  #: the only section with the attribute `file`
#: Sections that are read or edited; other files are of no interest.
_READ = (_SETTINGS, "connectionStrings", "ektron.serviceModel", "ektronDataConfiguration", "eSyncSettings")


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a configuration file and of the files that it names.

    Attributes:
        included: name, as the configuration file has it -> bytes.
        unreadable: name -> why the file cannot be read.
        outside: names of files that are not below the folder of the configuration file.
        below: folder -> the configuration file in it that overrides this one for what is in that folder.
        unreadable_below: folder -> why its configuration file cannot be read.
    """

    data: bytes = field(repr=False)
    included: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    outside: frozenset[str] = frozenset()
    below: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    unreadable_below: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_alone(self) -> bool:
        """Whether nothing depends on other files."""
        return not (self.included or self.unreadable or self.outside)


@dataclass(frozen=True, slots=True)
class Part:
    """An element that holds a section, or some of it. `source`: name of the included file; empty: the file itself."""

    element: Element
    document: XmlDocument
    source: str = ""

    def refusal(self, message: str, remedy: str, element: Element | None = None) -> ConfigRefused:
        """A refusal with the place: line, and the included file."""
        line = self.document.line(element or self.element)
        if not self.source:
            return ConfigRefused(message, line=line, remedy=remedy)
        return ConfigRefused(f"in the included file {self.source!r}, line {line}: {message}", remedy=remedy)

    def sole_child(self, name: str) -> Element | None:
        """The only child of that name, or None.

        Raises:
            ConfigRefused: there are several, or the content is in another file.
        """
        found = self.element.named(name)
        if len(found) > 1:
            what = f"{self.element.name} has {len(found)} elements {name}"
            raise self.refusal(what, "merge the elements into one", found[1])
        other = (found[0].value("configSource") or found[0].value("file")) if found else None
        if other:
            what = f"the content of {name} is in another file, {other!r}"
            raise self.refusal(what, "move the content into this file", found[0])
        return found[0] if found else None


@dataclass(frozen=True, slots=True)
class Section:
    """A section with its content from all files: later parts override earlier ones."""

    name: str
    parts: tuple[Part, ...]
    encrypted: bool = False

    @property
    def children(self) -> list[Element]:
        """The children of all parts, in the order in which .NET reads them."""
        return [child for part in self.parts for child in part.element.children]

    def part_of(self, key: str) -> Part:
        """The part in which a value is in force, or into which it has to be added to be in force."""
        entries = collection(self.children).of(key)
        if entries:
            return next(part for part in self.parts if any(child is entries[-1] for child in part.element.children))
        return next((part for part in reversed(self.parts) if _removes(part.element, key)), self.parts[0])


class Configuration:
    """A configuration file and what it includes.

    Args:
        content: the bytes.
        root: name of the root element.

    Raises:
        ConfigRefused: the file is not well-formed, exceeds the limits, or has another root element.
    """

    def __init__(self, content: Content, root: str = "configuration") -> None:
        self._content = content
        self._opened: dict[str, XmlDocument] = {}
        self.document = open_config(content.data, root)

    @property
    def whole(self) -> Part:
        """The root element of the file itself."""
        return Part(self.document.root, self.document)

    def section(self, name: str) -> Section | None:
        """A section; None when it does not exist.

        Raises:
            ConfigRefused: it exists twice, or a file with content of it is missing or cannot be used.
        """
        element = find_section(self.document, name)
        if element is None:
            return None
        source = element.value("configSource") or ""
        own = Part(element, self.document)
        parts = [self._included(own, source, required=True) if source else own]
        override = element.value("file") if name == _SETTINGS else None
        if override:
            parts.append(self._included(own, override, required=False))
        found = tuple(part for part in parts if part is not None)
        return Section(name, found, _encrypted(element) or any(_encrypted(part.element) for part in found))

    def opened(self, name: str, remedy: str) -> Section:
        """A section whose content can be edited.

        Raises:
            ConfigRefused: it is missing, encrypted, or in a file that is missing or cannot be used.
        """
        section = self.section(name)
        if section is None:
            raise ConfigRefused(f"the section {name} is missing", remedy=remedy)
        if section.encrypted:
            raise section.parts[0].refusal(f"the section {name} is encrypted", decryption(name))
        return section

    def _included(self, own: Part, name: str, *, required: bool) -> Part | None:
        """A file with content of the section; None when it is missing and need not exist."""
        section = own.element.name
        if name in self._content.unreadable:
            why = f"{name!r}, which {section} includes, cannot be read: {self._content.unreadable[name]}"
            raise own.refusal(why, "correct the path or the permissions of the file")
        if name not in self._content.included:
            if not required:
                return None
            what = f"the section {section} is in another file, {name!r}, which does not exist"
            raise own.refusal(what, "restore the file, or move the content of the section into this one")
        if name not in self._opened:
            try:
                self._opened[name] = open_config(self._content.included[name], section)
            except ConfigRefused as refusal:
                raise ConfigRefused(f"in the included file {name!r}: {refusal}", remedy=refusal.remedy) from refusal
        part = Part(self._opened[name].root, self._opened[name], name)
        refused = ("file", "configSource") if required else tuple(part.element.attributes)
        for attribute in (one for one in refused if part.element.value(one)):
            why = f"the element {section} has the attribute {attribute}"
            raise part.refusal(why, "remove it: .NET does not accept it in an included file, or includes another one")
        return part


def included_names(data: bytes) -> tuple[str, ...]:
    """The files from which a configuration file takes content that is read or edited; none when it cannot be read."""
    return _NAMES.of(hashlib.sha256(data).digest(), lambda: _included_names(data))


_NAMES = Kept[bytes, tuple[str, ...]](entries=64, size=0)  # by digest: the files would be a megabyte
_FILE = re.compile(rb"file(?<=\bfile)\s*=")  #: begins with plain letters: those are found 30 times as fast as `\b`


def _may_include(data: bytes) -> bool:
    """Whether a file may include another one; no parser is needed for most files. In UTF-16 each may."""
    plain = b"\0" not in data and data.lstrip(_BLANK).startswith(b"<")
    return not plain or b"configSource" in data or _FILE.search(data) is not None


def _included_names(data: bytes) -> tuple[str, ...]:
    if not _may_include(data):
        return ()
    try:
        document = open_config(data)
        sections = [section for name in _READ if (section := find_section(document, name)) is not None]
    except ConfigRefused:
        return ()
    names = [section.value("configSource") for section in sections]
    names += [section.value("file") for section in sections if section.name == _SETTINGS]
    return tuple(dict.fromkeys(name for name in names if name))


def included_path(config: str, name: str) -> str:
    r"""The path of an included file; relative names are below the folder of the configuration file: `..\x.config`."""
    return ntpath.normpath(ntpath.join(ntpath.dirname(config), name))


def is_below(config: str, path: str) -> bool:
    """Whether a file is in the folder of the configuration file, or below it."""
    folder = ntpath.normcase(ntpath.dirname(config)).rstrip("\\") + "\\"
    return ntpath.normcase(ntpath.normpath(path)).startswith(folder)


def _removes(element: Element, key: str) -> bool:
    """Whether the part removes what earlier parts say of a key."""
    return any(
        child.name == "clear" or (child.name == "remove" and (child.value("key") or "").casefold() == key.casefold())
        for child in element.children
    )


@dataclass(frozen=True, slots=True)
class Collection:
    """The result of `add`, `remove` and `clear`, in document order. Names are compared without case.

    Attributes:
        entries: folded key -> the effective `add` elements; more than one is a duplicate.
    """

    entries: dict[str, list[Element]]

    def of(self, key: str) -> list[Element]:
        """The entries for a key."""
        return self.entries.get(key.casefold(), [])

    def last(self, key: str, attribute: str) -> str | None:
        """The effective value for a key, or None."""
        found = self.of(key)
        return found[-1].value(attribute) if found else None


def open_config(data: bytes, root: str = "configuration") -> XmlDocument:
    """Reads a file whose root element must have the given name.

    Raises:
        ConfigRefused: the file is not well-formed, exceeds the limits, or has another root element.
    """
    document = XmlDocument.of(data)
    if document.root.name != root:
        raise ConfigRefused(
            f"the root element is {document.root.name!r}, {root!r} was expected",
            line=document.line(document.root),
            remedy="check that the path leads to the right file",
        )
    return document


def find_section(document: XmlDocument, name: str) -> Element | None:
    """A section of the configuration, also inside a `location` for the whole site; None when it does not exist.

    Raises:
        ConfigRefused: the section exists more than once, which .NET refuses too.
    """
    holders = [document.root]
    holders += [child for child in document.root.named("location") if (child.value("path") or "") in ("", ".")]
    found = [section for holder in holders for section in holder.named(name)]
    if len(found) > 1:
        lines = ", ".join(str(document.line(section)) for section in found)
        raise ConfigRefused(
            f"the section {name} exists {len(found)} times (lines {lines})",
            line=document.line(found[1]),
            remedy="merge the sections into one",
        )
    return found[0] if found else None


def _encrypted(section: Element) -> bool:
    """Whether the content of a section is encrypted (protected configuration of .NET)."""
    return bool(section.value(_PROTECTED[0]) or section.named(_PROTECTED[1]))


def collection(elements: Sequence[Element], key: str = "key") -> Collection:
    """The entries that result from the children of a collection."""
    entries: dict[str, list[Element]] = {}
    for element in elements:
        name = (element.value(key) or "").casefold()
        if element.name == "clear":
            entries.clear()
        elif element.name == "remove":
            entries.pop(name, None)
        elif element.name == "add" and element.value(key) is not None:
            entries.setdefault(name, []).append(element)
    return Collection(entries)
