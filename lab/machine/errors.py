"""The lab's own small tree of errors.

LabError
|-- ConfigRefused   the lab's configuration is wrong, or an address is taken
`-- Refusal         the simulated machine refuses something, in the words of the agent's protocol
"""

from enum import StrEnum

__all__ = ["ConfigRefused", "LabError", "Refusal", "Slug"]


class Slug(StrEnum):
    """How the agent's protocol names a failure."""

    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    ACCESS_DENIED = "access_denied"
    BUSY = "busy"
    TIMEOUT = "timeout"
    INVALID = "invalid"
    FAILED = "failed"


class LabError(Exception):
    """Something about the lab that a person can read."""


class ConfigRefused(LabError):
    """The lab cannot start as asked: a wrong setting, or an address that is taken."""


class Refusal(LabError):
    """The machine refuses. Becomes a failed result of an operation.

    Attributes:
        slug: the protocol's word for it.
        message: one line for people.
        path: the file concerned, or None.
    """

    def __init__(self, slug: Slug, message: str, path: str | None = None) -> None:
        super().__init__(message)
        self.slug = slug
        self.message = message
        self.path = path
