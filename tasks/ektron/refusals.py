"""What knowledge of the product says no to. The steps turn these into errors about a node.

Refused
|-- ConfigRefused        a configuration file we will not edit, or cannot understand
|-- CertificateRefused   files that do not make a certificate family
`-- EditionUnknown       a version or a path that no edition explains
"""

from typing import ClassVar

__all__ = ["CertificateRefused", "ConfigRefused", "EditionUnknown", "Refused"]


class Refused(Exception):
    """Something about the product's files stands in the way; nothing was changed.

    Attributes:
        slug: stable identifier.
        message: what is wrong, one sentence, without secrets and without a final stop.
        line: 1-based line of the file, where known.
        remedy: what to do, one sentence; may be empty.
    """

    slug: ClassVar[str] = "refused"

    def __init__(self, message: str, line: int | None = None, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.remedy = remedy

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


class ConfigRefused(Refused):
    """A configuration file that we will not edit, or cannot understand."""

    slug = "config_refused"


class CertificateRefused(Refused):
    """Files that are not what their names promise, or do not belong together."""

    slug = "certificate_refused"


class EditionUnknown(Refused):
    """A version or a path that no edition of the product explains."""

    slug = "edition_unknown"
