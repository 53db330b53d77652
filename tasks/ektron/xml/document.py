"""An XML file with the exact offset of every tag and attribute value.

lxml decides whether the file is well-formed and what it means, but reports only lines. The tokenizer in this module
finds the offsets. It reads only text that lxml has accepted, and each of its elements and values is compared with lxml.
"""

import re
from dataclasses import dataclass, field

from lxml import etree

from tasks.ektron.kept import Kept
from tasks.ektron.refusals import ConfigRefused
from tasks.ektron.xml.text import XmlText

__all__ = ["Attribute", "Element", "XmlDocument", "parsed"]

_MAX_DEPTH = 100

#: The limits of lxml, by what it says; its codes do not tell them apart.
_LIMITS = (
    (r"depth", f"elements are nested deeper than {_MAX_DEPTH}"),
    (r"too (long|big)|limit exceeded", "one value, text, comment or name is longer than lxml reads: 10,000,000 bytes"),
)

# No possessive quantifiers and no atomic groups: with them, `re` in Python 3.11.0 to 3.11.2 misses matches.
_PROLOG = re.compile(r"(?:\s+|<!--.*?-->|<\?.*?\?>)*", re.DOTALL)
_TAG = re.compile(
    r"<(?:"
    r"!--.*?-->"
    r"|!\[CDATA\[.*?\]\]>"
    r"|\?.*?\?>"
    r"|/(?P<close>[^\s>]+)\s*>"
    r"|(?P<open>[^\s/>!?]+)(?P<rest>[^>\"']*(?:(?:\"[^\"]*\"|'[^']*')[^>\"']*)*)>"
    r")",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(r"(?P<space>\s*)(?P<name>[^\s=/\"']+)\s*=\s*(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)')")
_REFERENCE = re.compile(r"&(?:#x([0-9A-Fa-f]+)|#([0-9]+)|(lt|gt|amp|quot|apos));")
_PREDEFINED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}
_WHITE = str.maketrans({"\t": " ", "\n": " ", "\r": " "})


@dataclass(slots=True)
class Attribute:
    """An attribute and the span of its value between the quotes."""

    name: str
    value: str
    start: int
    end: int
    quote: str
    space: str  #: white space before the name


@dataclass(slots=True)
class Element:
    """An element with the spans of its start tag and end tag. When it is self-closed, both spans are equal."""

    index: int  #: position in document order
    name: str  #: as written, with prefix
    start: int
    end: int
    closed: bool  #: self-closed
    parent: int | None  #: position; no reference: a document goes at once when nothing holds it, not with the garbage
    attributes: dict[str, Attribute]
    children: list["Element"] = field(default_factory=list)
    close_start: int = 0
    close_end: int = 0

    def value(self, name: str) -> str | None:
        """An attribute's value, or None."""
        attribute = self.attributes.get(name)
        return attribute.value if attribute else None

    def named(self, name: str) -> list["Element"]:
        """The children with that name."""
        return [child for child in self.children if child.name == name]


@dataclass(frozen=True, slots=True)
class XmlDocument:
    """A well-formed file: its text, its elements in document order, and the tree of lxml."""

    source: XmlText
    elements: list[Element]
    tree: etree._Element

    @classmethod
    def of(cls, data: bytes) -> "XmlDocument":
        """Reads a file; the latest files are kept, so the document must not be changed.

        Raises:
            ConfigRefused: the file is not well-formed, has a document type, or exceeds the limits.
        """
        return _DOCUMENTS.of(data, lambda: cls._read(data), len(data))

    @classmethod
    def _read(cls, data: bytes) -> "XmlDocument":
        source = XmlText.of(data)
        prolog = _PROLOG.match(source.text)
        if prolog and source.text.startswith("<!DOCTYPE", prolog.end()):
            raise ConfigRefused(
                "the file has a document type, which can include other files; .NET configuration files have none",
                line=source.line(prolog.end()),
                remedy="remove the DOCTYPE",
            )
        tree = parsed(data)
        elements = _elements(source)
        _compare(elements, tree)
        return cls(source=source, elements=elements, tree=tree)

    @property
    def root(self) -> Element:
        """The document element."""
        return self.elements[0]

    def line(self, element: Element) -> int:
        """The 1-based line on which an element starts."""
        return self.source.line(element.start)


