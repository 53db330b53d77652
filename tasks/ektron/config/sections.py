"""How .NET reads a configuration file: sections, what lies outside the file, and collections of `add` entries."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.ektron.refusals import ConfigRefused
from tasks.ektron.xml.document import Element, XmlDocument

__all__ = ["Collection", "collection", "find_section", "included_files", "open_config", "open_section", "sole_child"]

_PROTECTED = ("configProtectionProvider", "EncryptedData")


@dataclass(frozen=True, slots=True)
class Collection:
    """What `add`, `remove` and `clear` come to, in document order; names are compared without case.

    Attributes:
        entries: folded key -> the `add` elements that take effect; more than one is a duplicate.
    """

    entries: dict[str, list[Element]]

    def of(self, key: str) -> list[Element]:
        """The entries under a key."""
        return self.entries.get(key.casefold(), [])

    def last(self, key: str, attribute: str) -> str | None:
        """The value that takes effect under a key, or None."""
        found = self.of(key)
        return found[-1].value(attribute) if found else None


def open_config(data: bytes, root: str = "configuration") -> XmlDocument:
    """Reads a file whose root element has to be of that name.

    Raises:
        ConfigRefused: not well-formed, beyond the limits, or of another kind.
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
    """A section of the configuration, also inside a `location` that means the whole site; None if there is none.

    Raises:
        ConfigRefused: the section is there twice, which .NET refuses too.
    """
    holders = [document.root]
    holders += [child for child in document.root.named("location") if (child.value("path") or "") in ("", ".")]
    found = [section for holder in holders for section in holder.named(name)]
    if len(found) > 1:
        lines = ", ".join(str(document.line(section)) for section in found)
        raise ConfigRefused(
            f"the section {name} is there {len(found)} times (lines {lines})",
            line=document.line(found[1]),
            remedy="merge them into one",
        )
    return found[0] if found else None


def included_files(section: Element) -> tuple[str, ...]:
    """Files that hold the section, or override a part of it, in place of this one."""
    names = (section.value("configSource"), section.value("file"))
    return tuple(name for name in names if name)


def open_section(document: XmlDocument, name: str, remedy: str) -> Element:
    """A section whose content is in this file, readable and editable.

    Raises:
        ConfigRefused: it is missing, in another file, or encrypted.
    """
    section = find_section(document, name)
    if section is None:
        raise ConfigRefused(f"the section {name} is missing", remedy=remedy)
    line = document.line(section)
    source = section.value("configSource")
    if source:
        raise ConfigRefused(
            f"the section {name} lies in another file, {source!r}, which is not ours to edit",
            line=line,
            remedy=f"move the section's content from {source} back into this file, or edit it there by hand",
        )
    if section.value(_PROTECTED[0]) or section.named(_PROTECTED[1]):
        raise ConfigRefused(
            f"the section {name} is encrypted",
            line=line,
            remedy=f"decrypt it with aspnet_regiis -pdf {name} <folder>, run again, and encrypt it again",
        )
    return section


def sole_child(document: XmlDocument, section: Element, name: str) -> Element | None:
    """The one child of that name, or None.

    Raises:
        ConfigRefused: there are several, or its content lies in another file.
    """
    found = section.named(name)
    if len(found) > 1:
        raise ConfigRefused(
            f"{section.name} has {len(found)} elements {name}",
            line=document.line(found[1]),
            remedy="merge them into one",
        )
    if found and included_files(found[0]):
        raise ConfigRefused(
            f"the content of {name} lies in another file, {included_files(found[0])[0]!r}",
            line=document.line(found[0]),
            remedy="move it back into this file",
        )
    return found[0] if found else None


def collection(elements: Sequence[Element], key: str = "key") -> Collection:
    """What a collection's children come to."""
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
