"""The servers on which the fault matrix is played, untouched or worn, and the expected state of each one."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lab.control.remote import LabProcess, spare_addresses
from tasks.cluster import Cluster
from tasks.ektron.certificates.making import generate_family
from tests.integration.harness import SITE, Harness, cluster_of, on_disk
from tests.integration.matrix import ORIGIN, Points, points_of
from tests.integration.test_rollout import SERVICE
from tests.warm import warm_lab

__all__ = ["NAME", "Files", "MatrixCluster", "matrix_cluster"]

NAME = "EktronWindowsServices30"
STAGING = r"C:\Ektron Security Certificates"
OURS = "ProgramData"
UNFINISHED = ".lab-"  #: a file that the lab itself is writing; the node does not have it yet
CONFIG = rf"{SERVICE}\Ektron.ASM.EktronServices30.exe.config"
ASSET = rf"{SITE}\AssetManagement.config"

Files = Mapping[str, bytes | None]  #: path -> bytes; None for a folder

#: Short enough for thousands of cells, long enough for a busy machine.
POLICY: dict[str, Any] = {
    "waves": "all",
    "concurrency": 64,
    "whole_pool": True,
    "retry_in_wave": 0,
    "max_failed": 1000,
    "deadlines": {"connect": 2.0, "step": 25.0, "service": 3.0, "run": 200.0, "settle": 0},
    "retries": {"unreachable": 3, "conflict": 3, "backoff": 0.2, "longest": 1.0},
}


@dataclass
class MatrixCluster:
    """A lab whose nodes are reset by the product itself: a rollback after each run.

    Attributes:
        before, after: for each node, all files when it is untouched and when it is joined.
        points: what a run without faults does on the origin, on an untouched server and on a worn one.
    """

    lab: LabProcess
    harness: Harness
    cluster: Cluster
    before: dict[str, Files]
    after: dict[str, Files]
    points: dict[str, Points]

    @property
    def nodes(self) -> tuple[str, ...]:
        """All node names, the origin first."""
        return self.cluster.node_names

    @property
    def others(self) -> tuple[str, ...]:
        """All node names except the origin."""
        return self.nodes[1:]

    @property
    def worn(self) -> tuple[str, ...]:
        """The nodes that were set up before, with other certificates."""
        return self.nodes[2::2]

    def files(self, node: str) -> Files:
        """Every file and folder of a node, except our own."""
        return files_of(self.lab, node)

    def service(self, node: str) -> dict[str, Any]:
        """The service of a node, as the lab reports it."""
        return dict(self.lab.report(node)["service"])

    def newest_input(self, node: str) -> float:
        """The last change of any file that the service reads, in seconds since 1970."""
        folder = on_disk(self.lab, node, SERVICE)
        inputs = [*folder.glob("*_Sync*"), on_disk(self.lab, node, CONFIG), on_disk(self.lab, node, ASSET)]
        return max(path.stat().st_mtime for path in inputs)

    def end_shells(self) -> None:
        """Ends every shell of every node, by a power cut: the worker keeps them, and each user may have thirty."""
        for node in self.nodes:
            self.lab.break_node(node, power_cut=True)
            self.lab.heal(node)

    def restore(self, node: str) -> None:
        """Restores the untouched files of a node and restarts its service."""
        root, now = self.lab.disk(node), self.files(node)
        for name in sorted(now.keys() - self.before[node].keys(), reverse=True):
            path = root / name
            path.rmdir() if path.is_dir() else path.unlink()
        for name, data in self.before[node].items():
            if data is None:
                (root / name).mkdir(parents=True, exist_ok=True)
            elif now.get(name) != data:
                (root / name).write_bytes(data)
        stop, start = ({"op": "service", "name": NAME, "action": action} for action in ("stop", "start"))
        self.lab.agent(node, stop, start)


def files_of(lab: LabProcess, node: str) -> Files:
    """Every file and folder of a node, except our own below ProgramData.

    A node whose connection broke may still work on its last request: if a file goes meanwhile, all are read again.
    """
    while True:
        with suppress(FileNotFoundError):
            return _files_below(lab.disk(node))


def _files_below(root: Path) -> Files:
    found: dict[str, bytes | None] = {}
    for folder, folders, files in os.walk(root):
        if Path(folder) == root:
            folders[:] = [name for name in folders if name != OURS]
        here = Path(folder)
        whole = [name for name in files if not name.startswith(UNFINISHED)]
        found |= {(here / name).relative_to(root).as_posix(): None for name in folders}
        found |= {(here / name).relative_to(root).as_posix(): (here / name).read_bytes() for name in whole}
    return found


@contextmanager
def matrix_cluster(
    folder: Path, harness: Harness, *, nodes: int, name: str, policy: Mapping[str, Any] = POLICY
) -> Iterator[MatrixCluster]:
    """A lab with that many nodes besides the origin, their files when untouched and joined, and what a run did."""
    with _lab(folder, nodes) as lab:
        names = [ORIGIN, *(f"N{number:02}" for number in range(1, nodes + 1))]
        _wear(lab, names)
        cluster = cluster_of(lab, **policy).model_copy(update={"name": name})
        before = {node: files_of(lab, node) for node in names}
        run = harness.rollout(cluster)
        assert run.record.verdict == "joined", run.record.summary
        after = {node: files_of(lab, node) for node in names}
        points = {}
        for node in names[:3]:
            ends = [(o.started.timestamp(), o.ended.timestamp(), o) for o in run.outcomes if o.node == node]
            points[node] = points_of(_seen(lab.operations(node), ends), node)
        servers = MatrixCluster(lab, harness, cluster, before, after, points)
        for node in names:
            servers.restore(node)
        assert before == {node: files_of(lab, node) for node in names}
        yield servers


def _seen(operations: Sequence[Mapping[str, Any]], ends: Sequence[Any]) -> Iterator[tuple[str, str, str, str]]:
    for one in operations:
        for start, end, outcome in ends:
            if start <= one["at"] <= end:
                yield outcome.turn, outcome.step, one["operation"], one["target"]


@contextmanager
def _lab(folder: Path, nodes: int) -> Iterator[LabProcess]:
    base = spare_addresses().rpartition(".")[0]
    names = [ORIGIN, *(f"N{number:02}" for number in range(1, nodes + 1))]
    lines = [
        f"  - {{name: {name}, address: {base}.{11 + place}, role: staging, pool: staging}}"
        for place, name in enumerate(names)
    ]
    folder.mkdir(parents=True)
    config = folder / "lab.yaml"
    config.write_text(f"origin: {ORIGIN}\nservice_seconds: 0.05\nnodes:\n" + "\n".join(lines) + "\n")
    with warm_lab(folder, "--config", str(config)) as lab:
        for name in names:
            own = folder / f"password-{name}"
            own.touch(0o600)
            own.write_text(lab.password + "\n")
        yield lab


def _wear(lab: LabProcess, names: Sequence[str]) -> None:
    """Gives every second server an old setup with other certificates: a run replaces files there."""
    for node in names[2::2]:
        old = generate_family(node, bits=1024)
        for kind, data in old.blobs.items():
            on_disk(lab, node, rf"{SERVICE}\{node}_{kind}").write_bytes(data)
        staging = on_disk(lab, node, STAGING)
        staging.mkdir()
        (staging / f"X9_{next(iter(old.blobs))}").write_bytes(b"of a server that is gone")
        for kind in ("SyncClient.pfx", "SyncClient.pvk"):
            on_disk(lab, node, rf"{SITE}\{node}_{kind}").write_bytes(old.blobs[kind])


def started(history: Sequence[Sequence[str]], since: float, behind: str = "") -> list[float]:
    """The starts of a service after a moment; of those, only starts that directly follow a `stop` or a `died`."""
    before = ["", *(what for what, _ in history)]
    times = [
        datetime.fromisoformat(at).timestamp()
        for last, (what, at) in zip(before, history, strict=False)
        if what == "start" and behind in {"", last}
    ]
    return [at for at in times if at > since]
