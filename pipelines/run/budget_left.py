"""What is left of the budget of a run, by what a live view knows. Pure."""

from pipelines.run.budget import Budget, budget_with
from pipelines.run.progress import Progress
from pipelines.run.snapshot import WAVE_STAGE
from tasks.cluster import Cluster
from workers.records import Status

__all__ = ["budget_so_far"]


def budget_so_far(progress: Progress) -> Budget | None:
    """How many nodes of a run may still fail; None while all is well, and for a run that has ended or has no waves."""
    record, kind = progress.record, progress.kind
    lost = {node: progress.outcome(node) for node in progress.reasons if not progress.is_unselected(node)}
    if record.verdict or not lost or kind.stage(WAVE_STAGE) is None:
        return None
    failed, silent = (
        [node for node, ended in lost.items() if ended is status] for status in (Status.FAILED, Status.UNREACHABLE)
    )
    wave = next((turn for turn in reversed(record.turns) if turn.stage == WAVE_STAGE), None)
    return budget_with(Cluster.of_run(record), failed, silent, wave)
