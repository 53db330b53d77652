"""Reasons why files of the product cannot be used or edited. The steps turn them into errors about a node.

Refused
|-- ConfigRefused        a configuration file that cannot be edited safely or understood
|-- CertificateRefused   files that do not form a certificate family
`-- EditionUnknown       a version or a path that belongs to no known edition
"""

__all__ = ["CertificateRefused", "ConfigRefused", "EditionUnknown", "Refused"]


class Refused(Exception):
    """A file of the product makes the action impossible. Nothing was changed.

    Attributes:
        message: what is wrong, one sentence without secrets and without a final full stop.
        line: 1-based line in the file; None when unknown.
        remedy: what to do, one sentence; may be empty.
    """

    def __init__(self, message: str, line: int | None = None, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.remedy = remedy

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


class ConfigRefused(Refused):
    """A configuration file that cannot be edited safely, or cannot be understood."""


class CertificateRefused(Refused):
    """Certificate files whose content does not match their names, or that do not belong together."""


class EditionUnknown(Refused):
    """A version or a path that belongs to no known edition of the product."""
