"""The errors of the lab.

LabError
|-- ConfigRefused   the lab's configuration is wrong, or an address is in use
`-- Refusal         the simulated machine refuses an operation, with an error code of the agent's protocol
"""

from enum import StrEnum

__all__ = ["ConfigRefused", "LabError", "Refusal", "Slug"]


class Slug(StrEnum):
    """The error codes of the agent's protocol."""

    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    ACCESS_DENIED = "access_denied"
    BUSY = "busy"
    TIMEOUT = "timeout"
    INVALID = "invalid"
    FAILED = "failed"


class LabError(Exception):
    """An error of the lab with a message for people."""


class ConfigRefused(LabError):
    """The lab cannot start: a wrong setting, or an address in use."""


class Refusal(LabError):
    """The machine refuses an operation. Becomes the failed result of the operation.

    Attributes:
        slug: the error code.
        message: one line for people.
        path: the affected file, or None.
        code: the system's number of the error; 0 if there is none.
    """

    def __init__(self, slug: Slug, message: str, path: str | None = None, *, code: int = 0) -> None:
        super().__init__(message)
        self.slug = slug
        self.message = message
        self.path = path
        self.code = code
