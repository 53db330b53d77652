"""Plays faults of worker and broker at random moments of runs, and judges what every run leaves.

    python -m tests.chaos [--rounds 200] [--seed S] [--nodes 20] [--workers 1] [--only N] [--json FILE]

Prints how long the runs stood still. Exits 1 when anything is wrong in any round, or a bar is missed: a median of 10 s,
and 20 s at worst.
"""

import argparse
import json
import secrets
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.plan import Fault, round_of
from tests.chaos.site import Played, site_at

MEDIAN, WORST = 10.0, 20.0  #: seconds

told = Console(stderr=True, width=140)


def main() -> int:
    """Plays the rounds; prints each one, the table, and what is wrong."""
    wanted = _arguments().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the processes that were started
    told.print(f"seed {wanted.seed}; to repeat a round: python -m tests.chaos --seed {wanted.seed} --only NUMBER")
    numbers = [wanted.only] if wanted.only is not None else range(wanted.rounds)
    played: list[Played] = []
    with (
        tempfile.TemporaryDirectory(prefix="esync-chaos-") as folder,
        site_at(Path(folder), nodes=wanted.nodes, fresh=True, workers=wanted.workers) as site,
    ):
        told.print(f"{wanted.nodes} nodes, {site.typical:.1f} s a run without a fault")
        for number in numbers:
            played.append(site.play(round_of(wanted.seed, number)))
            told.print(_line(played[-1]), highlight=False)
            _keep(wanted.json, wanted.seed, wanted.nodes, site.typical, played)
    Console(width=120).print(table(played))
    whole = distribution(played)
    missed = whole.get("median", 0) > MEDIAN or whole.get("max", 0) > WORST
    wrong = [one for one in played if one.wrong]
    told.print(f"{len(wrong)} of {len(played)} rounds are wrong; bars {'missed' if missed else 'met'}")
    return 1 if wrong or missed else 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1, help="how many; the faults hit one of them")
    parser.add_argument("--only", type=int, help="plays only the round of this number")
    parser.add_argument("--json", type=Path, default=Path("chaos.json"), metavar="FILE")
    return parser


def _line(one: Played) -> str:
    when = "the run had ended" if one.late else f"at {one.round.moment:.0%}, stood still {one.recovery:.1f} s"
    said = "".join(f"\n    WRONG: {what}" for what in one.wrong)
    return f"round {one.round.number}: {one.round.fault} {when}, run {one.seconds:.1f} s{said}"


def distribution(played: Sequence[Played]) -> dict[str, float]:
    """How long the runs stood still, in seconds; empty without a run that a fault has hit."""
    times = sorted(one.recovery for one in played if not one.late)
    if not times:
        return {}
    later = times[min(len(times) - 1, int(0.95 * len(times)))]
    shown = {"min": times[0], "median": statistics.median(times), "p95": later, "max": times[-1]}
    return {"runs": len(times)} | {name: round(value, 2) for name, value in shown.items()}


def table(played: Sequence[Played]) -> Table:
    """The distribution by fault, and of all."""
    shown = Table(title="How long a run stood still after a fault, in seconds")
    for head in ("fault", "runs", "min", "median", "p95", "max", "wrong"):
        shown.add_column(head, justify="left" if head == "fault" else "right")
    for name in (*Fault, "all"):
        of_it = [one for one in played if name in {one.round.fault, "all"}]
        cells = [str(value) for value in distribution(of_it).values()] or ["0", *"----"]
        shown.add_row(name, *cells, str(sum(bool(one.wrong) for one in of_it)))
    return shown


def _keep(file: Path, seed: int, nodes: int, typical: float, played: Sequence[Played]) -> None:
    by_fault = {fault.value: distribution([one for one in played if one.round.fault is fault]) for fault in Fault}
    document = {
        "seed": seed,
        "nodes": nodes,
        "typical": round(typical, 2),
        "all": distribution(played),
        "by_fault": by_fault,
        "rounds": [asdict(one) for one in played],
    }
    file.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
