"""How to undo a run on a node. Pure: the manifest and the present states -> actions.

The manifest is what the agent wrote before each change (docs/agent-protocol.md, backup): path, before, after, kept.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum

from workers.errors import NodeRefused

__all__ = [
    "FOLDER",
    "Action",
    "ActionKind",
    "ChangedSince",
    "Line",
    "PathHistory",
    "Seen",
    "Undo",
    "histories_of",
    "outside",
    "read_manifest",
    "undo",
]

FOLDER = "folder"  #: in place of the hash of a file
_HASH = re.compile(r"[0-9a-f]{64}")
_KEPT = re.compile(r"files\\[1-9][0-9]*")  # nothing else is ever read as a backup, whatever the manifest says
_DAMAGED = "check the manifest on the node; restore by hand from the folder `files` beside it"


@dataclass(frozen=True, slots=True)
class Line:
    """One change of one path. A state is a hash, `FOLDER`, or None for nothing."""

    path: str
    before: str | None
    after: str | None
    kept: str | None = None  #: where the old bytes are, below the run's folder: `files\\7`


@dataclass(frozen=True, slots=True)
class PathHistory:
    """All a run did to one path.

    Attributes:
        before: the state before the run.
        kept: where the bytes of that state are.
        ours: every state the run gave it; a path in one of these states has not been changed since.
    """

    path: str
    before: str | None
    kept: str | None
    ours: frozenset[str | None]


@dataclass(frozen=True, slots=True)
class Seen:
    """The state of a path now; `names` are those in a folder."""

    state: str | None
    names: tuple[str, ...] = ()


class ActionKind(StrEnum):
    """What is done to one path."""

    RESTORE = "restore"
    REMOVE = "remove"
    MAKE = "make"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do. It may replace the state `expect` (None: nothing), and restores the state `before`."""

    kind: ActionKind
    path: str
    expect: str | None
    before: str | None = None
    kept: str = ""


@dataclass(frozen=True, slots=True)
class ChangedSince:
    """A path that was changed after the run: its state now, its state before the run, and those the run gave it."""

    path: str
    found: str | None
    before: str | None
    kept: str = ""
    ours: frozenset[str | None] = frozenset()


@dataclass(frozen=True, slots=True)
class Undo:
    """How to undo a run on one node.

    Attributes:
        actions: in the order they have to be done in: the run's own, backwards.
        changed_since: paths that were changed after the run; with any of them nothing is done unless forced.
        unchanged: how many paths are as they were before the run.
        remaining: folders that the run made and that hold something else now; they are not removed.
    """

    actions: tuple[Action, ...]
    changed_since: tuple[ChangedSince, ...]
    unchanged: int
    remaining: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether everything is as it was before the run."""
        return not self.actions and not self.changed_since

    def counts(self) -> dict[ActionKind, int]:
        """How many actions there are of each kind that there are any of."""
        counted = Counter(action.kind for action in self.actions)
        return {kind: counted[kind] for kind in ActionKind if counted[kind]}


def read_manifest(data: bytes) -> tuple[Line, ...]:
    """The lines of a manifest, oldest first.

    A line is appended before its change is made. So a last line without its end, torn by a power cut, describes a
    change that was not made; and the next line may follow such a torn one without a line end between them.

    Raises:
        NodeRefused: another line cannot be read.
    """
    whole, _, _ = data.rpartition(b"\n")
    found = []
    for number, raw in enumerate(whole.split(b"\n") if whole else (), 1):
        if raw.strip(b"\0 \t\r"):
            found.append(_line(raw.decode("utf-8", "replace"), number))
    return tuple(found)


def _line(text: str, number: int) -> Line:
    """The line, or the one that follows a torn one without a line end."""
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


def _checked(value: object) -> Line | None:
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
    """One history per path, in the order the paths were first changed. Case of names does not count.

    A step that ran twice leaves several lines: the first one has the state before the run.
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
    """Paths of a manifest that are in none of these folders: no run of ours wrote there, whatever the manifest says."""
    allowed = tuple(folder.casefold() for folder in folders)
    return tuple(
        history.path
        for history in histories
        if not any(f"{history.path.casefold()}\\".startswith(f"{folder}\\") for folder in allowed)
    )


def undo(histories: Iterable[PathHistory], seen: Mapping[str, Seen], *, force: bool = False) -> Undo:
    """Decides about every path.

    Args:
        histories: what the run did, in its order.
        seen: the state of each path now.
        force: treat a path that was changed since like one that the run left so.
    """
    actions: list[Action] = []
    changed: list[ChangedSince] = []
    remaining: list[str] = []
    gone: set[str] = set()  #: folded paths that do not exist after these actions
    unchanged = 0
    for history in reversed(tuple(histories)):
        now = seen[history.path]
        if now.state == history.before:
            unchanged += 1
        elif now.state not in history.ours and not force:
            changed.append(ChangedSince(history.path, now.state, history.before, history.kept or "", history.ours))
        elif history.before is None and now.state == FOLDER and not _empties(history.path, now, gone):
            remaining.append(history.path)
        else:
            steps = _back(history, now.state)
            actions += steps
            gone |= {action.path.casefold() for action in steps if action.kind is ActionKind.REMOVE}
    return Undo(tuple(actions), tuple(changed), unchanged, tuple(remaining))


def _back(history: PathHistory, state: str | None) -> list[Action]:
    """From the present state to the one before the run."""
    if history.before is None:
        return [Action(ActionKind.REMOVE, history.path, state)]
    if history.before == FOLDER:
        away = [] if state is None else [Action(ActionKind.REMOVE, history.path, state)]
        return [*away, Action(ActionKind.MAKE, history.path, None, FOLDER)]
    away = [Action(ActionKind.REMOVE, history.path, FOLDER)] if state == FOLDER else []
    expect = None if state == FOLDER else state
    return [*away, Action(ActionKind.RESTORE, history.path, expect, history.before, history.kept or "")]


def _empties(folder: str, now: Seen, gone: AbstractSet[str]) -> bool:
    """Whether a folder is empty once these paths do not exist any more."""
    return all(f"{folder}\\{name}".casefold() in gone for name in now.names)
