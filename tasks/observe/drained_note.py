"""Our note on a node that is out of its balancer: the same mark as in the run store, for a store that has lost it.

A store that was emptied, or has come back without its last moments, would let us take our own server for one that a
person took out: it would stay out. The note comes after the mark and before the balancer is asked, and goes before the
mark: a note without a mark is evidence of such a loss.
"""

from pydantic import ValidationError

from tasks.marks import Mark
from workers.records import Record
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["FILE", "mark_in", "question", "recording", "removal"]

FILE = "drained"  #: its name in the one folder on the node that is ours
_LIMIT = 65_536


class _Note(Record):
    """The mark, and its place: a server may be part of several clusters, each with its own balancer."""

    place: str
    mark: Mark


def question(own_folder: str) -> Op:
    """Asks for the note, in our own folder on the node."""
    return ops.read(f"{own_folder}\\{FILE}", limit=_LIMIT)


def recording(own_folder: str, place: str, mark: Mark) -> Op:
    """Writes the note, before the balancer is asked."""
    return ops.write(f"{own_folder}\\{FILE}", _Note(place=place, mark=mark).to_json().encode(), expect=ops.ANY)


def removal(own_folder: str) -> Op:
    """Removes the note, when the balancer has the server back."""
    return ops.remove(f"{own_folder}\\{FILE}")


def mark_in(reply: Reply, place: str) -> Mark | None:
    """The mark that the note repeats; None if there is no note, it is of another cluster, or it is none of ours."""
    if not reply.ok:
        return None
    try:
        note = _Note.model_validate_json(ops.data_of(reply))
    except ValidationError:
        return None
    return note.mark if note.place == place else None
