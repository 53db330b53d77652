"""Loaded last by the process that `tests/warm.py` forks programs from: what it has loaded stays in memory as it is.

What the programs would load or build at its first use, each of them again, is there already: the steps, and the
validators of our models.
"""

import gc
from collections.abc import Iterator

from pydantic import BaseModel

from tasks.steps.registry import STEPS, load_steps


def _below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for one in model.__subclasses__():
        yield one
        yield from _below(one)


load_steps(STEPS.values())
for known in _below(BaseModel):
    known.model_rebuild(raise_errors=False)
gc.collect()
gc.freeze()
