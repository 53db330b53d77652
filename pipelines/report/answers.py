"""What an operator asks at the end of a run: is it safe to go home, what was done, which command is next. Pure."""

from collections.abc import Iterator, Sequence

from pipelines.report.change_words import files_written
from pipelines.report.layout import duration, name_ranges
from pipelines.report.node_words import TOUCHED, NodeWord, checked_before_changes, node_words, nodes_down
from pipelines.report.rows import NodeRow, Report
from pipelines.rollout import kind_of
from pipelines.run.node_state import NodeState
from tasks.ektron.rules.findings import InvariantState
from tasks.ektron.wording import counted
from tasks.steering import verb_for_held
from tasks.undo.words import CHANGED_SINCE, OWN_CHANGE
from workers.errors import Failure
from workers.records import Verdict

__all__ = ["names", "next_commands", "safety", "work_done"]

_NAMES = 24  #: characters for the names of nodes at most; more nodes are counted
_OPTIONS = 6  #: nodes that a command names
_RETRIABLE = {NodeWord.FAILED, NodeWord.UNREACHABLE, NodeWord.NOT_TRIED, NodeWord.STOPPED}


def safety(report: Report) -> Iterator[str]:
    """What an operator who goes home has to know: is a file half-written, which service is down or owes a restart."""
    kind = kind_of(report.kind, report.run)
    touched = [node for node in report.nodes if node.state in TOUCHED]
    yield "nothing half-written" if touched else "nothing was written"
    down = nodes_down(report)
    if down:
        yield f"{_of(down)} service is down until it is started"
    interrupted = [n for n in touched if n.state is NodeState.INTERRUPTED]
    in_doubt = [n.node for n in interrupted if _restarts(n, report) and n.node not in down]
    if in_doubt:
        yield f"{_of(in_doubt)} service may be down until it is restarted"
    owed = [n.node for n in touched if n.state is NodeState.RESTART_OWED and n.node not in down]
    if owed:
        yield f"{names(owed)} runs with the earlier configuration until it is restarted"
    partly = [n.node for n in touched if n.state is NodeState.PARTLY or (n in interrupted and not _restarts(n, report))]
    if partly:
        yield f"partly changed: {names(partly)}"
    done = [node.node for node in report.nodes if node.state in {NodeState.DONE, NodeState.RIGHT}]
    left = _retriable(report)
    if kind.restores and done and left:
        yield f"the cluster is split: as before the run {names(done)}, not so {names(left)}"


def work_done(report: Report) -> Iterator[str]:
    """What was counted: files, restarts, proven statements, steps and time."""
    files, restarts = 0, 0
    for node in report.nodes:
        edited: set[str] = set()
        for change in node.changes:
            if change.what.startswith((CHANGED_SINCE, OWN_CHANGE, "not removed")):
                continue
            if (written := files_written(change)) is not None:
                files += written
            elif change.file:
                edited.add(change.file)
            restarts += change.what.startswith("service ") and change.what.endswith(" restarted")
        files += len(edited)
    if not kind_of(report.kind, report.run).read_only:
        yield counted(files, "file")
        yield counted(restarts, "restart")
    if report.findings:
        proven = sum(finding.verdict is InvariantState.PROVEN for finding in report.findings)
        early = checked_before_changes(report)
        yield f"{proven} of {len(report.findings)} {'prerequisites hold' if early else 'statements proven'}"
    yield f"{counted(sum(len(node.steps) for node in report.nodes), 'step')} in {duration(report.seconds)}"


def next_commands(report: Report) -> Iterator[str]:
    """What an operator may do next, the most useful first."""
    kind, words = kind_of(report.kind, report.run), node_words(report)
    if report.verdict is None:
        if report.held:
            verb = verb_for_held(unapproved=report.unapproved)
            yield f"esync {verb} {report.run}    # begins {report.held}"
        yield f"esync watch {report.run}"
        return
    page = f"esync report {report.run} -o report.html"
    left = _retriable(report)
    again = kind.retry.rpartition(": ")[2].format(parent=report.parent) if "{parent}" in kind.retry else ""
    if any(node.problem.failure is Failure.CONFLICT for node in report.nodes) and again:
        yield f"{page}    # what others changed in these files"
        yield f"{again}{_node_options(left)} --force    # restore them, too"
        yield "esync rollout FILE    # or keep them, and join all servers again"
        return
    if report.verdict == Verdict.STALE:
        yield "esync plan FILE    # a new plan: a retry would show none"
    elif left and not kind.retry:
        yield f"esync retry {report.run}"
    elif left and again:
        yield f"{again}{_node_options(left)}"
    elif not left and checked_before_changes(report) and any(node.state in TOUCHED for node in report.nodes):
        yield "esync verify FILE    # all nodes are done; the run ended before it proved that they are joined"
    refuted = next((node for node, word in words.items() if word is NodeWord.REFUTED), "")
    if refuted and kind.verifies:
        yield f"esync explain {refuted} {report.run}"
    yield page
    kept = any(step.keeps_backups for step in kind.steps().values())
    if kept and not report.parent and any(node.state in TOUCHED for node in report.nodes):
        yield f"esync rollback {report.run}"


def names(nodes: Sequence[str], most: int = _NAMES) -> str:
    """The nodes as ranges; their number where that is longer than so many characters."""
    ranges = name_ranges(nodes)
    return ranges if len(ranges) <= most else counted(len(nodes), "node")


def _of(nodes: Sequence[str]) -> str:
    return f"{nodes[0]}'s" if len(nodes) == 1 else f"{names(nodes)}: the"


def _restarts(node: NodeRow, report: Report) -> bool:
    step = kind_of(report.kind, report.run).steps().get(node.step)
    return step is not None and step.restarts


def _retriable(report: Report) -> list[str]:
    """The nodes that the run did not finish."""
    return [node for node, word in node_words(report).items() if word in _RETRIABLE]


def _node_options(nodes: Sequence[str]) -> str:
    """These nodes as options of a command; none where they are too many to be copied, and all nodes are meant."""
    return "".join(f" --node {node}" for node in nodes) if len(nodes) <= _OPTIONS else ""
