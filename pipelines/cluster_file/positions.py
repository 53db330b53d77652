"""YAML text -> plain data, with the position of everything in it: the input of `loader`.

Stricter than YAML: one document, no duplicate keys, no tags, limited size, depth and expansion. Anchors and merge keys
work. Nothing here knows what a cluster is.
"""

import gc
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from _ruamel_yaml import CParser
from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

__all__ = ["MAX_BYTES", "Document", "Mapping", "Path", "Plain", "Unreadable", "parse", "position"]

MAX_BYTES = 1_000_000  #: a cluster of 5,000 nodes needs about 0.4 MB
MAX_DEPTH = 20  #: the schema needs 5
MAX_VALUES = 400_000  #: after anchors are expanded; 5,000 nodes need about 50,000
MAX_READ = 75_000  #: before anchors are expanded; reading so many takes some seconds
MAX_KEYS = 100  #: of one mapping, or entries of a list in it; the parser takes quadratic time for very many
MAX_ITEMS = 5_100  #: entries of the list of nodes; a cluster has 5,000 at most

Path = tuple[str | int, ...]
Plain: TypeAlias = "Mapping | list[Plain] | str | int | float | bool | None"
Mapping: TypeAlias = "dict[str, Plain]"

_STANDARD = "tag:yaml.org,2002:"
_TEXT = {_STANDARD + name for name in ("str", "timestamp", "value", "merge")}
_LONGEST_NUMBER = 40
_DEPTH_OF_NODES = 2  #: the list under the key `nodes`
_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
# A password may begin with a special character of YAML; the parser's message would then quote it.
_QUOTED = re.compile(r"""'(?!\\.')[^'\s]{2,}'|"[^"\s]{2,}"|<[^>]{2,}>""")
#: What the two parsers read, or place, differently: directives, ends of documents, tags, anchors, block scalars, tabs,
#: unusual line breaks. Few cluster files have one.
_UNUSUAL = re.compile(r"^[^\S\n]*%|^\.\.\.|[!&*|>\t\x85\u2028\u2029\ufeff]", re.MULTILINE)
_TAG = "YAML tags are not supported; quote the text if it begins with '!'"


