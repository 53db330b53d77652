"""What the demo says at its end."""

from pipelines.cli.local import _after_the_demo

_INDENT = len("Next:  ")


def test_what_to_try_next_fits_into_eighty_columns() -> None:
    """A command stays on its line, together with what it does."""
    commands = _after_the_demo()
    assert [] == [line for line in commands if len(line) + _INDENT > 80]
    assert "esync up --clusters .lab" in commands[-1]
