"""How values and lists of nodes are shortened for people."""

from collections.abc import Sequence

from tasks.ektron.certificates import CLIENT_CER, node_of

__all__ = ["key_names", "named", "shortened"]

_SHOWN = 40
_NAMES = 5


def shortened(value: str) -> str:
    """A value, cut in the middle of a certificate."""
    return value if len(value) <= _SHOWN else f"{value[: _SHOWN - 3]}..."


def named(nodes: Sequence[str]) -> str:
    """Names for a sentence: `S1, S2 and 3 more`."""
    if len(nodes) <= _NAMES:
        return ", ".join(nodes)
    return f"{', '.join(nodes[:_NAMES])} and {len(nodes) - _NAMES} more"


def key_names(keys: Sequence[str]) -> str:
    """Certificate keys by their nodes, with their number where there are several."""
    nodes = [*map(_node, keys[:_NAMES]), *keys[_NAMES:]]
    return named(nodes) if len(nodes) <= 1 else f"{len(nodes)} keys ({named(nodes)})"


def _node(key: str) -> str:
    named_for = node_of(key)
    return named_for[0] if named_for and named_for[1] == CLIENT_CER else key
