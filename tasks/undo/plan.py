"""What has to be done on a node so that a run never happened there. Pure: manifest and what is there now -> actions.

The manifest is what the agent wrote before each change (docs/agent-protocol.md, backup): path, before, after, kept.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from workers.errors import NodeRefused

__all__ = [
    "CHANGED_SINCE",
    "FOLDER",
    "Action",
    "ActionKind",
    "Dispute",
    "Line",
    "PathHistory",
    "Seen",
    "Undo",
    "histories_of",
    "outside",
    "read_manifest",
    "undo",
]

FOLDER = "folder"  #: stands where the hash of a file would
CHANGED_SINCE = "changed since the run"  #: how a change is named that somebody else made, in an outcome
_HASH = re.compile(r"[0-9a-f]{64}")
_KEPT = re.compile(r"files\\[1-9][0-9]*")  # nothing else is ever read as a backup, whatever the manifest says
_DAMAGED = "look at the manifest on the node; restore by hand from the folder `files` beside it"


@dataclass(frozen=True, slots=True)
class Line:
    """One change of one path. A state is a hash, `FOLDER`, or None where nothing was."""

    path: str
    before: str | None
    after: str | None
    kept: str | None = None  #: where the old bytes are, below the run's folder: `files\\7`


@dataclass(frozen=True, slots=True)
class PathHistory:
    """All a run did to one path.

    Attributes:
        before: what was there before the run.
        kept: where the bytes of then are.
        ours: every state the run gave it; what is found in one of them has not been changed since.
    """

    path: str
    before: str | None
    kept: str | None
    ours: frozenset[str | None]


@dataclass(frozen=True, slots=True)
class Seen:
    """What is at a path now; `names` are what a folder holds."""

    state: str | None
    names: tuple[str, ...] = ()


class ActionKind(StrEnum):
    """What is done to one path."""

    RESTORE = "restore"
    REMOVE = "remove"
    MAKE = "make"


@dataclass(frozen=True, slots=True)
class Action:
    """One deed. `expect` is the state it may replace (None: nothing there), `before` the state it brings back."""

    deed: ActionKind
    path: str
    expect: str | None
    before: str | None = None
    kept: str = ""


@dataclass(frozen=True, slots=True)
class Dispute:
    """A path that somebody changed after the run: what is there now, and what was there before the run."""

    path: str
    found: str | None
    before: str | None
    kept: str = ""


@dataclass(frozen=True, slots=True)
class Undo:
    """How to undo a run on one node.

    Attributes:
        actions: in the order they have to be done in: the run's own, backwards.
        disputes: paths changed since; with any of them nothing is done unless forced.
        right: how many paths are as they were.
        left: folders the run made that now hold something else, and stay.
    """

    actions: tuple[Action, ...]
    disputes: tuple[Dispute, ...]
    right: int
    left: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether everything is as it was before the run."""
        return not self.actions and not self.disputes


def read_manifest(data: bytes) -> tuple[Line, ...]:
    """The lines of a manifest, oldest first.

    A line is appended before its change is made. So a last line without its end, torn by a power cut, speaks of
    nothing that happened; and the next line may hang on behind such a torn one.

    Raises:
        NodeRefused: a line in the middle cannot be read.
    """
    whole, _, _ = data.rpartition(b"\n")
    found = []
    for number, raw in enumerate(whole.split(b"\n") if whole else (), 1):
        if raw.strip(b"\0 \t\r"):
            found.append(_line(raw.decode("utf-8", "replace"), number))
    return tuple(found)


def _line(text: str, number: int) -> Line:
    """The line, or the one that hangs on behind a torn one."""
    position = text.find("{")
    while position >= 0:
        try:
            line = _checked(json.loads(text[position:]))
        except ValueError:
            line = None
        if line is not None:
            return line
        position = text.find("{", position + 1)
    raise NodeRefused(f"line {number} of the run's manifest cannot be read, nothing was restored", remedy=_DAMAGED)


def _checked(value: Any) -> Line | None:  # noqa: ANN401 - JSON
    """A line whose fields are what they must be, or None."""
    if not isinstance(value, dict):
        return None
    path, before, after, kept = (value.get(name) for name in ("path", "before", "after", "kept"))
    if not isinstance(path, str) or not path or not (_is_state(before) and _is_state(after)):
        return None
    if kept is not None and not (isinstance(kept, str) and _KEPT.fullmatch(kept)):
        return None
    if (kept is None) == (before not in {None, FOLDER}):
        return None
    return Line(path, before, after, kept)


def _is_state(value: object) -> bool:
    return value is None or value == FOLDER or (isinstance(value, str) and _HASH.fullmatch(value) is not None)


def histories_of(lines: Iterable[Line]) -> tuple[PathHistory, ...]:
    """One trace a path, in the order the paths were first changed. Case of names does not count.

    A step that ran twice leaves several lines: what was there before is in the first one.
    """
    firsts: dict[str, Line] = {}
    states: dict[str, set[str | None]] = {}
    for line in lines:
        key = line.path.casefold()
        firsts.setdefault(key, line)
        states.setdefault(key, set()).add(line.after)
    return tuple(
        PathHistory(first.path, first.before, first.kept, frozenset(states[key])) for key, first in firsts.items()
    )


def outside(histories: Iterable[PathHistory], folders: Iterable[str]) -> tuple[str, ...]:
    """Paths of a manifest that lie in none of these folders: no run of ours wrote there, whatever the manifest says."""
    allowed = tuple(folder.casefold() for folder in folders)
    return tuple(
        trace.path
        for trace in histories
        if not any(trace.path.casefold() == one or trace.path.casefold().startswith(f"{one}\\") for one in allowed)
    )


def undo(histories: Iterable[PathHistory], seen: Mapping[str, Seen], *, force: bool = False) -> Undo:
    """Decides about every path.

    Args:
        histories: what the run did, in its order.
        seen: what is at each path now.
        force: treat what was changed since like what the run left.
    """
    actions: list[Action] = []
    disputes: list[Dispute] = []
    left: list[str] = []
    right = 0
    for trace in reversed(tuple(histories)):
        now = seen[trace.path]
        if now.state == trace.before:
            right += 1
        elif now.state not in trace.ours and not force:
            disputes.append(Dispute(trace.path, now.state, trace.before, trace.kept or ""))
        elif trace.before is None and now.state == FOLDER and not _empties(trace.path, now, actions):
            left.append(trace.path)
        else:
            actions += _back(trace, now.state)
    return Undo(tuple(actions), tuple(disputes), right, tuple(left))


def _back(trace: PathHistory, state: str | None) -> list[Action]:
    """From what is there to what was there."""
    if trace.before is None:
        return [Action(ActionKind.REMOVE, trace.path, state)]
    if trace.before == FOLDER:
        away = [] if state is None else [Action(ActionKind.REMOVE, trace.path, state)]
        return [*away, Action(ActionKind.MAKE, trace.path, None, FOLDER)]
    away = [Action(ActionKind.REMOVE, trace.path, FOLDER)] if state == FOLDER else []
    expect = None if state == FOLDER else state
    return [*away, Action(ActionKind.RESTORE, trace.path, expect, trace.before, trace.kept or "")]


def _empties(folder: str, now: Seen, actions: Iterable[Action]) -> bool:
    """Whether nothing is in a folder any more once these actions are done."""
    gone = {action.path.casefold() for action in actions if action.deed is ActionKind.REMOVE}
    return all(f"{folder}\\{name}".casefold() in gone for name in now.names)
