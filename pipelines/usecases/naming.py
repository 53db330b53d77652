"""What operators name: nodes, by name or pattern, runs, by id or by cluster. What means nothing is refused with advice.

A cluster is its name and its servers: two files may share a name, and `name@digest` tells them apart.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from pipelines.cluster_file.names import LAST, SUFFIXES
from pipelines.engine import Engine
from pipelines.run.groups import is_group, is_member
from pipelines.run.identity import cluster_of, of_cluster
from tasks.cluster import Cluster
from tasks.ektron.wording import named
from workers.errors import InputRefused, RunUnknown
from workers.records import RunRecord, Verdict
from workers.texts import cleaned

__all__ = ["LAST", "is_file", "newest_run", "one_node", "run_named", "selected_nodes", "several_meant"]

_RECENT = 200  #: runs among which a similar id is searched
_NEAR = 3  #: ids that a message suggests
_LISTED = 20  #: names of nodes that a message lists
_SHOWN = 64  #: characters of a wrong name that a message quotes


def selected_nodes(cluster: Cluster, patterns: Collection[str]) -> tuple[str, ...]:
    """The nodes of a cluster that are meant, in the order of the cluster file; none for no patterns.

    Args:
        cluster: whose nodes.
        patterns: names, or patterns with `*`, `?` and `[...]` such as `P*`; case does not count.

    Raises:
        InputRefused: a name or pattern fits no node; the message has all of them, the remedy the nodes.
    """
    wanted = [pattern.upper() for pattern in patterns]
    unknown = [
        pattern
        for pattern, upper in zip(patterns, wanted, strict=True)
        if not any(fnmatchcase(name.upper(), upper) for name in cluster.node_names)
    ]
    if unknown:
        raise _no_such_node(cluster, unknown)
    return tuple(name for name in cluster.node_names if any(fnmatchcase(name.upper(), upper) for upper in wanted))


def one_node(cluster: Cluster, name: str) -> str:
    """The name of a node as the cluster file has it; case does not count.

    Raises:
        InputRefused: the cluster has no such node.
    """
    names = {known.upper(): known for known in cluster.node_names}
    if name.upper() not in names:
        raise _no_such_node(cluster, [name], patterns=False)
    return names[name.upper()]


def is_file(target: str) -> bool:
    """Whether a target names a cluster file rather than a run or a cluster."""
    return Path(target).suffix in SUFFIXES or Path(target).is_file()


def run_named(engine: Engine, name: str) -> RunRecord:
    """The run of that id.

    Raises:
        RunUnknown: there is none; the remedy names similar ids, if there are any, `last` and the list of runs.
    """
    try:
        return engine.store.run(name)
    except RunUnknown:
        near = _similar(name, (record.id for record in engine.store.runs(_RECENT)))
        if is_group(name) and any(is_member(run) for run in near):
            raise RunUnknown(
                f"{name} is a group of runs, and one run is needed",
                remedy=f"give the id of one of them; to list them: esync status {name}",
            ) from None
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise RunUnknown(
            f"there is no run {_quoted(name)}",
            remedy=f"{meant}Give the id of a run, a cluster, or `last` for the newest run; to list them: esync runs",
        ) from None


def newest_run(
    engine: Engine,
    target: Cluster | str,
    fits: Callable[[RunRecord], bool] = lambda _: True,
    what: str = "run",
    *,
    any_cluster: bool = False,
) -> RunRecord:
    """The newest run of a cluster; never one that was refused because its servers were locked.

    Args:
        engine: where to search.
        target: of `of_cluster`, or `LAST`.
        fits: the runs that may be meant.
        what: the noun for those runs.
        any_cluster: with `LAST`, take the newest run of all clusters.

    Raises:
        RunUnknown: there is no such run.
        InputRefused: such runs of several clusters are there; the remedy names the clusters.
    """
    recent = engine.store.runs(_RECENT)
    if not recent:
        raise RunUnknown("there are no runs yet", remedy="start one: esync rollout FILE")
    known = [run for run in recent if run.verdict is not Verdict.LOCKED and (target == LAST or of_cluster(run, target))]
    found = next(filter(fits, known), None)
    if found is None:
        of = "" if target == LAST else f" of cluster {target.name if isinstance(target, Cluster) else _quoted(target)}"
        raise RunUnknown(f"there is no {what}{of} among the newest {len(recent)} runs", remedy="list them: esync runs")
    others = () if any_cluster or isinstance(target, Cluster) else tuple(_of_others(known, found, fits))
    if others:
        raise several_meant(target, [(run.id, cluster_of(run)) for run in (found, *others)])
    return found


def several_meant(target: object, runs: Sequence[tuple[str, tuple[str, str]]]) -> InputRefused:
    """That it is not clear which cluster is meant; with runs, each with the name and the digest of its cluster."""
    listed = " or ".join(f"{run} of {'@'.join(cluster)}" for run, cluster in runs[:_NEAR])
    return InputRefused(
        f"{target} can mean runs of several clusters: {listed}",
        remedy="give the id of the run, the cluster file, or the cluster as NAME@DIGEST",
    )


def _of_others(known: Iterable[RunRecord], found: RunRecord, fits: Callable[[RunRecord], bool]) -> Iterator[RunRecord]:
    """The newest such run of each other cluster."""
    seen = {cluster_of(found)}
    for record in known:
        if cluster_of(record) not in seen and fits(record):
            seen.add(cluster_of(record))
            yield record


def _similar(name: str, ids: Iterable[str]) -> Sequence[str]:
    """Ids that contain the name, the newest first; otherwise ids that differ little from it."""
    known, wanted = list(ids), name.casefold().strip()
    containing = [run for run in known if wanted and wanted in run]
    return (containing or difflib.get_close_matches(wanted, known, n=_NEAR, cutoff=0.75))[:_NEAR]


def _no_such_node(cluster: Cluster, unknown: Sequence[str], *, patterns: bool = True) -> InputRefused:
    names = cluster.node_names
    listed = ", ".join(names) if len(names) <= _LISTED else named(names)
    by_upper = {name.upper(): name for name in names}
    near = dict.fromkeys(
        by_upper[match]
        for wrong in unknown
        if not re.search(r"[*?\[]", wrong)
        for match in difflib.get_close_matches(wrong.upper(), by_upper, n=1, cutoff=0.5)
    )
    meant = f"did you mean {', '.join(near)}? " if near else ""
    if any("," in wrong for wrong in unknown):
        meant = "repeat the option for each node; "
    pattern = f"a pattern such as {names[0][0]}* is allowed, " if patterns else ""
    listing = f"{'its' if meant.endswith('; ') else 'Its'} nodes are {listed}"
    return InputRefused(
        f"cluster {cluster.name} has no node {', '.join(map(_quoted, unknown))}; no server was contacted",
        remedy=f"{meant}{listing}; {pattern}case does not count",
    )


def _quoted(text: str) -> str:
    return repr(cleaned(text, _SHOWN))
