"""Which tests judge a file, and how one judge runs in a copy of the repository."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath

from tests.mutation.mutants import Mutant
from tests.places import ROOT

__all__ = ["Fate", "WorkingCopy", "judges_of", "working_copy"]

#: What judges a room beside the unit tests that mirror it.
_BESIDE: dict[str, tuple[str, ...]] = {
    "pipelines/run": ("tests/unit/pipelines/test_steered_runs.py", "tests/unit/pipelines/usecases"),
    "workers/store": (
        "tests/contract/test_store.py",
        "tests/contract/test_chain.py",
        "tests/contract/test_forged_store.py",
    ),
    "workers/winrm": ("tests/contract/test_session_powershell.py",),
}
#: Seconds for one test: one that waits forever has found the fault.
_TEST_SECONDS = 60
#: Seconds for one judge.
_JUDGE_SECONDS = 540


class Fate(Enum):
    """What the tests did with a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    EQUIVALENT = "equivalent"


def judges_of(path: str) -> list[str]:
    """The tests that judge a file, the narrowest first: those of its folder, of its room, and those beside it."""
    folder = PurePosixPath(path).parent
    rooms = [folder, *(room for room in folder.parents if len(room.parts) > 1)]
    mirrored = [f"tests/unit/{room}" for room in rooms if any((ROOT / "tests/unit" / room).rglob("test_*.py"))]
    beside = [tests for room, several in _BESIDE.items() if folder.is_relative_to(room) for tests in several]
    return [*mirrored, *beside]


@dataclass(frozen=True)
class WorkingCopy:
    """A copy of the repository in which files may be mutated."""

    root: Path

    def passes(self, tests: str) -> bool:
        """Whether these tests pass here."""
        options = ["-x", "-q", "-p", "no:cacheprovider", f"--timeout={_TEST_SECONDS}"]
        command = [sys.executable, "-m", "pytest", *options, tests]
        environment = os.environ | {"PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}
        with (self.root / "judge.log").open("wb") as log:
            done = subprocess.Popen(
                command, cwd=self.root, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            try:
                return done.wait(_JUDGE_SECONDS) == 0
            except subprocess.TimeoutExpired:
                done.kill()
                done.wait()
                return False

    def judge(self, mutant: Mutant) -> tuple[Fate, float]:
        """What the tests do with the mutant, and how many seconds that took."""
        begun = time.monotonic()
        file = self.root / mutant.path
        file.write_text(mutant.mutated)
        try:
            survived = all(self.passes(tests) for tests in judges_of(mutant.path))
        finally:
            file.write_text(mutant.source)
        return (Fate.SURVIVED if survived else Fate.KILLED), time.monotonic() - begun

    def output(self) -> str:
        """What the last judge printed."""
        return (self.root / "judge.log").read_text(errors="replace")


@contextmanager
def working_copy(folder: Path) -> Iterator[WorkingCopy]:
    """Copies what Git tracks, or would track, to a folder; removes the folder at the end."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    try:
        yield WorkingCopy(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
