"""Measures every bar, or some: `python -m tests.benchmarks [--quick] [--only NAME ...] [--json FILE] [--page FILE]`.

Exits 1 when a bar is missed. CPU counts on any machine; wall times only on a quiet one. Measurements with the same
numbers in them are taken in one run, one after the other, and only their ratio is a bar.
"""

import argparse
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.again import again
from tests.benchmarks.ansible import against_ansible
from tests.benchmarks.bars import BARS, State, Values, judged
from tests.benchmarks.idle import idle
from tests.benchmarks.jobs import growth, job_values, joined
from tests.benchmarks.latency import latency, two_workers
from tests.benchmarks.many import many
from tests.benchmarks.replay import replay
from tests.benchmarks.watchers import watchers

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. The quick sizes give a first impression; the bars are those of the full ones."""

    rounds: int = 3
    clusters: int = 250
    idle: float = 60
    nodes: int = 100


FULL, QUICK = Sizes(), Sizes(rounds=1, clusters=10, idle=15)


def _startup(_: Sizes) -> Values:
    if importlib.util.find_spec("tests.benchmarks.startup") is None:
        return {}
    measured: Callable[[], Mapping[str, float]] = importlib.import_module("tests.benchmarks.startup").measured
    return dict(measured())


#: In this order. Each can be measured alone.
MEASUREMENTS: Mapping[str, Callable[[Sizes], Values]] = {
    "startup": _startup,
    "idle": lambda sizes: idle(sizes.idle),
    "join-30": lambda _: job_values(joined(30)),
    "join-100": lambda _: job_values(joined(100)),
    "again": lambda sizes: again(10, sizes.nodes),
    "replay": lambda sizes: replay(sizes.nodes, sizes.rounds),
    "latency": lambda sizes: latency(sizes.nodes),
    "workers": lambda sizes: two_workers(sizes.nodes),
    "ansible": lambda sizes: against_ansible(sizes.nodes),
    "growth-100": lambda _: growth(30, 100),
    "growth-300": lambda _: growth(30, 300),
    "many": lambda sizes: many(sizes.clusters),
    "watch-30": lambda _: watchers(30),
    "watch-300": lambda _: watchers(300),
    "join-1000": lambda _: job_values(joined(1000)),
}
ALONE = {"join-30", "growth-100", "watch-30"}  #: only when they are named: others measure the same, or more
LONG = {"growth-300", "watch-300", "join-1000"}  #: not with --quick, unless they are named


def measured(names: list[str], sizes: Sizes, say: Callable[[str], None]) -> dict[str, float | str]:
    """All values of these measurements. One that fails leaves its bars unmeasured, with the reason."""
    values: dict[str, float | str] = {}
    for name in names:
        started = time.perf_counter()
        try:
            values |= MEASUREMENTS[name](sizes)
        except Exception as error:  # noqa: BLE001 - the other measurements go on
            values[f"{name}.failed"] = f"{type(error).__name__}: {error}"
            say(f"{name} failed: {type(error).__name__}: {error}")
        say(f"{name}: {time.perf_counter() - started:.0f} s")
    return values


def table(values: Values) -> Table:
    """Every bar, its value, met or missed and by how much."""
    shown = Table(title="Bars")
    for head in ("bar", "limit", "measured", "", "off"):
        shown.add_column(head, justify="left" if head == "bar" else "right")
    for cells in rows(values):
        shown.add_row(*cells)
    return shown


def rows(values: Values) -> list[tuple[str, str, str, str, str]]:
    """The cells of the table."""
    found = []
    for bar, value, state in judged(values):
        limit = f"{'>=' if bar.least else '<='} {bar.limit:g} {bar.unit}".strip()
        if isinstance(value, str | None):
            found.append((bar.what, limit, value or "", state.value, ""))
            continue
        off = f"{bar.off(value):+.0f} %" if state is State.MISSED else ""
        found.append((bar.what, limit, f"{value:.3g} {bar.unit}".strip(), state.value, off))
    return found


def document(values: Values) -> dict[str, object]:
    """The same as data, with the values that have no bar."""
    bars = {
        bar.name: {
            "what": bar.what, "limit": bar.limit, "at_least": bar.least, "unit": bar.unit, "value": value,
            "state": state.value,
        }
        for bar, value, state in judged(values)
    }  # fmt: skip
    others = {name: value for name, value in values.items() if name not in {bar.name for bar in BARS}}
    return {"at": datetime.now(UTC).isoformat(timespec="seconds"), **machine(), "bars": bars, "values": others}


def machine() -> dict[str, object]:
    """Where it was measured."""
    return {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}


def fill_page(page: Path, values: Values) -> None:
    """Replaces the table between the two marks of a page.

    Raises:
        ValueError: the page has no marks.
    """
    text = page.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{page} has no {BEGIN} and {END}")
    lines = ["| bar | limit | measured | |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(cells[:4])} |" for cells in rows(values)]
    said = f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}"
    page.write_text(f"{before}{BEGIN}\n{said}\n\n" + "\n".join(lines) + f"\n{END}{after}", "utf-8")


def main() -> int:
    """Measures, prints, compares."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measures the bars.")
    parser.add_argument("--quick", action="store_true", help="small sizes, and nothing above 100 nodes")
    parser.add_argument("--only", nargs="+", choices=list(MEASUREMENTS), metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes everything as data")
    parser.add_argument("--page", type=Path, metavar="FILE", help="writes the table between the marks of this page")
    given = parser.parse_args()
    left_out = ALONE | (LONG if given.quick else set())
    names = given.only or [name for name in MEASUREMENTS if name not in left_out]
    values = measured(names, QUICK if given.quick else FULL, Console(stderr=True, markup=False).print)
    shown = Console(width=140, markup=False)
    shown.print(table(values))
    for name, value in sorted(values.items()):
        shown.print(f"{name} {value if isinstance(value, str) else format(value, '.4g')}")
    if given.json:
        given.json.write_text(json.dumps(document(values), indent=2) + "\n")
    if given.page:
        fill_page(given.page, values)
    failed = any(name.endswith(".failed") for name in values)
    return 1 if failed or any(state is State.MISSED for _, _, state in judged(values)) else 0


if __name__ == "__main__":
    sys.exit(main())
