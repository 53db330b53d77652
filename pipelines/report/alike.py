"""One text for several nodes: texts that differ only in each node's own name and address are the same text. Pure."""

import re

__all__ = ["in_words", "masked", "masked_in_files"]

_NODE, _HOST = "\ue000", "\ue001"  #: stand for a node's own name and address; no text for people has them


def masked(text: str, node: str, host: str = "") -> str:
    """The text without the node's own name and address: equal for nodes with the same problem. For grouping only."""
    for own, mask in ((host, _HOST), (node, _NODE)):
        if own and own.lower() in text.lower():  # most texts do not name it, and each pattern has to be compiled
            text = re.sub(rf"(?<![\w.-]){re.escape(own)}(?![^\W_]|-)", mask, text, flags=re.IGNORECASE)
    return text


def masked_in_files(text: str, node: str) -> str:
    """The text without the node's own name in the names of certificate files; a list of all nodes stays as it is."""
    return text.replace(f"{node}_Sync", f"{_NODE}_Sync")


def in_words(text: str, node: str) -> str:
    """A masked text as a sentence about several nodes, which are named beside it.

    Args:
        text: as `masked` made it.
        node: one of the nodes: its name stands in file names, where words would make no path.
    """
    text = re.sub(rf"^{_NODE}:? (?:\(({_HOST}:\d+)\) )?", r"\1 ", text).lstrip()
    text = re.sub(rf"{_HOST}:(\d+)", r"port \1", text).replace(_HOST, "its address")
    in_names = f"{_NODE}_"
    if in_names in text:
        text = f"{text.replace(in_names, f'{node}_')} (on {node}; the others have their own names there)"
    return text.replace(_NODE, "the node")
