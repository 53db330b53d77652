"""Tries whether the tests find small faults: `make mutants`.

    python -m tests.mutation [--mutants N] [--seed N] [--jobs N] [PATH ...]

Draws mutants of the files and folders, each with one fault, and runs the tests that judge the file on a copy of the
repository. Prints each survivor as a diff, and the score: killed mutants divided by all that are not equivalent
(`equivalent.toml`).
Exits 1 below 92 %, and when the tests fail without a fault.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

from rich.console import Console

from tests.mutation.judges import Fate, WorkingCopy, judges_of, working_copy
from tests.mutation.mutants import Equivalent, Mutant, sampled

PATHS = ["tasks/ektron", "pipelines/run", "workers/store", "workers/winrm"]
BAR = 92.0
CONSOLE = Console(markup=False, highlight=False, soft_wrap=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Do the tests find small faults?")
    parser.add_argument("--mutants", type=int, default=150, help="how many are drawn")
    parser.add_argument("--seed", type=int, default=1, help="which ones are drawn")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many are judged at a time")
    parser.add_argument("paths", nargs="*", metavar="PATH", help=f"files and folders (default: {' '.join(PATHS)})")
    return parser.parse_args()


def _unfit(copy: WorkingCopy, mutants: list[Mutant]) -> Iterator[str]:
    """The judges that fail without a fault, with what they print."""
    for tests in dict.fromkeys(tests for mutant in mutants for tests in judges_of(mutant.path)):
        if not copy.passes(tests):
            yield f"{tests} fails without a fault:\n{copy.output()}"


def main() -> int:
    """Judges a sample; returns the exit code."""
    options = _options()
    mutants = sampled(options.paths or PATHS, options.mutants, options.seed)
    equivalent = Equivalent.load()
    fates: dict[Mutant, Fate] = {}
    with ExitStack() as stack:
        copies: SimpleQueue[WorkingCopy] = SimpleQueue()
        for _ in range(options.jobs):
            folder = Path(tempfile.mkdtemp(prefix="mutants-"))
            copies.put(stack.enter_context(working_copy(folder)))
        first = copies.get()
        if unfit := list(_unfit(first, mutants)):
            CONSOLE.print(*unfit, sep="\n")
            return 1
        copies.put(first)

        def judged(mutant: Mutant) -> tuple[Fate, float]:
            if any(one.matches(mutant) for one in equivalent):
                return Fate.EQUIVALENT, 0.0
            copy = copies.get()
            try:
                return copy.judge(mutant)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(options.jobs) as pool:
            for mutant, (fate, seconds) in zip(mutants, pool.map(judged, mutants), strict=True):
                fates[mutant] = fate
                CONSOLE.print(f"{fate.value:<10} {seconds:5.0f} s  {mutant.path}:{mutant.line} {mutant.operator}")
    return _concluded(fates)


def _concluded(fates: dict[Mutant, Fate]) -> int:
    """Prints the survivors and the score; returns the exit code."""
    survivors = [mutant for mutant, fate in fates.items() if fate is Fate.SURVIVED]
    for mutant in survivors:
        CONSOLE.print(f"\n# {mutant.operator}\n{mutant.diff}")
    killed, equivalent = (sum(fate is wanted for fate in fates.values()) for wanted in (Fate.KILLED, Fate.EQUIVALENT))
    score = 100.0 * killed / max(killed + len(survivors), 1)
    CONSOLE.print(
        f"\n{killed} killed, {len(survivors)} survived, {equivalent} equivalent: {score:.1f} % (at least {BAR:.0f} %)"
    )
    return 0 if score >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
