"""The step `rollback_check`: compares a node with what a run left there, before the restore and after it."""

from tasks.ektron.facts.node import NodeFacts
from tasks.observe.node import observe
from tasks.step import Done, Work
from tasks.step_values import Purpose
from tasks.undo.backups import assessed, left_histories, nothing_left
from tasks.undo.plan import Undo
from workers.errors import Conflict
from workers.records import DocumentKind

__all__ = ["rollback_check"]


def rollback_check(work: Work) -> Done:
    """Before the restore: keeps the facts, and counts what is to be restored. After it: compares with before the run.

    Raises:
        NodeRefused: the run changed files here and its backups are missing, or cannot be understood.
        Conflict: after the restore, something is not byte for byte what it was before the run.
    """
    work.report_phase("observing")
    if work.purpose is Purpose.VERIFY:
        return _compared(work)
    # A rollback of this rollback needs the service's state, and all folders that are written to.
    work.documents.keep_facts(DocumentKind.OBSERVED, _with_old_places(work, observe(work).facts))
    histories = left_histories(work)
    work.documents.keep_right(work.node.name, right=histories is None)
    if histories is None:
        return nothing_left(work)
    return Done(message=_described(assessed(work, histories)))


def _with_old_places(work: Work, facts: NodeFacts) -> NodeFacts:
    """The facts with the old folders that the parent run found: it may have removed every file from them."""
    parent = work.documents.of(work.parent).facts(DocumentKind.OBSERVED, work.node.name)
    seen = {place.folder: place for place in (*(parent.old_places if parent else ()), *facts.old_places)}
    return facts.model_copy(update={"old_places": tuple(seen.values())})


def _compared(work: Work) -> Done:
    histories = left_histories(work)
    if histories is None:
        return nothing_left(work)
    found = assessed(work, histories)
    wrong = [action.path for action in found.actions] + [changed.path for changed in found.changed_since]
    if wrong:
        raise Conflict(
            f"{work.node.name}: {len(wrong)} files are not what they were before run {work.parent}",
            file=wrong[0],
            remedy="find out what else writes them, then roll back again",
        )
    kept = f"; not removed because of other files in them: {', '.join(found.remaining)}" if found.remaining else ""
    return Done(message=f"{found.unchanged} paths are byte for byte what they were{kept}")


def _described(found: Undo) -> str:
    if found.complete:
        return "everything is as it was before the run"
    parts = [f"{count} to {kind}" for kind, count in found.counts().items()]
    if found.changed_since:
        parts.append(f"{len(found.changed_since)} changed since the run")
    return ", ".join(parts)
