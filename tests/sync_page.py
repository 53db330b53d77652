"""The table of the known failures in docs/sync.md: `python -m tests.sync_page docs` writes it.

What the rules find and what persons are asked comes from the table of failures that the tests of the rules play; what a
proof names comes from the texts that `tasks.ektron.sync.causes` knows; what the lab shows comes from its faults.
"""

import re
import sys
from pathlib import Path

from lab.product.causes import CAUSES
from tasks.ektron.sync.causes import ROWS, SAID
from tests.unit.lab.product.test_lab_sync_faults import FAULTS
from tests.unit.tasks.ektron.rules.failures import FAILURES

__all__ = ["PAGE", "SEEN", "lab_shows", "table", "with_table"]

PAGE = "sync.md"
_BEGIN, _END = "<!-- failures: python -m tests.sync_page docs -->", "<!-- end of failures -->"
#: Rows of which `esync sync` itself says something, with what it does about them.
SEEN = {
    10: "a server that does not answer is named; the proof says so for it alone",
    11: "`status` shows whether the service runs",
    12: "`status` shows a service that runs and does not listen",
    16: "a start is refused while a sync is said to run; if none runs in truth, follow the recipe below",
    25: "`status` lists the files; `--clear-stale` moves them aside and restarts the services",
    26: "`loadbalance` is refused with the server's name; `--clear-stale` as in row 25",
    27: "`loadbalance` says so",
    28: "`loadbalance` says that no status appeared",
    29: "`loadbalance` names the servers that the product did not name",
    31: "a proof in `uploadedfiles` names the two settings, if nothing else is refuted",
    32: "a proof waits `sync.arrives` after the end of the sync",
    37: "after a sync that failed, gate and report name the tool, the servers and what to choose",
    46: "a start is refused while another sync is in progress, and the other one is named",
    47: "the run logs in again",
    48: "`null` is read as not authorised, and the missing role is named",
}
#: Rows that neither the lab, nor a rule, nor a question, nor a sync shows, and why.
_WHY = {
    38: "the search tool reports it itself, and esync does not run it",
    49: "it is in the database, which esync does not read",
    50: "no fact shows the amount of content; the editors decide the depth of the recursion",
}


def lab_shows() -> dict[int, str]:
    """Row -> an example of what the lab does."""
    found = {cause.row: f"message of the product: {name.replace('_', ' ')}" for name, cause in CAUSES.items()}
    for name in FAULTS:
        row, _, what = name.partition(" ")
        if row.isdigit():
            found.setdefault(int(row), what)
    return found


def _row(number: int) -> tuple[str, ...]:
    failure = FAILURES[number]
    rules = [finding.invariant for finding in failure.findings]
    named = [rule for rule, row in ROWS.items() if row == number]
    texts = any(row == number for _, row in SAID)
    sync = SEEN.get(number, "")
    if not sync and (texts or named):
        sync = "named as the cause" + (" when the product says so" if texts and not named else "")
    seen = bool(rules or failure.asked or sync or number in lab_shows())
    why = failure.silent if seen else _WHY.get(number, failure.silent)
    return (
        str(number),
        failure.what,
        lab_shows().get(number, ""),
        ", ".join(dict.fromkeys(rules)),
        ", ".join(failure.asked),
        sync,
        "" if seen else f"out of reach: {why}",
    )


def table() -> str:
    """The table, as Markdown."""
    head = ("row", "failure", "the lab shows", "a rule finds", "a person attests", "`esync sync`", "not said, and why")
    rows = [head, ("---",) * len(head), *(_row(number) for number in FAILURES)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def with_table(page: str) -> str:
    """The page with the present table in its place."""
    pattern = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
    assert len(pattern.findall(page)) == 1
    return pattern.sub(lambda _: f"{_BEGIN}\n\n{table()}\n\n{_END}", page)


if __name__ == "__main__":
    path = Path(sys.argv[1]) / PAGE
    path.write_text(with_table(path.read_text("utf-8")), "utf-8")
