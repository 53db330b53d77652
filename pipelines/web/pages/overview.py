"""All clusters and their newest runs, as this process knows them for all who look: read again after a change."""

import hashlib
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from pipelines.cluster_file.loader import ClusterRefused
from pipelines.engine import Engine
from pipelines.usecases.cluster_files import cluster_in, cluster_named, file_named, names_in
from pipelines.usecases.doing import steered
from pipelines.usecases.glance import Glance, certificates_end, glance_of
from pipelines.usecases.overview import BACK, overview_with
from tasks.cluster import Cluster
from tasks.steering import Steering
from workers.errors import InputRefused, NotFound, RecordRefused, RunUnknown
from workers.records import RunRecord, RunState

__all__ = ["Broken", "Overview"]

_NEWEST = 50  #: ids of runs that are looked at for something new

Covers = Callable[[str], bool]  #: whether a caller may see the cluster of that name


class Broken(NamedTuple):
    """A cluster file that cannot be used, and its first mistakes."""

    name: str
    lines: Sequence[str]


class Overview:
    """The clusters.

    Args:
        engine: where their runs are.
        folder: of their files; None for no folder.
    """

    def __init__(self, engine: Engine, folder: Path | None) -> None:
        self._engine = engine
        self._folder = folder
        self._lock = threading.Lock()
        self._known: tuple[str, tuple[RunRecord, ...]] = "", ()
        self._glances: dict[tuple[str, str], tuple[Sequence[RunRecord], Cluster, Glance]] = {}
        self._ends: dict[tuple[str, str], datetime | None] = {}

    def revision(self) -> str:
        """Changes when a run begins, ends or takes its next turn, and when a cluster file changes. A cheap look.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        store, seen = self._engine.store, hashlib.sha256()
        for run_id in store.names(_NEWEST):
            seen.update(run_id.encode())
        for run_id in store.active():
            with suppress(RunUnknown, RecordRefused):
                flags = store.flags(run_id)
                word = Steering.from_flags(flags).word
                seen.update(f"{run_id}{store.run(run_id).version}{sorted(flags)}{word}".encode())
        for name, path in self._files():
            with suppress(OSError):
                seen.update(f"{name}{path.stat().st_mtime_ns}".encode())
        return seen.hexdigest()[:12]

    def shown(self) -> str:
        """What is compared with what a page shows: it says how long ago things were, so it is old after a minute.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        return f"{self.revision()}{int(time.time() // 60)}"

    def _files(self) -> Sequence[tuple[str, Path]]:
        found: list[tuple[str, Path]] = []
        if self._folder is not None:
            for name in names_in(self._folder):
                with suppress(InputRefused):  # removed at this moment
                    found.append((name, file_named(self._folder, name)))
        return found

    def records(self) -> tuple[RunRecord, ...]:
        """The newest runs, newest first.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        revision = self.revision()
        with self._lock:
            if self._known[0] != revision:
                self._known = revision, self._engine.store.runs(BACK)
            return self._known[1]

    def doing(self) -> Mapping[str, str]:
        """What runs do that have not ended and are not just at work, by id: `held before wave-2`, `paused`.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        return steered(self._engine.store, self.records())

    def glances(self, covers: Covers) -> tuple[list[Glance], list[Broken]]:
        """The clusters that a caller may see, those with a file here first; and the files that cannot be used."""
        seen: list[Glance] = []
        broken: list[Broken] = []
        for name, path in self._files():
            try:
                cluster = self._cluster(name)
            except ClusterRefused as refused:
                told = [str(one) for one in refused.mistakes[:8]]
                broken += [Broken(name, told)] if covers(cluster_in(path)) else []
            except InputRefused as refused:
                broken += [Broken(name, [str(refused)])] if covers(name) else []
            else:
                seen += [self.glance(name, cluster)] if covers(cluster.name) else []
        known = {glance.known.cluster for glance in seen}
        others = (cluster for cluster in self._without_file(known) if covers(cluster.name))
        return [*seen, *(self.glance("", cluster) for cluster in others)], broken

    def _without_file(self, known: Collection[str]) -> Iterator[Cluster]:
        """The clusters of runs that have no file here, as their newest runs had them, by name."""
        newest = {record.cluster: record for record in reversed(self.records()) if record.cluster not in known}
        for _, record in sorted(newest.items()):
            with suppress(RecordRefused):
                yield Cluster.of_run(record)

    def _cluster(self, name: str) -> Cluster:
        if self._folder is None:
            raise NotFound(f"there is no cluster {name!r} here")
        return cluster_named(self._folder, name)

    def glance(self, file: str, cluster: Cluster) -> Glance:
        """One cluster at a glance; `file` is the name of its file, empty without one."""
        records, key = self.records(), (file, cluster.name)
        before = self._glances.get(key)
        if before is None or before[0] is not records or before[1] is not cluster:
            known = overview_with(self._engine, file, cluster, records)
            glance = glance_of(known, cluster, records, self._certificates(cluster, records))
            before = self._glances[key] = records, cluster, glance
        return before[2]

    def _certificates(self, cluster: Cluster, records: Sequence[RunRecord]) -> datetime | None:
        ended = [one for one in records if one.cluster == cluster.name and one.state is RunState.CONCLUDED]
        if not ended:
            return None
        key = cluster.name, ended[0].id
        if key not in self._ends:
            self._ends = {known: end for known, end in self._ends.items() if known[0] != cluster.name}
            self._ends[key] = certificates_end(self._engine, cluster, ended)
        return self._ends[key]

    def cluster(self, name: str) -> tuple[Cluster, str]:
        """The cluster of that name, with the name of its file; without a file, as its newest run had it.

        Raises:
            NotFound: there is no such file, and no such run.
            ClusterRefused: its file has mistakes.
        """
        for file, path in self._files():
            try:
                cluster = self._cluster(file)
            except InputRefused:
                if cluster_in(path) == name:
                    raise
                continue
            if cluster.name == name:
                return cluster, file
        for record in self.records():
            with suppress(RecordRefused):
                if record.cluster == name:
                    return Cluster.of_run(record), ""
        raise NotFound(f"there is no cluster {name[:64]!r} here", remedy="look at the list of clusters")
