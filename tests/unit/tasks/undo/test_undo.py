"""From a manifest and a look at a node to what undoing takes: case files, and histories that hypothesis makes up."""

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.undo.plan import FOLDER, ActionKind, Line, Seen, Undo, histories_of, outside, read_manifest, undo
from tests.places import CASE_FOLDERS
from workers.errors import NodeRefused

CASES = CASE_FOLDERS / "undo"
NAMES = sorted(path.stem for path in CASES.glob("*.json"))

Tree = dict[str, str]  #: path -> hash, or FOLDER


def state(word: str | None) -> str | None:
    """The letters of the case files stand for hashes."""
    return hashlib.sha256(word.encode()).hexdigest() if word and len(word) == 1 else word


def manifest_of(lines: list[dict[str, Any] | str]) -> bytes:
    """The bytes of a manifest; a text stands for itself, without a line end."""
    parts = [line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines]
    expanded = re.sub(r'"(before|after)": ?"(\w)"', lambda m: f'"{m[1]}":"{state(m[2])}"', "".join(parts))
    return expanded.encode()


def seen_of(value: str | list[str] | None) -> Seen:
    """What the case says is there; a list is a folder with these names."""
    return Seen(FOLDER, tuple(value)) if isinstance(value, list) else Seen(state(value))


def test_there_are_cases() -> None:
    """The files are found."""
    assert len(NAMES) > 20


@pytest.mark.parametrize("name", NAMES)
def test_case(name: str) -> None:
    """Actions in order, paths changed since, unchanged paths and remaining folders are those of the case."""
    case = json.loads((CASES / f"{name}.json").read_text("ascii"))
    seen = {path: seen_of(value) for path, value in case["now"].items()}
    found = undo(histories_of(read_manifest(manifest_of(case["manifest"]))), seen, force=case["force"])
    actions = [[a.kind.value, a.path, a.expect, a.before, a.kept] for a in found.actions]
    wanted = case["wanted"]
    assert [
        [kind, path, state(expect), state(before), kept] for kind, path, expect, before, kept in wanted["actions"]
    ] == actions
    assert wanted["changed_since"] == [change.path for change in found.changed_since]
    assert (wanted["unchanged"], wanted["remaining"]) == (found.unchanged, list(found.remaining))


class Machine:
    """A tree of files that keeps a manifest, as the agent does, and does what an undo says."""

    def __init__(self, tree: Tree) -> None:
        self.tree = dict(tree)
        self.lines: list[Line] = []
        self.kept: dict[str, str] = {}

    def change(self, path: str, after: str | None) -> None:
        """Makes the path that state where a file system would allow it."""
        before = self.tree.get(path)
        parent = path.rpartition("\\")[0]
        if before == after or (parent != "C:" and self.tree.get(parent) != FOLDER):
            return
        if before == FOLDER and (after is not None or self.names(path)):
            return
        if before not in {None, FOLDER} and after == FOLDER:
            return
        kept = None
        if before not in {None, FOLDER}:
            kept = f"files\\{len(self.kept) + 1}"
            self.kept[kept] = before or ""
        self.lines.append(Line(path, before, after, kept))
        self.put(path, after)

    def put(self, path: str, after: str | None) -> None:
        """Without a line."""
        if after is None:
            self.tree.pop(path, None)
        else:
            self.tree[path] = after

    def names(self, folder: str) -> tuple[str, ...]:
        """What a folder holds."""
        inside = (path.removeprefix(f"{folder}\\") for path in self.tree if path.startswith(f"{folder}\\"))
        return tuple(name for name in inside if "\\" not in name)

    def undone(self, *, force: bool = False) -> Undo:
        """What the undo says now."""
        histories = histories_of(self.lines)
        seen = {trace.path: Seen(self.tree.get(trace.path), self.names(trace.path)) for trace in histories}
        return undo(histories, seen, force=force)

    def apply(self, found: Undo, limit: int | None = None) -> None:
        """Does it, and refuses what a file system would refuse."""
        for action in found.actions[:limit]:
            parent = action.path.rpartition("\\")[0]
            assert self.tree.get(action.path) == action.expect
            assert parent == "C:" or self.tree.get(parent) == FOLDER
            if action.kind is ActionKind.REMOVE:
                assert action.expect != FOLDER or not self.names(action.path)
                self.put(action.path, None)
            elif action.kind is ActionKind.MAKE:
                self.put(action.path, FOLDER)
            else:
                assert action.before == self.kept[action.kept]
                self.put(action.path, action.before)


PATHS = ["C:\\a", "C:\\b", "C:\\a\\x", "C:\\a\\y", "C:\\a\\f", "C:\\a\\f\\z", "C:\\b\\x"]
STATES = st.sampled_from([None, FOLDER, *(state(letter) for letter in "pqr")])
HISTORIES = st.lists(st.tuples(st.sampled_from(PATHS), STATES), max_size=14)


