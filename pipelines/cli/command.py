"""A verb as the library sees it: how its arguments are parsed."""

from itertools import pairwise, takewhile
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

__all__ = ["Verb"]


class Verb(TyperCommand):
    """A command that takes no name of an option as the value of another one: `--reason -y` lacks the reason."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - a private class of the library
        """Parses the arguments.

        Raises:
            BadParameter: an option is followed by another one instead of its value.
        """
        options = [one for one in self.get_params(ctx) if isinstance(one, TyperOption)]
        names = {name for option in options for name in option.opts}
        valued = {name for option in options if not option.is_flag and not option.count for name in option.opts}
        for one, after in pairwise(takewhile(lambda word: word != "--", args)):
            if one in valued and after.partition("=")[0] in names:
                raise typer.BadParameter(f"option {one} requires a value after it, and {after} is an option", ctx=ctx)
        return super().parse_args(ctx, args)
