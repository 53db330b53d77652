"""Changes to an XML file that touch nothing but the value, or insert lines in the file's own style."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from lxml import etree

from tasks.ektron.refusals import ConfigRefused
from tasks.ektron.xml.document import Element, XmlDocument, parsed

__all__ = ["New", "Splicer"]

_ESCAPES = {"&": "&amp;", "<": "&lt;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
_ESCAPED = {
    '"': str.maketrans({**_ESCAPES, '"': "&quot;"}),
    "'": str.maketrans({**_ESCAPES, "'": "&apos;"}),
}
_REST_OF_LINE = re.compile(r"(?:[ \t]*<!--(?:(?!-->)[^\r\n])*-->)*[ \t]*(?=[\r\n])")
_FIRST_END_OF_LINE = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class New:
    """An element to be inserted."""

    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    children: "Sequence[New]" = ()


class _Splice(NamedTuple):
    start: int
    end: int
    text: str


class Splicer:
    """Collects changes to one document, then makes them all at once.

    Each change is made twice: as a splice of the text, and on lxml's tree. The spliced file is read again and must
    mean what the tree means.
    """

    def __init__(self, document: XmlDocument) -> None:
        self._document = document
        self._text = document.source.text
        self._splices: list[_Splice] = []
        self._model = list(document.tree.iter("*"))

    def set(self, element: Element, name: str, value: str) -> None:
        """Gives an attribute that value; an absent one is added behind the last, spaced like it."""
        attribute = element.attributes.get(name)
        if attribute is not None:
            self._splices.append(_Splice(attribute.start, attribute.end, _escaped(value, attribute.quote)))
        else:
            self._splices.append(self._added_attribute(element, name, value))
        self._model[element.index].set(name, value)

    def append(self, parent: Element, new: Sequence[New]) -> None:
        """Puts elements behind the last child of a parent, in its style. Once per parent."""
        if new:
            self._splices.append(self._appended(parent, new))
            for one in new:
                _grow(self._model[parent.index], one)

    def result(self) -> bytes:
        """The file with all changes.

        Raises:
            ConfigRefused: read again, it does not mean what was wanted; never seen, but never written either.
        """
        pieces: list[tuple[bool, str]] = []
        position = 0
        for splice in sorted(self._splices, key=lambda splice: splice.start):
            pieces += [(True, self._text[position : splice.start]), (False, splice.text)]
            position = splice.end
        pieces.append((True, self._text[position:]))
        data = self._document.source.bytes_of(pieces)
        if _shape(parsed(data)) != _shape(self._document.tree):
            raise ConfigRefused("the edited file would not mean what was wanted", remedy="send it to the developers")
        return data

    def _added_attribute(self, element: Element, name: str, value: str) -> _Splice:
        attributes = list(element.attributes.values())
        if attributes:
            last = attributes[-1]
            position, quote, space = last.end + 1, last.quote, last.space
        else:
            position, quote, space = element.start + 1 + len(element.name), self._quote(), " "
        return _Splice(position, position, f"{space}{name}={quote}{_escaped(value, quote)}{quote}")

    def _appended(self, parent: Element, new: Sequence[New]) -> _Splice:
        if parent.children:
            return self._behind_last_child(parent, new)
        line = self._line_of(parent.start)
        if parent.closed:
            return self._opened(parent, new, line)
        if line is None:
            return _Splice(parent.close_start, parent.close_start, self._inline(new))
        end_of_line, indent = line
        lines = self._lines(new, end_of_line, indent + self._unit(parent))
        if self._line_of(parent.close_start) is None:
            return _Splice(parent.close_start, parent.close_start, f"{lines}{end_of_line}{indent}")
        content = self._text[parent.end : parent.close_start]
        position = parent.end + len(content.rstrip())
        return _Splice(position, position, lines)

    def _behind_last_child(self, parent: Element, new: Sequence[New]) -> _Splice:
        last = parent.children[-1]
        line = self._line_of(last.start)
        template = next((child for child in reversed(parent.children) if child.name == new[0].name), None)
        if line is None:
            return _Splice(last.close_end, last.close_end, self._inline(new, template))
        rest = _REST_OF_LINE.match(self._text, last.close_end)
        position = _before_blanks(self._text, last.close_end, rest.end()) if rest else last.close_end
        return _Splice(position, position, self._lines(new, *line, template))

    def _opened(self, parent: Element, new: Sequence[New], line: tuple[str, str] | None) -> _Splice:
        """A self-closed element gets an end tag."""
        start = len(self._text[: parent.end - 2].rstrip())
        if line is None:
            inside = self._inline(new)
        else:
            end_of_line, indent = line
            inside = self._lines(new, end_of_line, indent + self._unit(parent)) + end_of_line + indent
        return _Splice(start, parent.end, f">{inside}</{parent.name}>")

    def _inline(self, new: Sequence[New], template: Element | None = None) -> str:
        return "".join(self._written(one, template) + self._inline_children(one) for one in new)

    def _inline_children(self, one: New) -> str:
        return f"{self._inline(one.children)}</{one.name}>" if one.children else ""

    def _lines(self, new: Sequence[New], end_of_line: str, indent: str, template: Element | None = None) -> str:
        """Each element on a line of its own, children one unit deeper."""
        lines = []
        for one in new:
            lines.append(f"{end_of_line}{indent}{self._written(one, template)}")
            if one.children:
                deeper = indent + self._unit(self._document.root.children[0] if self._document.root.children else None)
                lines.append(self._lines(one.children, end_of_line, deeper))
                lines.append(f"{end_of_line}{indent}</{one.name}>")
        return "".join(lines)

    def _written(self, one: New, template: Element | None) -> str:
        """An element as its sibling is written; without a fitting one, in the usual form."""
        if template is not None and list(template.attributes) == list(one.attributes) and not template.children:
            return self._like(template, one)
        quote = self._quote()
        attributes = "".join(
            f" {name}={quote}{_escaped(value, quote)}{quote}" for name, value in one.attributes.items()
        )
        return f"<{one.name}{attributes}{'>' if one.children else ' />'}"

    def _like(self, template: Element, one: New) -> str:
        pieces = []
        position = template.start
        for attribute in template.attributes.values():
            pieces += [
                self._text[position : attribute.start],
                _escaped(one.attributes[attribute.name], attribute.quote),
            ]
            position = attribute.end
        pieces.append(self._text[position : template.end])
        if not template.closed:
            pieces.append(f"</{template.name}>")
        return "".join(pieces)

    def _quote(self) -> str:
        """The quote the file uses."""
        for element in self._document.elements[1:]:
            for attribute in element.attributes.values():
                return attribute.quote
        return '"'

    def _unit(self, element: Element | None) -> str:
        """One step of indentation, from an element and its parent."""
        own = self._line_of(element.start) if element else None
        outer = self._line_of(element.parent.start) if element and element.parent else None
        if own is None or outer is None or not own[1].startswith(outer[1]):
            return "\t" if own and own[1].startswith("\t") else "  "
        return own[1][len(outer[1]) :]

    def _line_of(self, offset: int) -> tuple[str, str] | None:
        """End of line before, and indentation of, what starts its line at that offset; None if it does not start it."""
        start = len(self._text[:offset].rstrip(" \t"))
        indent = self._text[start:offset]
        if start == 0:
            first = _FIRST_END_OF_LINE.search(self._text)
            return (first[0] if first else "\n"), indent
        if self._text.endswith("\r\n", 0, start):
            return "\r\n", indent
        return (self._text[start - 1], indent) if self._text[start - 1] in "\r\n" else None


def _before_blanks(text: str, start: int, end: int) -> int:
    """The end of the comments behind an element, blanks at the end of the line not included."""
    return start + len(text[start:end].rstrip(" \t"))


@lru_cache(maxsize=16)
def _escaped(value: str, quote: str) -> str:
    """Cached because one certificate stands under the key of every node."""
    return value.translate(_ESCAPED[quote])


def _grow(parent: etree._Element, new: New) -> None:
    """The same element on lxml's tree, in the parent's namespace."""
    namespace = etree.QName(parent).namespace
    name = f"{{{namespace}}}{new.name}" if namespace else new.name
    element = etree.SubElement(parent, name, dict(new.attributes))
    for child in new.children:
        _grow(element, child)


def _shape(tree: etree._Element) -> tuple[list[object], list[object]]:
    """What a tree means: its elements with attributes, and apart from them its text, comments and instructions.

    Document order and the number of children say where each element is.
    """
    elements: list[object] = []
    others: list[object] = []
    for node in tree.iter():
        text, tail = node.text, node.tail
        if isinstance(node.tag, str):
            elements.append((node.tag, node.items(), len(node)))
            if text and not text.isspace():
                others.append(text.strip())
        else:
            others.append((node.tag, text))
        if tail and not tail.isspace():
            others.append(tail.strip())
    return elements, others
