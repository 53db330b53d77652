"""A diff of two versions of a configuration file that is safe to display: without connection strings, passwords, keys.

Only values that are known to be harmless are shown; all others are replaced by `[hidden 1]`. Equal values have equal
numbers, so a change of a hidden value is visible without the value.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import islice

from tasks.ektron.refusals import ConfigRefused
from tasks.ektron.xml.document import Element, XmlDocument

__all__ = ["Hunk", "hunks"]

_LINES = 8  #: of one side of a hunk
_WIDTH = 160
_HUNKS = 20
_LARGEST = 20_000  #: lines; the comparison takes quadratic time in the worst case

_SECRET_NAME = re.compile(
    r"pass|pwd|secret|token|connection|credential|licen[sc]e|machinekey|(validation|decryption|private|api|access|"
    r"account|shared|encrypt\w*|storage)[_.-]?key|encodedvalue|salt|signature",
    re.IGNORECASE,
)
#: Attributes that name things; their values are shown unless they look like secrets.
_NAMING = frozenset({"key", "name", "type", "contract", "configsource", "file", "path", "verb", "mode"}) | {
    "clientcertificate", "servercertificate", "clientcertificates", "defaultdatabase", "assembly", "providername",
}  # fmt: skip
_HARMLESS = re.compile(
    r"|true|false|on|off|yes|no|none|enabled|disabled|-?\d{1,8}(\.\d{1,6}){0,3}|\d\d:\d\d(:\d\d)?"
    r"|[A-Za-z]:\\[^;=@]*|~?/[^;=@?]*|https?://[^;=@?]*|[\w-]+_Sync(Client|Server)\.(pfx|pvk|cer)"
    r"|Ektron\w*\.(pfx|pvk|cer)|[\w.-]{1,60}\.(config|dll|exe|aspx|asmx)",
    re.IGNORECASE,
)
_OPAQUE = re.compile(r"[A-Za-z0-9+/=_-]{24,}")
_PAIRS = re.compile(r"=[^;=]*;|(pwd|password|user id|uid)\s*=|://[^/]*@", re.IGNORECASE)
_BETWEEN = re.compile(
    r"<!--(?P<comment>.*?)-->|<!\[CDATA\[(?P<cdata>.*?)\]\]>|<\?.*?\?>"
    r"|<[^>\"'!]*(?:(?:\"[^\"]*\"|'[^']*')[^>\"'!]*)*>|(?P<text>[^<]+)",
    re.DOTALL,
)
_PLAIN_COMMENT = re.compile(r"[\s\w,.;:()&#'-]*")


@dataclass(frozen=True, slots=True)
class Hunk:
    """Lines that differ, in both versions.

    Attributes:
        line: 1-based number of the first of them, in the first version.
        count: how many they are in the first version; 0 where lines are only in the second.
    """

    line: int
    count: int
    first: tuple[str, ...]
    second: tuple[str, ...]

    def meets(self, other: "Hunk") -> bool:
        """Whether two hunks with the same first version are about the same lines, or the same place between lines."""
        return self.line <= other.line + other.count and other.line <= self.line + self.count


def hunks(first: bytes, second: bytes) -> tuple[Hunk, ...]:
    """The differences of two versions of an XML file, shortened and without secrets. Empty: no visible difference.

    Raises:
        ConfigRefused: a version is not well-formed XML, or is too long; no part of it can be shown safely.
    """
    labels = _Labels()
    before, after = (_lines(data, labels) for data in (first, second))
    matcher = SequenceMatcher(None, before, after)
    differing = (codes for codes in matcher.get_opcodes() if codes[0] != "equal")
    return tuple(
        Hunk(start + 1, end - start, _shortened(before[start:end]), _shortened(after[other:until]))
        for _, start, end, other, until in islice(differing, _HUNKS)
    )


def _shortened(lines: list[str]) -> tuple[str, ...]:
    shown = tuple(line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..." for line in lines[:_LINES])
    return (*shown, f"({len(lines) - _LINES} more lines)") if len(lines) > _LINES else shown


def _lines(data: bytes, labels: "_Labels") -> list[str]:
    document = XmlDocument.of(data)
    if document.source.text.count("\n") > _LARGEST:
        raise ConfigRefused(f"the file has more than {_LARGEST} lines")
    pieces, position, text = [], 0, document.source.text
    for start, end in sorted(_hidden(document)):
        if start >= position:
            pieces += [text[position:start], labels.of(text[start:end])]
            position = end
    return [line.rstrip() for line in ("".join(pieces) + text[position:]).splitlines()]


@dataclass(slots=True)
class _Labels:
    """A number for each distinct hidden value. Line breaks are kept, so line numbers do not change."""

    numbers: dict[str, int] = field(default_factory=dict)

    def of(self, value: str) -> str:
        """The text that replaces the value."""
        number = self.numbers.setdefault(value, len(self.numbers) + 1)
        return f"[hidden {number}]" + "\n" * value.count("\n")


def _hidden(document: XmlDocument) -> Iterator[tuple[int, int]]:
    """Spans of the text that must not be shown."""
    for element in document.elements:
        around = _around(element, document)
        for attribute in element.attributes.values():
            if attribute.value and not _shown(element, around, attribute.name, attribute.value):
                yield attribute.start, attribute.end
    for match in _BETWEEN.finditer(document.source.text):
        comment, cdata, text = match["comment"], match["cdata"], match["text"]
        if comment is not None and not (_PLAIN_COMMENT.fullmatch(comment) and _innocent(comment)):
            yield match.span("comment")
        elif cdata:
            yield match.span("cdata")
        elif text is not None and not _HARMLESS.fullmatch(text.strip()):
            yield match.span("text")


def _shown(element: Element, around: str, name: str, value: str) -> bool:
    """Whether a value may be shown: judged by the names around it, then by its form."""
    if name.startswith("xmlns"):
        return True
    naming = name.casefold() in _NAMING
    words = (name, around, *(element.value(own) or "" for own in ("key", "name") if not naming))
    if any(_SECRET_NAME.search(word) for word in words):
        return naming and _innocent(value) and element.name.casefold() != "machinekey"
    return _innocent(value) and (naming or _HARMLESS.fullmatch(value.strip()) is not None)


def _around(element: Element, document: XmlDocument) -> str:
    """The names of the element and its parent, for `machineKey` and `connectionStrings`."""
    return f"{element.name} {document.elements[element.parent].name if element.parent is not None else ''}"


def _innocent(value: str) -> bool:
    """Whether the value looks neither like key material nor like a connection string."""
    return not any(_OPAQUE.fullmatch(word) and re.search(r"\d|[+/=]", word) for word in value.split()) and not (
        _PAIRS.search(value) or (_SECRET_NAME.search(value) and "=" in value)
    )
