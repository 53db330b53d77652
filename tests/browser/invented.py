"""A server without lab and worker: invented clusters and runs in memory, as many nodes as a test needs."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from celery import Celery

from pipelines.cluster_file.loader import load_cluster
from pipelines.engine import Engine
from tasks.cluster import Cluster
from tests.integration.web_server import WebServer, web_server
from tests.unit.pipelines.report.sample_run import Sample, cluster_of, keep, sample
from workers.records import RunState, Verdict
from workers.secrets.vault import Vault, new_seal_key
from workers.settings import Settings
from workers.store.memory import MemoryStore

__all__ = ["engine_in_memory", "file_of", "keep", "named", "served"]


def engine_in_memory(folder: Path) -> Engine:
    """An engine whose store is this process, without a broker."""
    store = MemoryStore()
    return Engine(Settings(state=folder), store, Vault(store, new_seal_key()), Celery(broker="memory://"))


@contextmanager
def served(engine: Engine, clusters: Path) -> Iterator[WebServer]:
    """A server of that engine."""
    clusters.mkdir(exist_ok=True)
    with web_server(engine, clusters) as running:
        yield running


def file_of(cluster: Cluster, folder: Path) -> Cluster:
    """Writes the file of a cluster, and returns the cluster as it is read from there."""
    folder.mkdir(exist_ok=True)
    data = cluster.model_dump(mode="json", exclude_defaults=True)
    with (folder / f"{cluster.name}.yaml").open("w") as out:
        json.dump(data, out)  # is YAML, too, and written in a tenth of the time
    return load_cluster(folder / f"{cluster.name}.yaml")


def named(cluster: Cluster, name: str) -> Cluster:
    """The same servers under another name."""
    return Cluster.model_validate(cluster.model_dump(mode="json") | {"name": name})


def running(nodes: int, done: Sequence[str] = ()) -> Sample:
    """A rollout on that many nodes which has just begun its first wave; `done` have ended there."""
    made = sample(cluster_of(nodes // 2, nodes - nodes // 2))
    turns = made.record.turns[:3]
    fields = {"turns": turns, "joined": ("canary", "observe"), "verdict": None, "ended": None, "summary": ""}
    record = made.record.model_copy(update={**fields, "state": RunState.RUNNING})
    early = {turn.name for turn in turns[:2]}
    outcomes = tuple(one for one in made.outcomes if one.turn in early or (one.turn == "wave-1" and one.node in done))
    kept = {(one.turn, one.node) for one in outcomes}
    events = tuple(one for one in made.events if not one.node or (one.turn, one.node) in kept)
    events = tuple(one for one in events if one.kind != "run.concluded" and one.turn in {"", *(t.name for t in turns)})
    return Sample(
        record=record, cluster=made.cluster, outcomes=outcomes, findings=None, plan=made.plan, nodes=made.nodes,
        kind=made.kind, events=events,
    )  # fmt: skip


def several(engine: Engine, folder: Path) -> None:
    """Five clusters in different states, with runs of the last days."""
    states: dict[str, Sequence[tuple[float, str, Sequence[str], Sequence[str], Verdict | None]]] = {
        "blog": [(30, "rollout", (), (), None), (7, "verify", (), (), None), (2, "verify", (), (), None)],
        "intranet": [(20, "rollout", (), (), None), (5, "verify", ("P3",), (), Verdict.REFUTED)],
        "news": [(48, "rollout", (), (), None), (1, "rollout", ("P4", "P7"), ("P9",), None)],
        "shop": [(70, "rollout", (), (), None), (9, "verify", (), (), None), (0.2, "plan", (), (), None)],
        "portal": [],
    }
    sizes = {"blog": (2, 2), "intranet": (3, 5), "news": (6, 12), "shop": (4, 8), "portal": (2, 4)}
    for name, runs in states.items():
        cluster = file_of(named(cluster_of(*sizes[name]), name), folder)
        for place, (hours, kind, failed, unreachable, verdict) in enumerate(runs):
            made = sample(cluster, failed=failed, unreachable=unreachable, verdict=verdict)
            end = {"verdict": Verdict.CHANGES_PENDING} if kind == "plan" else {}
            keep(engine, made, f"20261120-1{place}1500-{name}-7f3a2c", timedelta(hours=hours), kind=kind, **end)
