"""Whether tests try all that they generate themselves (`make exhaustive`), or the sample that `make test` tries."""

import os

from hypothesis import HealthCheck, settings

__all__ = ["EXHAUSTIVE", "examples"]

EXHAUSTIVE = os.environ.get("EXHAUSTIVE") == "1"

# No deadline and no check of the speed: both depend on the load of the machine. Fixtures of a function are meant to be
# shared by its examples: each example uses names of its own, or empties the store.
_SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
# `make test` generates the same examples each time, so that only a change can break it. `make exhaustive` generates new
# ones, more of them, and prints how to repeat a failure.
settings.register_profile("fixed", _SHARED, derandomize=True, database=None)
settings.register_profile("fresh", _SHARED, max_examples=1000, print_blob=True)
settings.load_profile("fresh" if EXHAUSTIVE else "fixed")


def examples(whole: int, sample: int) -> int:
    """How many examples hypothesis generates: `whole` with `make exhaustive`, else `sample`."""
    return whole if EXHAUSTIVE else sample