class Unreadable(Exception):
    """The text is not YAML in the supported form. Lines and columns count from 1. `loader` reports it as a mistake."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


class Document:
    """Parsed YAML: `data` is plain Python; `find` gives the position of a path of keys in the text.

    Attributes:
        data: dicts, lists, text, numbers, booleans, None.
        duplicates: paths of keys that their mapping has already, with the node of the repeated key.
    """

    def __init__(self, root: Node) -> None:
        self._root = root
        self._left = MAX_VALUES
        self.duplicates: list[tuple[Path, Node]] = []
        self.data = self._plain(root, ())

    def find(self, path: Sequence[str | int]) -> tuple[Node, Path]:
        """The node at `path`, or its nearest parent that exists, and the path of that node."""
        node, found = self._root, 0
        for key in path:
            child = _child(node, key)
            if child is None:
                break
            node, found = child, found + 1
        return node, tuple(path[:found])

    def key(self, path: Sequence[str | int]) -> Node:
        """The node of the last key itself (not of its value), or of the nearest parent."""
        parent, found = self.find(path[:-1])
        if isinstance(parent, MappingNode) and len(found) == len(path) - 1:
            keys: list[Node] = [key for key, _ in parent.value]
            return next((key for key in keys if str(key.value) == path[-1]), parent)
        return parent

    def text(self, path: Sequence[str | int]) -> str | None:
        """The scalar at `path` exactly as written, without quotes; None if there is no scalar."""
        node, found = self.find(path)
        return str(node.value) if isinstance(node, ScalarNode) and len(found) == len(path) else None

    def _plain(self, node: Node, path: Path) -> Plain:
        self._left -= 1
        if self._left < 0:
            raise Unreadable("the file has too many values after its anchors are expanded", *position(node))
        if len(path) > MAX_DEPTH:
            raise Unreadable(_TOO_DEEP, *position(node))
        if isinstance(node, ScalarNode):
            return _scalar(node)
        if isinstance(node, SequenceNode) and node.tag == _STANDARD + "seq":
            return [self._plain(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, MappingNode) and node.tag == _STANDARD + "map":
            return self._mapping(node, path)
        raise Unreadable(_TAG, *position(node))

    def _mapping(self, node: MappingNode, path: Path) -> Mapping:
        merged: Mapping = {}
        own: Mapping = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise Unreadable("a key must be plain text", *position(key))
            name = _text(key)
            plain = self._plain(value, (*path, name))
            if key.tag == _STANDARD + "merge":
                merged |= _merged(plain, value)
            elif name in own:
                self.duplicates.append(((*path, name), key))
            else:
                own[name] = plain
        return merged | own


def parse(text: str, *, most: int = MAX_KEYS) -> Document:
    """Reads one YAML document.

    Args:
        text: the document.
        most: keys that a mapping may have.

    Raises:
        Unreadable: the text is not one, or exceeds a limit. The message quotes nothing longer than a character.
    """
    with _without_collector():
        root = _composed(text, most)
        if root is None:
            raise Unreadable("the file is empty")
        return Document(root)


@dataclass(slots=True)
class _Limits:
    """Stops reading as soon as something is larger than in any cluster, not at the end of the file."""

    most_keys: int
    read: int = 0

    def allow(self, parent: Node | None, depth: int) -> None:
        """Counts one more value in `parent`, the mapping or list around it, which is so deep.

        Raises:
            Unreadable: it is one too many.
        """
        self.read += 1
        if parent is None or (len(parent.value) < self.most_keys < MAX_ITEMS and self.read <= MAX_READ):
            return
        if self.read > MAX_READ:
            raise Unreadable(f"more than {MAX_READ:,} values", *position(parent))
        nodes = isinstance(parent, SequenceNode) and depth <= _DEPTH_OF_NODES
        most = MAX_ITEMS if nodes else self.most_keys
        if len(parent.value) >= most:
            what = "keys in one mapping" if isinstance(parent, MappingNode) else "entries in one list"
            raise Unreadable(f"more than {most:,} {what}", *position(parent))


class _InPython(Composer):
    """The composer in Python, with the limits."""

    limits: _Limits

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401 - the signature of the parser
        """Reads one value."""
        self.limits.allow(parent, self.depth)
        return super().compose_node(parent, index)


class _InC(CParser):  # type: ignore[misc] # it has no types
    """The parser and the composer in C. They ask for the tag of each value that they read, and say where they are."""

    def __init__(self, text: str, most: int) -> None:
        super().__init__(io.StringIO(text))
        self._limits = _Limits(most)
        self._depth = 0
        self.resolve = _fast(_reader(most).resolver)

    def descend_resolver(self, parent: Node | None, index: object) -> None:
        """A value in `parent` begins."""
        del index
        self._limits.allow(parent, self._depth)
        self._depth += 1
        if self._depth > MAX_DEPTH + 1:
            raise YAMLError(_TOO_DEEP)

    def ascend_resolver(self) -> None:
        """A value ends."""
        self._depth -= 1


def _fast(resolver: Any) -> Callable[[type[Node], str, tuple[bool, bool]], Any]:  # noqa: ANN401 - it has no types
    """What finds the tag of a value. Most texts begin with a character with which nothing but a text can begin."""
    known: Callable[..., Any] = cache(resolver.resolve)  # the keys of all nodes are the same words
    others, text = {*resolver.versioned_resolver, ""}, resolver.DEFAULT_SCALAR_TAG
    if None in others:  # something else may begin with any character
        return known

    def resolve(kind: type[Node], value: str, implicit: tuple[bool, bool]) -> Any:  # noqa: ANN401 - the same
        plain = kind is ScalarNode and value[:1] not in others
        return text if plain else known(kind, value, implicit)

    return resolve


def _composed(text: str, most: int) -> Node | None:
    if not _UNUSUAL.search(text):
        # What this one refuses is read again in Python, whose messages are ours.
        with suppress(YAMLError, ValueError, LookupError, AttributeError, TypeError, AssertionError):
            root: Node | None = _InC(text, most).get_single_node()
            return root
    return _in_python(text, most)


def _reader(most: int) -> YAML:
    reader = YAML(typ="safe", pure=True)
    reader.Composer = _InPython
    reader.max_depth = MAX_DEPTH + 1
    reader.composer.limits = _Limits(most)
    reader.composer.warn_double_anchors = False  # it would print the anchor, and a password may begin with an &
    return reader


def _in_python(text: str, most: int) -> Node | None:
    try:
        root: Node | None = _reader(most).compose(io.StringIO(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = (mark.line + 1, mark.column + 1) if mark else ()
        raise Unreadable(_yaml_message(str(error.problem or error.context or "cannot be read")), *where) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable("contains a control character, which YAML does not allow", line) from None
    except (YAMLError, RecursionError, ValueError, LookupError, AttributeError, TypeError, AssertionError):
        # ruamel does not catch all of its own errors (a directive `%YAML 1.x.y`, nesting beyond the stack).
        raise Unreadable("not valid YAML") from None
    return root


def _yaml_message(problem: str) -> str:
    if problem.startswith("maximum depth"):
        return _TOO_DEEP
    if r"'\t'" in problem:
        return "not valid YAML: tabs cannot be used for indentation, use spaces"
    return f"not valid YAML: {_QUOTED.sub('...', problem)}"


@contextmanager
def _without_collector() -> Iterator[None]:
    """Parsing creates many small objects and no garbage cycles; the collector would take a fifth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def position(node: Node) -> tuple[int, int]:
    """Line and column of a node, counted from 1."""
    return node.start_mark.line + 1, node.start_mark.column + 1