def machine_after(setup: list[tuple[str, str | None]], history: list[tuple[str, str | None]]) -> tuple[Tree, Machine]:
    """A tree that can be, and the machine after a run on it."""
    first = Machine({})
    for path, after in setup:
        first.change(path, after)
    machine = Machine(first.tree)
    for path, after in history:
        machine.change(path, after)
    return first.tree, machine


@given(HISTORIES, HISTORIES)
def test_whatever_a_run_did_is_undone(
    setup: list[tuple[str, str | None]], history: list[tuple[str, str | None]]
) -> None:
    """After any history, doing what the undo says gives the tree of before; a second undo has nothing to do."""
    before, machine = machine_after(setup, history)
    machine.apply(machine.undone())
    assert before == machine.tree
    assert machine.undone().complete


@given(HISTORIES, HISTORIES, st.integers(0, 14))
def test_an_interrupted_undo_can_be_done_again(
    setup: list[tuple[str, str | None]], history: list[tuple[str, str | None]], limit: int
) -> None:
    """Stopped after any action, the next undo has no conflict and does the rest."""
    before, machine = machine_after(setup, history)
    machine.apply(machine.undone(), limit)
    rest = machine.undone()
    assert () == rest.changed_since
    machine.apply(rest)
    assert before == machine.tree


@given(HISTORIES, HISTORIES, st.data())
def test_what_somebody_else_wrote_is_a_conflict(
    setup: list[tuple[str, str | None]], history: list[tuple[str, str | None]], data: st.DataObject
) -> None:
    """Foreign bytes in a file the run touched are named; forced, they are replaced by those of before."""
    before, machine = machine_after(setup, history)
    files = [path for path in {line.path for line in machine.lines} if machine.tree.get(path) not in {None, FOLDER}]
    if not files:
        return
    path = data.draw(st.sampled_from(sorted(files)))
    machine.put(path, state("z"))
    assert [path] == [change.path for change in machine.undone().changed_since]
    machine.apply(machine.undone(force=True))
    assert before == machine.tree


@given(st.binary(max_size=300))
def test_any_bytes_are_a_manifest_or_refused(data: bytes) -> None:
    """Reading never fails otherwise than with an error of ours."""
    with contextlib.suppress(NodeRefused):
        assert read_manifest(data) == () or b"path" in data


@given(HISTORIES, st.integers(0, 2000))
def test_a_manifest_cut_anywhere_is_read_up_to_there(history: list[tuple[str, str | None]], cut: int) -> None:
    """Torn at any byte, all whole lines before are read, and none is invented."""
    _, machine = machine_after([("C:\\a", FOLDER)], history)
    whole = "".join(json.dumps(as_json(line)) + "\n" for line in machine.lines).encode()
    torn = whole[: min(cut, len(whole))]
    assert tuple(machine.lines[: torn.count(b"\n")]) == read_manifest(torn)
    # And the next line, hanging on behind the torn one, is read too.
    more = Line("C:\\b", None, FOLDER)
    assert more in read_manifest(torn + json.dumps(as_json(more)).encode() + b"\n")


def as_json(line: Line) -> Mapping[str, str | None]:
    """A line as the agent writes it."""
    return {
        "at": "2026-11-23T20:00:00Z",
        "path": line.path,
        "before": line.before,
        "after": line.after,
        "kept": line.kept,
    }


@pytest.mark.parametrize(
    "line",
    [
        '{"path":"C:\\\\x","before":null,"after":"nonsense","kept":null}',
        '{"path":"C:\\\\x","before":"' + "a" * 64 + '","after":null,"kept":"..\\\\secret"}',
        '{"path":"C:\\\\x","before":"' + "a" * 64 + '","after":null,"kept":null}',
        '{"path":"","before":null,"after":"folder","kept":null}',
        '{"before":null,"after":"folder","kept":null}',
        "[]",
        "nonsense",
    ],
)
def test_a_line_that_is_none_is_refused(line: str) -> None:
    """A state that is no hash, a backup outside the run's own files, a missing path: nothing is guessed."""
    with pytest.raises(NodeRefused, match="line 1 of the run's manifest"):
        read_manifest(line.encode() + b"\n")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (r"C:\site\web.config", True),
        (r"c:\SITE\Web.config", True),
        (r"C:\site", True),
        (r"C:\site2\web.config", False),
        (r"C:\Windows\System32\drivers\etc\hosts", False),
        (r"D:\site\web.config", False),
    ],
)
def test_a_manifest_leads_nowhere_else(path: str, *, allowed: bool) -> None:
    """Whatever a manifest names, only paths in the folders that runs write to are ever undone."""
    histories = histories_of([Line(path, None, "a" * 64)])
    assert (() if allowed else (path,)) == outside(histories, [r"C:\site", r"C:\service"])
