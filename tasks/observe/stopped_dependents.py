"""Services that were stopped because they depend on the product's: recorded on the node until they run again.

A stopped service is no dependent that runs, so after a crash nothing else shows that there were any.
"""

import json
from collections.abc import Sequence

from workers.errors import NodeRefused
from workers.winrm import operations as ops
from workers.winrm.operations import Op, Reply

__all__ = ["FILE", "names_in", "question", "recording", "removal"]

FILE = "stopped-dependents"  #: its name in the one folder on the node that is ours
_REMEDY = "read the file on the node, start the services it names by hand, remove it, then retry"


def question(own_folder: str) -> Op:
    """Asks for the file, in our own folder on the node."""
    return ops.read(f"{own_folder}\\{FILE}")


def recording(own_folder: str, names: Sequence[str]) -> Op:
    """Writes the file, before the first of these services is stopped."""
    return ops.write(f"{own_folder}\\{FILE}", json.dumps(list(names)).encode(), expect=ops.ANY)


def removal(own_folder: str) -> Op:
    """Removes the file, after the last of the services has started."""
    return ops.remove(f"{own_folder}\\{FILE}")


def names_in(reply: Reply) -> tuple[str, ...]:
    """The names in the file; none when it does not exist.

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
        raise NodeRefused("the list of stopped services cannot be understood", file=reply.op.target, remedy=_REMEDY)
    return tuple(names)