_DOCUMENTS = Kept[bytes, XmlDocument](entries=32, size=4 * 2**20)  # bytes of files; in memory it is several times that


def parsed(data: bytes) -> etree._Element:
    """Parses the bytes with lxml: no entities, no network, with the limits of lxml.

    Raises:
        ConfigRefused: the file is not well-formed; with the message and line of lxml.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        reason = (error.msg or "unreadable").splitlines()[0][:200]
        if limit := _limit(reason):
            remedy = "shorten it on the server: esync reads and edits no such file"
            raise ConfigRefused(limit, line=error.lineno or None, remedy=remedy) from None
        raise ConfigRefused(
            f"the file is not well-formed XML: {reason}",
            line=error.lineno or None,
            remedy="repair the file manually, or restore it from a backup",
        ) from None


def _limit(reason: str) -> str:
    """Which limit of lxml a well-formed file exceeds, by the words of lxml; empty when it is not about a limit."""
    return next((limit for words, limit in _LIMITS if re.search(words, reason)), "")


def _elements(source: XmlText) -> list[Element]:
    elements: list[Element] = []
    inside: list[Element] = []  # which are open
    for match in _TAG.finditer(source.text):
        kind = match.lastgroup  # `rest` is behind `open`
        if kind == "rest":
            element = _element(match, len(elements), inside[-1].index if inside else None)
            elements.append(element)
            if inside:
                inside[-1].children.append(element)
            if not element.closed:
                inside.append(element)
        elif kind == "close" and inside:
            closed = inside.pop()
            closed.close_start, closed.close_end = match.span()
        if len(inside) > _MAX_DEPTH:
            raise ConfigRefused(
                f"elements are nested deeper than {_MAX_DEPTH}",
                line=source.line(match.start()),
                remedy="check the file",
            )
    return elements


def _element(match: re.Match[str], index: int, parent: int | None) -> Element:
    # By position: an element is made for every tag of every file, and names of arguments cost as much as the rest.
    attributes = {}
    for found in _ATTRIBUTE.finditer(match.string, *match.span("rest")):
        space, name, double, single = found.groups()
        raw, quote, group = (double, '"', 3) if double is not None else (single, "'", 4)
        attributes[name] = Attribute(name, _meaning(raw), *found.span(group), quote, space)
    start, end = match.span()
    closed = match["rest"].endswith("/")
    return Element(index, match["open"], start, end, closed, parent, attributes, [], start, end)


def _meaning(raw: str) -> str:
    """The value of an attribute from the text between its quotes: white space normalised, references resolved."""
    if "\n" in raw or "\r" in raw or "\t" in raw:
        raw = raw.replace("\r\n", " ").translate(_WHITE)
    return _REFERENCE.sub(_resolved, raw) if "&" in raw else raw


def _resolved(match: re.Match[str]) -> str:
    hexadecimal, decimal, name = match.groups()
    return _PREDEFINED[name] if name else chr(int(hexadecimal, 16) if hexadecimal else int(decimal))


def _compare(elements: list[Element], tree: etree._Element) -> None:
    """Refuses the file when this tokenizer and lxml read it differently."""
    theirs = list(tree.iter("*"))
    same = len(theirs) == len(elements) and all(
        element.name.rpartition(":")[2] == str(other.tag).rpartition("}")[2]
        and _values(element) == other.attrib.values()
        for element, other in zip(elements, theirs, strict=True)
    )
    if not same:
        remedy = "save the file as UTF-8, then run esync again"
        raise ConfigRefused("two XML parsers read the file differently", remedy=remedy)


def _values(element: Element) -> list[str]:
    """Values of the attributes, without namespace declarations."""
    return [
        attribute.value
        for attribute in element.attributes.values()
        if not attribute.name.startswith("xmlns") or attribute.name[5:6] not in {"", ":"}
    ]
