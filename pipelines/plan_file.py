"""A plan as a file: what was seen, what would be done, and on what cluster. Holds no secret, only references."""

import re
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field, ValidationError

from pipelines.plan import Plan
from tasks.cluster import Cluster
from tasks.ektron.facts import NodeFacts
from workers.errors import InputRefused
from workers.records import Record, now

__all__ = ["SavedPlan", "is_plan", "load_plan"]

LIMIT = 256 * 2**20  #: bytes; a thousand nodes need some ten megabytes


class SavedPlan(Record):
    """What `esync plan -o` writes and `esync rollout` applies (docs/plan-schema.json).

    `facts` are what the plan was made from, so that a later run can say what has changed since.
    """

    esync_plan: Literal[1] = 1
    made: AwareDatetime = Field(default_factory=now)
    run: str
    spec: Cluster
    plan: Plan
    fingerprint: str
    facts: dict[str, NodeFacts]


def is_plan(path: Path) -> bool:
    """Whether a file looks like a saved plan rather than a cluster file; one that cannot be read does not."""
    try:
        with path.open("rb") as file:
            return bool(re.match(rb'\s*\{\s*"esync_plan"', file.read(64)))
    except OSError:
        return False


def load_plan(path: Path) -> SavedPlan:
    """Reads a saved plan.

    Raises:
        InputRefused: it is none, it is damaged, or somebody edited it.
    """
    try:
        if path.stat().st_size > LIMIT:
            raise InputRefused("the file is too large for a plan", file=str(path))
        saved = SavedPlan.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputRefused(f"the file cannot be read: {error.strerror}", file=str(path)) from None
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise InputRefused(
            f"this is no plan of this version ({where})", remedy="make a new plan", file=str(path)
        ) from None
    if saved.plan.fingerprint != saved.fingerprint:
        raise InputRefused("the plan was changed after it was made", remedy="make a new plan", file=str(path))
    return saved
