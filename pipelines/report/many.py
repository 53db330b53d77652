"""Many clusters as one result: a line a cluster, the worst first, and one document for programs. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from pipelines.report.layout import table, without_verdict
from pipelines.report.rows import Report
from pipelines.report.styles import VERDICT_STYLES
from pipelines.run.groups import Place
from pipelines.run.plan import Plan
from pipelines.usecases.plan_file import SavedPlan
from pipelines.usecases.status import RunStatus
from tasks.ektron.wording import counted, named
from workers.records import Record, RunRecord, Verdict

__all__ = [
    "ClusterResult",
    "Results",
    "plan_table",
    "result_lines",
    "titles",
    "totals",
    "without_this_command",
]


class ClusterResult(Record):
    """The result of one cluster.

    `run` is empty if none was created; `plan` is that of the run, where it made one. `file` is empty where a run was
    named, and `status` is there where the document is of `esync status`.
    """

    file: str
    cluster: str
    run: str
    verdict: Verdict | None
    exit_code: int
    summary: str
    report: Report | None = None
    plan: SavedPlan | None = None
    status: RunStatus | None = None


class Results(Record):
    """What one command did to several clusters (docs/clusters-schema.json), in the order of the command.

    `exit_code` is that of the worst verdict.
    """

    version: Literal[1] = 1
    verdict: Verdict | None
    exit_code: int
    clusters: tuple[ClusterResult, ...]

    @classmethod
    def of(cls, results: Sequence[ClusterResult]) -> "Results":
        """All of them, with the verdict and the exit code of the worst."""
        worst = min(results, key=lambda one: _badness(one.verdict))
        return cls(verdict=worst.verdict, exit_code=worst.exit_code, clusters=tuple(results))


def titles(clusters: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What to call the cluster of each file: its name, and the file, too, where several have that name.

    Args:
        clusters: file and name of each.
    """
    known = list(clusters)
    names = Counter(name for _, name in known)
    return {file: f"{name} ({file})" if names[name] > 1 else name for file, name in known}


def result_lines(results: Sequence[ClusterResult], width: int = 0) -> Iterator[str]:
    """A line for each cluster, the worst first; `width` as in `table`."""
    called = titles((one.file, one.cluster) for one in results if one.file)
    ranked = sorted(results, key=lambda one: _badness(one.verdict))
    rows = [
        (
            called.get(one.file, one.cluster) or "-",
            one.run or "-",
            _title(one.verdict),
            without_verdict(one.summary, one.verdict),
        )
        for one in ranked
    ]
    yield from table(("CLUSTER", "RUN", "RESULT", "WHY"), rows, width)


def totals(results: Iterable[ClusterResult]) -> str:
    """The clusters by result, the worst first: `25 clusters: 1 failed, 24 joined`."""
    counts = Counter(one.verdict for one in results)
    parts = [f"{counts[verdict]} {_title(verdict)}" for verdict in sorted(counts, key=_badness)]
    return f"{counted(sum(counts.values()), 'cluster')}: {', '.join(parts)}"


def plan_table(plans: Iterable[tuple[str, Plan | None, str]], width: int = 0) -> Iterator[str]:
    """A line for each cluster: its name, and the size of its plan; or why it has none. `width` as in `table`."""
    header = ("CLUSTER", "NODES TO CHANGE", "CHANGES", "FILES", "RESTARTS", "REMARK")
    yield from table(header, [(name, *_sizes(plan, why)) for name, plan, why in plans], width)


def _sizes(plan: Plan | None, why: str) -> tuple[str, ...]:
    if plan is None:
        return ("-", "-", "-", "-", why)
    busy = [node for node in plan.nodes if not node.empty]
    counts = (sum(len(node.changes) for node in busy), sum(node.files for node in busy))
    unseen = f"not checked: {named(plan.unseen)}" if plan.unseen else "" if busy else "nothing to do"
    restarts = sum(1 for node in busy if node.restart)
    return (f"{len(busy)} of {len(plan.nodes)}", *map(str, (*counts, restarts)), unseen)


def without_this_command(records: Sequence[RunRecord], left: Sequence[RunRecord]) -> list[str]:
    """That the runs of a command go on when it stops, as lines for people.

    Args:
        records: its runs.
        left: those that have not ended.
    """
    ended = len(records) - len(left)
    if not left:
        return [f"This command stops; its {counted(ended, 'run')} {_has(ended)} ended."] if ended else []
    rest = f" ({ended} of {len(records)} have ended)" if ended else ""
    order = "continues" if len(left) == 1 else "continue, in their order"
    groups = sorted({place.group for record in left if (place := Place.of(record.id))})
    return [
        f"This command stops; its {counted(len(left), 'run')} {order}{rest}.",
        *(f"To watch them: esync watch {group}; to stop them: esync cancel {group}" for group in groups),
        "To see all runs: esync runs; to stop one: esync cancel RUN",
    ]


def _has(count: int) -> str:
    return "has" if count == 1 else "have"


def _title(verdict: Verdict | None) -> str:
    return VERDICT_STYLES[verdict].title.lower() if verdict else "no result"


def _badness(verdict: Verdict | None) -> int:
    """The place of a verdict, the worst first."""
    return [*Verdict.worst_first()].index(verdict or Verdict.INCONCLUSIVE)
