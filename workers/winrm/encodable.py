"""Whether a user and a password can be sent by a logon method: known before anything is sent."""

from workers.errors import InputRefused
from workers.records import Endpoint, Transport
from workers.settings import Secret

__all__ = ["refuse_unencodable"]

_NTLM_LIMIT = 256  #: characters of a password in Windows
_UTF8 = "with lone surrogates, which come from bytes that are not UTF-8"


def refuse_unencodable(at: Endpoint, secret: Secret) -> None:
    """Checks user and password of an endpoint. A message never shows the password or a part of it.

    Raises:
        InputRefused: the method cannot send one of them.
    """
    _refuse(at, "user", "`user`", _problem(at.user) or _problem_of_basic(at))
    if at.transport is not Transport.CERTIFICATE:
        _refuse(at, "password", "the secret", _problem(secret.reveal()) or _problem_of_length(secret))


def _refuse(at: Endpoint, what: str, where: str, problem: str) -> None:
    if problem:
        raise InputRefused(
            f"{at.node}: the {what} cannot be sent with {at.transport}: it is a text {problem}; nothing was sent",
            remedy=f"correct {where}",
        )


def _problem(text: str) -> str:
    """Why no method can send a text; empty if one can."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return _UTF8
    odd = next((place for place, character in enumerate(text, 1) if character in "\0\r\n"), 0)
    return f"with a line end or NUL as character {odd} of {len(text)}" if odd else ""


def _problem_of_basic(at: Endpoint) -> str:
    """RFC 7617: a colon ends the user."""
    return "with a colon, which ends the user in Basic" if at.transport is Transport.BASIC and ":" in at.user else ""


def _problem_of_length(secret: Secret) -> str:
    length = len(secret.reveal())
    return "" if length <= _NTLM_LIMIT else f"of {length} characters; Windows allows {_NTLM_LIMIT}"
