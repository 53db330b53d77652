"""Facts of folders that the product does not use any more, and that still hold certificate files."""

from tasks.ektron.facts.values import Fact

__all__ = ["OldPlace"]


class OldPlace(Fact):
    """A folder with certificate files that no program reads any more. They hold private keys.

    Attributes:
        folder: its path.
        why: how it is known that the folder is not used any more, for people.
        files: how many certificate files it holds.
        examples: names of some of them.
    """

    folder: str
    why: str
    files: int
    examples: tuple[str, ...] = ()
