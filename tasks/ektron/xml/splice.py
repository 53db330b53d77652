"""Changes an XML file: replaces only values, inserts lines in the style of the file, or removes lines."""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
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
_COMMENTS_TO_END_OF_LINE = re.compile(r"(?P<comments>(?:[ \t]*<!--(?:(?!-->)[^\r\n])*-->)*)[ \t]*(?=[\r\n])")
_REST_OF_LINE_IS_BLANK = re.compile(r"[ \t]*(?=[\r\n])")
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


class _Line(NamedTuple):
    """How a new line starts: the line ending before it, and its indentation."""

    ending: str
    indent: str


def _break(line: _Line | None) -> str:
    """Starts a new line; nothing when all is in one line."""
    return f"{line.ending}{line.indent}" if line else ""


class Splicer:
    """Collects changes to one document, then makes all of them at once.

    Each change is made twice: as a splice of the text, and in a copy of the tree of lxml. The spliced text is parsed
    again and must have the same meaning as the tree.
    """

    def __init__(self, document: XmlDocument) -> None:
        self._document = document
        self._text = document.source.text
        self._splices: list[_Splice] = []
        self._tree = deepcopy(document.tree.getroottree()).getroot()
        self._model = list(self._tree.iter("*"))

    def set(self, element: Element, name: str, value: str) -> None:
        """Sets the value of an attribute. An absent attribute is added after the last one, with the same spacing."""
        attribute = element.attributes.get(name)
        if attribute is not None:
            self._splices.append(_Splice(attribute.start, attribute.end, _escaped(value, attribute.quote)))
        else:
            self._splices.append(self._added_attribute(element, name, value))
        self._model[element.index].set(name, value)

    def append(self, parent: Element, new: Sequence[New]) -> None:
        """Adds elements after the last child of a parent, in its style. At most once per parent."""
        if new:
            self._splices.append(self._appended(parent, new))
            for one in new:
                _append_to_tree(self._model[parent.index], one)

    def remove(self, element: Element) -> None:
        """Removes an element, with its line if nothing else is on that line. Not the root element."""
        self._splices.append(self._removed(element))
        _remove_from_tree(self._model[element.index])

    def result(self) -> bytes:
        """The file with all changes.

        Raises:
            ConfigRefused: the edited text does not have the wanted meaning. This was never observed; such a file is
                never written.
        """
        pieces: list[tuple[bool, str]] = []
        position = 0
        for splice in sorted(self._splices, key=lambda splice: splice.start):
            pieces += [(True, self._text[position : splice.start]), (False, splice.text)]
            position = splice.end
        pieces.append((True, self._text[position:]))
        data = self._document.source.bytes_of(pieces)
        if _meaning(parsed(data)) != _meaning(self._tree):
            raise ConfigRefused(
                "the edit would change more than it should, nothing was written",
                remedy="edit the file manually, and send it to the developers",
            )
        return data

    def _removed(self, element: Element) -> _Splice:
        line = self._line_of(element.start)
        alone = line is not None and _REST_OF_LINE_IS_BLANK.match(self._text, element.close_end) is not None
        before = len(line.ending) + len(line.indent) if line and alone else 0
        return _Splice(element.start - before, element.close_end, "")

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
        inner = line and _Line(line.ending, line.indent + self._unit(parent))
        if parent.closed:  # it gets an end tag
            start = len(self._text[: parent.end - 2].rstrip())
            return _Splice(start, parent.end, f">{self._written_all(new, inner)}{_break(line)}</{parent.name}>")
        if line is None:
            return _Splice(parent.close_start, parent.close_start, self._written_all(new, None))
        if self._line_of(parent.close_start) is None:
            return _Splice(parent.close_start, parent.close_start, self._written_all(new, inner) + _break(line))
        position = parent.end + len(self._text[parent.end : parent.close_start].rstrip())
        return _Splice(position, position, self._written_all(new, inner))

    def _behind_last_child(self, parent: Element, new: Sequence[New]) -> _Splice:
        last = parent.children[-1]
        line = self._line_of(last.start)
        comments = _COMMENTS_TO_END_OF_LINE.match(self._text, last.close_end) if line else None
        position = comments.end("comments") if comments else last.close_end
        template = next((child for child in reversed(parent.children) if child.name == new[0].name), None)
        return _Splice(position, position, self._written_all(new, line, template))

    def _written_all(self, new: Sequence[New], line: _Line | None, template: Element | None = None) -> str:
        """The elements, each on its own line, children indented by one unit; all in one line when `line` is None."""
        pieces = []
        for one in new:
            pieces += [_break(line), self._written(one, template)]
            if one.children:
                deeper = line and _Line(line.ending, line.indent + self._unit(self._first_child()))
                pieces += [self._written_all(one.children, deeper), _break(line), f"</{one.name}>"]
        return "".join(pieces)

    def _first_child(self) -> Element | None:
        return next(iter(self._document.root.children), None)

    def _written(self, one: New, template: Element | None) -> str:
        """An element in the form of its sibling; in the default form when there is no suitable sibling."""
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
        """The quote character that the file uses."""
        for element in self._document.elements[1:]:
            for attribute in element.attributes.values():
                return attribute.quote
        return '"'

    def _unit(self, element: Element | None) -> str:
        """One unit of indentation, derived from an element and its parent."""
        own = self._line_of(element.start) if element else None
        inside = element.parent if element else None
        outer = self._line_of(self._document.elements[inside].start) if inside is not None else None
        if own is None or outer is None or not own.indent.startswith(outer.indent):
            return "\t" if own and own.indent.startswith("\t") else "  "
        return own.indent[len(outer.indent) :]

    def _line_of(self, offset: int) -> _Line | None:
        """How the line of this offset starts; None when other text precedes the offset in its line."""
        start = len(self._text[:offset].rstrip(" \t"))
        indent = self._text[start:offset]
        if start == 0:
            first = _FIRST_END_OF_LINE.search(self._text)
            return _Line(first[0] if first else "\n", indent)
        if self._text.endswith("\r\n", 0, start):
            return _Line("\r\n", indent)
        return _Line(self._text[start - 1], indent) if self._text[start - 1] in "\r\n" else None


@lru_cache(maxsize=16)
def _escaped(value: str, quote: str) -> str:
    """Cached because the keys of all nodes have the same certificate as value."""
    return value.translate(_ESCAPED[quote])


def _append_to_tree(parent: etree._Element, new: New) -> None:
    """Adds the element to the tree of lxml, in the namespace of the parent."""
    namespace = etree.QName(parent).namespace
    name = f"{{{namespace}}}{new.name}" if namespace else new.name
    element = etree.SubElement(parent, name, dict(new.attributes))
    for child in new.children:
        _append_to_tree(element, child)


def _remove_from_tree(element: etree._Element) -> None:
    """Removes the element from the tree of lxml; the text behind it stays."""
    parent, before, behind = element.getparent(), element.getprevious(), element.tail or ""
    if before is not None:
        before.tail = (before.tail or "") + behind
    elif parent is not None:
        parent.text = (parent.text or "") + behind
    if parent is not None:
        parent.remove(element)


def _meaning(tree: etree._Element) -> tuple[list[object], list[object]]:
    """The meaning of a tree: its elements with attributes, and separately its text, comments and instructions.

    Document order and the number of children determine the place of each element.
    """
    elements: list[object] = []
    others: list[object] = []
    prolog_and_epilog = (*tree.itersiblings(preceding=True), *tree.itersiblings())
    for node in (*prolog_and_epilog, *tree.iter()):
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
