"""Plays cells of the fault matrix: each on its own node, all in one run; then repair, retry and rollback."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipelines.usecases import control
from pipelines.usecases import rollback as undoing
from pipelines.usecases.runs import RunSummary
from tasks.cluster import Cluster
from tasks.connection import ConnectionOverride
from tests.integration.matrix import Cell, Round
from tests.integration.matrix_cluster import MatrixCluster
from tests.integration.matrix_judge import judged, look_at, wrong_after_rollback, wrong_when_joined
from workers.errors import InputRefused
from workers.records import Verdict

__all__ = ["Played", "play"]

LIMIT = 75.0  #: limit of one run in seconds, whatever fails on its nodes


@dataclass
class Played:
    """The result of a round.

    Attributes:
        wrong: the errors, each with its cell.
        missed: cells whose moment did not occur.
        ends: the number of times for each result of a run on a node and each state of that node.
    """

    wrong: list[str] = field(default_factory=list)
    missed: list[Cell] = field(default_factory=list)
    ends: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    runs: int = 0


def play(servers: MatrixCluster, this: Round) -> Played:
    """Plays one round, from untouched servers to untouched servers."""
    begun, played = time.monotonic(), Played()
    for node, cell in this.cells.items():
        servers.lab.break_node(node, later=[cell.later(node)])
    try:
        first = _finished(servers, played, servers.harness.start(_cluster(servers, this)).id)
        _compare(servers, this, first, played)
        for node in servers.nodes:
            servers.lab.heal(node)
        runs = [first]
        if this.retried and first.record.verdict is not Verdict.JOINED:
            runs += _retried(servers, this, first, played)
        for run in reversed(runs):
            _rolled_back(servers, this, run, played)
        for node in servers.nodes:
            _note(this, node, wrong_after_rollback(look_at(servers, node)), played)
    finally:
        servers.end_shells()
        for node in servers.nodes:
            if servers.files(node) != servers.before[node]:
                servers.restore(node)
    played.seconds = time.monotonic() - begun
    return played


def _finished(servers: MatrixCluster, played: Played, run: str) -> RunSummary:
    played.runs += 1
    return servers.harness.finished(run, timeout=LIMIT)


def _cluster(servers: MatrixCluster, this: Round) -> Cluster:
    """The cluster with its own name and sessions for this round, and its own account where a logon will be refused.

    One refused logon stops all other logons of that account (credential canary).
    """
    nodes = []
    for node in servers.cluster.nodes:
        cell = this.cells.get(node.name)
        if cell is not None and "refuse_logons" in cell.fault.begins:
            secret = f"file:{servers.lab.folder / f'password-{node.name}'}"
            node = node.model_copy(update={"connection": ConnectionOverride(secret=secret)})  # noqa: PLW2901
        nodes.append(node)
    deadlines = servers.cluster.policy.deadlines
    fresh = deadlines.model_copy(update={"connect": deadlines.connect + this.number / 1000})
    policy = servers.cluster.policy.model_copy(update={"deadlines": fresh})
    # Under a new name no earlier run says where to look: the moments of the points come as they were learned.
    name = f"{servers.cluster.name}-{this.number}"
    return servers.cluster.model_copy(update={"name": name, "nodes": tuple(nodes), "policy": policy})


def _compare(servers: MatrixCluster, this: Round, run: RunSummary, played: Played) -> None:
    """Compares the report of the run with the disks."""
    for node in servers.nodes:
        look = look_at(servers, node)
        _note(this, node, judged(look, run), played)
        cell = this.cells.get(node)
        if cell is None:
            continue
        if not servers.lab.report(node)["begun"]:
            played.missed.append(cell)
        result = next(one for one in run.nodes if one.node == node)
        state = "untouched" if look.untouched else "fully changed" if look.joined else "partly changed"
        end = f"{result.status} {result.problem.slug}".rstrip() + f", {state}"
        played.ends[end] = played.ends.get(end, 0) + 1


def _retried(servers: MatrixCluster, this: Round, first: RunSummary, played: Played) -> Sequence[RunSummary]:
    """Retries a run after the servers were repaired."""
    try:
        run = control.retry(servers.harness.engine, first.record.id)
    except InputRefused as refused:
        played.wrong.append(f"{_where(this)}: {first.record.verdict}, and cannot be retried: {refused}")
        return ()
    again = _finished(servers, played, run.id)
    if again.record.verdict is not Verdict.JOINED:
        played.wrong.append(f"{_where(this)}: the retry ended {again.record.verdict}: {again.record.summary}")
    for node in servers.nodes:
        _note(this, node, wrong_when_joined(look_at(servers, node)), played)
    return (again,)


def _rolled_back(servers: MatrixCluster, this: Round, run: RunSummary, played: Played) -> None:
    try:
        asked = undoing.rollback(servers.harness.engine, run.record.id)
    except InputRefused:
        return  # it reported no write; the disks show whether that is true
    undone = _finished(servers, played, asked.id)
    if undone.record.verdict is not Verdict.RESTORED:
        played.wrong.append(f"{_where(this)}: the rollback ended {undone.record.verdict}: {undone.record.summary}")


def _note(this: Round, node: str, wrong: Iterator[str], played: Played) -> None:
    cell = this.cells.get(node)
    played.wrong += [f"round {this.number} {node} {cell or '[no fault]'}: {what}" for what in wrong]


def _where(this: Round) -> str:
    return f"round {this.number} ({'; '.join(f'{node} {cell}' for node, cell in this.cells.items())})"
