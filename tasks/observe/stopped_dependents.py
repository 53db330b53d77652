"""Services that were stopped because they depend on the product's: noted on the node until they run again.

A stopped service is no dependent that runs, so whoever comes after a crash could not see that there were any.
"""

import json
from collections.abc import Sequence

from tasks.step import Work
from workers.errors import NodeRefused
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["FILE", "note", "noted", "question", "struck"]

FILE = "stopped-dependents"  #: its name in the one folder on the node that is ours
_REMEDY = "look at the file on the node, start the services it names by hand, remove it, then retry"


def question(own_folder: str) -> Op:
    """Asks for the note."""
    return ops.read(f"{own_folder}\\{FILE}")


def note(work: Work, names: Sequence[str]) -> Op:
    """Writes it, before the first of them is stopped."""
    return ops.write(f"{work.own_folder}\\{FILE}", json.dumps(list(names)).encode(), expect=ops.ANY)


def struck(work: Work) -> Op:
    """Removes it, behind the start of the last of them."""
    return ops.remove(f"{work.own_folder}\\{FILE}")


def noted(reply: Reply) -> tuple[str, ...]:
    """The names in the note; none where there is no note.

    Raises:
        NodeRefused: it cannot be understood.
    """
    if not reply.ok and reply.error == "not_found":
        return ()
    try:
        names = json.loads(ops.data_of(reply))
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise NodeRefused("the note of stopped services cannot be understood", file=reply.op.target, remedy=_REMEDY)
    return tuple(names)
