"""Whether tests play all of what they make up themselves (`make exhaustive`), or the sample that `make test` plays."""

import os

__all__ = ["EXHAUSTIVE", "examples"]

EXHAUSTIVE = os.environ.get("EXHAUSTIVE") == "1"


def examples(whole: int, sample: int) -> int:
    """How many hypothesis makes up."""
    return whole if EXHAUSTIVE else sample
