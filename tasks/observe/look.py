"""One observation of a node, which a step may leave for the next one."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.ektron.certificates.family import Family
from tasks.ektron.config.sections import Content
from tasks.ektron.desired.config_files import ConfigFile
from tasks.ektron.facts.node import NodeFacts
from tasks.step import Work
from workers.winrm.operations import Reply

__all__ = ["FRESH", "Look", "last_look", "leave_look"]

#: Seconds for which what was seen is taken for what is there: by a wave that begins at once after the plan, and by the
#: edits of its nodes. Each write checks its file again.
FRESH = 60.0


@dataclass(frozen=True, slots=True)
class Look:
    """What was observed: facts; on the origin the family; the bytes of the configuration files; two files of ours.

    Attributes:
        fence: the fence file.
        drained: the note that the node is out of its balancer; None if it was not asked for: the node has none.
    """

    facts: NodeFacts
    family: Family | None
    contents: Mapping[ConfigFile, Content]
    fence: Reply
    drained: Reply | None = None
    at: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        """Seconds since the node was observed."""
        return time.monotonic() - self.at


def leave_look(work: Work, look: Look) -> None:
    """Leaves what was just observed for the next step on the node, which then need not ask again."""
    work.session.leave(_name_of(work), look, FRESH - look.age)


def last_look(work: Work) -> Look | None:
    """What the step before has just observed on this node, in this run and session; None if anything came between."""
    look = work.session.found(_name_of(work))
    return look if isinstance(look, Look) else None


def _name_of(work: Work) -> str:
    return f"look of {work.run}"
