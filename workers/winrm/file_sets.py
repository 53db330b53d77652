"""Sets of files that a node compares itself: a reply about them does not grow with their number. No input or output."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["FileSet", "owners_digest"]


@dataclass(frozen=True, slots=True)
class FileSet:
    """A rule for `list`: files in whose place the reply has a digest where all of them are as expected.

    Attributes:
        ends: endings of the names; each owner has one file of each.
        owners: digests (`owners_digest`) of the owners that are expected; one of them has to fit.
    """

    ends: tuple[str, ...]
    owners: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """The rule in a request."""
        return {"ends": list(self.ends), "owners": list(self.owners)}


def owners_digest(owners: Iterable[str]) -> str:
    """The digest of the owners of a set of files, as the agent computes it: their names, in small letters, sorted."""
    return hashlib.sha256("\n".join(sorted(owner.lower() for owner in owners)).encode()).hexdigest()
