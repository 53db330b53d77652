"""YAML text -> plain data, with the place of everything in it: what `inventory` checks and complains about.

Strict where YAML is generous: one document, no duplicate keys, no tags, bounded size, depth and expansion. Anchors
and merge keys work. Nothing here knows what a cluster is.
"""

import gc
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, cast

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

__all__ = ["MAX_BYTES", "Document", "Path", "Plain", "Unreadable", "parse"]

MAX_BYTES = 1_000_000  #: a cluster of 5,000 nodes takes about 0.4 MB
MAX_DEPTH = 20  #: the schema needs 5
MAX_VALUES = 400_000  #: after anchors are followed; 5,000 nodes take about 50,000
MAX_READ = 75_000  #: before anchors are followed; reading that many takes some seconds
MAX_KEYS = 100  #: of one mapping, or entries of a list in it; the parser takes quadratic time for very many
MAX_ITEMS = 5_100  #: entries of the list of nodes; a cluster has 5,000 at most

Path = tuple[str | int, ...]
Plain: TypeAlias = dict[str, Any] | list[Any] | str | int | float | bool | None

_STANDARD = "tag:yaml.org,2002:"
_TEXT = {_STANDARD + name for name in ("str", "timestamp", "value", "merge")}
_LONGEST_NUMBER = 40
_DEPTH_OF_NODES = 2  #: the list under the key `nodes`
_TOO_DEEP = f"nested more than {MAX_DEPTH} deep"
# A password may begin with one of YAML's own characters, and the parser's message would then quote it.
_QUOTED = re.compile(r"""'(?!\\.')[^'\s]{2,}'|"[^"\s]{2,}"|<[^>]{2,}>""")
_TAG = "a tag is not taken here; quote the text if it begins with '!'"


