"""Plays cells of the fault matrix: each on a node of its own, all in one run, then healing, retry and rollback."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipelines.usecases import control
from pipelines.usecases import rollback as undoing
from pipelines.usecases.runs import RunSummary
from tasks.cluster import Cluster, ConnectionOverride
from tests.integration.matrix import Cell, Round
from tests.integration.matrix_bench import Bench
from tests.integration.matrix_judge import judged, look_at, wrong_after_rollback, wrong_when_joined
from workers.errors import InputRefused
from workers.records import Verdict

__all__ = ["Played", "play"]

LIMIT = 75.0  #: seconds one run may take, whatever goes wrong on its nodes


@dataclass
class Played:
    """What came of a round.

    Attributes:
        wrong: what is not as it must be, each with its cell.
        missed: cells whose moment never came.
        ends: what the run came to on a node, and how the node stood then: how often.
    """

    wrong: list[str] = field(default_factory=list)
    missed: list[Cell] = field(default_factory=list)
    ends: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    runs: int = 0


def play(bench: Bench, this: Round) -> Played:
    """One round, from untouched servers to untouched servers."""
    begun, played = time.monotonic(), Played()
    for node, cell in this.cells.items():
        bench.lab.break_node(node, later=[cell.later(node)])
    try:
        first = _finished(bench, played, bench.harness.start(_cluster(bench, this)).id)
        _compare(bench, this, first, played)
        for node in bench.nodes:
            bench.lab.heal(node)
        runs = [first]
        if this.retried and first.record.verdict is not Verdict.JOINED:
            runs += _healed(bench, this, first, played)
        for run in reversed(runs):
            _taken_back(bench, this, run, played)
        for node in bench.nodes:
            _note(this, node, wrong_after_rollback(look_at(bench, node)), played)
    finally:
        for node in bench.nodes:
            bench.lab.heal(node)
            if bench.files(node) != bench.before[node]:
                bench.put_back(node)
    played.seconds = time.monotonic() - begun
    return played


def _finished(bench: Bench, played: Played, run: str) -> RunSummary:
    played.runs += 1
    return bench.harness.finished(run, timeout=LIMIT)


def _cluster(bench: Bench, this: Round) -> Cluster:
    """The cluster with sessions of this round's own, and an account of its own where a logon will be refused.

    One refused logon keeps the account from being tried anywhere else (design: credential canary).
    """
    nodes = []
    for node in bench.cluster.nodes:
        cell = this.cells.get(node.name)
        if cell is not None and "refuse_logons" in cell.fault.begins:
            secret = f"file:{bench.lab.folder / f'password-{node.name}'}"
            node = node.model_copy(update={"connection": ConnectionOverride(secret=secret)})  # noqa: PLW2901
        nodes.append(node)
    deadlines = bench.cluster.policy.deadlines
    fresh = deadlines.model_copy(update={"connect": deadlines.connect + this.number / 1000})
    policy = bench.cluster.policy.model_copy(update={"deadlines": fresh})
    return bench.cluster.model_copy(update={"nodes": tuple(nodes), "policy": policy})


def _compare(bench: Bench, this: Round, run: RunSummary, played: Played) -> None:
    """The run's word against the disks."""
    for node in bench.nodes:
        look = look_at(bench, node)
        _note(this, node, judged(look, run), played)
        cell = this.cells.get(node)
        if cell is None:
            continue
        if not bench.lab.report(node)["begun"]:
            played.missed.append(cell)
        result = next(one for one in run.nodes if one.node == node)
        state = "untouched" if look.untouched else "fully changed" if look.joined else "partly changed"
        end = f"{result.status} {result.problem.slug}".rstrip() + f", {state}"
        played.ends[end] = played.ends.get(end, 0) + 1


def _healed(bench: Bench, this: Round, first: RunSummary, played: Played) -> Sequence[RunSummary]:
    """The retry of a run, on servers that are well again."""
    try:
        run = control.retry(bench.harness.engine, first.record.id)
    except InputRefused as refused:
        played.wrong.append(f"{_where(this)}: {first.record.verdict}, and cannot be retried: {refused}")
        return ()
    again = _finished(bench, played, run.id)
    if again.record.verdict is not Verdict.JOINED:
        played.wrong.append(f"{_where(this)}: the retry ended {again.record.verdict}: {again.record.summary}")
    for node in bench.nodes:
        _note(this, node, wrong_when_joined(look_at(bench, node)), played)
    return (again,)


def _taken_back(bench: Bench, this: Round, run: RunSummary, played: Played) -> None:
    try:
        asked = undoing.rollback(bench.harness.engine, run.record.id)
    except InputRefused:
        return  # it wrote nothing; the disks will show whether that is so
    undone = _finished(bench, played, asked.id)
    if undone.record.verdict is not Verdict.RESTORED:
        played.wrong.append(f"{_where(this)}: the rollback ended {undone.record.verdict}: {undone.record.summary}")


def _note(this: Round, node: str, wrong: Iterator[str], played: Played) -> None:
    cell = this.cells.get(node)
    played.wrong += [f"round {this.number} {node} {cell or '[no fault]'}: {what}" for what in wrong]


def _where(this: Round) -> str:
    return f"round {this.number} ({'; '.join(f'{node} {cell}' for node, cell in this.cells.items())})"
