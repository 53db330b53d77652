"""Reads configuration files as .NET does: sections, content in other files, collections of `add` entries."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.ektron.refusals import ConfigRefused
from tasks.ektron.xml.document import Element, XmlDocument

__all__ = ["Collection", "collection", "find_section", "included_files", "open_config", "open_section", "sole_child"]

_PROTECTED = ("configProtectionProvider", "EncryptedData")


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


def included_files(section: Element) -> tuple[str, ...]:
    """Other files that contain the section, or override parts of it."""
    names = (section.value("configSource"), section.value("file"))
    return tuple(name for name in names if name)


def open_section(document: XmlDocument, name: str, remedy: str) -> Element:
    """A section whose content is in this file and can be edited.

    Raises:
        ConfigRefused: the section is missing, in another file, or encrypted.
    """
    section = find_section(document, name)
    if section is None:
        raise ConfigRefused(f"the section {name} is missing", remedy=remedy)
    line = document.line(section)
    source = section.value("configSource")
    if source:
        raise ConfigRefused(
            f"the section {name} is in another file, {source!r}, which esync does not edit",
            line=line,
            remedy=f"move the content of the section from {source} into this file, or edit it there manually",
        )
    if section.value(_PROTECTED[0]) or section.named(_PROTECTED[1]):
        raise ConfigRefused(
            f"the section {name} is encrypted",
            line=line,
            remedy=f"decrypt it with aspnet_regiis -pdf {name} <folder>, run esync again, then encrypt it again",
        )
    return section


def sole_child(document: XmlDocument, section: Element, name: str) -> Element | None:
    """The only child of that name, or None.

    Raises:
        ConfigRefused: there are several, or the content is in another file.
    """
    found = section.named(name)
    if len(found) > 1:
        raise ConfigRefused(
            f"{section.name} has {len(found)} elements {name}",
            line=document.line(found[1]),
            remedy="merge the elements into one",
        )
    if found and included_files(found[0]):
        raise ConfigRefused(
            f"the content of {name} is in another file, {included_files(found[0])[0]!r}",
            line=document.line(found[0]),
            remedy="move the content into this file",
        )
    return found[0] if found else None


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
