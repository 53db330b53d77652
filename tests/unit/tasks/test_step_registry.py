"""The registry of steps: the function of each is loaded when it is used, so a test looks at all of them."""

from typing import get_type_hints

import pytest

from tasks.step import Done, Work
from tasks.steps.registry import STEPS, _Of, load_steps


@pytest.mark.parametrize("name", STEPS)
def test_each_step_has_a_function_that_takes_the_work_and_returns_what_was_done(name: str) -> None:
    """No type check sees the function of a step, because its module is loaded late."""
    step = STEPS[name]
    assert isinstance(step.run, _Of)
    function = step.run.function()
    assert function.__name__ == name
    assert get_type_hints(function) == {"work": Work, "return": Done}


def test_a_worker_can_load_all_of_them_before_it_works() -> None:
    """It raises where one cannot be loaded."""
    load_steps(STEPS.values())