def _child(node: Node, key: str | int) -> Node | None:
    if isinstance(node, SequenceNode) and isinstance(key, int):
        items: list[Node] = node.value
        return items[key] if key < len(items) else None
    if not isinstance(node, MappingNode):
        return None
    pairs: list[tuple[Node, Node]] = node.value
    own = next((value for name, value in pairs if name.value == key), None)
    if own is not None:
        return own
    merged = (value for name, value in pairs if name.value == "<<")
    sources = [s for value in merged for s in (value.value if isinstance(value, SequenceNode) else [value])]
    return next((child for source in sources if (child := _child(source, key)) is not None), None)


def _merged(plain: object, node: Node) -> Mapping:
    sources = plain if isinstance(plain, list) else [plain]
    result: Mapping = {}
    for source in reversed(sources):
        if not isinstance(source, dict):
            raise Unreadable("a merge key (<<) requires a mapping", *position(node))
        result |= source
    return result


def _scalar(node: ScalarNode) -> str | int | float | bool | None:
    tag, text = str(node.tag), str(node.value)
    if tag in _TEXT:
        return _text(node)
    if tag == _STANDARD + "null":
        return None
    if tag == _STANDARD + "bool":
        return {"true": True, "false": False}.get(text.lower(), text)
    if tag in {_STANDARD + "int", _STANDARD + "float"}:
        return _number(text, whole=tag.endswith("int"))
    raise Unreadable(_TAG, *position(node))


def _text(node: ScalarNode) -> str:
    text = str(node.value)
    if not text.replace("\n", " ").isprintable():
        raise Unreadable("contains an invisible character", *position(node))
    return text


def _number(text: str, *, whole: bool) -> str | int | float:
    """A number by the rules of YAML 1.2; text where Python disagrees, so that the schema refuses it."""
    digits = text.replace("_", "")
    if len(digits) > _LONGEST_NUMBER:
        return text
    try:
        if not whole:
            return float(digits.lower().replace(".inf", "inf").replace(".nan", "nan"))
        return int(digits, 0) if digits.lstrip("+-").lower().startswith(("0x", "0o", "0b")) else int(digits)
    except ValueError:
        return text
