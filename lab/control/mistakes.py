"""A wrong request as a sentence: which fault or value is wrong, and what is allowed there."""

import difflib
from collections.abc import Sequence

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lab.machine.faults import Faults

__all__ = ["no_such_node", "sentence"]

_LISTED = 30  #: names of nodes in a sentence
_WORDS = (
    ("Input should be a valid boolean, unable to interpret input", "must be true or false"),
    ("Input should be a valid integer, unable to parse string as an integer", "must be a whole number"),
    ("Input should be a valid number, unable to parse string as a number", "must be a number"),
    ("Input should be a valid array", 'must be a list in JSON, such as ["a", "b"]'),
    ("Input should be ", "must be "),
)


def sentence(error: ValidationError) -> str:
    """The first mistake in the faults of a request: where it is, the value, what is allowed."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        return _unknown_fault(path)
    where = ".".join(path) or "the request"
    return f"{where}: {_plain(first)}; it is {str(first['input'])[:60]!r}"


def no_such_node(name: str, nodes: Sequence[str]) -> str:
    """That the lab has no node of that name, and which nodes it has."""
    near = difflib.get_close_matches(name.upper(), nodes, n=1)
    more = f" and {len(nodes) - _LISTED} more" if len(nodes) > _LISTED else ""
    meant = f" (did you mean {near[0]}?)" if near else ""
    return f"no such node: {name[:60]!r}{meant}; the nodes are {', '.join(nodes[:_LISTED])}{more}"


def _unknown_fault(path: Sequence[str]) -> str:
    known = _names(path[:-1])
    near = difflib.get_close_matches(path[-1], known, n=1)
    meant = f" (did you mean {'.'.join([*path[:-1], near[0]])}?)" if near else ""
    inside = f" in {'.'.join(path[:-1])}" if path[1:] else ""
    return f"there is no fault {path[-1][:60]!r}{inside}{meant}; the faults are {', '.join(known)}"


def _names(path: Sequence[str]) -> list[str]:
    """The names that are known below a path of faults, such as `service`."""
    model: type[BaseModel] = Faults
    for name in path:
        field = model.model_fields.get(name)
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def _plain(error: ErrorDetails) -> str:
    text = error["msg"].removeprefix("Value error, ")
    for theirs, ours in _WORDS:
        text = text.replace(theirs, ours)
    return text