class Unreadable(Exception):
    """The text is no YAML that we take. Lines and columns count from 1. `inventory` turns it into a Problem."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


class Document:
    """Parsed YAML: `data` is plain Python; `find` says where a path of keys stands in the text.

    Attributes:
        data: dicts, lists, text, numbers, booleans, None.
        duplicates: paths of keys that stand in their mapping a second time, with line and column.
    """

    def __init__(self, root: Node) -> None:
        self._root = root
        self._left = MAX_VALUES
        self.duplicates: list[tuple[Path, int, int]] = []
        self.data = self._plain(root, ())

    def find(self, path: Sequence[str | int]) -> tuple[Node, Path]:
        """The node at `path`, or its nearest parent that exists, and the path of what was found."""
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
            for key, _ in parent.value:
                if str(key.value) == path[-1]:
                    return cast("Node", key)
        return parent

    def text(self, path: Sequence[str | int]) -> str | None:
        """The scalar at `path` exactly as written, without quotes; None if there is no scalar."""
        node, found = self.find(path)
        return str(node.value) if isinstance(node, ScalarNode) and len(found) == len(path) else None

    def _plain(self, node: Node, path: Path) -> Plain:
        self._left -= 1
        if self._left < 0:
            raise Unreadable("the file holds too much once its anchors are followed", *_mark(node))
        if len(path) > MAX_DEPTH:
            raise Unreadable(_TOO_DEEP, *_mark(node))
        if isinstance(node, ScalarNode):
            return _scalar(node)
        if isinstance(node, SequenceNode) and node.tag == _STANDARD + "seq":
            return [self._plain(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, MappingNode) and node.tag == _STANDARD + "map":
            return self._mapping(node, path)
        raise Unreadable(_TAG, *_mark(node))

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise Unreadable("a key must be plain text", *_mark(key))
            name = str(_scalar(ScalarNode(_STANDARD + "str", key.value, key.start_mark)))
            plain = self._plain(value, (*path, name))
            if key.tag == _STANDARD + "merge":
                merged |= _merged(plain, value)
            elif name in own:
                self.duplicates.append(((*path, name), *_mark(key)))
            else:
                own[name] = plain
        return merged | own


def parse(text: str) -> Document:
    """Reads one YAML document.

    Raises:
        Unreadable: it is not one, or breaks a bound. The message quotes nothing longer than a character.
    """
    with _without_collector():
        root = _composed(text)
        if root is None:
            raise Unreadable("the file is empty")
        return Document(root)


class _Bounded(Composer):
    """Stops reading where something is larger than any cluster, instead of telling so at the end."""

    read = 0

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401 - as the parser has it
        """One value; `parent` is the mapping or list that is being read, `depth` how deep it lies."""
        self.read += 1
        if self.read > MAX_READ:
            raise Unreadable(f"more than {MAX_READ:,} values", *_mark(parent))
        if isinstance(parent, MappingNode | SequenceNode):
            nodes = isinstance(parent, SequenceNode) and self.depth <= _DEPTH_OF_NODES
            most = MAX_ITEMS if nodes else MAX_KEYS
            if len(parent.value) >= most:
                what = "keys in one mapping" if isinstance(parent, MappingNode) else "entries in one list"
                raise Unreadable(f"more than {most:,} {what}", *_mark(parent))
        return super().compose_node(parent, index)


def _composed(text: str) -> Node | None:
    reader = YAML(typ="safe", pure=True)
    reader.Composer = _Bounded
    reader.max_depth = MAX_DEPTH + 1
    reader.composer.warn_double_anchors = False  # it would print the anchor, and a password may begin with an &
    try:
        return cast("Node | None", reader.compose(io.StringIO(text)))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = (mark.line + 1, mark.column + 1) if mark else ()
        raise Unreadable(_said(str(error.problem or error.context or "cannot be read")), *where) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable("holds a control character that YAML does not take", line) from None
    except (YAMLError, RecursionError, ValueError, LookupError, AttributeError, TypeError, AssertionError):
        # ruamel lets some of its own accidents through (a directive `%YAML 1.x.y`, nesting beyond the stack).
        raise Unreadable("not valid YAML") from None


def _said(problem: str) -> str:
    if problem.startswith("maximum depth"):
        return _TOO_DEEP
    if r"'\t'" in problem:
        return "not valid YAML: a tab cannot indent, use blanks"
    return f"not valid YAML: {_QUOTED.sub('...', problem)}"


@contextmanager
def _without_collector() -> Iterator[None]:
    """Parsing makes many small objects and no garbage cycles; the collector would take a fifth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _mark(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _child(node: Node, key: str | int) -> Node | None:
    if isinstance(node, SequenceNode) and isinstance(key, int):
        return cast("Node", node.value[key]) if key < len(node.value) else None
    if not isinstance(node, MappingNode):
        return None
    for name, value in node.value:
        if name.value == key:
            return cast("Node", value)
    merged = (value for name, value in node.value if name.value == "<<")
    sources = [s for value in merged for s in (value.value if isinstance(value, SequenceNode) else [value])]
    return next((child for source in sources if (child := _child(source, key)) is not None), None)


def _merged(plain: object, node: Node) -> dict[str, Any]:
    sources = plain if isinstance(plain, list) else [plain]
    result: dict[str, Any] = {}
    for source in reversed(sources):
        if not isinstance(source, dict):
            raise Unreadable("a merge key takes a mapping", *_mark(node))
        result |= source
    return result


def _scalar(node: ScalarNode) -> str | int | float | bool | None:
    tag, text = str(node.tag), str(node.value)
    if tag in _TEXT:
        if not text.replace("\n", " ").isprintable():
            raise Unreadable("holds a character that cannot be seen", *_mark(node))
        return text
    if tag == _STANDARD + "null":
        return None
    if tag == _STANDARD + "bool":
        return {"true": True, "false": False}.get(text.lower(), text)
    if tag in {_STANDARD + "int", _STANDARD + "float"}:
        return _number(text, whole=tag.endswith("int"))
    raise Unreadable(_TAG, *_mark(node))


def _number(text: str, *, whole: bool) -> str | int | float:
    """A number as YAML 1.2 has it; text where Python disagrees, for the schema to refuse."""
    digits = text.replace("_", "")
    if len(digits) > _LONGEST_NUMBER:
        return text
    try:
        if not whole:
            return float(digits.lower().replace(".inf", "inf").replace(".nan", "nan"))
        return int(digits, 0) if digits.lstrip("+-").lower().startswith(("0x", "0o", "0b")) else int(digits)
    except ValueError:
        return text
