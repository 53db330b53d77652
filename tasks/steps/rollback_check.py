"""The step `rollback_check`: looks at what a run left on a node, before anything is restored and again at the end."""

from tasks.documents import OBSERVED
from tasks.ektron.wanted import RECYCLED
from tasks.observe.node import observe
from tasks.step import Done, Purpose, Work
from tasks.undo.backups import assessed, left_histories
from tasks.undo.plan import ActionKind, Undo
from workers.errors import Conflict, NodeRefused
from workers.records import Status, StepOutcome

__all__ = ["nothing_left", "rollback_check"]


def rollback_check(work: Work) -> Done:
    """Before: notes how the node stands, and says what restoring would take. After: compares with before the run.

    Raises:
        NodeRefused: the run changed files here and its backups are gone, or cannot be understood.
        Conflict: afterwards, something is not byte for byte what it was before the run.
    """
    work.report_phase("observing")
    if work.purpose is Purpose.VERIFY:
        return _compared(work)
    facts = observe(work).facts
    # What a rollback of this rollback needs: the service's state, and where it lies.
    work.documents.keep_facts(OBSERVED, facts)
    histories = left_histories(work)
    if histories is None:
        return nothing_left(work)
    return Done(message=_described(assessed(work, histories)))


def nothing_left(work: Work) -> Done:
    """A node without a manifest: fine where the run changed no file.

    Raises:
        NodeRefused: it changed some, so its backups were removed since.
    """
    if any(_wrote(work, outcome) for outcome in work.documents.of(work.parent).outcomes(work.node.name)):
        raise NodeRefused(
            f"{work.node.name}: run {work.parent} changed files here, and its backups are gone",
            remedy="restore this node from your own backup (`esync cleanup` removes ours when they expire)",
        )
    return Done(message=f"nothing to do: run {work.parent} changed no file here")


def _compared(work: Work) -> Done:
    histories = left_histories(work)
    if histories is None:
        return nothing_left(work)
    found = assessed(work, histories)
    wrong = [action.path for action in found.actions] + [dispute.path for dispute in found.disputes]
    if wrong:
        raise Conflict(
            f"{work.node.name}: {len(wrong)} files are not what they were before run {work.parent}",
            file=wrong[0],
            remedy="find out what else writes them, then roll back again",
        )
    besides = f"; holding other files and therefore still there: {', '.join(found.left)}" if found.left else ""
    return Done(message=f"{found.right} paths are byte for byte what they were{besides}")


def _described(found: Undo) -> str:
    if found.complete:
        return "everything is as it was before the run"
    counts = {deed: sum(1 for action in found.actions if action.deed is deed) for deed in ActionKind}
    parts = [f"{count} to {deed}" for deed, count in counts.items() if count]
    if found.disputes:
        parts.append(f"{len(found.disputes)} changed since the run")
    return ", ".join(parts)


def _wrote(work: Work, outcome: StepOutcome) -> bool:
    """Whether a step replaced anything it keeps; a site that was only recycled has the bytes it had."""
    step = work.steps.get(outcome.step)
    if outcome.status is not Status.CHANGED or step is None or not step.keeps_backups:
        return False
    return not outcome.changes or any(change.what != RECYCLED for change in outcome.changes)
