"""HTTP answers of a node, and what can be wrong with them before anything is read in them."""

import re
from dataclasses import dataclass, field

from winrm.exceptions import InvalidCredentialsError

__all__ = ["Answer", "CredentialsRefused", "LogonBroken", "NotOffered", "Unusable", "in_utf8", "text_of"]

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  #: how such a text begins
_DECLARATION = re.compile(r"\s*<\?xml[^>]{0,200}\?>")


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer.

    Attributes:
        challenges: its WWW-Authenticate headers.
        location: the target of a redirect.
        kind: its Content-Type.
        server: what program sent it.
    """

    status: int
    body: bytes = field(repr=False)
    challenges: tuple[str, ...] = ()
    location: str = ""
    kind: str = ""
    server: str = ""


class Unusable(Exception):
    """The answer is not one of a WinRM service. `answer` is the whole of it, where there is one."""

    def __init__(self, problem: str, answer: Answer | None = None) -> None:
        super().__init__(problem)
        self.answer = answer


class LogonBroken(Exception):
    """The logon failed for another reason than the credentials: method not offered, or an invalid answer."""


class NotOffered(LogonBroken):
    """The node does not offer the logon method."""


class CredentialsRefused(InvalidCredentialsError):
    """The node ended a logon with status 401.

    Attributes:
        challenges: the methods that it offers then.
        early: it did so after the first message, before it could judge a password.
    """

    def __init__(self, challenges: tuple[str, ...], *, early: bool = False) -> None:
        super().__init__("the node refused the credentials")
        self.challenges = challenges
        self.early = early


def in_utf8(body: bytes) -> bytes:
    """The body of an answer in UTF-8, if it begins as one in UTF-16 does; any other body unchanged."""
    if not body.startswith(_UTF_16):
        return body
    return _DECLARATION.sub("", body.decode("utf-16", "replace"), count=1).encode()


def text_of(data: bytes) -> str:
    """An answer for people and for parsers of text; HTTP does not say reliably in which encoding it is."""
    try:
        return in_utf8(data).decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
